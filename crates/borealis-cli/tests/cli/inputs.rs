//! Pictures and clips of the user, in odd sizes: every mode keeps their ratio.

use std::path::Path;

use crate::run::{clip, folder, generate, picture, probe, size, stream};

/// Whether a size has the ratio, within what even numbers allow.
fn has_ratio((width, height): (u64, u64), ratio: (u64, u64)) -> bool {
    (width * ratio.1).abs_diff(height * ratio.0) <= 2 * ratio.0.max(ratio.1)
}

fn seconds(file: &Path, kind: &str) -> f64 {
    stream(&probe(file), kind)["duration"].as_str().unwrap().parse().unwrap()
}

#[test]
fn sizes_without_input() {
    let place = folder();
    let sizes = [
        ("16:9", (16, 9)),
        ("9:16", (9, 16)),
        ("1:1", (1, 1)),
        ("4:3", (4, 3)),
        ("3:4", (3, 4)),
        ("3:2", (3, 2)),
        ("2:3", (2, 3)),
    ];
    for (name, ratio) in sizes {
        let file = place.path().join("a.png");
        generate("a red ball", &file, ["--aspect-ratio", name]);
        let got = size(&file);
        assert!(has_ratio(got, ratio) && got.0.min(got.1) == 480, "{name}: {got:?}");
    }
    for (name, lines) in [("480p", 480), ("720p", 720), ("1080p", 1080)] {
        let file = place.path().join("a.webp");
        generate("a red ball", &file, ["--resolution", name]);
        assert_eq!(size(&file).1, lines);
    }
}

#[test]
fn a_picture_to_a_picture_and_to_a_clip() {
    let place = folder();
    let given = place.path().join("given.png");
    picture(&given, "301x517");
    let image = ["--image", given.to_str().unwrap()];

    let still = place.path().join("still.jpg");
    generate("the ball turns blue", &still, image);
    assert!(has_ratio(size(&still), (301, 517)), "{:?}", size(&still));

    let moving = place.path().join("moving.mp4");
    generate("the ball rolls", &moving, image.into_iter().chain(["--seconds", "1"]));
    assert_eq!(size(&moving), size(&still));
    assert_eq!(seconds(&moving, "video"), 1.0);
}

#[test]
fn references_are_named_in_the_prompt() {
    let place = folder();
    let [a, b] = ["a.png", "b.webp"].map(|name| place.path().join(name));
    picture(&a, "90x50");
    picture(&b, "33x77");
    let references = ["--reference", a.to_str().unwrap(), "--reference", b.to_str().unwrap()];
    let still = place.path().join("both.png");
    generate("<IMAGE_0> in front of @image2", &still, references.into_iter().chain(["--aspect-ratio", "1:1"]));
    assert_eq!(size(&still), (480, 480));
}

#[test]
fn a_clip_is_changed() {
    let place = folder();
    let given = place.path().join("given.mp4");
    clip(&given, "318x242", "30", "1.5");
    let changed = place.path().join("changed.mp4");
    generate("it is night", &changed, ["--video", given.to_str().unwrap()]);
    assert!(has_ratio(size(&changed), (318, 242)), "{:?}", size(&changed));
}

#[test]
fn a_clip_is_continued_and_continued_again() {
    let place = folder();
    let given = place.path().join("given.mov");
    clip(&given, "242x318", "25", "1");
    let longer = place.path().join("longer.mp4");
    generate("it goes on", &longer, ["--extend", given.to_str().unwrap(), "--seconds", "1"]);
    assert!(has_ratio(size(&longer), (242, 318)), "{:?}", size(&longer));
    assert_eq!(seconds(&longer, "video"), 2.0);
    let longest = place.path().join("longest.mp4");
    generate("it goes on", &longest, ["--extend", longer.to_str().unwrap(), "--seconds", "1"]);
    assert_eq!(seconds(&longest, "video"), 3.0);
    assert_eq!(seconds(&longest, "audio"), 3.0);
}
