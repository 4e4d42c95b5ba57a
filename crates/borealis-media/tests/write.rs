//! MP4 out: what players see, exactness, repetition, and what remains when things go wrong.

mod common;

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use borealis_media::{
    Frame, Kind, Limits, MediaError, Mp4Writer, PixelFormat, Quality, Source, VideoSpec, probe, read_clip, write_image,
};
use common::{frame, index_of, tone, tool, write_clip};

/// A sink that others can look into.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn boxes(data: &[u8]) -> Vec<String> {
    let (mut at, mut list) = (0, Vec::new());
    while at + 8 <= data.len() {
        let size = u32::from_be_bytes(data[at..at + 4].try_into().unwrap()) as usize;
        list.push(String::from_utf8_lossy(&data[at + 4..at + 8]).into_owned());
        at += size.max(8);
    }
    list
}

#[test]
fn six_seconds_of_720p_probe_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let mut writer = Mp4Writer::create(&path, VideoSpec::new(1280, 720, 24).with_audio(24_000)).unwrap();
    let sound = tone(24_000, 144_000);
    // As the engine pushes: four frames, then their sound.
    for i in 0..36u32 {
        for j in 0..4 {
            writer.push_frame(&frame(1280, 720, i * 4 + j)).unwrap();
        }
        writer.push_audio(&sound[i as usize * 4000..][..4000]).unwrap();
    }
    let written = writer.finish().unwrap();
    assert_eq!((written.frames, written.seconds), (144, 6.0));
    assert_eq!(names(folder.path()), ["clip.mp4"]);

    let data = std::fs::read(&path).unwrap();
    assert_eq!(boxes(&data), ["ftyp", "moov", "free", "mdat"], "the index is in front");

    let info = probe(Source::Path(&path), &Limits::default()).unwrap();
    assert_eq!((info.kind, info.width, info.height, info.fps, info.frames), (Kind::Video, 1280, 720, 24.0, 144));
    assert_eq!((info.seconds, info.audio.as_ref().unwrap().seconds), (6.0, 6.0));
    assert_eq!(info.audio.unwrap().codec, "aac");

    let args = ["-v", "error", "-show_entries"];
    let entries = "stream=codec_name,width,height,pix_fmt,color_range,color_space,color_primaries,color_transfer,\
                   r_frame_rate,start_time,duration,nb_frames,sample_rate,channels";
    let rest = ["-of", "default=nw=1", path.to_str().unwrap()];
    if let Some(report) = tool("ffprobe", &[&args[..], &[entries], &rest[..]].concat()) {
        for line in [
            "width=1280",
            "height=720",
            "pix_fmt=yuv420p",
            "color_range=tv",
            "color_space=bt709",
            "color_primaries=bt709",
            "color_transfer=bt709",
            "r_frame_rate=24/1",
            "nb_frames=144",
            "codec_name=aac",
            "sample_rate=48000",
        ] {
            assert!(report.contains(line), "{line} is missing in\n{report}");
        }
        assert_eq!(report.matches("duration=6.000000").count(), 2, "{report}");
        assert_eq!(report.matches("start_time=0.000000").count(), 2, "{report}");
        if written.encoder == "libx264" {
            assert!(report.contains("codec_name=h264"), "{report}");
        }
    }
}

#[test]
fn frames_and_sound_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    write_clip(&path, 320, 180, 24, 30);
    let clip = read_clip(Source::Path(&path), 24, 24_000, &Limits::default()).unwrap();
    assert_eq!(clip.frames.iter().map(index_of).collect::<Vec<_>>(), (0..30).collect::<Vec<_>>());
    let sound = clip.audio.unwrap();
    assert_eq!((sound.rate, sound.samples.len()), (24_000, 30_000));
    let want = tone(24_000, 30_000);
    let worst = sound.samples[2000..28_000].iter().zip(&want[2000..]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 0.05, "the tone is off by {worst}: shifted or damped");
}

#[test]
fn primaries_keep_their_colour() {
    let folder = tempfile::tempdir().unwrap();
    let colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [128, 128, 128], [200, 120, 40]];
    for (format, name) in [(PixelFormat::Rgb8, "rgb"), (PixelFormat::I420, "i420")] {
        let path = folder.path().join(format!("{name}.mp4"));
        let mut writer = Mp4Writer::create(&path, VideoSpec::new(128, 96, 24)).unwrap();
        for colour in colours {
            for _ in 0..3 {
                writer.push_frame(&Frame::solid(128, 96, format, colour)).unwrap();
            }
        }
        writer.finish().unwrap();
        let clip = read_clip(Source::Path(&path), 24, 48_000, &Limits::default()).unwrap();
        assert!(clip.audio.is_none());
        assert_eq!(clip.frames.len(), 21);
        for (i, colour) in colours.iter().enumerate() {
            let middle = &clip.frames[i * 3 + 1];
            let at = (48 * 128 + 64) * 3;
            for c in 0..3 {
                let got = middle.data[at + c];
                assert!(got.abs_diff(colour[c]) <= 3, "{name}: {colour:?} came back as {:?}", &middle.data[at..at + 3]);
            }
        }
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.mp4"), folder.path().join("b.mp4"));
    write_clip(&a, 320, 180, 24, 48);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    write_clip(&b, 320, 180, 24, 48);
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
}

#[test]
fn durations_are_equal_for_any_length_and_order() {
    let folder = tempfile::tempdir().unwrap();
    // (frames, samples pushed, sound first)
    for (frames, samples, sound_first) in [(1, 0, false), (7, 100_000, true), (25, 5_000, false), (49, 98_000, true)] {
        let path = folder.path().join("clip.mp4");
        let mut writer = Mp4Writer::create(&path, VideoSpec::new(64, 64, 24).with_audio(48_000)).unwrap();
        if sound_first {
            writer.push_audio(&tone(48_000, samples)).unwrap();
        }
        for i in 0..frames {
            writer.push_frame(&frame(64, 64, i)).unwrap();
        }
        if !sound_first {
            writer.push_audio(&tone(48_000, samples)).unwrap();
        }
        writer.finish().unwrap();
        let info = probe(Source::Path(&path), &Limits::default()).unwrap();
        let want = f64::from(frames) / 24.0;
        assert_eq!(info.frames, u64::from(frames));
        assert!((info.seconds - want).abs() < 1e-6, "{frames}: {}", info.seconds);
        assert!((info.audio.unwrap().seconds - want).abs() < 1e-6, "{frames}");
        let clip = read_clip(Source::Path(&path), 24, 24_000, &Limits::default()).unwrap();
        assert_eq!(clip.frames.len(), frames as usize);
        assert_eq!(clip.audio.unwrap().samples.len(), frames as usize * 1000);
    }
}

#[test]
fn a_live_stream_starts_early_and_a_tee_writes_both() {
    let folder = tempfile::tempdir().unwrap();
    let (path, live) = (folder.path().join("clip.mp4"), Shared::default());
    let spec = VideoSpec { quality: Quality::Fast, ..VideoSpec::new(320, 180, 24).with_audio(24_000) };
    let mut writer = Mp4Writer::tee(&path, Box::new(live.clone()), spec).unwrap();
    let sound = tone(24_000, 72_000);
    for i in 0..72 {
        writer.push_frame(&frame(320, 180, i % 40)).unwrap();
        writer.push_audio(&sound[i as usize * 1000..][..1000]).unwrap();
        if i == 24 {
            let waited = std::time::Instant::now();
            while !boxes(&live.0.lock().unwrap()).iter().any(|b| b == "mdat") {
                assert!(waited.elapsed().as_secs() < 30, "one second in, and no media yet");
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
    let written = writer.finish().unwrap();
    assert!(written.live_error.is_none());
    let data = live.0.lock().unwrap().clone();
    let parts = boxes(&data);
    assert_eq!(parts[..2], ["ftyp", "moov"]);
    assert!(parts.iter().filter(|b| *b == "moof").count() >= 5, "{parts:?}");
    for source in [Source::Path(&path), Source::Bytes { name: "live", data: &data }] {
        let clip = read_clip(source, 24, 24_000, &Limits::default()).unwrap();
        let seen: Vec<u32> = clip.frames.iter().map(index_of).collect();
        assert_eq!(seen, (0..72).map(|i| i % 40).collect::<Vec<_>>());
        assert_eq!(clip.audio.unwrap().samples.len(), 72_000);
    }
}

/// A reader that goes away after some bytes.
struct Leaves(usize);

impl Write for Leaves {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(buf.len()).ok_or(io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_lost_reader_ends_a_stream_but_not_the_file_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let mut writer = Mp4Writer::tee(&path, Box::new(Leaves(3000)), VideoSpec::new(320, 180, 24)).unwrap();
    for i in 0..48 {
        writer.push_frame(&frame(320, 180, i % 40)).unwrap();
    }
    let written = writer.finish().unwrap();
    let message = written.live_error.unwrap().to_string();
    assert_eq!(message, "cannot write \"live stream\": broken pipe; the reader went away; start again");
    assert_eq!(read_clip(Source::Path(&path), 24, 24_000, &Limits::default()).unwrap().frames.len(), 48);

    let mut writer = Mp4Writer::stream(Box::new(Leaves(3000)), VideoSpec::new(320, 180, 24)).unwrap();
    let error = (0..480).find_map(|i| writer.push_frame(&frame(320, 180, i % 40)).err());
    let error = error.or_else(|| writer.finish().err()).unwrap();
    assert!(error.is_write(), "{error}");
}

#[test]
fn nothing_is_left_of_a_writer_that_was_not_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    std::fs::write(&path, b"the old one").unwrap();
    let mut writer = Mp4Writer::create(&path, VideoSpec::new(320, 180, 24)).unwrap();
    for i in 0..10 {
        writer.push_frame(&frame(320, 180, i)).unwrap();
    }
    assert_eq!(names(folder.path()).len(), 2, "a temporary file beside the target");
    drop(writer);
    assert_eq!(names(folder.path()), ["clip.mp4"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"the old one");
    let empty = Mp4Writer::create(&path, VideoSpec::new(320, 180, 24)).unwrap();
    assert_eq!(empty.finish().unwrap_err().to_string(), "frame 0: a clip needs at least one frame");
    assert_eq!(names(folder.path()), ["clip.mp4"]);
}

#[test]
fn bad_places_are_named_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let spec = VideoSpec::new(64, 64, 24);
    let missing = folder.path().join("no/such/clip.mp4");
    let error = Mp4Writer::create(&missing, spec.clone()).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot write \"{}\": ", missing.display())), "{error}");
    assert!(error.ends_with("create the folder first, or choose another place with -o"), "{error}");
    let error = Mp4Writer::create(folder.path(), spec.clone()).map(|_| ()).unwrap_err().to_string();
    assert!(error.ends_with("give the name of a file, not of a folder"), "{error}");
    let error = write_image(folder.path().join("still.bmp"), &frame(8, 8, 0)).unwrap_err().to_string();
    assert_eq!(error, "ending of the file = \"bmp\" is not possible: give a name that ends in .png, .jpg or .webp");
    for (spec, words) in [
        (VideoSpec::new(63, 64, 24), "width = 63 is not possible: give an even number from 16 to 8192"),
        (VideoSpec::new(64, 64, 0), "fps = 0 is not possible: give 1 to 240 frames per second"),
        (
            VideoSpec::new(64, 64, 24).with_audio(7),
            "audio_rate = 7 is not possible: give 2000 to 384000 samples per second",
        ),
    ] {
        let error = Mp4Writer::create(folder.path().join("x.mp4"), spec).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), words);
    }
    let named = VideoSpec { encoder: Some("h265_dreams".to_owned()), ..spec.clone() };
    let error = Mp4Writer::create(folder.path().join("x.mp4"), named).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("h265_dreams") && error.contains("libx264"), "{error}");
    let mut writer = Mp4Writer::create(folder.path().join("x.mp4"), spec).unwrap();
    let error = writer.push_frame(&frame(32, 64, 0)).unwrap_err().to_string();
    assert_eq!(error, "frame 0: 32x64 given, the clip is 64x64");
    assert!(writer.push_audio(&[0.0]).is_err());
    drop(writer);
    assert!(names(folder.path()).is_empty());
}

#[test]
fn packets_do_not_pile_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let mut writer = Mp4Writer::create(&path, VideoSpec::new(192, 128, 24).with_audio(24_000)).unwrap();
    for i in 0..120 {
        writer.push_owned(noise(192, 128, i)).unwrap();
    }
    // Five seconds of frames without any sound: all but the last second is on the disk.
    let part = folder.path().join(&names(folder.path())[0]);
    let waited = std::time::Instant::now();
    while std::fs::metadata(&part).unwrap().len() < 1 << 20 {
        assert!(waited.elapsed().as_secs() < 60, "{} bytes were written", std::fs::metadata(&part).unwrap().len());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    drop(writer);

    let spec = VideoSpec::new(64, 64, 24).with_audio(8_000);
    let mut writer = Mp4Writer::create(&path, spec.clone()).unwrap();
    let error = (0..100).find_map(|_| writer.push_audio(&[0.0; 8_000]).err());
    let words = "sound ahead of the frames = 61 s is not possible: push frames and sound side by side";
    assert_eq!(error.or_else(|| writer.finish().err()).unwrap().to_string(), words);
    let mut writer = Mp4Writer::stream(Box::new(io::sink()), spec).unwrap();
    let error = (0..2400).find_map(|_| writer.push_owned(Frame::solid(64, 64, PixelFormat::I420, [9, 9, 9])).err());
    assert!(
        error.or_else(|| writer.finish().err()).unwrap().to_string().starts_with("frames ahead of the sound = 61 s")
    );
}

fn noise(width: u32, height: u32, seed: u32) -> Frame {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    let data = (0..PixelFormat::Rgb8.bytes(width, height)).map(|_| next()).collect();
    Frame::new(width, height, PixelFormat::Rgb8, data).unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    // A stream to /dev/full works for everybody; a small tmpfs needs the right to mount.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut writer = Mp4Writer::stream(Box::new(full), VideoSpec::new(320, 180, 24)).unwrap();
    let error = (0..480).find_map(|i| writer.push_frame(&frame(320, 180, i % 40)).err());
    let error = error.or_else(|| writer.finish().err()).unwrap().to_string();
    assert!(error.contains("No space left") && error.contains("free some space"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", folder.path().to_str().unwrap()];
    if !std::process::Command::new("mount").args(mount).output().is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: no right to mount a tmpfs");
        return;
    }
    let path = folder.path().join("clip.mp4");
    let mut writer = Mp4Writer::create(&path, VideoSpec::new(320, 180, 24)).unwrap();
    let error = (0..100).find_map(|i| writer.push_owned(noise(320, 180, i)).err());
    let error = error.or_else(|| writer.finish().err()).map(|e| e.to_string());
    let left = names(folder.path());
    std::process::Command::new("umount").arg(folder.path()).status().unwrap();
    let error = error.unwrap();
    assert!(error.contains("clip.mp4") && error.contains("free some space on the disk"), "{error}");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_encoder_at_hand_makes_a_playable_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in borealis_media::encoders() {
        let path = folder.path().join(format!("{name}.mp4"));
        let spec = VideoSpec { encoder: Some(name.to_owned()), ..VideoSpec::new(320, 192, 24).with_audio(24_000) };
        let mut writer = match Mp4Writer::create(&path, spec) {
            Ok(writer) => writer,
            Err(MediaError::Encoder { tried }) => {
                eprintln!("skipped: no device ({tried})");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        for i in 0..24 {
            writer.push_frame(&frame(320, 192, i)).unwrap();
        }
        writer.finish().unwrap();
        let clip = read_clip(Source::Path(&path), 24, 24_000, &Limits::default()).unwrap();
        assert_eq!(clip.frames.iter().map(index_of).collect::<Vec<_>>(), (0..24).collect::<Vec<_>>(), "{name}");
    }
}
