//! What the fuzz targets share.

use std::time::Duration;

use borealis_media::Limits;

/// Small, so that most inputs end soon.
pub fn limits() -> Limits {
    Limits {
        max_seconds: 20.0,
        max_pixels: 1 << 20,
        max_bytes: 1 << 22,
        max_frames: 500,
        max_decoded_bytes: 1 << 26,
        max_wall: Duration::from_secs(10),
        ..Limits::default()
    }
}
