//! What several tests need: clips to write, and FFmpeg's tools as independent judges where they are installed.
#![allow(dead_code)] // every test binary uses its own part

use std::path::{Path, PathBuf};
use std::process::Command;

use borealis_media::{Frame, Mp4Writer, PixelFormat, VideoSpec};

/// A moving picture whose frame number can be read back: a white bar at x = 8 * index on a two-coloured ground.
pub fn frame(width: u32, height: u32, index: u32) -> Frame {
    let mut data = Vec::with_capacity(PixelFormat::Rgb8.bytes(width, height));
    for y in 0..height {
        for x in 0..width {
            let bar = (8 * index..8 * index + 8).contains(&x);
            let ground = if y < height / 2 { [40, 60, 200] } else { [30, 140, 40] };
            data.extend(if bar { [255, 255, 255] } else { ground });
        }
    }
    Frame::new(width, height, PixelFormat::Rgb8, data).unwrap()
}

/// Where the bar of [`frame`] stands.
pub fn index_of(frame: &Frame) -> u32 {
    let rgb = frame.to_rgb8();
    let row = &rgb.data[(rgb.height / 4 * rgb.width * 3) as usize..][..rgb.width as usize * 3];
    let brightness = |x: usize| (0..8).map(|i| row.get((x + i) * 3).map_or(0, |v| u32::from(*v))).sum::<u32>();
    (0..rgb.width / 8).max_by_key(|i| brightness(*i as usize * 8)).unwrap()
}

pub fn tone(rate: u32, samples: usize) -> Vec<f32> {
    (0..samples).map(|i| 0.5 * (i as f32 * std::f32::consts::TAU * 440.0 / rate as f32).sin()).collect()
}

/// Writes `frames` frames with a tone of 24 kHz.
pub fn write_clip(path: &Path, width: u32, height: u32, fps: u32, frames: u32) {
    let mut writer = Mp4Writer::create(path, VideoSpec::new(width, height, fps).with_audio(24_000)).unwrap();
    for i in 0..frames {
        writer.push_frame(&frame(width, height, i)).unwrap();
    }
    writer.push_audio(&tone(24_000, (24_000 * frames / fps) as usize)).unwrap();
    writer.finish().unwrap();
}

/// Runs a tool; `None` when it is not installed.
pub fn tool(name: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(name).args(args).output().ok()?;
    assert!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `ffmpeg -i input args output`; `None` when it is not installed or lacks the encoder.
pub fn convert(input: &Path, args: &[&str], output: &Path) -> Option<PathBuf> {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-loglevel", "error", "-y", "-i"]).arg(input).args(args).arg(output);
    match command.output() {
        Ok(done) if done.status.success() => Some(output.to_owned()),
        Ok(done) => {
            eprintln!("skipped: ffmpeg {args:?}: {}", String::from_utf8_lossy(&done.stderr));
            None
        }
        Err(_) => {
            eprintln!("skipped: no ffmpeg");
            None
        }
    }
}
