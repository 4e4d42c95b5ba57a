//! The numbers of the recipe (`recipes/make_goldens.py`), through every backend.

use std::path::PathBuf;
use std::sync::Arc;

use borealis_kernels::{Backend, Cpu, Reference};
use borealis_media::{Frame, PixelFormat, Rect};
use borealis_tokenizers::{AudioTokenizer, CodeLayout, FrameSpec, Grid, Output, StreamDecoder, VideoTokenizer};
use borealis_weights::Checkpoint;
use safetensors::SafeTensors;

fn goldens() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens")
}

fn checkpoint() -> Checkpoint {
    Checkpoint::open(&goldens().join("tiny-default")).unwrap()
}

struct Golden(Vec<u8>);

impl Golden {
    fn open() -> Self {
        Self(std::fs::read(goldens().join("golden.safetensors")).unwrap())
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).unwrap().data().to_vec()
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        self.bytes(name).as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn i32(&self, name: &str) -> Vec<i32> {
        self.bytes(name).as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect()
    }
}

fn assert_close(what: &str, found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len(), "{what}: length");
    for (i, (f, w)) in found.iter().zip(wanted).enumerate() {
        assert!((f - w).abs() <= 1e-4 + 1e-3 * w.abs(), "{what}[{i}]: {f}, wanted {w}");
    }
}

fn video<B: Backend>(backend: B) -> Arc<VideoTokenizer<B>> {
    let c = checkpoint();
    let config = c.file("video_tokenizer/config.json").unwrap();
    Arc::new(VideoTokenizer::load(config, c.tensors("video_tokenizer").unwrap(), backend).unwrap())
}

fn audio() -> Arc<AudioTokenizer> {
    let c = checkpoint();
    let config = c.file("audio_tokenizer/config.json").unwrap();
    Arc::new(AudioTokenizer::load(config, c.tensors("audio_tokenizer").unwrap()).unwrap())
}

const CELLS: (usize, usize) = (4, 6);
const SIZE: (u32, u32) = (120, 80);

fn check_video<B: Backend>(backend: B) {
    let golden = Golden::open();
    let tokenizer = video(backend);
    let grid = Grid::full(tokenizer.config(), CELLS.0, CELLS.1).unwrap();
    let (w, h) = SIZE;
    let frames: Vec<Frame> = golden
        .bytes("video.input")
        .chunks_exact((w * h * 3) as usize)
        .map(|data| Frame { width: w, height: h, format: PixelFormat::Rgb8, data: data.to_vec() })
        .collect();
    let latents = tokenizer.encode(&frames, Rect { x: 0, y: 0, width: w, height: h }, grid).unwrap();
    let wanted: Vec<u16> = golden.bytes("video.codes").into_iter().map(u16::from).collect();
    assert_eq!(latents.concat(), wanted, "video codes");

    let spec = FrameSpec { width: w as usize, height: h as usize, format: PixelFormat::Rgb8 };
    let mut stream = tokenizer.decoder(grid, spec).unwrap();
    let mut last = Vec::new();
    let mut frames = 0;
    for codes in &latents {
        stream.push(codes, |_| frames += 1).unwrap();
        last.push(stream.last_rgb().to_vec());
    }
    assert_eq!(frames, 9);
    assert_close("frames 0 and 8", &[&last[0][..], &last[2]].concat(), &golden.f32("video.decoded"));

    // Frame 5, the first of latent frame 2, four times as large; eight bits a colour.
    let (wide, tall) = (4 * w as usize, 4 * h as usize);
    let mut stream =
        tokenizer.decoder(grid, FrameSpec { width: wide, height: tall, format: PixelFormat::Rgb8 }).unwrap();
    let mut enlarged = Vec::new();
    for codes in &latents {
        stream.push(codes, |frame| enlarged.push(frame.data)).unwrap();
    }
    let wanted = golden.f32("video.decoded_x4");
    for (i, w) in wanted.iter().enumerate() {
        let (c, y, x) = (i / (64 * 96), 100 + i / 96 % 64, 200 + i % 96);
        let found = f32::from(enlarged[5][(y * wide + x) * 3 + c]) / 255.0;
        assert!((found - w).abs() <= 0.5 / 255.0 + 1e-4 + 1e-3 * w, "frame 5 ({c}, {y}, {x}): {found}, wanted {w}");
    }
}

#[test]
fn video_through_reference() {
    check_video(Reference::new());
}

#[test]
fn video_through_cpu() {
    check_video(Cpu::new(2));
}

#[test]
fn audio_codes_and_samples() {
    let golden = Golden::open();
    let tokenizer = audio();
    let codes = tokenizer.encode(&golden.f32("audio.input"));
    let wanted: Vec<u16> = golden.i32("audio.codes").into_iter().map(|c| c as u16).collect();
    assert_eq!(codes, wanted, "audio codes");
    assert_close("samples", &tokenizer.decode(&codes, -3000).unwrap(), &golden.f32("audio.decoded"));
}

#[test]
fn pieces_sound_like_the_whole() {
    let golden = Golden::open();
    let tokenizer = audio();
    let codes: Vec<u16> = golden.i32("audio.codes").into_iter().map(|c| c as u16).collect();
    let whole = tokenizer.decode(&codes, -3000).unwrap();
    for pieces in [3, 6, 12, 36] {
        let mut decoder = tokenizer.decoder();
        let mut played = Vec::new();
        for piece in codes.chunks(pieces) {
            played.extend(decoder.push(piece).unwrap());
        }
        played.extend(decoder.finish());
        assert_eq!(played, whole[3000..], "in pieces of {pieces} codes");
    }
}

#[test]
fn a_stream_gives_exactly_what_was_asked_for() {
    let (video, audio) = (video(Cpu::new(1)), audio());
    let grid = Grid::for_ratio(video.config(), (3, 2)).unwrap();
    assert_eq!((grid.rows, grid.columns), (9, 14));
    let spec = FrameSpec { width: 54, height: 36, format: PixelFormat::I420 };
    let digits = CodeLayout::new("video", 4, (0..9).map(|j| (1000 + 8 * j, 8)).collect()).unwrap();
    let books = CodeLayout::new("audio", 4, (0..3).map(|j| (2000 + 512 * j, 512)).collect()).unwrap();
    let decode = |frames: usize, latents: usize| {
        let stream = StreamDecoder::new().with_video(&video, digits.clone(), grid, spec, frames).unwrap();
        let mut stream = stream.with_audio(&audio, books.clone(), frames * 1000);
        let mut out = Vec::new();
        for i in 0..latents {
            let codes: Vec<u16> = (0..9 * 14 * 9).map(|k| ((k * 7 + i) % 8) as u16).collect();
            out.extend(stream.push_video(&digits.cell_ids(&codes, 9, 14).unwrap()).unwrap());
            let codes: Vec<u16> = (0..12).map(|k| (k * 31 + i as u16 * 17) % 512).collect();
            out.extend(stream.push_audio(&books.ids(&codes).unwrap()).unwrap());
        }
        out.extend(stream.finish());
        let frames: Vec<Frame> =
            out.iter().filter_map(|o| if let Output::Frame(f) = o { Some(f.clone()) } else { None }).collect();
        let samples: Vec<f32> =
            out.iter().flat_map(|o| if let Output::Pcm(s) = o { s.clone() } else { Vec::new() }).collect();
        (frames, samples)
    };
    let (frames, samples) = decode(8, 3);
    assert_eq!((frames.len(), samples.len()), (8, 8000));
    assert!(frames.iter().all(|f| f.data.len() == 54 * 36 * 3 / 2));
    assert!(samples.iter().any(|s| *s != 0.0));
    // Another stream shares nothing: the same codes give the same frames again.
    assert_eq!(decode(8, 3), (frames, samples));
}

#[test]
fn foreign_ids_are_refused() {
    let layout = CodeLayout::new("audio", 4, vec![(2000, 512)]).unwrap();
    assert_eq!(layout.codes(&[1999]).unwrap_err().to_string(), "audio: code 1999 is not below 2512");
    let tokenizer = audio();
    assert_eq!(tokenizer.decode(&[512, 0, 0], 0).unwrap_err().to_string(), "audio: code 512 is not below 512");
    assert_eq!(tokenizer.decode(&[1, 0], 0).unwrap_err().to_string(), "audio codes: 2 codes, must be 12");
}
