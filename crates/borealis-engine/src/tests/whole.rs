//! All modes from files, through the tiny checkpoint of the goldens.

use std::path::{Path, PathBuf};

use borealis_kernels::{DeviceSpec, QuantFormat};
use borealis_media::{Frame, Kind, Limits, Mp4Writer, PixelFormat, Source, VideoSpec, probe, read_image, write_png};
use borealis_weights::Checkpoint;

use super::golden::folder;
use crate::engine::{Engine, EngineConfig};
use crate::event::Event;
use crate::render::{render_image, render_mp4};
use crate::request::{Conditioning, Media, OutputKind, Preset, Request, Resolution, Sampling};

fn engine(device: DeviceSpec, threads: usize) -> Engine {
    let checkpoint = Checkpoint::open(&folder().join("tiny-default")).unwrap();
    let config =
        EngineConfig { device, dtype: Some(QuantFormat::F32), threads: Some(threads), ..EngineConfig::default() };
    Engine::new(checkpoint, config).unwrap()
}

fn request(kind: OutputKind, conditioning: Conditioning) -> Request {
    let mut request = Request::new("a red ball on grass", kind);
    request.conditioning = conditioning;
    request.output.resolution = Resolution::P480;
    request
}

/// A picture with a gradient, so that stretching and cutting would show.
fn picture(width: u32, height: u32, shift: u32) -> Frame {
    let pixel = |i: u32| {
        let (x, y) = (i % width, i / width);
        [((x + shift) * 255 / (width + 40)) as u8, (y * 255 / height) as u8, 90]
    };
    Frame::new(width, height, PixelFormat::Rgb8, (0..width * height).flat_map(pixel).collect()).unwrap()
}

fn write_clip(path: &Path, width: u32, height: u32, frames: u32, sound: bool) {
    let mut spec = VideoSpec::new(width, height, 24);
    if sound {
        spec = spec.with_audio(24_000);
    }
    let mut writer = Mp4Writer::create(path, spec).unwrap();
    for i in 0..frames {
        writer.push_frame(&picture(width, height, i).to_i420()).unwrap();
    }
    if sound {
        let wave: Vec<f32> = (0..frames * 1000).map(|i| (i as f32 * 0.06).sin() * 0.3).collect();
        writer.push_audio(&wave).unwrap();
    }
    writer.finish().unwrap();
}

fn info(path: &Path) -> borealis_media::Info {
    probe(Source::Path(path), &Limits::default()).unwrap()
}

const SECOND: OutputKind = OutputKind::Video { seconds: 1.0, audio: true };

struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn picture(&self, name: &str, width: u32, height: u32) -> Media {
        write_png(self.path(name), &picture(width, height, 0)).unwrap();
        Media::Path(self.path(name))
    }
}

fn room() -> Room {
    Room { folder: tempfile::tempdir().unwrap() }
}

#[test]
fn stills_and_clips_from_text() {
    let (engine, room) = (engine(DeviceSpec::Cpu, 1), room());
    let mut still = request(OutputKind::Image, Conditioning::Text);
    still.variants = 2;
    let done = render_image(engine.submit(still).unwrap(), &room.path("a.png"), |_| {}).unwrap();
    assert_eq!(done.files, [room.path("a-1.png"), room.path("a-2.png")]);
    for file in &done.files {
        let frame = read_image(Source::Path(file), &Limits::default()).unwrap();
        assert_eq!((frame.width, frame.height), (854, 480));
    }
    let clip = request(OutputKind::Video { seconds: 1.5, audio: true }, Conditioning::Text);
    let done =
        render_mp4(engine.submit(clip).unwrap(), &room.path("a.mp4"), &VideoSpec::new(0, 0, 24), |_| {}).unwrap();
    let made = info(&done.files[0]);
    assert_eq!((made.width, made.height, made.frames, made.fps), (854, 480, 36, 24.0));
    assert!((made.seconds - 1.5).abs() < 1e-3 && made.audio.is_some());
    let silent = request(OutputKind::Video { seconds: 1.0, audio: false }, Conditioning::Text);
    render_mp4(engine.submit(silent).unwrap(), &room.path("b.mp4"), &VideoSpec::new(0, 0, 24), |_| {}).unwrap();
    assert!(info(&room.path("b.mp4")).audio.is_none());
}

#[test]
fn pictures_of_any_size_keep_their_ratio() {
    let (engine, room) = (engine(DeviceSpec::Cpu, 1), room());
    for (width, height, size) in [
        (333, 517, (480, 746)),
        (640, 360, (854, 480)),
        (90, 400, (192, 854)),
        (1, 1, (480, 480)),
        (500, 400, (600, 480)),
    ] {
        let media = room.picture("in.png", width, height);
        let still = request(OutputKind::Image, Conditioning::Image(media.clone()));
        let done = render_image(engine.submit(still).unwrap(), &room.path("out.png"), |_| {}).unwrap();
        assert_eq!((done.width, done.height), size, "{width}x{height}");
    }
    // An aspect ratio that is asked for wins.
    let mut clip = request(SECOND, Conditioning::Image(room.picture("in.png", 333, 517)));
    clip.output.aspect_ratio = Some("1:1".into());
    let done =
        render_mp4(engine.submit(clip).unwrap(), &room.path("out.mp4"), &VideoSpec::new(0, 0, 24), |_| {}).unwrap();
    assert_eq!((done.width, done.height, done.frames), (480, 480, 24));
}

fn ids(engine: &Engine, request: Request) -> Vec<Vec<(String, Vec<u32>)>> {
    let stream = engine.submit(request).unwrap();
    stream.filter_map(|e| if let Event::Ids { ids, .. } = e.unwrap() { Some(ids) } else { None }).collect()
}

#[test]
fn a_clip_from_a_picture_starts_with_it() {
    let (engine, room) = (engine(DeviceSpec::Cpu, 1), room());
    let media = room.picture("in.png", 640, 360);
    let mut clip = request(SECOND, Conditioning::Image(media));
    clip.prompt.clear();
    let video = ids(&engine, clip)[0].iter().find(|(n, _)| n == "video").unwrap().1.clone();
    let first = engine.tokenizers().encode_frames(&[picture(640, 360, 0)], "16:9").unwrap();
    assert_eq!(video[..first[0].len()], first[0]);
    assert_ne!(video[first[0].len()..2 * first[0].len()], first[0]);
}

#[test]
fn edits_are_as_long_as_their_source() {
    let (engine, room) = (engine(DeviceSpec::Cpu, 1), room());
    let source = room.path("source.mp4");
    for (frames, sound) in [(30, true), (7, false)] {
        write_clip(&source, 400, 300, frames, sound);
        let edit =
            request(OutputKind::Video { seconds: 6.0, audio: true }, Conditioning::Video(Media::Path(source.clone())));
        let done = render_mp4(engine.submit(edit).unwrap(), &room.path("edit.mp4"), &VideoSpec::new(0, 0, 24), |_| {})
            .unwrap();
        let made = info(&done.files[0]);
        assert_eq!((made.width, made.height, made.frames), (640, 480, u64::from(frames)));
    }
    let long = room.path("long.mp4");
    write_clip(&long, 64, 48, 16 * 24, false);
    let error = engine.submit(request(SECOND, Conditioning::Video(Media::Path(long)))).unwrap_err().to_string();
    assert_eq!(error, "video: the clip is 16.0 seconds long: cut it to at most 15 seconds");
}

#[test]
fn continuations_begin_with_the_clip_and_chain() {
    let (engine, room) = (engine(DeviceSpec::Cpu, 1), room());
    let mut source = room.path("0.mp4");
    write_clip(&source, 320, 320, 30, true);
    let mut frames = 30;
    for round in 1..3 {
        let more = request(SECOND, Conditioning::Extend(Media::Path(source.clone())));
        let mut lead = Vec::new();
        let target = room.path(&format!("{round}.mp4"));
        let done = render_mp4(engine.submit(more).unwrap(), &target, &VideoSpec::new(0, 0, 24), |event| {
            if let Event::Frame { index, frame, .. } = event
                && *index < frames
            {
                lead.push(frame.data[..16].to_vec());
            }
        })
        .unwrap();
        frames += 24;
        assert_eq!(done.frames, frames);
        let made = info(&target);
        assert_eq!((made.width, made.height, made.frames as usize, made.kind), (480, 480, frames, Kind::Video));
        assert!(made.audio.is_some_and(|a| (a.seconds - frames as f64 / 24.0).abs() < 0.05));
        source = target;
    }
    // One frame is enough, and so is a clip without sound.
    for count in [1, 2, 5, 9] {
        write_clip(&room.path("short.mp4"), 64, 64, count, false);
        let more = request(SECOND, Conditioning::Extend(Media::Path(room.path("short.mp4"))));
        let done = render_mp4(engine.submit(more).unwrap(), &room.path("more.mp4"), &VideoSpec::new(0, 0, 24), |_| {})
            .unwrap();
        assert_eq!(done.frames, count as usize + 24);
        assert_eq!(info(&room.path("more.mp4")).frames, u64::from(count) + 24);
    }
}

#[test]
fn references_are_named_in_the_prompt() {
    let (engine, room) = (engine(DeviceSpec::Cpu, 1), room());
    let list = vec![room.picture("a.png", 64, 64), room.picture("b.png", 300, 100)];
    let mut one = request(OutputKind::Image, Conditioning::References(list));
    one.prompt = "the ball of <IMAGE_0> on the grass of @image2".into();
    let other = Request { prompt: "the ball of <IMAGE_1> on the grass of @image2".into(), ..one.clone() };
    assert_ne!(ids(&engine, one), ids(&engine, other));
}

#[test]
fn ids_do_not_depend_on_threads_or_variants() {
    let mut clip = request(SECOND, Conditioning::Text);
    clip.sampling = Sampling { temperature: Some(0.9), guidance: Some(1.5), ..Sampling::default() };
    let one = ids(&engine(DeviceSpec::Cpu, 1), clip.clone());
    clip.variants = 4;
    let four = ids(&engine(DeviceSpec::Cpu, 2), clip);
    assert_eq!((one.len(), four.len()), (1, 4));
    assert_eq!(one[0], four[0]);
}

/// The tiny checkpoint with another `generation_config.json`.
fn engine_with(generation: &str, folder_of: &Path) -> Engine {
    for part in ["", "video_tokenizer", "audio_tokenizer"] {
        std::fs::create_dir_all(folder_of.join(part)).unwrap();
        for file in std::fs::read_dir(folder().join("tiny-default").join(part)).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_file() {
                std::fs::copy(file.path(), folder_of.join(part).join(file.file_name())).unwrap();
            }
        }
    }
    std::fs::write(folder_of.join("generation_config.json"), generation).unwrap();
    Engine::new(Checkpoint::open(folder_of).unwrap(), EngineConfig::default()).unwrap()
}

#[test]
fn a_preset_paints_fewer_frames_from_the_same_ids() {
    let room = room();
    let generation = r#"{"sampling": {"video": {"temperature": 0.7}}, "presets": {"speed": {"fps_divisor": 2}}}"#;
    let engine = engine_with(generation, &room.path("model"));
    let mut clip = request(SECOND, Conditioning::Text);
    let collect = |clip: &Request| -> (Vec<Frame>, Vec<_>) {
        let events: Vec<Event> = engine.submit(clip.clone()).unwrap().map(Result::unwrap).collect();
        let frames =
            events.iter().filter_map(|e| if let Event::Frame { frame, .. } = e { Some(frame.clone()) } else { None });
        let ids = events.iter().filter_map(|e| if let Event::Ids { ids, .. } = e { Some(ids.clone()) } else { None });
        (frames.collect(), ids.collect())
    };
    let (quality, ids) = collect(&clip);
    clip.preset = Preset::Speed;
    let (speed, same) = collect(&clip);
    assert_eq!((ids, quality.len()), (same, speed.len()));
    for i in 0..speed.len() {
        assert_eq!(speed[i], quality[i / 2 * 2], "frame {i}");
    }
}

/// The model that the program ships, in f32: the same ids on both backends, with one thread and two, alone and beside other variants.
#[test]
fn ids_of_the_default_model_do_not_depend_on_how_they_are_computed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/borealis-mini");
    let make = |device: DeviceSpec, threads: usize, variants: usize| {
        let config =
            EngineConfig { device, dtype: Some(QuantFormat::F32), threads: Some(threads), ..EngineConfig::default() };
        let engine = Engine::new(Checkpoint::open(&folder).unwrap(), config).unwrap();
        let mut clip = request(SECOND, Conditioning::Text);
        (clip.seed, clip.variants) = (5, variants);
        ids(&engine, clip).swap_remove(0)
    };
    let one = make(DeviceSpec::Cpu, 1, 1);
    assert_eq!(one, make(DeviceSpec::Cpu, 2, 4));
    assert_eq!(one, make(DeviceSpec::Reference, 1, 1));
}

#[test]
fn files_that_are_not_there_or_not_pictures() {
    let (engine, room) = (engine(DeviceSpec::Cpu, 1), room());
    let kind_of = |c: Conditioning| {
        let error = engine.submit(request(SECOND, c)).unwrap_err();
        (error.kind(), error.to_string())
    };
    let missing = kind_of(Conditioning::Image(Media::Path(room.path("no.png"))));
    assert_eq!(missing.0, crate::ErrorKind::NotFound);
    assert!(missing.1.starts_with("image: cannot read \""), "{}", missing.1);
    let bad = kind_of(Conditioning::Image(Media::Bytes {
        name: "x.png".into(),
        data: std::sync::Arc::from(&b"nothing"[..]),
    }));
    assert_eq!(bad.0, crate::ErrorKind::InvalidArgument);
    let still = kind_of(Conditioning::Extend(room.picture("p.png", 20, 20)));
    assert!(still.1.ends_with("is not a clip: give an MP4, MOV or WebM file"), "{}", still.1);
}
