//! From the command line to a [`Request`].

use std::io::Read;
use std::path::{Path, PathBuf};

use borealis_engine::{Conditioning, Media, OutputKind, OutputSpec, Preset, Request, Resolution, Sampling};

use super::{Args, InputArgs, Lines};
use crate::error::{CliError, Result};
use crate::model;
use crate::output::{self, Kind};
use crate::tell::Subject;

/// Tokens of a text when nothing is said.
const MAX_TOKENS: usize = 512;
/// Seconds of a clip when nothing is said.
const SECONDS: f32 = 6.0;

impl Args {
    /// The output: as asked, else what the model makes.
    pub(super) fn path(&self) -> Result<PathBuf> {
        if let Some(path) = &self.output.output {
            return Ok(path.clone());
        }
        let Some(folder) = self.machine.model.as_deref() else { return Ok("borealis.mp4".into()) };
        let checkpoint = model::open(Some(folder))?;
        let manifest = checkpoint.manifest();
        Ok(match (manifest.family.is_some(), manifest.segment("image")) {
            (false, _) => "borealis.mp4".into(),
            (true, Some(_)) => "borealis.png".into(),
            (true, None) => output::STDOUT.into(),
        })
    }

    /// What the output is, by its name; what is streamed is a clip.
    pub(super) fn kind(&self, path: &Path) -> Result<Kind> {
        let printed = path.as_os_str() == output::STDOUT;
        match (self.output.stream, printed) {
            (true, true) if self.json => {
                Err(CliError::usage("--json and -o - both write to standard output: give -o a file"))
            }
            (true, true) => Ok(Kind::Clip),
            (true, false) if output::kind(path)? != Kind::Clip => Err(clip_only("--stream")),
            _ => output::kind(path),
        }
    }

    pub(super) fn request(&self, kind: Kind) -> Result<Request> {
        let kind = match kind {
            Kind::Still | Kind::Clip if self.output.max_tokens.is_some() => {
                return Err(CliError::usage("--max-tokens is for text: give -o a file that ends with .txt, or -"));
            }
            Kind::Text if self.output.size.is_some() => {
                return Err(CliError::usage("--size is for stills: give -o a file that ends with .png"));
            }
            Kind::Text => OutputKind::Text { max_tokens: self.output.max_tokens.unwrap_or(MAX_TOKENS) },
            Kind::Still if self.output.seconds.is_some() => return Err(clip_only("--seconds")),
            Kind::Still if self.output.no_audio => return Err(clip_only("--no-audio")),
            Kind::Still if self.input.video.is_some() => return Err(clip_only("--video")),
            Kind::Still if self.input.extend.is_some() => return Err(clip_only("--extend")),
            Kind::Still => OutputKind::Image,
            Kind::Clip => {
                OutputKind::Video { seconds: self.output.seconds.unwrap_or(SECONDS), audio: !self.output.no_audio }
            }
        };
        let resolution = match self.output.resolution {
            Lines::P480 => Resolution::P480,
            Lines::P720 => Resolution::P720,
            Lines::P1080 => Resolution::P1080,
        };
        Ok(Request {
            prompt: self.prompt()?,
            conditioning: self.input.conditioning(),
            negative: self.sampling.negative.clone(),
            output: OutputSpec {
                kind,
                resolution,
                aspect_ratio: self.output.aspect_ratio.clone(),
                size: self.output.size,
            },
            variants: usize::from(self.output.variants),
            seed: self.sampling.seed.unwrap_or_else(fresh_seed),
            sampling: Sampling {
                temperature: self.sampling.temperature,
                top_k: self.sampling.top_k,
                top_p: self.sampling.top_p,
                min_p: self.sampling.min_p,
                repetition_penalty: self.sampling.repetition_penalty,
                guidance: self.sampling.guidance,
            },
            preset: if self.sampling.speed { Preset::Speed } else { Preset::Quality },
            window: self.window,
        })
    }

    pub(super) fn subject(&self, request: &Request, fps: u32, printed: bool) -> Subject {
        Subject {
            json: self.json,
            quiet: self.quiet,
            keep_ids: self.output.save_ids.is_some(),
            aloud: printed && request.variants == 1 && !self.json,
            seed: request.seed,
            variants: request.variants,
            fps,
        }
    }

    fn prompt(&self) -> Result<String> {
        if self.prompt != "-" {
            return Ok(self.prompt.clone());
        }
        let mut text = String::new();
        let stdin = std::io::stdin();
        // A prompt is at most 10,000 characters, of at most four bytes each; the engine says so of a longer one.
        stdin.lock().take(40_004).read_to_string(&mut text).map_err(|error| {
            CliError::Failed(format!("cannot read the prompt from standard input: {error}: it must be UTF-8 text"))
        })?;
        Ok(text)
    }
}

impl InputArgs {
    fn conditioning(&self) -> Conditioning {
        let media = |path: &PathBuf| Media::Path(path.clone());
        if let Some(path) = &self.image {
            Conditioning::Image(media(path))
        } else if let Some(path) = &self.video {
            Conditioning::Video(media(path))
        } else if let Some(path) = &self.extend {
            Conditioning::Extend(media(path))
        } else if !self.reference.is_empty() {
            Conditioning::References(self.reference.iter().map(media).collect())
        } else {
            Conditioning::Text
        }
    }
}

fn clip_only(option: &str) -> CliError {
    CliError::usage(format!("{option} is for clips: give -o a file that ends with .mp4"))
}

/// A seed that is short enough to type again.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) % 1_000_000
}
