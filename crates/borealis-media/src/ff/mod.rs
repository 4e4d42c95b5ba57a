//! The few calls of FFmpeg that `ffmpeg-next` has no safe spelling for: logging, colour matrices, resampling of raw
//! samples, layouts of audio frames, surfaces of a GPU. All `unsafe` of this crate is in this folder.
#![allow(unsafe_code)]

mod frames;
mod resample;
mod to_rgb;
mod vaapi;

use std::sync::Once;

use ffmpeg_next::codec;
use ffmpeg_next::ffi;
use ffmpeg_next::format::context::{Input, Output};

pub(crate) use frames::{append_samples, audio_frame, empty_frame, set_mono, video_frame};
pub(crate) use resample::Resampler;
pub(crate) use to_rgb::ToRgb;
pub(crate) use vaapi::Surfaces;

use crate::error::{MediaError, Result};

/// Largest single block of memory that FFmpeg may take: hostile headers ask for more.
const MAX_ALLOC: usize = 1 << 30;

/// Prepares FFmpeg once per process: no messages on the terminal (results carry them), bounded allocations.
pub(crate) fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // FFmpeg's sentences for its errors; without this they are empty.
        ffmpeg_next::util::error::register_all();
        // SAFETY: both calls only set process-wide numbers inside libavutil.
        unsafe {
            ffi::av_log_set_level(ffi::AV_LOG_QUIET);
            ffi::av_max_alloc(MAX_ALLOC);
        }
    });
}

fn check(step: &'static str, code: i32) -> Result<()> {
    if code < 0 { Err(MediaError::ffmpeg(step, code.into())) } else { Ok(()) }
}

/// Tells the demuxer which streams are wanted; packets of the others are skipped without being read where possible.
pub(crate) fn keep_streams(input: &mut Input, wanted: &[usize]) {
    // SAFETY: the context is open and has nb_streams streams; discard is a plain enum that the demuxer reads.
    unsafe {
        let ctx = input.as_mut_ptr();
        for i in 0..(*ctx).nb_streams as usize {
            let stream = *(*ctx).streams.add(i);
            (*stream).discard =
                if wanted.contains(&i) { ffi::AVDiscard::AVDISCARD_DEFAULT } else { ffi::AVDiscard::AVDISCARD_ALL };
        }
    }
}

/// True when the demuxer guessed the duration from the bit rate: then it is only an estimate.
pub(crate) fn duration_is_guess(input: &Input) -> bool {
    // SAFETY: the context is open.
    unsafe {
        (*input.as_ptr()).duration_estimation_method == ffi::AVDurationEstimationMethod::AVFMT_DURATION_FROM_BITRATE
    }
}

/// Size that the container declares for a video stream, and the shape of its pixels as (width, height).
pub(crate) fn coded_size(params: &codec::Parameters) -> (u32, u32, (u32, u32)) {
    // SAFETY: the parameters live as long as their context.
    unsafe {
        let p = params.as_ptr();
        let shape = (*p).sample_aspect_ratio;
        let shape = if shape.num > 0 && shape.den > 0 { (shape.num as u32, shape.den as u32) } else { (1, 1) };
        ((*p).width.max(0) as u32, (*p).height.max(0) as u32, shape)
    }
}

/// Sample rate and channels that the container declares for an audio stream.
pub(crate) fn audio_params(params: &codec::Parameters) -> (u32, u16) {
    // SAFETY: the parameters live as long as their context.
    unsafe {
        let p = params.as_ptr();
        ((*p).sample_rate.max(0) as u32, (*p).ch_layout.nb_channels.clamp(0, 1024) as u16)
    }
}

/// Bounds what a decoder may be: only codecs of the list, only pictures of so many pixels.
pub(crate) fn allow_codecs(context: &mut codec::Context, whitelist: &str, max_pixels: u64) -> Result<()> {
    let names = [(c"codec_whitelist", whitelist.to_owned()), (c"max_pixels", max_pixels.to_string())];
    for (key, value) in names {
        let value = std::ffi::CString::new(value)
            .map_err(|_| MediaError::Ffmpeg { step: "setting a limit", detail: "a NUL byte".to_owned() })?;
        // SAFETY: an allocated codec context is an AVOptions object; both strings live through the call.
        let code = unsafe { ffi::av_opt_set(context.as_mut_ptr().cast(), key.as_ptr(), value.as_ptr(), 0) };
        check("setting a limit", code)?;
    }
    Ok(())
}

/// Gives a muxer the path of its own output, which the second pass of `faststart` reopens for reading.
pub(crate) fn set_url(output: &mut Output, url: &std::ffi::CStr) {
    // SAFETY: url is an av_malloc'ed string that the context frees; av_strdup copies ours.
    unsafe {
        let ctx = output.as_mut_ptr();
        ffi::av_freep((&raw mut (*ctx).url).cast());
        (*ctx).url = ffi::av_strdup(url.as_ptr());
    }
}

/// Chroma in the middle of 2x2 pixels, which is how [`crate::color`] averages it.
pub(crate) fn set_chroma_centre(context: &mut codec::Context) {
    // SAFETY: an allocated context that is not open yet; a plain enum.
    unsafe { (*context.as_mut_ptr()).chroma_sample_location = ffi::AVChromaLocation::AVCHROMA_LOC_CENTER }
}
