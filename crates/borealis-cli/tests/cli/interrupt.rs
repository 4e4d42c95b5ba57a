//! Ctrl-C in the middle: exit code 130, one line, no file.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::run::{borealis, folder, names, tiny};

#[test]
#[cfg(unix)]
fn nothing_is_left() {
    let place = folder();
    let mut command = borealis();
    command.args(["generate", "a red ball", "--seconds", "15", "--json", "-o"]).arg(place.path().join("a.mp4"));
    command.arg("--model").arg(tiny()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Wait until frames are being made, so that the file is there under its temporary name.
    while !lines.next().unwrap().unwrap().contains("\"generate\"") {}
    assert_eq!(names(place.path()).len(), 1);
    let killed = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    assert!(killed.success());
    let last = lines.last().unwrap().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "error: interrupted: no file was written\n");
    assert!(last.contains("\"exit_code\":130"), "{last}");
    assert_eq!(names(place.path()), Vec::<String>::new());
}
