//! Decoded pictures to RGB.

use std::ptr;

use ffmpeg_next::format::Pixel;
use ffmpeg_next::{ffi, frame};

use crate::error::{MediaError, Result};
use crate::ff::check;
use crate::frame::{Frame, PixelFormat};

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
        #[allow(clippy::unnecessary_cast)]
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
