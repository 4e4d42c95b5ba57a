//! See `main.rs`.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use borealis_hub::{Event, Hub, HubError, Pulled, RepoId, Result, Watch};

use crate::hub::{Answer, COMMIT, Loopback};

/// Bytes that are not all alike.
fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * i / 7 + i) as u8).collect()
}

struct Setup {
    loopback: Loopback,
    cache: tempfile::TempDir,
    hub: Hub,
}

fn setup(files: &[(&str, Vec<u8>)]) -> Setup {
    let loopback = Loopback::new(files);
    let cache = tempfile::tempdir().expect("a folder");
    let mut hub = Hub::new(&loopback.endpoint, cache.path());
    // A machine that is slow makes more attempts, not another result: attempts that bring something do not count.
    hub.patience = Duration::from_secs(2);
    hub.attempts = 4;
    Setup { loopback, cache, hub }
}

fn tiny() -> Setup {
    setup(&[
        ("config.json", b"{}\n".to_vec()),
        ("model.safetensors", bytes(300_000)),
        ("vq/model.safetensors", bytes(5_000)),
        ("a name.txt", bytes(20)),
        ("run.py", bytes(9)),
        ("pytorch_model.bin", bytes(9)),
    ])
}

impl Setup {
    fn pull(&self, name: &str, include: &[&str]) -> Result<Pulled> {
        let include: Vec<String> = include.iter().map(|s| s.to_string()).collect();
        self.hub.pull(&name.parse::<RepoId>()?, &include, Arc::new(()))
    }

    fn error(&self, name: &str, include: &[&str]) -> String {
        self.pull(name, include).expect_err("an error").to_string().replace(&self.loopback.endpoint, "HUB")
    }

    fn model(&self) -> std::path::PathBuf {
        self.cache.path().join("models--owner--tiny")
    }

    /// Names in the blobs' folder that are not complete.
    fn incomplete(&self) -> usize {
        let entries = std::fs::read_dir(self.model().join("blobs")).expect("blobs");
        entries.flatten().filter(|e| e.path().extension().is_some_and(|x| x == "incomplete")).count()
    }
}

fn read(path: &Path, name: &str) -> Vec<u8> {
    std::fs::read(path.join(name)).expect(name)
}

#[test]
fn a_model_lies_in_the_cache_as_the_hub_lays_it_out() {
    let setup = tiny();
    let pulled = setup.pull("owner/tiny", &[]).expect("a model");
    assert_eq!(pulled.commit, COMMIT);
    assert_eq!(pulled.path, setup.model().join("snapshots").join(COMMIT));
    let names: Vec<&str> = pulled.files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a name.txt", "config.json", "model.safetensors", "vq/model.safetensors"]);
    assert_eq!((pulled.fetched, pulled.pickles), (305_023, vec!["pytorch_model.bin".to_string()]));
    assert_eq!(read(&pulled.path, "model.safetensors"), bytes(300_000));
    assert_eq!(read(&pulled.path, "vq/model.safetensors"), bytes(5_000));
    assert_eq!(std::fs::read_to_string(setup.model().join("refs/main")).expect("a ref"), COMMIT);
    #[cfg(unix)]
    {
        let link = std::fs::read_link(pulled.path.join("vq/model.safetensors")).expect("a link");
        assert!(link.starts_with("../../../blobs"), "{}", link.display());
    }
    // Nothing is fetched twice.
    let again = setup.pull("owner/tiny@v1", &[]).expect("a model");
    assert_eq!((again.fetched, setup.loopback.asked("model.safetensors").len()), (0, 1));
    assert_eq!(setup.hub.find(&"owner/tiny@v1".parse().expect("a name")).expect("cached"), pulled.path);
    assert_eq!(setup.incomplete(), 0);
}

#[test]
fn a_cut_connection_goes_on_where_it_was() {
    let setup = tiny();
    setup.loopback.script("model.safetensors", &[Answer::Cut(100_000), Answer::Cut(50_000), Answer::Status(503)]);
    let pulled = setup.pull("owner/tiny", &["model.*"]).expect("a model");
    assert_eq!(read(&pulled.path, "model.safetensors"), bytes(300_000));
    let asked: Vec<String> = setup.loopback.asked("model.safetensors").into_iter().flatten().collect();
    // What has arrived before a cut may be a little less than what was sent.
    let from: Vec<u64> = asked.iter().map(|r| r["bytes=".len()..r.len() - 1].parse().expect("a number")).collect();
    assert!(from.len() >= 2 && from.is_sorted() && from[0] > 0 && *from.last().expect("one") <= 150_000, "{from:?}");
}

#[test]
fn another_process_goes_on_too() {
    let setup = tiny();
    setup.loopback.script("model.safetensors", &[Answer::Cut(200_000), Answer::Status(403)]);
    let error = setup.error("owner/tiny", &["model.*"]);
    assert!(error.starts_with("owner/tiny: the hub refuses (status 403): "), "{error}");
    assert_eq!(setup.incomplete(), 1);
    assert!(matches!(setup.hub.find(&"owner/tiny".parse().expect("a name")), Err(HubError::NotCached { .. })));
    let pulled = setup.pull("owner/tiny", &["model.*"]).expect("a model");
    assert_eq!(read(&pulled.path, "model.safetensors"), bytes(300_000));
    assert!(setup.loopback.asked("model.safetensors").last().expect("a request").is_some(), "it began again");
    assert_eq!(setup.incomplete(), 0);
}

#[test]
fn silence_is_not_waited_for() {
    let mut setup = tiny();
    setup.hub.patience = Duration::from_millis(500);
    setup.hub.attempts = 20;
    setup.loopback.script("model.safetensors", &[Answer::Silent(1_000), Answer::Silent(0), Answer::Silent(7)]);
    let pulled = setup.pull("owner/tiny", &[]).expect("a model");
    assert_eq!(read(&pulled.path, "model.safetensors"), bytes(300_000));
}

#[test]
fn a_hub_without_ranges_sends_it_again() {
    let setup = tiny();
    setup.loopback.script("model.safetensors", &[Answer::Cut(100_000), Answer::NoRange]);
    let pulled = setup.pull("owner/tiny", &[]).expect("a model");
    assert_eq!(read(&pulled.path, "model.safetensors"), bytes(300_000));
}

#[test]
fn damaged_files_do_not_count() {
    let setup = tiny();
    for answer in [Answer::Wrong, Answer::Longer] {
        setup.loopback.script("model.safetensors", &[answer]);
        let error = setup.error("owner/tiny", &["model.*"]);
        assert!(
            error.starts_with("model.safetensors: it") && error.ends_with("it was thrown away, pull again"),
            "{error}"
        );
        assert!(!setup.model().join("snapshots").exists() && setup.incomplete() == 0);
    }
    setup.loopback.script("config.json", &[Answer::Wrong]);
    let error = setup.error("owner/tiny", &["config.json"]);
    assert!(error.starts_with("config.json: its hash is "), "{error}");
    // A part that is damaged on disk is thrown away and fetched anew.
    setup.loopback.script("model.safetensors", &[Answer::Cut(100_000), Answer::Status(403)]);
    setup.pull("owner/tiny", &["model.*"]).expect_err("refused");
    let entries = std::fs::read_dir(setup.model().join("blobs")).expect("blobs").flatten();
    let part = entries.map(|e| e.path()).find(|p| p.extension().is_some()).expect("a part");
    std::fs::write(&part, [9; 1_000]).expect("damage");
    let pulled = setup.pull("owner/tiny", &["model.*"]).expect("a model");
    assert_eq!(read(&pulled.path, "model.safetensors"), bytes(300_000));
}

#[test]
fn refusals_say_what_to_do() {
    let setup = tiny();
    assert_eq!(
        setup.error("owner/other", &[]),
        "the hub has no model owner/other: check the name; a private model needs HF_TOKEN"
    );
    assert_eq!(
        setup.error("owner/tiny@v2", &[]),
        "the hub has no revision v2 of owner/tiny: check the name; a private model needs HF_TOKEN"
    );
    setup.loopback.refuse(401, "");
    assert_eq!(
        setup.error("owner/tiny", &[]),
        "owner/tiny: the hub refuses (status 401): set HF_TOKEN to a token that may read this model"
    );
    setup.loopback.refuse(401, "RepoNotFound");
    assert!(setup.error("owner/tiny", &[]).starts_with("the hub has no model owner/tiny"));
}

#[test]
fn the_token_opens_gated_models() {
    let mut setup = tiny();
    setup.loopback.demand("hf_secret");
    let error = setup.error("owner/tiny", &[]);
    assert!(error.contains("Access to it is restricted") && error.contains("accept the model's terms"), "{error}");
    setup.hub.token = Some("hf_secret".into());
    setup.pull("owner/tiny", &[]).expect("a model");
}

#[test]
fn pickles_are_refused() {
    let setup = setup(&[("config.json", b"{}".to_vec()), ("pytorch_model.bin", bytes(9))]);
    assert!(setup.error("owner/tiny", &[]).contains("its weights are pickles (pytorch_model.bin)"));
    assert!(setup.error("owner/tiny", &["*.bin"]).contains("pytorch_model.bin is a pickle"));
    assert!(setup.loopback.asked("pytorch_model.bin").is_empty());
}

#[test]
fn long_listings_have_pages() {
    let setup = tiny();
    setup.loopback.pages_of(2);
    assert_eq!(setup.pull("owner/tiny", &[]).expect("a model").files.len(), 4);
}

#[test]
fn without_a_connection_the_cache_serves() {
    let mut setup = tiny();
    setup.hub.offline = true;
    let error = setup.error("owner/tiny", &[]);
    assert!(error.starts_with("owner/tiny is not in the cache and HF_HUB_OFFLINE is set"), "{error}");
    setup.hub.offline = false;
    let pulled = setup.pull("owner/tiny", &[]).expect("a model");
    setup.hub.offline = true;
    let again = setup.pull("owner/tiny", &[]).expect("a model");
    assert_eq!((again.path, again.files), (pulled.path, pulled.files));
}

#[test]
fn models_are_listed_and_removed() {
    let setup = tiny();
    assert_eq!(setup.hub.list().expect("a list"), []);
    setup.pull("owner/tiny", &[]).expect("a model");
    setup.pull("owner/tiny@v1", &[]).expect("a model");
    let list = setup.hub.list().expect("a list");
    assert_eq!((list.len(), list[0].repo.as_str(), list[0].bytes), (1, "owner/tiny", 305_023));
    let revision = &list[0].revisions[0];
    let mut refs = revision.refs.clone();
    refs.sort();
    assert_eq!((revision.commit.as_str(), refs, revision.files), (COMMIT, vec!["main".to_string(), "v1".into()], 4));
    let id: RepoId = "owner/tiny".parse().expect("a name");
    assert_eq!(setup.hub.remove(&id).expect("removed"), 305_023);
    assert!(!setup.model().exists());
    assert_eq!(
        setup.hub.remove(&id).expect_err("gone").to_string(),
        "owner/tiny is not in the cache: run: borealis pull owner/tiny"
    );
}

/// Another commit that shares a blob with the one that is removed.
#[test]
fn a_revision_is_removed_without_what_others_need() {
    let setup = tiny();
    let pulled = setup.pull("owner/tiny", &[]).expect("a model");
    let other = setup.model().join("snapshots").join("f".repeat(40));
    std::fs::create_dir_all(&other).expect("a snapshot");
    std::fs::copy(pulled.path.join("config.json"), setup.model().join("blobs/own")).expect("a blob");
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        let shared = std::fs::read_link(pulled.path.join("model.safetensors")).expect("a link");
        symlink(shared, other.join("model.safetensors")).expect("a link");
        symlink("../../blobs/own", other.join("config.json")).expect("a link");
        std::fs::write(setup.model().join("refs/old"), "f".repeat(40)).expect("a ref");
        assert_eq!(setup.hub.remove(&"owner/tiny@old".parse().expect("a name")).expect("removed"), 3);
        assert!(!other.exists() && !setup.model().join("refs/old").exists());
        assert_eq!(read(&pulled.path, "model.safetensors"), bytes(300_000));
    }
}

#[test]
fn progress_is_told() {
    struct Log(Mutex<Vec<String>>);
    impl Watch for Log {
        fn event(&self, event: Event<'_>) {
            let line = match event {
                Event::File { file, size, cached } => format!("{file} {size} {cached}"),
                Event::Bytes { file, done } => format!("{file} has {done}"),
                Event::Retry { file, .. } => format!("{file} again"),
                Event::Done { file } => format!("{file} done"),
            };
            self.0.lock().expect("the log").push(line);
        }
    }
    let setup = tiny();
    setup.loopback.script("model.safetensors", &[Answer::Cut(100_000)]);
    let log = Arc::new(Log(Mutex::default()));
    setup.hub.pull(&"owner/tiny".parse().expect("a name"), &[], log.clone()).expect("a model");
    let lines = log.0.lock().expect("the log").clone();
    for wanted in [
        "model.safetensors 300000 false",
        "model.safetensors again",
        "model.safetensors has 300000",
        "model.safetensors done",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted}");
    }
}

#[test]
fn a_hub_that_is_not_there_is_told() {
    let cache = tempfile::tempdir().expect("a folder");
    // Nobody listens on a port that was given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let mut hub = Hub::new(format!("http://127.0.0.1:{port}"), cache.path());
    hub.patience = Duration::from_millis(500);
    hub.attempts = 1;
    let error = hub.pull(&"a/b".parse().expect("a name"), &[], Arc::new(())).expect_err("an error").to_string();
    assert!(
        error.starts_with(&format!("http://127.0.0.1:{port}/a/b: ")) && error.ends_with("try again later"),
        "{error}"
    );
}
