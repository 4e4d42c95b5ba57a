//! Damaged and hostile bytes: an error or a result, never a panic, never an endless loop.

mod common;

use std::sync::OnceLock;
use std::time::Duration;

use borealis_media::{Limits, Pcm, Source, probe, read_audio, read_clip, read_image, write_image, write_wav};
use common::{convert, frame, tone, write_clip};
use proptest::prelude::*;

/// Small files of every kind that can be made here.
fn corpus() -> &'static Vec<(String, Vec<u8>)> {
    static CORPUS: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    CORPUS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write_clip(&at("a.mp4"), 64, 64, 12, 12);
        write_wav(at("a.wav"), &Pcm::mono(8_000, tone(8_000, 4_000))).unwrap();
        for name in ["a.png", "a.jpg", "a.webp"] {
            write_image(at(name), &frame(33, 21, 1)).unwrap();
        }
        for (from, name, args) in [
            (
                "a.mp4",
                "a.webm",
                &["-c:v", "libvpx", "-cpu-used", "8", "-deadline", "realtime", "-c:a", "libvorbis"][..],
            ),
            ("a.mp4", "a.mkv", &["-c:v", "mjpeg", "-c:a", "flac"][..]),
            ("a.mp4", "a.mov", &["-c", "copy"][..]),
            ("a.mp4", "a.gif", &[][..]),
            ("a.wav", "a.mp3", &[][..]),
            ("a.wav", "a.aac", &[][..]),
            ("a.wav", "a.flac", &[][..]),
            ("a.wav", "a.ogg", &["-c:a", "libvorbis"][..]),
        ] {
            convert(&at(from), args, &at(name));
        }
        let mut files: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap()))
            .filter(|(_, data)| !data.is_empty())
            .collect();
        files.sort();
        files
    })
}

fn read_everything(data: &[u8]) {
    let limits = Limits {
        max_seconds: 20.0,
        max_pixels: 1 << 20,
        max_bytes: 1 << 22,
        max_frames: 500,
        max_decoded_bytes: 1 << 26,
        max_wall: Duration::from_secs(20),
        ..Limits::default()
    };
    let source = Source::Bytes { name: "hostile", data };
    let errors = [
        probe(source, &limits).err(),
        read_image(source, &limits).err(),
        read_clip(source, 24, 24_000, &limits).err(),
        read_audio(source, 24_000, &limits).err(),
    ];
    for message in errors.into_iter().flatten().map(|e| e.to_string()) {
        assert!(!message.contains('\n') && message.len() < 400, "{message}");
        assert!(!message.contains("was not read within"), "{message}");
    }
}

#[test]
fn the_corpus_itself_is_read() {
    for (name, data) in corpus() {
        probe(Source::Bytes { name, data }, &Limits::default()).unwrap();
    }
}

#[test]
fn every_prefix_length_ends() {
    for (_, data) in corpus() {
        let step = (data.len() / 24).max(1);
        for len in (1..data.len()).step_by(step) {
            read_everything(&data[..len]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutations_never_panic(
        pick in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..24),
        in_head in any::<bool>(),
    ) {
        let files = corpus();
        let mut data = files[pick.index(files.len())].1.clone();
        for (at, value, kind) in edits {
            // Headers are where the numbers are: half of the cases change only the first kilobyte.
            let reach = if in_head { data.len().min(1024) } else { data.len() };
            let at = at.index(reach);
            match kind {
                0 => data[at] = value,
                1 => data[at] ^= 1 << (value % 8),
                2 => data[at] = if value & 1 == 0 { 0xff } else { 0 },
                _ => { data.truncate(data.len().max(2) - 1); data.insert(at.min(data.len()), value); }
            }
        }
        read_everything(&data);
    }

    #[test]
    fn noise_with_a_true_beginning_never_panics(
        pick in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 1..2000),
        keep in 1usize..200,
    ) {
        let files = corpus();
        let mut data = files[pick.index(files.len())].1.clone();
        data.truncate(keep);
        data.extend(noise);
        read_everything(&data);
    }
}
