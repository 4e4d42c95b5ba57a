//! Frames of samples and of pixels.

use std::ptr;

use ffmpeg_next::format::{Pixel, Sample};
use ffmpeg_next::{codec, color, ffi, frame};

use crate::error::{MediaError, Result};
use crate::ff::check;

/// Appends one channel of a decoded frame (the last one, where there are fewer), or the average of all, as samples in -1..1.
pub(crate) fn append_samples(frame: &frame::Audio, channel: Option<usize>, out: &mut Vec<f32>) -> Result<()> {
    // SAFETY: a live frame; the fields are plain numbers and pointers into its buffers.
    let (count, channels, planes) = unsafe {
        let f = frame.as_ptr();
        ((*f).nb_samples.max(0) as usize, (*f).ch_layout.nb_channels.max(0) as usize, (*f).extended_data)
    };
    if count == 0 || channels == 0 || planes.is_null() {
        return Ok(());
    }
    let planar = frame.is_planar();
    let channel = channel.map(|c| c.min(channels - 1));
    let (buffers, per_buffer) = if planar { (channels, count) } else { (1, count * channels) };
    let start = out.len();
    out.resize(start + count, 0.0);
    let sums = &mut out[start..];
    // In a packed frame: which of its samples; all of a planar buffer are of one channel.
    let pick = channel.filter(|_| !planar);
    for buffer in (0..buffers).filter(|&b| !planar || channel.is_none_or(|c| c == b)) {
        // SAFETY: a decoded frame has `buffers` data pointers, each to `per_buffer` samples of its format.
        unsafe {
            let data = *planes.add(buffer);
            if data.is_null() {
                continue;
            }
            let step = if planar { 1 } else { channels };
            match frame.format() {
                Sample::U8(_) => mix(data, per_buffer, (step, pick), sums, |v: u8| (f32::from(v) - 128.0) / 128.0),
                Sample::I16(_) => mix(data.cast(), per_buffer, (step, pick), sums, |v: i16| f32::from(v) / 32_768.0),
                Sample::I32(_) => mix(data.cast(), per_buffer, (step, pick), sums, |v: i32| v as f32 / 2_147_483_648.0),
                Sample::I64(_) => mix(data.cast(), per_buffer, (step, pick), sums, |v: i64| v as f32 / 9.223_372e18),
                Sample::F32(_) => mix(data.cast(), per_buffer, (step, pick), sums, finite),
                Sample::F64(_) => mix(data.cast(), per_buffer, (step, pick), sums, |v: f64| finite(v as f32)),
                Sample::None => {}
            }
        }
    }
    let scale = if channel.is_some() { 1.0 } else { 1.0 / channels as f32 };
    sums.iter_mut().for_each(|s| *s *= scale);
    Ok(())
}

/// Float files may hold anything; infinities would spread through the resampler.
fn finite(value: f32) -> f32 {
    if value.is_finite() { value.clamp(-8.0, 8.0) } else { 0.0 }
}

/// Adds `count` samples at `data`, `step` per frame (all of them, or the picked one), to `sums`.
///
/// # Safety
/// `data` points to `count` aligned samples of type `T`, and `sums` has `count / step` elements.
unsafe fn mix<T: Copy>(
    data: *const T,
    count: usize,
    (step, pick): (usize, Option<usize>),
    sums: &mut [f32],
    value: impl Fn(T) -> f32,
) {
    // SAFETY: as promised by the caller; FFmpeg aligns its buffers to at least 16 bytes.
    let samples = unsafe { std::slice::from_raw_parts(data, count) };
    for (sum, frame) in sums.iter_mut().zip(samples.chunks_exact(step)) {
        *sum += match pick.and_then(|c| frame.get(c)) {
            Some(v) => value(*v),
            None => frame.iter().map(|v| value(*v)).sum::<f32>(),
        };
    }
}

/// The layout with one channel.
pub(super) fn mono() -> ffi::AVChannelLayout {
    // SAFETY: all zero is FFmpeg's empty layout, which the call fills.
    unsafe {
        let mut layout = std::mem::zeroed();
        ffi::av_channel_layout_default(&mut layout, 1);
        layout
    }
}

/// Makes an audio encoder context one for mono planar `f32`.
pub(crate) fn set_mono(context: &mut codec::Context, rate: u32) {
    // SAFETY: an allocated context that is not open yet; plain fields.
    unsafe {
        let ctx = context.as_mut_ptr();
        (*ctx).ch_layout = mono();
        (*ctx).sample_rate = rate as i32;
        (*ctx).sample_fmt = ffi::AVSampleFormat::AV_SAMPLE_FMT_FLTP;
    }
}

/// Planar mono `f32` frame of `samples`, at `pts`.
pub(crate) fn audio_frame(samples: &[f32], rate: u32, pts: i64) -> Result<frame::Audio> {
    let mut frame = frame::Audio::empty();
    // SAFETY: the frame is fresh; get_buffer gives data[0] room for nb_samples floats, which are then all written.
    let code = unsafe {
        let f = frame.as_mut_ptr();
        (*f).format = ffi::AVSampleFormat::AV_SAMPLE_FMT_FLTP as i32;
        (*f).nb_samples = samples.len() as i32;
        (*f).ch_layout = mono();
        (*f).sample_rate = rate as i32;
        (*f).pts = pts;
        let code = ffi::av_frame_get_buffer(f, 0);
        if code >= 0 {
            ptr::copy_nonoverlapping(samples.as_ptr(), (*f).data[0].cast(), samples.len());
        }
        code
    };
    check("taking memory for sound", code)?;
    Ok(frame)
}

/// A fresh frame, tagged BT.709 limited range, filled from tightly packed I420 planes of even size; as NV12 (chroma
/// interleaved) when `nv12`.
pub(crate) fn video_frame(width: u32, height: u32, data: &[u8], pts: i64, nv12: bool) -> Result<frame::Video> {
    let format = if nv12 { Pixel::NV12 } else { Pixel::YUV420P };
    let mut frame = frame::Video::new(format, width, height);
    // SAFETY: data[0] is null when the allocation of `new` failed.
    if unsafe { (*frame.as_ptr()).data[0].is_null() } {
        return Err(MediaError::Ffmpeg { step: "encoding a frame", detail: "no memory".to_owned() });
    }
    let (w, cw) = (width as usize, width as usize / 2);
    let (luma, chroma) = data.split_at(w * height as usize);
    let (us, vs) = chroma.split_at(cw * (height as usize / 2));
    copy_rows(&mut frame, 0, luma, w);
    if nv12 {
        let stride = frame.stride(1);
        let rows = us.chunks_exact(cw).zip(vs.chunks_exact(cw));
        for (to, (u, v)) in frame.data_mut(1).chunks_mut(stride).zip(rows) {
            for (pair, (u, v)) in to.as_chunks_mut::<2>().0.iter_mut().zip(u.iter().zip(v)) {
                *pair = [*u, *v];
            }
        }
    } else {
        copy_rows(&mut frame, 1, us, cw);
        copy_rows(&mut frame, 2, vs, cw);
    }
    frame.set_pts(Some(pts));
    frame.set_color_space(color::Space::BT709);
    frame.set_color_range(color::Range::MPEG);
    frame.set_color_primaries(color::Primaries::BT709);
    frame.set_color_transfer_characteristic(color::TransferCharacteristic::BT709);
    Ok(frame)
}

fn copy_rows(frame: &mut frame::Video, plane: usize, source: &[u8], width: usize) {
    let stride = frame.stride(plane);
    for (to, from) in frame.data_mut(plane).chunks_mut(stride).zip(source.chunks_exact(width)) {
        to[..width].copy_from_slice(from);
    }
}

/// A frame without memory, for a decoder to fill.
pub(crate) fn empty_frame() -> frame::Frame {
    // SAFETY: av_frame_alloc has no preconditions; a null result makes receive_frame fail.
    unsafe { frame::Frame::empty() }
}
