//! A picture or clip through the tokenizers of a checkpoint and back, to look at and to listen to:
//! `cargo run --release -p borealis-tokenizers --example roundtrip -- models/borealis-mini in.mp4 out.mp4`

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use borealis_kernels::Cpu;
use borealis_media::{Frame, Limits, Mp4Writer, PixelFormat, Source, VideoSpec, read_clip, read_image, write_image};
use borealis_tokenizers::{AudioTokenizer, FrameSpec, Grid, VideoTokenizer};
use borealis_weights::Checkpoint;

const SIZE: (usize, usize) = (1280, 720);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, input, output] = &args[..] else { return Err("give CHECKPOINT INPUT OUTPUT".into()) };
    let checkpoint = Checkpoint::open(Path::new(checkpoint))?;
    let (input, output) = (Path::new(input), Path::new(output));
    let video = VideoTokenizer::load(
        checkpoint.file("video_tokenizer/config.json")?,
        checkpoint.tensors("video_tokenizer")?,
        Cpu::new(1),
    )?;
    let video = Arc::new(video);
    let grid = Grid::for_ratio(video.config(), (16, 9))?;
    let is_clip = input.extension().is_some_and(|e| e == "mp4");

    let (frames, sound) = if is_clip {
        let clip = read_clip(Source::Path(input), 24, 24_000, &Limits::default())?;
        (clip.frames, clip.audio)
    } else {
        (vec![read_image(Source::Path(input), &Limits::default())?], None)
    };
    let first = frames.first().ok_or("the clip is empty")?;
    let start = Instant::now();
    let latents = video.encode(&frames, grid.crop(first.width, first.height), grid)?;
    println!("encoded {} frames in {:.3} s", frames.len(), start.elapsed().as_secs_f64());

    let format = if is_clip { PixelFormat::I420 } else { PixelFormat::Rgb8 };
    let mut stream = video.decoder(grid, FrameSpec { width: SIZE.0, height: SIZE.1, format })?;
    let mut decoded: Vec<Frame> = Vec::new();
    let start = Instant::now();
    for codes in &latents {
        stream.push(codes, |frame| decoded.push(frame))?;
    }
    println!("decoded {} frames in {:.3} s", decoded.len(), start.elapsed().as_secs_f64());
    decoded.truncate(frames.len());
    if !is_clip {
        return Ok(write_image(output, &decoded[0])?);
    }

    let spec = VideoSpec::new(SIZE.0 as u32, SIZE.1 as u32, 24);
    let mut writer = Mp4Writer::create(output, if sound.is_some() { spec.with_audio(24_000) } else { spec })?;
    for frame in &decoded {
        writer.push_frame(frame)?;
    }
    if let Some(sound) = sound {
        let audio = AudioTokenizer::load(
            checkpoint.file("audio_tokenizer/config.json")?,
            checkpoint.tensors("audio_tokenizer")?,
        )?;
        let audio = Arc::new(audio);
        let start = Instant::now();
        let codes = audio.encode_clip(&sound.samples, latents.len());
        let encoded = start.elapsed().as_secs_f64();
        let mut decoder = audio.decoder();
        let mut samples = decoder.push(&codes.concat())?;
        samples.extend(decoder.finish());
        samples.truncate(decoded.len() * audio.config().frame_samples);
        println!("sound: encoded in {encoded:.3} s, decoded in {:.3} s", start.elapsed().as_secs_f64() - encoded);
        writer.push_audio(&samples)?;
    }
    writer.finish()?;
    Ok(())
}
