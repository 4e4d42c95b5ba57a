//! Running the command and its judges.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The command, with nothing of the developer's environment that it would listen to.
pub fn borealis() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_borealis"));
    command
        .env_remove("BOREALIS_MODEL")
        .env_remove("BOREALIS_API_KEY")
        .env_remove("XAI_API_KEY")
        .env_remove("COLUMNS")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

/// The tiny checkpoint.
pub fn tiny() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/tiny-default");
    path.canonicalize().unwrap()
}

/// A folder for one test.
pub fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs to the end; the process must succeed.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// `borealis generate PROMPT -o FILE --model tiny ...`, which must succeed; 480 lines and seed 7 unless `more` says otherwise.
pub fn generate<S: AsRef<OsStr>>(prompt: &str, file: &Path, more: impl IntoIterator<Item = S>) -> Output {
    let more: Vec<_> = more.into_iter().collect();
    let mut command = borealis();
    command.args(["generate", prompt, "-o"]).arg(file).arg("--model").arg(tiny());
    for (option, value) in [("--resolution", "480p"), ("--seed", "7")] {
        if !more.iter().any(|a| a.as_ref() == option) {
            command.args([option, value]);
        }
    }
    succeed(command.args(more))
}

/// What ffprobe says of a file.
pub fn probe(file: &Path) -> Value {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-of", "json", "-show_streams", "-show_format"]).arg(file);
    serde_json::from_slice(&succeed(&mut command).stdout).unwrap()
}

/// The stream of a kind in what [`probe`] returned.
pub fn stream<'a>(probed: &'a Value, kind: &str) -> &'a Value {
    let streams = probed["streams"].as_array().unwrap();
    streams.iter().find(|s| s["codec_type"] == kind).unwrap_or_else(|| panic!("no {kind} stream: {probed}"))
}

/// Width and height of the pictures in a file.
pub fn size(file: &Path) -> (u64, u64) {
    let probed = probe(file);
    let video = stream(&probed, "video");
    (video["width"].as_u64().unwrap(), video["height"].as_u64().unwrap())
}

/// Makes a file with ffmpeg: a test picture or clip of any size.
pub fn ffmpeg<S: AsRef<OsStr>>(file: &Path, arguments: impl IntoIterator<Item = S>) {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]).args(arguments).arg(file);
    succeed(&mut command);
}

/// A still of a size.
pub fn picture(file: &Path, size: &str) {
    ffmpeg(file, ["-f", "lavfi", "-i", &format!("testsrc2=size={size}:rate=1:duration=1"), "-frames:v", "1"]);
}

/// A clip of a size and rate, with a tone.
pub fn clip(file: &Path, size: &str, rate: &str, seconds: &str) {
    let video = format!("testsrc2=size={size}:rate={rate}:duration={seconds}");
    let tone = format!("sine=frequency=440:sample_rate=44100:duration={seconds}");
    ffmpeg(file, ["-f", "lavfi", "-i", &video, "-f", "lavfi", "-i", &tone, "-pix_fmt", "yuv420p", "-shortest"]);
}

/// Standard error as text.
pub fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
