//! Frames and samples in and out of files.
//!
//! Stills go through the `image` crate; clips and sound through FFmpeg's libraries (`ffmpeg-next`). Everything that is
//! read may be hostile: containers, codecs and protocols come from short lists, sizes are checked against [`Limits`]
//! before memory is taken, and whatever is wrong comes back as a [`MediaError`] of one line. Everything that is written
//! appears under its name only when it is complete.
//!
//! * [`Frame`], [`Pcm`], [`Clip`]: pictures and sound in memory.
//! * [`probe`], [`read_image`], [`read_clip`], [`read_audio`]: in. Clips arrive at exactly the frame rate and sample
//!   rate that was asked for.
//! * [`Mp4Writer`], [`write_image`], [`write_png`], [`write_wav`]: out. An MP4 has H.264 (BT.709 limited range, tagged) and
//!   AAC, both of exactly the same duration, and is byte-identical for identical input.
//! * [`run_in_background`]: for threads that follow another one.
//! * [`fit`], [`Frame::resize`], [`rgb8_to_i420`], [`planar_f32_to_i420`]: sizes and colours.

mod background;
mod color;
mod error;
mod ff;
mod frame;
mod mp4;
mod output;
mod pcm;
mod read;
mod scale;
mod source;
mod still;

pub use background::run_in_background;
pub use color::{i420_to_rgb8, planar_f32_to_i420, rgb8_to_i420};
pub use error::{MediaError, Result};
pub use frame::{Frame, PixelFormat, Rect};
pub use mp4::{Mp4Writer, Quality, VideoSpec, Written, encoders};
pub use pcm::{Pcm, write_wav};
pub use read::{
    AudioInfo, Clip, ClipRange, ClipSpec, Info, Kind, probe, read_audio, read_audio_channels, read_clip,
    read_clip_with, read_frames,
};
pub use scale::{Filter, cover_rect, fit, fit_rect};
pub use source::{Limits, Source};
pub use still::{encode_png, read_image, write_image, write_png};
