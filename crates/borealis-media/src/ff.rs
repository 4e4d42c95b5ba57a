//! The few calls of FFmpeg that `ffmpeg-next` has no safe spelling for: logging, colour matrices, resampling of raw
//! samples, layouts of audio frames. All `unsafe` of this crate is in this module and in `mp4::vaapi`.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::Once;

use ffmpeg_next::ffi;
use ffmpeg_next::format::context::{Input, Output};
use ffmpeg_next::format::{Pixel, Sample};
use ffmpeg_next::{codec, frame};

use crate::error::{MediaError, Result};
use crate::frame::{Frame, PixelFormat};

/// Largest single block of memory that FFmpeg may take: hostile headers ask for more.
const MAX_ALLOC: usize = 1 << 30;

/// Prepares FFmpeg once per process: no messages on the terminal (results carry them), bounded allocations.
pub(crate) fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: both calls only set process-wide numbers inside libavutil.
        unsafe {
            ffi::av_log_set_level(ffi::AV_LOG_QUIET);
            ffi::av_max_alloc(MAX_ALLOC);
        }
    });
}

/// Mono `f32` from one sample rate to another, aligned in time (libswresample's polyphase filter).
pub(crate) struct Resampler {
    swr: *mut ffi::SwrContext,
    from: u32,
    to: u32,
}

// SAFETY: a SwrContext is plain heap memory without ties to a thread; it is used through `&mut self` only.
unsafe impl Send for Resampler {}

impl Resampler {
    pub(crate) fn new(from: u32, to: u32) -> Result<Self> {
        init();
        let mut swr = ptr::null_mut();
        let mut layout = mono();
        // Newer headers take const pointers; a raw mut pointer serves both.
        let layout = &raw mut layout;
        let format = ffi::AVSampleFormat::AV_SAMPLE_FMT_FLT;
        // SAFETY: the layouts live through the call; swr is null or a context that Drop frees.
        let code = unsafe {
            let set = ffi::swr_alloc_set_opts2(
                &mut swr,
                layout,
                format,
                to as i32,
                layout,
                format,
                from as i32,
                0,
                ptr::null_mut(),
            );
            if set < 0 { set } else { ffi::swr_init(swr) }
        };
        let this = Resampler { swr, from, to };
        check("opening the resampler", code)?;
        Ok(this)
    }

    /// Feeds samples; appends what comes out.
    pub(crate) fn push(&mut self, input: &[f32], out: &mut Vec<f32>) -> Result<()> {
        self.convert(Some(input), out)
    }

    /// Appends the tail.
    pub(crate) fn finish(&mut self, out: &mut Vec<f32>) -> Result<()> {
        self.convert(None, out)
    }

    fn convert(&mut self, input: Option<&[f32]>, out: &mut Vec<f32>) -> Result<()> {
        let count = input.map_or(0, <[f32]>::len);
        // SAFETY: swr is open. The bound of swr_get_delay (in input samples) plus the new ones is what can come out.
        let delay = unsafe { ffi::swr_get_delay(self.swr, i64::from(self.from)) }.max(0) as u64;
        let room = ((count as u64 + delay) * u64::from(self.to) / u64::from(self.from)) as usize + 256;
        let start = out.len();
        out.resize(start + room, 0.0);
        let source = input.map(|s| s.as_ptr().cast::<u8>());
        let mut sources = [source.unwrap_or(ptr::null())];
        let mut targets = [out[start..].as_mut_ptr().cast::<u8>()];
        // SAFETY: source has `count` and target `room` packed f32 mono samples; a null source flushes.
        let made = unsafe {
            let sources = if input.is_some() { sources.as_mut_ptr() } else { ptr::null_mut() };
            ffi::swr_convert(self.swr, targets.as_mut_ptr(), room as i32, sources.cast(), count as i32)
        };
        out.truncate(start + made.max(0) as usize);
        check("resampling", made)
    }
}

impl Drop for Resampler {
    fn drop(&mut self) {
        // SAFETY: swr was allocated by swr_alloc_set_opts2 or is null; swr_free takes both.
        unsafe { ffi::swr_free(&mut self.swr) }
    }
}

fn check(step: &'static str, code: i32) -> Result<()> {
    if code < 0 { Err(MediaError::ffmpeg(step, code.into())) } else { Ok(()) }
}

/// What a scaler was made for.
#[derive(Clone, Copy, PartialEq)]
struct Picture {
    width: u32,
    height: u32,
    format: ffi::AVPixelFormat,
    matrix: i32,
    full: bool,
}

/// Any decoded picture to RGB at a fixed size, with the colours that its tags say.
pub(crate) struct ToRgb {
    sws: *mut ffi::SwsContext,
    made_for: Option<Picture>,
    width: u32,
    height: u32,
}

impl ToRgb {
    pub(crate) fn new(width: u32, height: u32) -> Self {
        ToRgb { sws: ptr::null_mut(), made_for: None, width, height }
    }

    /// Converts one frame. Frames whose size or format changes within a clip are taken as they come.
    pub(crate) fn run(&mut self, frame: &frame::Video) -> Result<Frame> {
        let bad = |what: &str| MediaError::Ffmpeg { step: "converting a frame", detail: what.to_owned() };
        let picture = describe(frame);
        if picture.width == 0 || picture.height == 0 || frame.format() == Pixel::None {
            return Err(bad("the decoder gave an empty frame"));
        }
        if self.made_for != Some(picture) {
            self.open(picture)?;
        }
        let out = frame::Video::new(Pixel::RGB24, self.width, self.height);
        // SAFETY: both frames own their planes; sws was opened for exactly these sizes and formats. The data pointer of
        // `out` is null when its allocation failed, which is checked first.
        let lines = unsafe {
            let (src, dst) = (frame.as_ptr(), out.as_ptr());
            if (*dst).data[0].is_null() || (*src).data[0].is_null() {
                return Err(bad("no memory for the picture"));
            }
            ffi::sws_scale(
                self.sws,
                (*src).data.as_ptr().cast(),
                (*src).linesize.as_ptr(),
                0,
                picture.height as i32,
                (*dst).data.as_ptr(),
                (*dst).linesize.as_ptr(),
            )
        };
        check("converting a frame", lines)?;
        let line = self.width as usize * 3;
        let mut data = Vec::with_capacity(line * self.height as usize);
        for row in out.data(0).chunks(out.stride(0)).take(self.height as usize) {
            data.extend_from_slice(&row[..line]);
        }
        Frame::new(self.width, self.height, PixelFormat::Rgb8, data)
    }

    fn open(&mut self, picture: Picture) -> Result<()> {
        let shrink = self.width < picture.width || self.height < picture.height;
        let filter = if shrink { ffi::SWS_AREA } else { ffi::SWS_BICUBIC };
        // The constants are enum members in newer headers and macros in older ones.
        let flags = filter as i32 | ffi::SWS_ACCURATE_RND as i32 | ffi::SWS_FULL_CHR_H_INT as i32;
        let bad = || MediaError::Ffmpeg {
            step: "preparing colours",
            detail: format!("no conversion from {}x{} {:?}", picture.width, picture.height, picture.format),
        };
        // SAFETY: sws is null or owned by self; sws_getCoefficients returns static tables of four numbers.
        unsafe {
            ffi::sws_freeContext(self.sws);
            self.made_for = None;
            self.sws = ffi::sws_getContext(
                picture.width as i32,
                picture.height as i32,
                picture.format,
                self.width as i32,
                self.height as i32,
                ffi::AVPixelFormat::AV_PIX_FMT_RGB24,
                flags,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null(),
            );
            if self.sws.is_null() {
                return Err(bad());
            }
            let (from, to) = (ffi::sws_getCoefficients(picture.matrix), ffi::sws_getCoefficients(picture.matrix));
            // Not supported (-1) for sources that are RGB already: nothing to set then.
            ffi::sws_setColorspaceDetails(self.sws, from, picture.full.into(), to, 1, 0, 1 << 16, 1 << 16);
        }
        self.made_for = Some(picture);
        Ok(())
    }
}

impl Drop for ToRgb {
    fn drop(&mut self) {
        // SAFETY: sws is null or was allocated by sws_getContext.
        unsafe { ffi::sws_freeContext(self.sws) }
    }
}

// SAFETY: an SwsContext is plain heap memory without ties to a thread; it is used through `&mut self` only.
unsafe impl Send for ToRgb {}

/// Size, format and colour tags. Untagged pictures are BT.709 from 720 lines on and BT.601 below, as players assume.
fn describe(frame: &frame::Video) -> Picture {
    use ffi::{AVColorRange, AVColorSpace, AVPixelFormat};
    // SAFETY: a live frame; the fields are plain numbers.
    let (width, height, space, range) = unsafe {
        let f = frame.as_ptr();
        ((*f).width.max(0) as u32, (*f).height.max(0) as u32, (*f).colorspace, (*f).color_range)
    };
    let format: AVPixelFormat = frame.format().into();
    let matrix = match space {
        AVColorSpace::AVCOL_SPC_BT709 => 1,
        AVColorSpace::AVCOL_SPC_FCC => 4,
        AVColorSpace::AVCOL_SPC_BT470BG | AVColorSpace::AVCOL_SPC_SMPTE170M => 5,
        AVColorSpace::AVCOL_SPC_SMPTE240M => 7,
        AVColorSpace::AVCOL_SPC_BT2020_NCL | AVColorSpace::AVCOL_SPC_BT2020_CL => 9,
        _ if height.min(width) >= 720 => 1,
        _ => 5,
    };
    let full_format = matches!(
        format,
        AVPixelFormat::AV_PIX_FMT_YUVJ420P | AVPixelFormat::AV_PIX_FMT_YUVJ422P | AVPixelFormat::AV_PIX_FMT_YUVJ444P
    );
    Picture { width, height, format, matrix, full: full_format || range == AVColorRange::AVCOL_RANGE_JPEG }
}

/// Appends the average of all channels of a decoded frame, as samples in -1..1.
pub(crate) fn append_mono(frame: &frame::Audio, out: &mut Vec<f32>) -> Result<()> {
    // SAFETY: a live frame; the fields are plain numbers and pointers into its buffers.
    let (count, channels, planes) = unsafe {
        let f = frame.as_ptr();
        ((*f).nb_samples.max(0) as usize, (*f).ch_layout.nb_channels.max(0) as usize, (*f).extended_data)
    };
    if count == 0 || channels == 0 || planes.is_null() {
        return Ok(());
    }
    let planar = frame.is_planar();
    let (buffers, per_buffer) = if planar { (channels, count) } else { (1, count * channels) };
    let start = out.len();
    out.resize(start + count, 0.0);
    let sums = &mut out[start..];
    for buffer in 0..buffers {
        // SAFETY: a decoded frame has `buffers` data pointers, each to `per_buffer` samples of its format.
        unsafe {
            let data = *planes.add(buffer);
            if data.is_null() {
                continue;
            }
            let step = if planar { 1 } else { channels };
            match frame.format() {
                Sample::U8(_) => mix(data, per_buffer, step, sums, |v: u8| (f32::from(v) - 128.0) / 128.0),
                Sample::I16(_) => mix(data.cast(), per_buffer, step, sums, |v: i16| f32::from(v) / 32_768.0),
                Sample::I32(_) => mix(data.cast(), per_buffer, step, sums, |v: i32| v as f32 / 2_147_483_648.0),
                Sample::I64(_) => mix(data.cast(), per_buffer, step, sums, |v: i64| v as f32 / 9.223_372e18),
                Sample::F32(_) => mix(data.cast(), per_buffer, step, sums, finite),
                Sample::F64(_) => mix(data.cast(), per_buffer, step, sums, |v: f64| finite(v as f32)),
                Sample::None => {}
            }
        }
    }
    let scale = 1.0 / channels as f32;
    sums.iter_mut().for_each(|s| *s *= scale);
    Ok(())
}

/// Float files may hold anything; infinities would spread through the resampler.
fn finite(value: f32) -> f32 {
    if value.is_finite() { value.clamp(-8.0, 8.0) } else { 0.0 }
}

/// Adds `count` samples at `data`, `step` per frame, to `sums`.
///
/// # Safety
/// `data` points to `count` aligned samples of type `T`, and `sums` has `count / step` elements.
unsafe fn mix<T: Copy>(data: *const T, count: usize, step: usize, sums: &mut [f32], value: impl Fn(T) -> f32) {
    // SAFETY: as promised by the caller; FFmpeg aligns its buffers to at least 16 bytes.
    let samples = unsafe { std::slice::from_raw_parts(data, count) };
    for (sum, frame) in sums.iter_mut().zip(samples.chunks_exact(step)) {
        *sum += frame.iter().map(|v| value(*v)).sum::<f32>();
    }
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

/// The layout with one channel.
fn mono() -> ffi::AVChannelLayout {
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

/// A fresh I420 frame, tagged BT.709 limited range, filled from tightly packed planes.
pub(crate) fn video_frame(width: u32, height: u32, data: &[u8], pts: i64) -> Result<frame::Video> {
    use ffmpeg_next::color;
    let mut frame = frame::Video::new(Pixel::YUV420P, width, height);
    // SAFETY: data[0] is null when the allocation of `new` failed.
    if unsafe { (*frame.as_ptr()).data[0].is_null() } {
        return Err(MediaError::Ffmpeg { step: "encoding a frame", detail: "no memory".to_owned() });
    }
    let mut rest = data;
    for plane in 0..3 {
        let shift = u32::from(plane > 0);
        let (w, h) = ((width >> shift) as usize, (height >> shift) as usize);
        let (source, after) = rest.split_at(w * h);
        rest = after;
        let stride = frame.stride(plane);
        for (to, from) in frame.data_mut(plane).chunks_mut(stride).zip(source.chunks_exact(w)) {
            to[..w].copy_from_slice(from);
        }
    }
    frame.set_pts(Some(pts));
    frame.set_color_space(color::Space::BT709);
    frame.set_color_range(color::Range::MPEG);
    frame.set_color_primaries(color::Primaries::BT709);
    frame.set_color_transfer_characteristic(color::TransferCharacteristic::BT709);
    Ok(frame)
}

/// A frame without memory, for a decoder to fill.
pub(crate) fn empty_frame() -> frame::Frame {
    // SAFETY: av_frame_alloc has no preconditions; a null result makes receive_frame fail.
    unsafe { frame::Frame::empty() }
}
