//! The model inside the binary makes the clip that the README promises.
#![cfg(feature = "embed-model")]

use crate::run::{borealis, folder, names, probe, stream, succeed};

#[test]
fn six_seconds_of_720p_with_sound() {
    let place = folder();
    let file = place.path().join("ball.mp4");
    succeed(borealis().args(["generate", "a red ball bounces on grass", "--seed", "1", "-o"]).arg(&file));
    assert_eq!(names(place.path()), ["ball.mp4"]);
    let probed = probe(&file);
    let video = stream(&probed, "video");
    for (field, value) in [
        ("codec_name", "h264"),
        ("pix_fmt", "yuv420p"),
        ("r_frame_rate", "24/1"),
        ("color_space", "bt709"),
        ("nb_frames", "144"),
    ] {
        assert_eq!(video[field], value, "{field}");
    }
    assert_eq!((video["width"].as_u64(), video["height"].as_u64()), (Some(1280), Some(720)));
    let sound = stream(&probed, "audio");
    assert_eq!((sound["codec_name"].as_str(), sound["sample_rate"].as_str()), (Some("aac"), Some("48000")));
    for stream in [video, sound] {
        assert_eq!(
            (stream["start_time"].as_str(), stream["duration"].as_str()),
            (Some("0.000000"), Some("6.000000")),
            "{stream}"
        );
    }
}
