//! A hub on loopback: one model whose files it serves as a script says.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sha1::Digest as _;

/// The commit of everything.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What happens to one request for a file; requests beyond the script are answered in full.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// All that was asked for.
    Whole,
    /// So many bytes, then the connection ends.
    Cut(usize),
    /// So many bytes, then silence.
    Silent(usize),
    /// The whole file, whatever part was asked for.
    NoRange,
    /// Other bytes of the same length.
    Wrong,
    /// More bytes than announced.
    Longer,
    /// A status.
    Status(u16),
}

struct State {
    files: BTreeMap<String, Vec<u8>>,
    script: BTreeMap<String, Vec<Answer>>,
    /// What the API says instead: status, error code.
    api: Option<(u16, &'static str)>,
    token: Option<&'static str>,
    /// Path and range of each request for a file.
    asked: Vec<(String, Option<String>)>,
    page: usize,
}

/// A running hub.
pub struct Loopback {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Loopback {
    /// Serves these files as model `owner/tiny`.
    pub fn new(files: &[(&str, Vec<u8>)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let files = files.iter().map(|(name, bytes)| (name.to_string(), bytes.clone())).collect();
        let state = State { files, script: BTreeMap::new(), api: None, token: None, asked: Vec::new(), page: 1000 };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { endpoint, state }
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("the state"));
    }

    /// The next requests for `file` are answered so.
    pub fn script(&self, file: &str, answers: &[Answer]) {
        self.set(|state| drop(state.script.insert(file.into(), answers.to_vec())));
    }

    /// The API answers with a status and an error code.
    pub fn refuse(&self, status: u16, code: &'static str) {
        self.set(|state| state.api = Some((status, code)));
    }

    /// Only who brings this token is served.
    pub fn demand(&self, token: &'static str) {
        self.set(|state| state.token = Some(token));
    }

    /// Entries on a page of the listing.
    pub fn pages_of(&self, entries: usize) {
        self.set(|state| state.page = entries);
    }

    /// The ranges that were asked for of a file, in order.
    pub fn asked(&self, file: &str) -> Vec<Option<String>> {
        let state = self.state.lock().expect("the state");
        state.asked.iter().filter(|(name, _)| name == file).map(|(_, range)| range.clone()).collect()
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut stream = stream;
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.trim().is_empty() => break,
                Ok(_) => lines.push(line.trim().to_string()),
            }
        }
        let Some(target) = lines.first().and_then(|line| line.split(' ').nth(1)).map(str::to_string) else { return };
        let header = |name: &str| {
            let found = lines.iter().find(|l| l.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
            Some(found.split_once(':')?.1.trim().to_string())
        };
        let (token, range) = (header("authorization"), header("range"));
        if !answer(&mut stream, state, &target, token, range) {
            return;
        }
    }
}

/// False: the connection ends.
fn answer(
    stream: &mut TcpStream,
    state: &Mutex<State>,
    target: &str,
    token: Option<String>,
    range: Option<String>,
) -> bool {
    let mut locked = state.lock().expect("the state");
    let state = &mut *locked;
    if let Some(wanted) = state.token
        && token != Some(format!("Bearer {wanted}"))
    {
        return reply(
            stream,
            401,
            &[("X-Error-Code", "GatedRepo"), ("X-Error-Message", "Access to it is restricted.")],
            b"",
        );
    }
    if let Some(path) = target.strip_prefix("/api/models/owner/tiny") {
        if let Some((status, code)) = state.api {
            return reply(stream, status, &[("X-Error-Code", code)], b"");
        }
        return api(stream, state, path);
    }
    let Some(file) = target.strip_prefix(&format!("/owner/tiny/resolve/{COMMIT}/")).map(|f| f.replace("%20", " "))
    else {
        return reply(stream, 404, &[("X-Error-Code", "RepoNotFound")], b"");
    };
    let Some(bytes) = state.files.get(&file).cloned() else { return reply(stream, 404, &[], b"") };
    state.asked.push((file.clone(), range.clone()));
    let script = state.script.entry(file).or_default();
    let next = if script.is_empty() { Answer::Whole } else { script.remove(0) };
    drop(locked);
    send(stream, &bytes, range, next)
}

fn api(stream: &mut TcpStream, state: &State, path: &str) -> bool {
    if path.starts_with("/revision/") {
        if path != "/revision/main" && path != "/revision/v1" {
            return reply(stream, 404, &[("X-Error-Code", "RevisionNotFound")], b"");
        }
        let body = json!({ "id": "owner/tiny", "sha": COMMIT }).to_string();
        return reply(stream, 200, &[], body.as_bytes());
    }
    let from: usize = path.split("cursor=").nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    let entry = |(name, bytes): (&String, &Vec<u8>)| -> Value {
        let git = sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize();
        let mut entry = json!({ "type": "file", "path": name, "size": bytes.len(), "oid": hex(&git) });
        if name.ends_with(".safetensors") {
            let hash = hex(&sha2::Sha256::digest(bytes));
            entry["lfs"] = json!({ "oid": hash, "size": bytes.len(), "pointerSize": 130 });
        }
        entry
    };
    let mut all: Vec<Value> = state.files.iter().map(entry).collect();
    all.insert(0, json!({ "type": "directory", "path": "vq", "oid": "x" }));
    let page: Vec<Value> = all.iter().skip(from).take(state.page).cloned().collect();
    let next = format!(
        "<http://HOST/api/models/owner/tiny/tree/{COMMIT}?recursive=true&cursor={}>; rel=\"next\"",
        from + state.page
    );
    let next = next.replace("HOST", &stream.local_addr().expect("an address").to_string());
    let more = from + state.page < all.len();
    let headers: &[(&str, &str)] = if more { &[("Link", &next)] } else { &[] };
    reply(stream, 200, headers, Value::from(page).to_string().as_bytes())
}

fn send(stream: &mut TcpStream, bytes: &[u8], range: Option<String>, next: Answer) -> bool {
    let from: Option<usize> = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from = from.filter(|_| !matches!(next, Answer::NoRange));
    let (status, body) = match from {
        Some(from) => (206, &bytes[from..]),
        None => (200, bytes),
    };
    match next {
        Answer::Whole | Answer::NoRange => reply(stream, status, &[], body),
        Answer::Wrong => reply(stream, status, &[], &body.iter().map(|b| b ^ 1).collect::<Vec<u8>>()),
        Answer::Longer => reply(stream, status, &[], &[body, b"more"].concat()),
        Answer::Status(status) => reply(stream, status, &[], b""),
        Answer::Cut(n) => {
            head(stream, status, &[], body.len());
            let _ = stream.write_all(&body[..n]);
            false
        }
        Answer::Silent(n) => {
            head(stream, status, &[], body.len());
            let _ = stream.write_all(&body[..n]);
            let _ = stream.flush();
            // Until the other side gives up.
            let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
            let _ = std::io::Read::read(stream, &mut [0; 1]);
            false
        }
    }
}

fn head(stream: &mut TcpStream, status: u16, headers: &[(&str, &str)], length: usize) {
    let mut text = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n");
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    text.push_str("\r\n");
    let _ = stream.write_all(text.as_bytes());
}

fn reply(stream: &mut TcpStream, status: u16, headers: &[(&str, &str)], body: &[u8]) -> bool {
    head(stream, status, headers, body.len());
    stream.write_all(body).is_ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
