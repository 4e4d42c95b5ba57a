//! `--stream`: a clip that can be read while it is made.

use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::run::{borealis, folder, generate, names, probe, said, stream, tiny};

/// Where the box of this type begins: at the top level.
fn find_box(bytes: &[u8], wanted: &[u8; 4]) -> Option<usize> {
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + 8) {
        if &head[4..] == wanted {
            return Some(at);
        }
        at += u32::from_be_bytes([head[0], head[1], head[2], head[3]]).max(8) as usize;
    }
    None
}

#[test]
fn media_come_while_the_clip_is_made() {
    let place = folder();
    let mut command = borealis();
    // More than a pipe holds: the process cannot end before it is read.
    command.args([
        "generate",
        "a red ball bounces on grass",
        "--stream",
        "-o",
        "-",
        "--seconds",
        "6",
        "--resolution",
        "480p",
    ]);
    command.arg("--model").arg(tiny()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let (mut bytes, mut block) = (Vec::new(), [0u8; 4096]);
    while find_box(&bytes, b"moof").is_none() {
        let n = out.read(&mut block).unwrap();
        assert!(n > 0, "it ended after {} bytes without media", bytes.len());
        bytes.extend_from_slice(&block[..n]);
    }
    assert!(child.try_wait().unwrap().is_none(), "it had ended when the first media came");
    out.read_to_end(&mut bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let file = place.path().join("read.mp4");
    std::fs::write(&file, bytes).unwrap();
    let probed = probe(&file);
    assert_eq!(frames(&file), 6 * 24);
    assert_eq!(stream(&probed, "audio")["codec_name"], "aac");
}

/// Frames that decode.
fn frames(file: &std::path::Path) -> u64 {
    let mut command = std::process::Command::new("ffprobe");
    command.args(["-v", "error", "-of", "json", "-count_frames", "-select_streams", "v", "-show_streams"]).arg(file);
    let probed: Value = serde_json::from_slice(&crate::run::succeed(&mut command).stdout).unwrap();
    probed["streams"][0]["nb_read_frames"].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_streamed_file_has_the_same_ids() {
    let place = folder();
    let path = |name: &str| place.path().join(name);
    let ids = |name: &str| std::fs::read(path(name)).unwrap();
    for (stream, name) in [(true, "a"), (false, "b")] {
        let mut more = vec!["--seconds".to_string(), "1".into(), "--save-ids".into()];
        more.push(path(&format!("{name}.json")).to_str().unwrap().into());
        more.extend(stream.then(|| "--stream".to_string()));
        generate("a red ball", &path(&format!("{name}.mp4")), &more);
    }
    assert_eq!(ids("a.json"), ids("b.json"));
    assert_eq!((frames(&path("a.mp4")), frames(&path("b.mp4"))), (24, 24));
    assert!(find_box(&ids("a.mp4"), b"moof").is_some() && find_box(&ids("b.mp4"), b"moof").is_none());
}

#[test]
fn what_cannot_be_streamed_is_said() {
    let place = folder();
    for (arguments, wanted) in [
        (&["--stream", "-o", "a.png"][..], "error: --stream is for clips: give -o a file that ends with .mp4\n"),
        (&["--stream", "-o", "-", "--json"], "error: --json and -o - both write to standard output: give -o a file\n"),
        (
            &["--stream", "--variants", "2"],
            "error: the argument '--stream' cannot be used with '--variants <N>'; see --help\n",
        ),
        (
            &["--stream", "-o", "no/a.mp4"],
            "error: cannot write \"no/a.mp4\": folder \"no\" does not exist: create it\n",
        ),
    ] {
        let mut command = borealis();
        command.args(["generate", "a red ball"]).args(arguments).current_dir(place.path()).arg("--model").arg(tiny());
        let output = command.output().unwrap();
        assert!(!output.status.success());
        assert_eq!(said(&output), wanted);
    }
    assert!(names(place.path()).is_empty());
}
