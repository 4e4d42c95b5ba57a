//! Messages about requests that make no sense: each names the field, the value and the remedy.

use borealis_weights::{Manifest, testing::tiny_config};

use crate::error::ErrorKind;
use crate::request::{Conditioning, Media, OutputKind, Preset, Request, Sampling};
use crate::validate::check;

const CLIP: OutputKind = OutputKind::Video { seconds: 6.0, audio: true };

fn media() -> Media {
    Media::Path("a.png".into())
}

fn message(change: impl FnOnce(&mut Request)) -> (ErrorKind, String) {
    message_of(&Manifest::new(&tiny_config(), None).unwrap(), change)
}

fn message_of(manifest: &Manifest, change: impl FnOnce(&mut Request)) -> (ErrorKind, String) {
    let mut request = Request::new("a red ball", CLIP);
    change(&mut request);
    match check(&request, manifest, "tiny") {
        Ok(checked) => (ErrorKind::Internal, format!("accepted: {}", checked.mode_name)),
        Err(error) => (error.kind(), error.to_string()),
    }
}

#[test]
fn what_makes_no_sense_is_named() {
    use ErrorKind::{InvalidArgument, Unsupported};
    let long = "x".repeat(10_001);
    let sampling = |s: Sampling| move |r: &mut Request| r.sampling = s;
    let seconds = |s: f32| move |r: &mut Request| r.output.kind = OutputKind::Video { seconds: s, audio: true };
    let table: Vec<((ErrorKind, String), ErrorKind, &str)> = vec![
        (message(|r| r.prompt.clear()), InvalidArgument, "prompt: it is empty: say what to make"),
        (message(|r| r.prompt = " \n".into()), InvalidArgument, "prompt: it is empty: say what to make"),
        (message(|r| r.prompt = long), InvalidArgument, "prompt: 10001 characters are too many: use at most 10000"),
        (message(seconds(0.99)), InvalidArgument, "seconds: 0.99 is out of range: use 1 to 15"),
        (message(seconds(15.1)), InvalidArgument, "seconds: 15.1 is out of range: use 1 to 15"),
        (message(seconds(f32::NAN)), InvalidArgument, "seconds: NaN is out of range: use 1 to 15"),
        (
            message(|r| r.output.aspect_ratio = Some("5:4".into())),
            InvalidArgument,
            "aspect_ratio: \"5:4\" is unknown: use 16:9, 1:1, 2:3, 3:2, 3:4, 4:3, 9:16",
        ),
        (message(|r| r.variants = 0), InvalidArgument, "variants: 0 is out of range: use 1 to 4"),
        (message(|r| r.variants = 5), InvalidArgument, "variants: 5 is out of range: use 1 to 4"),
        (
            message(sampling(Sampling { temperature: Some(-0.1), ..Sampling::default() })),
            InvalidArgument,
            "temperature: -0.1 is out of range: use 0 (the likeliest) to 100",
        ),
        (
            message(sampling(Sampling { top_p: Some(0.0), ..Sampling::default() })),
            InvalidArgument,
            "top_p: 0 is out of range: use more than 0, at most 1",
        ),
        (
            message(sampling(Sampling { guidance: Some(f32::INFINITY), ..Sampling::default() })),
            InvalidArgument,
            "guidance: inf is out of range: use 0 to 100; 1 is off",
        ),
        (
            message(|r| r.conditioning = Conditioning::References(vec![media(); 8])),
            InvalidArgument,
            "references: 8 pictures are too many: give at most 7",
        ),
        (
            message(|r| r.conditioning = Conditioning::References(Vec::new())),
            InvalidArgument,
            "references: there is no picture: give 1 to 7 pictures",
        ),
        (
            message(|r| {
                r.prompt = "<IMAGE_0> and <IMAGE_3>".into();
                r.conditioning = Conditioning::References(vec![media(); 3]);
            }),
            InvalidArgument,
            "prompt: it names <IMAGE_3> (@image4), 3 pictures are given: give that picture as a reference or take the name out",
        ),
        (
            message(|r| {
                r.output.kind = OutputKind::Image;
                r.conditioning = Conditioning::Video(media());
            }),
            InvalidArgument,
            "output: a clip was given and a still asked for: ask for a clip",
        ),
        (
            message(|r| r.output.kind = OutputKind::Text { max_tokens: 5 }),
            Unsupported,
            "the model \"tiny\" generates no text: ask for a picture or a clip",
        ),
    ];
    for (got, kind, text) in table {
        assert_eq!(got, (kind, text.to_string()));
    }
}

#[test]
fn what_the_checkpoint_lacks_is_named() {
    let mut config = tiny_config();
    config["modes"].as_object_mut().unwrap().remove("extend");
    config["controls"].as_object_mut().unwrap().remove("<null>");
    let manifest = Manifest::new(&config, None).unwrap();
    let extend = message_of(&manifest, |r| r.conditioning = Conditioning::Extend(media()));
    let text = "the model \"tiny\" cannot do extend: it can do: edit_image, edit_video, image_to_video, reference, text_to_image, text_to_video";
    assert_eq!(extend, (ErrorKind::Unsupported, text.to_string()));
    let guided = message_of(&manifest, |r| r.sampling.guidance = Some(2.0));
    assert_eq!(
        guided,
        (ErrorKind::Unsupported, "the model \"tiny\" was not trained for guidance: leave guidance at 1".to_string())
    );
}

#[test]
fn every_mode_is_reached() {
    let accepted = |mode: &str, change: fn(&mut Request)| {
        assert_eq!(message(change).1, format!("accepted: {mode}"));
    };
    accepted("text_to_video", |r| r.preset = Preset::Speed);
    accepted("text_to_image", |r| r.output.kind = OutputKind::Image);
    accepted("image_to_video", |r| r.conditioning = Conditioning::Image(media()));
    accepted("image_to_video", |r| {
        r.conditioning = Conditioning::Image(media());
        r.prompt.clear();
    });
    accepted("edit_image", |r| {
        r.conditioning = Conditioning::Image(media());
        r.output.kind = OutputKind::Image;
    });
    accepted("edit_video", |r| r.conditioning = Conditioning::Video(media()));
    accepted("extend", |r| r.conditioning = Conditioning::Extend(media()));
    accepted("reference", |r| {
        r.conditioning = Conditioning::References(vec![media(); 7]);
        r.prompt = "@image1 beside <IMAGE_6>".into();
    });
}
