//! Sample rates.

use std::ptr;

use ffmpeg_next::ffi;

use crate::error::Result;
use crate::ff::frames::mono;
use crate::ff::{check, init};

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
