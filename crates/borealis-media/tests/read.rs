//! Clips, sound and pictures in: every container, exact times, rotation, limits, and clear errors.

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use borealis_media::{
    ClipRange, ClipSpec, Frame, Kind, Limits, MediaError, Mp4Writer, Pcm, PixelFormat, Source, VideoSpec, probe,
    read_audio, read_audio_channels, read_clip, read_clip_with, read_image, write_image, write_png, write_wav,
};
use common::{convert, frame, index_of, tone, write_clip};

fn limits() -> Limits {
    Limits::default()
}

#[test]
fn stills_in_and_out() {
    let folder = tempfile::tempdir().unwrap();
    let picture = frame(101, 67, 3);
    for (name, exact) in [("a.png", true), ("a.webp", true), ("a.jpg", false), ("a.JPEG", false)] {
        let path = folder.path().join(name);
        write_image(&path, &picture).unwrap();
        let back = read_image(Source::Path(&path), &limits()).unwrap();
        assert_eq!((back.width, back.height, back.format), (101, 67, PixelFormat::Rgb8));
        let worst = back.data.iter().zip(&picture.data).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(if exact { worst == 0 } else { worst < 90 }, "{name}: {worst}");
        let info = probe(Source::Path(&path), &limits()).unwrap();
        assert_eq!((info.kind, info.width, info.height, info.frames), (Kind::Image, 101, 67, 1));
    }
    // A file is what its bytes say, and I420 is converted.
    let path = folder.path().join("odd.dat");
    write_png(&path, &picture.to_i420()).unwrap();
    assert_eq!(read_image(Source::Path(&path), &limits()).unwrap(), picture.to_i420().to_rgb8());
}

#[test]
fn transparent_parts_are_white_and_exif_turns() {
    let mut rgba = image::RgbaImage::from_pixel(2, 1, image::Rgba([200, 0, 0, 0]));
    rgba.put_pixel(1, 0, image::Rgba([200, 0, 0, 255]));
    let mut png = std::io::Cursor::new(Vec::new());
    rgba.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let back = read_image(Source::Bytes { name: "alpha", data: &png.into_inner() }, &limits()).unwrap();
    assert_eq!(back.data, [255, 255, 255, 200, 0, 0]);

    let wide = Frame::solid(40, 20, PixelFormat::Rgb8, [10, 200, 10]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    write_image(&path, &wide).unwrap();
    let plain = std::fs::read(&path).unwrap();
    // APP1 with one IFD entry: Orientation (0x0112) = 6, a quarter turn clockwise.
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    let mut turned = plain[..2].to_vec();
    turned.extend([0xff, 0xe1]);
    turned.extend((exif.len() as u16 + 2).to_be_bytes());
    turned.append(&mut exif);
    turned.extend(&plain[2..]);
    let source = Source::Bytes { name: "turned", data: &turned };
    let back = read_image(source, &limits()).unwrap();
    assert_eq!((back.width, back.height), (20, 40));
    let info = probe(source, &limits()).unwrap();
    assert_eq!((info.width, info.height), (20, 40));
}

fn clip(folder: &Path) -> PathBuf {
    let path = folder.join("clip.mp4");
    write_clip(&path, 320, 180, 24, 36);
    path
}

#[test]
fn every_container_gives_the_same_frames() {
    let folder = tempfile::tempdir().unwrap();
    let mp4 = clip(folder.path());
    let mut files = vec![mp4.clone()];
    let x264 = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "12", "-c:a", "aac"];
    for (name, args) in [
        ("clip.mov", &x264[..]),
        ("copy.mkv", &["-c", "copy"][..]),
        ("clip.webm", &["-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime", "-c:a", "libopus"][..]),
        (
            "vp8.webm",
            &["-c:v", "libvpx", "-cpu-used", "8", "-deadline", "realtime", "-b:v", "2M", "-c:a", "libvorbis"][..],
        ),
        ("clip.gif", &[][..]),
        ("mjpeg.mkv", &["-c:v", "mjpeg", "-q:v", "3", "-c:a", "flac"][..]),
        ("ten_bits.mp4", &["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-c:a", "copy"][..]),
    ] {
        files.extend(convert(&mp4, args, &folder.path().join(name)));
    }
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let info = probe(Source::Path(&path), &limits()).unwrap();
        assert_eq!((info.kind, info.width, info.height), (Kind::Video, 320, 180), "{name}");
        let clip = read_clip(Source::Path(&path), 24, 24_000, &limits()).unwrap();
        let seen: Vec<u32> = clip.frames.iter().map(index_of).collect();
        if name == "clip.gif" {
            // Centiseconds: 24 fps cannot be told exactly.
            assert!(seen.len().abs_diff(36) <= 1, "{name}: {}", seen.len());
            assert!(clip.audio.is_none());
            continue;
        }
        assert_eq!(seen, (0..36).collect::<Vec<_>>(), "{name}");
        let sound = clip.audio.unwrap();
        assert_eq!(sound.samples.len(), 36_000, "{name}");
        let want = tone(24_000, 36_000);
        let worst = (4_000..32_000).map(|i| (sound.samples[i] - want[i]).abs()).fold(0.0, f32::max);
        // Matroska rounds the priming of AAC and Opus to milliseconds: up to half a millisecond of shift.
        let bound = if matches!(name.as_str(), "copy.mkv" | "clip.webm") { 0.7 } else { 0.1 };
        assert!(worst < bound, "{name}: the tone is off by {worst}");
    }
}

#[test]
fn times_are_resampled_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let path = clip(folder.path());
    for (fps, count) in [(24, 36), (12, 18), (48, 72), (30, 45), (6, 9), (25, 38)] {
        let spec = ClipSpec { fps, audio_rate: Some(16_000), range: ClipRange::All, canvas: None };
        let clip = read_clip_with(Source::Path(&path), &spec, &limits()).unwrap();
        assert_eq!(clip.frames.len(), count, "{fps}");
        for (k, picture) in clip.frames.iter().enumerate() {
            let want = ((k as f64 + 0.45) / f64::from(fps) * 24.0) as u32;
            assert_eq!(index_of(picture), want.min(35), "{fps} fps, frame {k}");
        }
        let samples = clip.audio.unwrap().samples.len();
        assert_eq!(samples, (count as f64 / f64::from(fps) * 16_000.0).round() as usize);
    }
    let Some(ntsc) =
        convert(&path, &["-r", "30000/1001", "-c:v", "libx264", "-c:a", "copy"], &folder.path().join("n.mp4"))
    else {
        return;
    };
    let back = read_clip(Source::Path(&ntsc), 24, 24_000, &limits()).unwrap();
    assert!(back.frames.len().abs_diff(36) <= 1);
    for (k, picture) in back.frames.iter().enumerate() {
        assert!(index_of(picture).abs_diff(k as u32) <= 1, "frame {k}");
    }
}

#[test]
fn the_end_of_a_clip_comes_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.mp4");
    // 6 s; the bar runs round every 40 frames.
    let mut writer = Mp4Writer::create(&path, VideoSpec::new(320, 180, 24).with_audio(24_000)).unwrap();
    let sound: Vec<f32> = (0..144_000).map(|i| i as f32 / 288_000.0).collect();
    for i in 0..144u32 {
        writer.push_frame(&frame(320, 180, i % 40)).unwrap();
    }
    writer.push_audio(&sound).unwrap();
    writer.finish().unwrap();
    for name in ["long.mp4", "long.webm"] {
        let path = folder.path().join(name);
        if name == "long.webm" {
            let args = ["-c:v", "libvpx", "-cpu-used", "8", "-deadline", "realtime", "-g", "48", "-c:a", "libopus"];
            if convert(&folder.path().join("long.mp4"), &args, &path).is_none() {
                continue;
            }
        }
        for (seconds, count) in [(1.0, 24), (0.5, 12), (1.0 / 24.0, 1), (5.0, 120), (100.0, 144)] {
            let range = ClipRange::Last(seconds);
            let spec = ClipSpec { fps: 24, audio_rate: Some(24_000), range, canvas: Some((160, 90)) };
            let clip = read_clip_with(Source::Path(&path), &spec, &limits()).unwrap();
            assert_eq!(clip.frames.len(), count, "{name}: {seconds}");
            assert_eq!((clip.frames[0].width, clip.frames[0].height), (160, 90));
            let whole = clip.frames.iter().map(|f| index_of(&f.resize(320, 180, borealis_media::Filter::Area)));
            let want: Vec<u32> = (144 - count as u32..144).map(|i| i % 40).collect();
            assert_eq!(whole.collect::<Vec<_>>(), want, "{name}: {seconds}");
            assert_eq!(clip.audio.unwrap().samples.len(), count * 1000);
        }
    }
}

#[test]
fn turned_clips_stand_upright() {
    let folder = tempfile::tempdir().unwrap();
    let path = clip(folder.path());
    let upright = read_clip(Source::Path(&path), 24, 24_000, &limits()).unwrap();
    for degrees in ["90", "180", "270"] {
        let turned = folder.path().join(format!("turned{degrees}.mp4"));
        let tag = format!("rotate={degrees}");
        if convert(&path, &["-c", "copy", "-metadata:s:v:0", &tag], &turned).is_none() {
            continue;
        }
        let info = probe(Source::Path(&turned), &limits()).unwrap();
        let size = if degrees == "180" { (320, 180) } else { (180, 320) };
        assert_eq!((info.width, info.height), size, "{degrees}");
        let clip = read_clip(Source::Path(&turned), 24, 24_000, &limits()).unwrap();
        let (before, after) = (&upright.frames[0], &clip.frames[0]);
        assert_eq!((after.width, after.height), size);
        // FFmpeg's tag turns counterclockwise: the top left corner goes to the bottom left, bottom right, top right.
        let (x, y) = match degrees {
            "90" => (2, size.1 - 3),
            "180" => (size.0 - 3, size.1 - 3),
            _ => (size.0 - 3, 2),
        };
        let at = |f: &Frame, x: u32, y: u32| f.data[((y * f.width + x) * 3) as usize..][..3].to_vec();
        let (want, got) = (at(before, 2, 2), at(after, x, y));
        assert!(want.iter().zip(&got).all(|(a, b)| a.abs_diff(*b) < 12), "{degrees}: {want:?} {got:?}");
        // On a canvas of the clip's first ratio it is fitted, not stretched.
        let spec = ClipSpec { fps: 24, audio_rate: None, range: ClipRange::All, canvas: Some((320, 180)) };
        let fitted = read_clip_with(Source::Path(&turned), &spec, &limits()).unwrap();
        assert_eq!((fitted.frames[0].width, fitted.frames[0].height), (320, 180));
    }
}

#[test]
fn sound_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let wav = folder.path().join("a.wav");
    write_wav(&wav, &Pcm::mono(44_100, tone(44_100, 88_200))).unwrap();
    let mut files = vec![wav.clone()];
    for (name, args) in [
        ("a.mp3", &["-c:a", "libmp3lame", "-b:a", "192k"][..]),
        ("a.aac", &["-c:a", "aac"][..]),
        ("a.m4a", &["-c:a", "aac"][..]),
        ("a.flac", &["-c:a", "flac"][..]),
        ("a.ogg", &["-c:a", "libvorbis"][..]),
        ("a.opus", &["-c:a", "libopus"][..]),
        ("stereo24.wav", &["-ac", "2", "-c:a", "pcm_s24le"][..]),
        ("float51.wav", &["-ac", "6", "-c:a", "pcm_f32le"][..]),
    ] {
        files.extend(convert(&wav, args, &folder.path().join(name)));
    }
    let want = tone(24_000, 48_000);
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let pcm = read_audio(Source::Path(&path), 24_000, &limits()).unwrap();
        assert_eq!((pcm.rate, pcm.channels), (24_000, 1));
        // Raw AAC has no place to tell its padding: it comes with one block more in front.
        let (len, lag) = if name == "a.aac" { (pcm.samples.len(), 557) } else { (48_000, 0) };
        assert_eq!(pcm.samples.len(), len, "{name}");
        // FFmpeg spreads mono to stereo at -3 dB, and to the centre alone in 5.1.
        let gain = match name.as_str() {
            "float51.wav" => 1.0 / 6.0,
            "stereo24.wav" => std::f32::consts::FRAC_1_SQRT_2,
            _ => 1.0,
        };
        let worst = (4_000..44_000).map(|i| (pcm.samples[i + lag] - gain * want[i]).abs()).fold(0.0, f32::max);
        assert!(worst < 0.06, "{name}: off by {worst}");
        let info = probe(Source::Path(&path), &limits()).unwrap();
        assert_eq!((info.kind, info.width), (Kind::Audio, 0), "{name}");
        let error = read_clip(Source::Path(&path), 24, 24_000, &limits()).unwrap_err().to_string();
        assert!(error.contains("has no video track"), "{name}: {error}");
    }
}

#[test]
fn channels_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let left = tone(24_000, 24_000);
    let right: Vec<f32> = left.iter().rev().map(|v| 0.5 * v).collect();
    let samples = left.iter().zip(&right).flat_map(|(l, r)| [*l, *r]).collect();
    let wav = folder.path().join("two.wav");
    write_wav(&wav, &Pcm { rate: 24_000, channels: 2, samples }).unwrap();
    let mut files = vec![wav.clone()];
    // Packed and planar samples.
    files.extend(convert(&wav, &["-c:a", "flac"], &folder.path().join("two.flac")));
    files.extend(convert(&wav, &["-c:a", "pcm_f32le"], &folder.path().join("float.wav")));
    files.extend(convert(&wav, &["-c:a", "libvorbis", "-q:a", "9"], &folder.path().join("two.ogg")));
    for path in files {
        let read = |channels| read_audio_channels(Source::Path(&path), channels, 24_000, &limits()).unwrap();
        let off = |a: &[f32], b: &[f32]| (2_000..22_000).map(|i| (a[i] - b[i]).abs()).fold(0.0, f32::max);
        let (one, two, three) = (read(1), read(2), read(3));
        assert_eq!((one.len(), two.len(), three.len(), two[1].len()), (1, 2, 3, 24_000));
        assert!(off(&two[0], &left) < 0.03 && off(&two[1], &right) < 0.03, "{}", path.display());
        assert_eq!(three[2], two[1], "the last is repeated");
        let mean: Vec<f32> = two[0].iter().zip(&two[1]).map(|(l, r)| (l + r) / 2.0).collect();
        assert!(off(&one[0], &mean) < 1e-6);
    }
}

#[test]
fn limits_are_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = clip(folder.path());
    let source = Source::Bytes { name: "clip", data: &std::fs::read(&path).unwrap() };
    let read = |limits: Limits| read_clip(source, 24, 24_000, &limits).unwrap_err().to_string();
    let tail = "; give a smaller one";
    assert_eq!(
        read(Limits { max_pixels: 57_599, ..limits() }),
        format!("\"clip\" has 57600 pixels, the limit is 57599{tail}")
    );
    assert_eq!(read(Limits { max_seconds: 1.0, ..limits() }), format!("\"clip\" has 2 seconds, the limit is 1{tail}"));
    assert!(read(Limits { max_bytes: 10, ..limits() }).ends_with(&format!("bytes, the limit is 10{tail}")));
    assert_eq!(read(Limits { max_frames: 20, ..limits() }), format!("\"clip\" has 21 frames, the limit is 20{tail}"));
    let few = Limits { max_decoded_bytes: 1_000_000, ..limits() };
    assert_eq!(read(few), format!("\"clip\" has 1036800 bytes when decoded, the limit is 1000000{tail}"));
    let slow = read(Limits { max_wall: Duration::ZERO, ..limits() });
    assert_eq!(slow, "\"clip\" was not read within 0 seconds; give a shorter or simpler file");

    let mut huge = Vec::new();
    let header = image::codecs::png::PngEncoder::new(&mut huge);
    image::ImageEncoder::write_image(header, &[0; 3], 1, 1, image::ExtendedColorType::Rgb8).unwrap();
    huge[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    // The checksum of the header chunk has to fit, or the file is only damaged.
    let crc = crc32(&huge[12..29]);
    huge[29..33].copy_from_slice(&crc.to_be_bytes());
    let error = read_image(Source::Bytes { name: "huge", data: &huge }, &limits()).unwrap_err().to_string();
    assert_eq!(error, format!("\"huge\" has 4294967296 pixels, the limit is 67108864{tail}"));
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |mut crc, byte| {
        crc ^= u32::from(*byte);
        (0..8).for_each(|_| crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()));
        crc
    })
}

#[test]
fn what_is_no_media_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.mp4");
    let error = read_image(Source::Path(&missing), &limits()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot read \"{}\": ", missing.display())), "{error}");
    assert!(
        read_clip(Source::Path(folder.path()), 24, 24_000, &limits()).unwrap_err().to_string().contains("plain file")
    );
    let empty = Source::Bytes { name: "empty", data: &[] };
    assert_eq!(
        probe(empty, &limits()).unwrap_err().to_string(),
        "\"empty\" is damaged: the file is empty; export or copy it again"
    );
    for text in [
        "hello",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '/etc/hostname'\n",
        "<svg xmlns='http://www.w3.org/2000/svg'/>",
    ] {
        let source = Source::Bytes { name: "text", data: text.as_bytes() };
        assert!(matches!(read_image(source, &limits()), Err(MediaError::Unsupported { .. })));
        assert!(matches!(probe(source, &limits()), Err(MediaError::Unsupported { .. })), "{text}");
        assert!(matches!(read_clip(source, 24, 24_000, &limits()), Err(MediaError::Unsupported { .. })));
        assert!(matches!(read_audio(source, 24_000, &limits()), Err(MediaError::Unsupported { .. })));
    }
}

#[test]
fn a_file_that_is_cut_short_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.mp4");
    write_clip(&path, 320, 180, 24, 120);
    let whole = std::fs::read(&path).unwrap();
    let half = Source::Bytes { name: "half", data: &whole[..whole.len() * 6 / 10] };
    let error = read_clip(half, 24, 24_000, &limits()).unwrap_err();
    assert!(matches!(error, MediaError::Truncated { .. } | MediaError::Corrupt { .. }), "{error}");
    if let Some(mkv) = convert(&path, &["-c", "copy"], &folder.path().join("long.mkv")) {
        let whole = std::fs::read(mkv).unwrap();
        let half = Source::Bytes { name: "half", data: &whole[..whole.len() / 2] };
        let error = read_clip(half, 24, 24_000, &limits()).unwrap_err();
        assert!(matches!(error, MediaError::Truncated { expected, .. } if expected > 4.9), "{error}");
    }
    let wav = folder.path().join("a.wav");
    write_wav(&wav, &Pcm::mono(24_000, tone(24_000, 96_000))).unwrap();
    let whole = std::fs::read(&wav).unwrap();
    // A WAV that ends early is still a WAV; its shorter duration is what there is.
    let half = Source::Bytes { name: "half", data: &whole[..whole.len() / 2] };
    if let Ok(pcm) = read_audio(half, 24_000, &limits()) {
        assert!(pcm.samples.len() < 60_000);
    }
}
