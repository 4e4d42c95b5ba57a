//! The engine's threads around the mock model: order, backpressure, cancellation.

use std::time::{Duration, Instant};

use borealis_tokenizers::Tokenizers;
use borealis_weights::Checkpoint;

use super::golden::folder;
use super::mock::Mock;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind};
use crate::event::{Event, Usage};
use crate::request::{OutputKind, Request, Resolution, Sampling};
use crate::stream::ROOM;

fn engine(memory_limit: Option<u64>) -> Engine {
    let checkpoint = Checkpoint::open(&folder().join("tiny-default")).unwrap();
    let tokenizers = Tokenizers::open(&checkpoint, borealis_kernels::Cpu::new(1)).unwrap();
    let manifest = checkpoint.manifest().clone();
    let model = Box::new(Mock::new(&manifest));
    Engine::with_model("mock".into(), manifest, tokenizers, model, memory_limit).unwrap()
}

fn clip(seconds: f32, variants: usize) -> Request {
    let mut request = Request::new("a red ball", OutputKind::Video { seconds, audio: true });
    request.output.resolution = Resolution::P480;
    request.variants = variants;
    request.sampling = Sampling { temperature: Some(1.0), ..Sampling::default() };
    request
}

/// What a finished stream held, by variant.
#[derive(Debug, Default, PartialEq)]
struct Got {
    frames: Vec<usize>,
    samples: Vec<usize>,
    ids: Vec<Vec<(String, Vec<u32>)>>,
    usage: Usage,
}

fn read(stream: impl Iterator<Item = Result<Event, EngineError>>, variants: usize) -> Got {
    let mut got = Got { frames: vec![0; variants], samples: vec![0; variants], ..Got::default() };
    let mut started = false;
    for event in stream {
        match event.unwrap() {
            Event::Started { .. } => started = true,
            Event::Frame { variant, index, frame } => {
                assert!(started);
                assert_eq!(index, got.frames[variant]);
                assert_eq!((frame.width, frame.height), (854, 480));
                got.frames[variant] += 1;
            }
            Event::Audio { variant, samples } => got.samples[variant] += samples.len(),
            Event::Ids { variant, ids } => {
                assert_eq!(variant, got.ids.len());
                got.ids.push(ids);
            }
            Event::Done(usage) => got.usage = usage,
            Event::Progress { .. } | Event::Text { .. } => {}
        }
    }
    got
}

#[test]
fn a_clip_has_exactly_its_frames_and_samples() {
    let engine = engine(None);
    let got = read(engine.submit(clip(1.3, 2)).unwrap(), 2);
    // round(1.3 * 24) = 31 frames; 1000 samples each.
    assert_eq!((got.frames, got.samples), (vec![31, 31], vec![31_000, 31_000]));
    let usage = got.usage;
    // 20 fields, the opening state, then one step for each of 9 latent frames of 42 rows; both variants share them.
    assert_eq!(usage.steps, 20 + 1 + 9);
    assert_eq!(usage.positions, 2 * (22 + 1 + 9 * 42));
    assert_eq!(usage.generated_tokens, 2 * (20 + 9 * (16 + 40 * 36 + 12)));
    assert!(
        usage.prompt_tokens > 5
            && usage.decode_seconds > 0.0
            && usage.bytes_per_step > 1000
            && usage.operations_per_step > 1000
    );
}

#[test]
fn requests_at_once_give_what_they_give_alone() {
    let engine = engine(None);
    let alone = read(engine.submit(clip(1.0, 1)).unwrap(), 1).ids;
    let streams: Vec<_> = [1, 4, 1].into_iter().map(|n| (n, engine.submit(clip(1.0, n)).unwrap())).collect();
    let readers: Vec<_> = streams.into_iter().map(|(n, s)| std::thread::spawn(move || read(s, n).ids)).collect();
    for reader in readers {
        assert_eq!(reader.join().unwrap()[0], alone[0]);
    }
}

#[test]
fn a_slow_reader_stops_its_own_request_alone() {
    let engine = engine(None);
    let mut slow = engine.submit(clip(6.0, 1)).unwrap();
    let quick = read(engine.submit(clip(2.0, 1)).unwrap(), 1);
    assert_eq!(quick.frames, [48]);
    // Everything that can happen without a reader has happened when the number of events stays the same.
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut last, mut steady) = (usize::MAX, 0);
    while (steady < 5 || last < ROOM) && Instant::now() < deadline {
        let now = slow.waiting();
        steady = if now == last { steady + 1 } else { 0 };
        last = now;
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!((ROOM..ROOM + 40).contains(&last), "{last} events wait");
    let first = slow.try_recv().unwrap();
    assert!(matches!(first, Ok(Event::Started { .. })));
    let rest = read(std::iter::once(first).chain(slow), 1);
    assert_eq!((rest.frames, rest.samples), (vec![144], vec![144_000]));
}

#[test]
fn cancelled_and_dropped_requests_leave_nothing() {
    let engine = engine(None);
    let want = read(engine.submit(clip(1.0, 1)).unwrap(), 1).ids;
    for round in 0..6u64 {
        let kept = engine.submit(clip(1.0, 1)).unwrap();
        let dropped = engine.submit(clip(5.0, 2)).unwrap();
        let cancelled = engine.submit(clip(5.0, 4)).unwrap();
        let canceller = cancelled.canceller();
        std::thread::sleep(Duration::from_millis(7 * round));
        drop(dropped);
        canceller.cancel();
        let last = cancelled.last().unwrap();
        assert!(matches!(&last, Err(e) if e.kind() == ErrorKind::Cancelled), "{last:?}");
        assert_eq!(read(kept, 1).ids, want);
    }
    // A handle that goes away does not end what runs.
    let stream = engine.submit(clip(1.0, 1)).unwrap();
    drop(engine);
    assert_eq!(read(stream, 1).ids, want);
}

#[test]
fn what_does_not_fit_is_refused_with_the_estimate() {
    let engine = engine(Some(24 << 20));
    let error = engine.submit(clip(15.0, 4)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    let text = error.to_string();
    assert!(text.starts_with("the request takes ") && text.contains(" MiB of memory (cache "), "{text}");
    assert!(text.contains("24 MiB are allowed: ask for fewer variants, fewer seconds or a lower resolution"), "{text}");
    assert!(text.ends_with("or raise --memory or --memory-limit"), "{text}");
}
