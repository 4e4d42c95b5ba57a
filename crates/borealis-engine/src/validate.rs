//! The one place where a request is checked. Messages name the field, the value and the remedy.

use borealis_tokenizers::Prompt;
use borealis_weights::{Manifest, Mode};

use crate::error::{EngineError, Result};
use crate::geometry::aspects;
use crate::request::{Conditioning, OutputKind, Request, Sampling};
use crate::window::{MAX_WINDOW, Window};

/// Longest prompt.
pub const MAX_PROMPT: usize = 10_000;
/// Seconds of a clip.
pub const SECONDS: std::ops::RangeInclusive<f32> = 1.0..=15.0;
/// Most pictures that a prompt can name.
pub const MAX_REFERENCES: usize = 7;
/// Most variants of one request.
pub const MAX_VARIANTS: usize = 4;

/// Most ids of a text.
pub const MAX_TOKENS: usize = 1 << 17;

/// What a valid request means for the checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checked<'a> {
    /// Name of the mode.
    pub mode_name: &'static str,
    pub mode: &'a Mode,
    pub prompt: Prompt,
}

/// Checks everything that can be checked without opening a file.
pub(crate) fn check<'a>(request: &Request, manifest: &'a Manifest, model: &str) -> Result<Checked<'a>> {
    let mode_name = mode(request)?;
    check_prompt(request, mode_name)?;
    check_output(request, manifest)?;
    check_sampling(&request.sampling)?;
    check_variants(request.variants)?;
    check_window(request.window)?;
    let unsupported = |what: String, remedy: &str| EngineError::Unsupported {
        model: model.to_string(),
        what,
        remedy: remedy.to_string(),
    };
    if matches!(request.output.kind, OutputKind::Text { .. }) {
        return Err(unsupported("generates no text".into(), "ask for a picture or a clip"));
    }
    if request.negative.is_some() {
        return Err(unsupported("takes no negative prompt".into(), "leave it out"));
    }
    if request.output.size.is_some() {
        return Err(unsupported(
            "makes pictures of known ratios".into(),
            "use aspect_ratio and resolution instead of size",
        ));
    }
    let Some(mode) = manifest.modes.get(mode_name).filter(|_| manifest.media.is_some()) else {
        let known: Vec<_> = manifest.modes.keys().map(String::as_str).collect();
        let remedy =
            if known.is_empty() { "use another model".to_string() } else { format!("it can do: {}", known.join(", ")) };
        return Err(unsupported(format!("cannot do {mode_name}"), &remedy));
    };
    let prompt = Prompt::from_text(&request.prompt);
    check_pictures(request, &prompt)?;
    let guided = request.sampling.guidance.is_some_and(|g| g != 1.0);
    if guided && manifest.control("<null>").is_none() {
        return Err(unsupported("was not trained for guidance".into(), "leave guidance at 1"));
    }
    Ok(Checked { mode_name, mode, prompt })
}

/// Checks a request to an open checkpoint, as far as its family does not matter.
pub(crate) fn check_open(request: &Request) -> Result<()> {
    check_prompt(request, "")?;
    check_sampling(&request.sampling)?;
    check_variants(request.variants)?;
    check_window(request.window)?;
    if let Some(negative) = &request.negative
        && negative.chars().count() > MAX_PROMPT
    {
        return Err(EngineError::invalid("negative", "it is too long", format!("use at most {MAX_PROMPT} characters")));
    }
    match request.output.kind {
        OutputKind::Text { max_tokens } if !(1..=MAX_TOKENS).contains(&max_tokens) => Err(EngineError::invalid(
            "max_tokens",
            format!("{max_tokens} is out of range"),
            format!("use 1 to {MAX_TOKENS}"),
        )),
        _ => Ok(()),
    }
}

fn check_variants(variants: usize) -> Result<()> {
    if (1..=MAX_VARIANTS).contains(&variants) {
        return Ok(());
    }
    Err(EngineError::invalid("variants", format!("{variants} is out of range"), "use 1 to 4"))
}

fn check_window(window: Window) -> Result<()> {
    match window {
        Window::Fixed(n) if !(1..=MAX_WINDOW).contains(&n) => Err(EngineError::invalid(
            "window",
            format!("{n} is out of range"),
            format!("use 1 to {MAX_WINDOW}, or auto"),
        )),
        _ => Ok(()),
    }
}

/// The mode of a request by what it brings and what it asks for.
fn mode(request: &Request) -> Result<&'static str> {
    let still = matches!(request.output.kind, OutputKind::Image);
    match &request.conditioning {
        Conditioning::Text if still => Ok("text_to_image"),
        Conditioning::Text => Ok("text_to_video"),
        Conditioning::Image(_) if still => Ok("edit_image"),
        Conditioning::Image(_) => Ok("image_to_video"),
        Conditioning::References(_) => Ok("reference"),
        Conditioning::Video(_) | Conditioning::Extend(_) if still => {
            Err(EngineError::invalid("output", "a clip was given and a still asked for", "ask for a clip"))
        }
        Conditioning::Video(_) => Ok("edit_video"),
        Conditioning::Extend(_) => Ok("extend"),
    }
}

fn check_prompt(request: &Request, mode: &str) -> Result<()> {
    let length = request.prompt.chars().count();
    if length > MAX_PROMPT {
        let problem = format!("{length} characters are too many");
        return Err(EngineError::invalid("prompt", problem, format!("use at most {MAX_PROMPT}")));
    }
    // A picture can come to life without a word.
    if request.prompt.trim().is_empty() && mode != "image_to_video" {
        return Err(EngineError::invalid("prompt", "it is empty", "say what to make"));
    }
    Ok(())
}

fn check_output(request: &Request, manifest: &Manifest) -> Result<()> {
    if let OutputKind::Video { seconds, .. } = request.output.kind
        && !SECONDS.contains(&seconds)
    {
        return Err(EngineError::invalid("seconds", format!("{seconds} is out of range"), "use 1 to 15"));
    }
    let Some(aspect) = &request.output.aspect_ratio else { return Ok(()) };
    let known = aspects(manifest);
    if !known.is_empty() && !known.contains(aspect) {
        return Err(EngineError::invalid(
            "aspect_ratio",
            format!("\"{aspect}\" is unknown"),
            format!("use {}", known.join(", ")),
        ));
    }
    Ok(())
}

fn check_sampling(sampling: &Sampling) -> Result<()> {
    let range = |field: &'static str, value: Option<f32>, fits: fn(f32) -> bool, remedy: &str| match value {
        Some(v) if !v.is_finite() || !fits(v) => {
            Err(EngineError::invalid(field, format!("{v} is out of range"), remedy))
        }
        _ => Ok(()),
    };
    range("temperature", sampling.temperature, |v| (0.0..=100.0).contains(&v), "use 0 (the likeliest) to 100")?;
    range("top_p", sampling.top_p, |v| v > 0.0 && v <= 1.0, "use more than 0, at most 1")?;
    range("min_p", sampling.min_p, |v| (0.0..=1.0).contains(&v), "use 0 (off) to 1")?;
    range(
        "repetition_penalty",
        sampling.repetition_penalty,
        |v| v > 0.0 && v <= 10.0,
        "use more than 0, at most 10; 1 is off",
    )?;
    range("guidance", sampling.guidance, |v| (0.0..=100.0).contains(&v), "use 0 to 100; 1 is off")
}

/// Pictures that are given and pictures that the prompt names.
fn check_pictures(request: &Request, prompt: &Prompt) -> Result<()> {
    let given = match &request.conditioning {
        Conditioning::References(list) => list.len(),
        Conditioning::Image(_) => 1,
        _ => 0,
    };
    if matches!(&request.conditioning, Conditioning::References(list) if list.is_empty()) {
        return Err(EngineError::invalid("references", "there is no picture", "give 1 to 7 pictures"));
    }
    if given > MAX_REFERENCES {
        return Err(EngineError::invalid("references", format!("{given} pictures are too many"), "give at most 7"));
    }
    match prompt.references().find(|&k| k >= given) {
        Some(k) => {
            let problem = format!("it names <IMAGE_{k}> (@image{}), {given} pictures are given", k + 1);
            Err(EngineError::invalid("prompt", problem, "give that picture as a reference or take the name out"))
        }
        None => Ok(()),
    }
}
