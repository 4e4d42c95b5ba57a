//! All tokenizers of the small golden checkpoint together.

use std::fs;
use std::path::{Path, PathBuf};

use borealis_kernels::Reference;
use borealis_media::{Frame, PixelFormat};
use borealis_tokenizers::{Encoded, FrameSpec, Modality, Output, Part, Prompt, Tokenizers};
use borealis_weights::Checkpoint;
use safetensors::SafeTensors;
use serde_json::{Value, json};

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens")
}

fn tokenizers() -> Tokenizers {
    Tokenizers::open(&Checkpoint::open(&goldens().join("tiny-default")).unwrap(), Reference::new()).unwrap()
}

/// The I32 tensor of the goldens as ids.
fn golden_ids(name: &str) -> Vec<u32> {
    let bytes = fs::read(goldens().join("golden.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensor(name).unwrap().data().as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect()
}

/// `[mode][aspect]<text> .. <scene>`, the text as in case `name` of the goldens.
fn prompt_ids(tokenizers: &Tokenizers, name: &str, mode: &str) -> Vec<u32> {
    let golden: Value = serde_json::from_slice(&fs::read(goldens().join("golden.json")).unwrap()).unwrap();
    let case = golden["cases"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap();
    let control = |c: &str| Part::Control(c.to_string());
    let mut parts = vec![control(mode), control(&format!("<{}>", case["aspect"].as_str().unwrap())), control("<text>")];
    parts.extend(Prompt::from_text(case["prompt"].as_str().unwrap()).parts);
    parts.push(control("<scene>"));
    let encoded = tokenizers.encode(&Prompt { parts }, "16:9").unwrap();
    encoded
        .into_iter()
        .flat_map(|e| if let Encoded::Ids(ids) = e { ids } else { panic!("text became {e:?}") })
        .collect()
}

fn picture(width: u32, height: u32) -> Frame {
    let pixel = |i: u32| [(i % width * 255 / width) as u8, (i / width * 255 / height) as u8, 90];
    Frame { width, height, format: PixelFormat::Rgb8, data: (0..width * height).flat_map(pixel).collect() }
}

#[test]
fn prompts_are_the_golden_ids() {
    let t = tokenizers();
    assert_eq!(prompt_ids(&t, "t2v", "<t2v>"), golden_ids("t2v.prompt_ids"));
    assert_eq!(prompt_ids(&t, "reference", "<reference>"), golden_ids("reference.prompt_ids"));
}

#[test]
fn a_clip_becomes_ids_and_frames_again() {
    let t = tokenizers();
    let clip = Part::Clip { frames: vec![picture(320, 180); 5], audio: Some(vec![0.1; 5 * 1000]) };
    let encoded = t.encode(&Prompt { parts: vec![clip, Part::Image(picture(50, 200))] }, "1:1").unwrap();
    let [Encoded::Latents { video, audio: Some(audio) }, Encoded::Latents { video: still, audio: None }] = &encoded[..]
    else {
        panic!("{encoded:?}")
    };
    assert_eq!((video.len(), audio.len(), still.len()), (2, 2, 1));
    assert!(video.iter().chain(still).all(|ids| ids.len() == 5 * 5 * 4 * 9));
    assert!(video.iter().flatten().all(|id| t.vocab().modality(*id) == Some(Modality::Video)));
    assert!(
        audio
            .iter()
            .all(|ids| ids.len() == 4 * 3 && ids.iter().all(|id| t.vocab().modality(*id) == Some(Modality::Audio)))
    );

    let spec = FrameSpec { width: 64, height: 64, format: PixelFormat::I420 };
    let mut decoder = t.decoder("1:1", spec, 4, 4000).unwrap();
    let mut out = Vec::new();
    for (video, audio) in video.iter().zip(audio) {
        out.extend(decoder.push_video(video).unwrap());
        out.extend(decoder.push_audio(audio).unwrap());
    }
    out.extend(decoder.finish());
    let frames = out.iter().filter(|o| matches!(o, Output::Frame(_))).count();
    let samples: usize = out.iter().map(|o| if let Output::Pcm(s) = o { s.len() } else { 0 }).sum();
    assert_eq!((frames, samples, t.sample_rate()), (4, 4000, 24000));
}

#[test]
fn what_the_checkpoint_lacks_is_named() {
    let t = tokenizers();
    let fails = |part: Part, ratio: &str| t.encode(&Prompt { parts: vec![part] }, ratio).unwrap_err().to_string();
    assert!(fails(Part::Control("<smell>".into()), "1:1").contains("no control token <smell>"));
    assert!(fails(Part::Reference(7), "1:1").contains("<image_7>"));
    assert!(fails(Part::Image(picture(9, 9)), "5:4").contains("no aspect ratio \"5:4\": use one of 16:9, 1:1"));
    assert!(fails(Part::Clip { frames: vec![], audio: None }, "1:1").contains("0 codes, must be 1"));
}

/// Opens a copy of the golden checkpoint whose configuration `file` was changed.
fn opened(file: &str, edit: impl Fn(&mut Value)) -> Result<Tokenizers, String> {
    let folder = tempfile::tempdir().unwrap();
    let from = goldens().join("tiny-default");
    for part in ["", "video_tokenizer", "audio_tokenizer"] {
        fs::create_dir_all(folder.path().join(part)).unwrap();
        for entry in fs::read_dir(from.join(part)).unwrap().map(Result::unwrap).filter(|e| e.path().is_file()) {
            fs::copy(entry.path(), folder.path().join(part).join(entry.file_name())).unwrap();
        }
    }
    let mut json: Value = serde_json::from_slice(&fs::read(from.join(file)).unwrap()).unwrap();
    edit(&mut json);
    fs::write(folder.path().join(file), json.to_string()).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).map_err(|e| e.to_string())?;
    Tokenizers::open(&checkpoint, Reference::new()).map_err(|e| e.to_string())
}

#[test]
fn configurations_that_contradict_each_other_are_refused() {
    let says = |file: &str, part: &str, edit: &dyn Fn(&mut Value)| {
        let error = opened(file, edit).map(|_| ()).expect_err("must be refused");
        assert!(error.contains(part) && !error.contains('\n'), "{error}\nshould say {part}");
    };
    assert!(opened("config.json", |_| ()).is_ok());
    says("video_tokenizer/config.json", "modalities[2].codes must be 8 ranges of 8 ids", &|c| c["digits"] = json!(8));
    says("video_tokenizer/config.json", "media.frames_per_latent is 4: the video tokenizer's stride is 2", &|c| {
        c["stride"] = json!(2)
    });
    says("audio_tokenizer/config.json", "media.latent_fps is 6", &|c| c["sample_rate"] = json!(48000));
    says("config.json", "media.grids.16:9 is [4, 8]", &|c| {
        c["media"]["grids"]["16:9"] = json!([4, 8]);
        drop(c["media"].as_object_mut().unwrap().remove("canvas_cells"));
    });
}
