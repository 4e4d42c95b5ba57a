//! Bad input: one line that names the thing and the remedy, the right exit code, no file.

use std::path::Path;
use std::process::Command;

use crate::run::{borealis, clip, folder, names, picture, said, tiny};

/// Exit code and message, with the machine's own paths taken out; checks that it is one line and that no file came of it.
fn refused(command: &mut Command, place: &Path) -> String {
    let before = names(place);
    let output = command.output().unwrap();
    let message = said(&output);
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.starts_with("error: "), "{message}");
    assert_eq!(names(place), before, "{message}");
    let code = output.status.code().unwrap();
    let message = message.replace(place.to_str().unwrap(), "DIR").replace(tiny().to_str().unwrap(), "TINY");
    format!("{code} {message}")
}

/// `borealis generate ARGS` with the tiny model; DIR in an argument is the test's folder.
fn generate(place: &Path, arguments: &[&str]) -> String {
    let dir = place.to_str().unwrap();
    let mut command = borealis();
    command.arg("generate").args(arguments.iter().map(|a| a.replace("DIR", dir)));
    if !arguments.contains(&"--model") {
        command.arg("--model").arg(tiny());
    }
    refused(&mut command, place)
}

/// All cases of a test in one snapshot: name, exit code, message.
fn table(place: &Path, cases: &[(&str, &[&str])]) -> String {
    cases.iter().map(|(name, arguments)| format!("{name}\n    {}", generate(place, arguments))).collect()
}

#[test]
fn command_line() {
    let place = folder();
    let long = "a".repeat(10_001);
    let reference: Vec<String> = (0..8).map(|n| format!("--reference=DIR/{n}.png")).collect();
    let mut eight = vec!["a", "-o", "DIR/a.mp4"];
    eight.extend(reference.iter().map(String::as_str));
    let cases: &[(&str, &[&str])] = &[
        ("no prompt", &[]),
        ("empty prompt", &["", "-o", "DIR/a.mp4"]),
        ("blank prompt", &["  \n ", "-o", "DIR/a.mp4"]),
        ("long prompt", &[&long, "-o", "DIR/a.mp4"]),
        ("unknown option", &["a", "--secnods", "3"]),
        ("unknown aspect ratio", &["a", "--aspect-ratio", "21:9"]),
        ("unknown resolution", &["a", "--resolution", "4k"]),
        ("too short", &["a", "--seconds", "0.5"]),
        ("too long", &["a", "--seconds", "16"]),
        ("no number", &["a", "--seconds", "nan"]),
        ("too many variants", &["a", "--variants", "5"]),
        ("eighth reference", &eight),
        ("two starts", &["a", "--image", "DIR/a.png", "--video", "DIR/a.mp4"]),
        ("last frame alone", &["a", "--last-frame", "DIR/a.png"]),
        ("last frame", &["a", "--image", "DIR/a.png", "--last-frame", "DIR/b.png", "-o", "DIR/a.mp4"]),
        ("both presets", &["a", "--quality", "--speed"]),
        ("no ending", &["a", "-o", "DIR/clip"]),
        ("unknown ending", &["a", "-o", "DIR/clip.avi"]),
        ("seconds of a still", &["a", "-o", "DIR/a.png", "--seconds", "2"]),
        ("a still from a clip", &["a", "-o", "DIR/a.png", "--extend", "DIR/a.mp4"]),
        ("temperature", &["a", "-o", "DIR/a.mp4", "--temperature=-1"]),
        ("top-p", &["a", "-o", "DIR/a.mp4", "--top-p", "0"]),
        ("guidance", &["a", "-o", "DIR/a.mp4", "--guidance", "nan"]),
        ("device", &["a", "--device", "tpu"]),
        ("dtype", &["a", "--dtype", "fp4"]),
        ("threads", &["a", "--threads", "0"]),
        ("memory", &["a", "--memory-limit", "much"]),
    ];
    insta::assert_snapshot!(table(place.path(), cases));
}

#[test]
fn files_of_the_user() {
    let place = folder();
    let path = |name: &str| place.path().join(name);
    std::fs::write(path("text.png"), "this is not a picture").unwrap();
    std::fs::write(path("empty.png"), "").unwrap();
    std::fs::write(
        path("noise.mp4"),
        (0..5000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>(),
    )
    .unwrap();
    picture(&path("whole.png"), "64x64");
    let bytes = std::fs::read(path("whole.png")).unwrap();
    std::fs::write(path("cut.png"), &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(path("huge.png"), huge_png()).unwrap();
    clip(&path("whole.mp4"), "64x64", "24", "1");
    let bytes = std::fs::read(path("whole.mp4")).unwrap();
    std::fs::write(path("cut.mp4"), &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(path("list.mp4"), "ffconcat version 1.0\nfile /etc/passwd\n").unwrap();
    let cases: &[(&str, &[&str])] = &[
        ("no picture", &["a", "-o", "DIR/a.mp4", "--image", "DIR/missing.png"]),
        ("a folder", &["a", "-o", "DIR/a.mp4", "--image", "DIR"]),
        ("a text", &["a", "-o", "DIR/a.mp4", "--image", "DIR/text.png"]),
        ("an empty file", &["a", "-o", "DIR/a.mp4", "--image", "DIR/empty.png"]),
        ("half a picture", &["a", "-o", "DIR/a.mp4", "--image", "DIR/cut.png"]),
        ("a huge picture", &["a", "-o", "DIR/a.mp4", "--image", "DIR/huge.png"]),
        ("a picture as clip", &["a", "-o", "DIR/a.mp4", "--video", "DIR/whole.png"]),
        ("no clip", &["a", "-o", "DIR/a.mp4", "--extend", "DIR/missing.mp4"]),
        ("noise", &["a", "-o", "DIR/a.mp4", "--video", "DIR/noise.mp4"]),
        ("half a clip", &["a", "-o", "DIR/a.mp4", "--extend", "DIR/cut.mp4"]),
        ("a list of files", &["a", "-o", "DIR/a.mp4", "--video", "DIR/list.mp4"]),
    ];
    // What FFmpeg says in brackets is its own and changes with its version.
    let text = table(place.path(), cases);
    let parts = text.split("can be read (").enumerate().map(|(i, part)| match part.split_once(')') {
        Some((_, rest)) if i > 0 => format!("can be read (...){rest}"),
        _ => part.to_string(),
    });
    insta::assert_snapshot!(parts.collect::<String>());
}

/// A PNG whose header says 60,000 x 60,000 pixels.
fn huge_png() -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let side = 60_000u32.to_be_bytes();
    for (name, data) in
        [("IHDR", [&side[..], &side, &[8, 2, 0, 0, 0]].concat()), ("IDAT", vec![0; 64]), ("IEND", vec![])]
    {
        let chunk = [name.as_bytes(), &data].concat();
        png.extend((data.len() as u32).to_be_bytes());
        png.extend(&chunk);
        png.extend(crc32(&chunk).to_be_bytes());
    }
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 })
    })
}

#[test]
fn models() {
    let place = folder();
    let broken = |name: &str, spoil: &dyn Fn(&Path)| {
        let target = place.path().join(name);
        copy(&tiny(), &target);
        spoil(&target);
    };
    broken("no-config", &|m| std::fs::remove_file(m.join("config.json")).unwrap());
    broken("no-weights", &|m| std::fs::remove_file(m.join("model.safetensors")).unwrap());
    broken("bad-json", &|m| std::fs::write(m.join("config.json"), "{").unwrap());
    broken("cut", &|m| {
        let bytes = std::fs::read(m.join("model.safetensors")).unwrap();
        std::fs::write(m.join("model.safetensors"), &bytes[..bytes.len() - 1000]).unwrap();
    });
    broken("long-header", &|m| {
        let mut bytes = std::fs::read(m.join("model.safetensors")).unwrap();
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        std::fs::write(m.join("model.safetensors"), bytes).unwrap();
    });
    broken("contradiction", &|m| {
        let text = std::fs::read_to_string(m.join("config.json")).unwrap();
        assert!(text.contains("\"hidden_size\": 32"));
        std::fs::write(m.join("config.json"), text.replace("\"hidden_size\": 32", "\"hidden_size\": 40")).unwrap();
    });
    std::fs::write(place.path().join("file"), "").unwrap();
    let model = |name: &'static str| ["a", "-o", "DIR/a.mp4", "--model", name];
    let cases: &[(&str, &[&str])] = &[
        ("no folder", &model("DIR/missing")),
        ("a file", &model("DIR/file")),
        ("no config", &model("DIR/no-config")),
        ("no weights", &model("DIR/no-weights")),
        ("bad config", &model("DIR/bad-json")),
        ("truncated weights", &model("DIR/cut")),
        ("lying weights", &model("DIR/long-header")),
        ("config contradicts weights", &model("DIR/contradiction")),
    ];
    insta::assert_snapshot!(table(place.path(), cases));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { std::fs::copy(&path, &target).map(drop).unwrap() }
    }
}

#[test]
fn outputs() {
    let place = folder();
    std::fs::write(place.path().join("file"), "").unwrap();
    std::fs::create_dir(place.path().join("folder.mp4")).unwrap();
    let cases: &[(&str, &[&str])] = &[
        ("no folder", &["a", "-o", "DIR/missing/a.mp4"]),
        ("below a file", &["a", "-o", "DIR/file/a.png"]),
        ("a folder", &["a", "-o", "DIR/folder.mp4"]),
        ("no folder for ids", &["a", "-o", "DIR/a.mp4", "--save-ids", "DIR/missing/a.json"]),
        ("too little memory", &["a", "-o", "DIR/a.mp4", "--memory-limit", "1M"]),
    ];
    let text = table(place.path(), cases);
    // How much memory it takes may change with every version.
    let words: Vec<_> = text.split(' ').collect();
    let of_memory = |i: usize| words.get(i + 1).is_some_and(|next| next.starts_with("MiB"));
    let text: Vec<_> = words.iter().enumerate().map(|(i, word)| if of_memory(i) { "N" } else { word }).collect();
    let text = text.join(" ");
    insta::assert_snapshot!(text);
}

/// A limit on the size of files stands in for a full disk: the write fails with an error of the system in either case.
#[test]
#[cfg(unix)]
fn full_disk() {
    let place = folder();
    for file in ["a.mp4", "a.png"] {
        let mut command = Command::new("sh");
        let path = place.path().join(file);
        // Without the signal, a write beyond the limit (in blocks of 512 bytes) is an error.
        let script = "trap '' XFSZ; ulimit -f 2; exec \"$0\" \"$@\"";
        command.args(["-c", script, env!("CARGO_BIN_EXE_borealis"), "generate", "a", "--model"]).arg(tiny());
        command.args(["--resolution", "480p", "-o"]).arg(&path).env("NO_COLOR", "1").env_remove("BOREALIS_MODEL");
        if file == "a.mp4" {
            command.args(["--seconds", "1"]);
        }
        let message = refused(&mut command, place.path());
        assert!(message.starts_with("1 error: ") && message.contains(file), "{message}");
    }
}
