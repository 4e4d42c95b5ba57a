//! Pictures on a GPU for `h264_vaapi`, which takes no other ones.

use std::ptr;

use ffmpeg_next::{Error, codec, ffi, frame};

/// Surfaces in flight; encoders hold a few for reference.
const POOL: i32 = 20;

/// The first VA-API device of the machine, and a pool of NV12 surfaces on it.
pub(crate) struct Surfaces {
    device: *mut ffi::AVBufferRef,
    pool: *mut ffi::AVBufferRef,
}

// SAFETY: both are reference-counted buffers without ties to a thread; they are used through `&mut self` only.
unsafe impl Send for Surfaces {}

impl Surfaces {
    /// Fails when there is no device.
    pub(crate) fn open(width: u32, height: u32) -> Result<Surfaces, Error> {
        let mut this = Surfaces { device: ptr::null_mut(), pool: ptr::null_mut() };
        let kind = ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_VAAPI;
        // SAFETY: `device` is null before and owned by `this` after a success.
        check(unsafe { ffi::av_hwdevice_ctx_create(&mut this.device, kind, ptr::null(), ptr::null_mut(), 0) })?;
        // SAFETY: the device is open; the data of a frames context is an AVHWFramesContext, set up before its init.
        let code = unsafe {
            this.pool = ffi::av_hwframe_ctx_alloc(this.device);
            if this.pool.is_null() {
                return Err(Error::Other { errno: ffmpeg_next::util::error::ENOMEM });
            }
            let context = (*this.pool).data.cast::<ffi::AVHWFramesContext>();
            (*context).format = ffi::AVPixelFormat::AV_PIX_FMT_VAAPI;
            (*context).sw_format = ffi::AVPixelFormat::AV_PIX_FMT_NV12;
            (*context).width = width as i32;
            (*context).height = height as i32;
            (*context).initial_pool_size = POOL;
            ffi::av_hwframe_ctx_init(this.pool)
        };
        check(code)?;
        Ok(this)
    }

    /// Tells an encoder that is not open yet where its pictures come from.
    pub(crate) fn attach(&self, context: &mut codec::Context) {
        // SAFETY: the context frees its own reference.
        unsafe {
            let ctx = context.as_mut_ptr();
            (*ctx).hw_frames_ctx = ffi::av_buffer_ref(self.pool);
            (*ctx).pix_fmt = ffi::AVPixelFormat::AV_PIX_FMT_VAAPI;
        }
    }

    /// Copies a picture in memory (I420 or NV12, as the driver takes) to a surface; time and colour tags go along.
    pub(crate) fn upload(&mut self, picture: &frame::Video) -> Result<frame::Video, Error> {
        let mut surface = frame::Video::empty();
        // SAFETY: both frames are live; the pool was initialised for pictures of this size.
        let code = unsafe {
            let (to, from) = (surface.as_mut_ptr(), picture.as_ptr());
            let mut code = ffi::av_hwframe_get_buffer(self.pool, to, 0);
            if code >= 0 {
                code = ffi::av_hwframe_transfer_data(to, from, 0);
            }
            if code >= 0 {
                code = ffi::av_frame_copy_props(to, from);
            }
            code
        };
        check(code)?;
        Ok(surface)
    }
}

impl Drop for Surfaces {
    fn drop(&mut self) {
        // SAFETY: null or owned references; unref takes both.
        unsafe {
            ffi::av_buffer_unref(&mut self.pool);
            ffi::av_buffer_unref(&mut self.device);
        }
    }
}

fn check(code: i32) -> Result<(), Error> {
    if code < 0 { Err(code.into()) } else { Ok(()) }
}
