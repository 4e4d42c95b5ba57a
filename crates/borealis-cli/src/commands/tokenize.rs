//! `borealis tokenize`: text, pictures, clips and sound to ids, and ids back.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use borealis_media::{
    Frame, Kind as MediaKind, Limits, Mp4Writer, Pcm, PixelFormat, Source, VideoSpec, probe, read_audio, read_clip,
    read_image, write_image, write_wav,
};
use borealis_tokenizers::codecs::AudioCodec;
use borealis_tokenizers::{FrameSpec, Output, StreamDecoder, TokenId, Tokenizers};
use borealis_weights::{Checkpoint, Manifest, Media};

use crate::args::MachineArgs;
use crate::commands::sound;
use crate::error::{CliError, Result};
use crate::ids::{self, Ids};
use crate::output::{self, Kind};
use crate::{interrupt, model};

/// Most bytes of a text or of a file of ids.
const MAX_FILE: u64 = 256 << 20;
/// Lines of decoded pictures.
const LINES: usize = 720;

pub const EXAMPLES: &str = "\
Examples:
  borealis tokenize --text \"a red ball\"
  borealis tokenize ball.png -o ball.json
  borealis tokenize clip.mp4 --plain -o clip.txt
  borealis tokenize --decode ball.json -o again.png
  borealis generate \"a red ball\" --save-ids ids.json -o ball.mp4
  borealis tokenize --decode ids.json -o again.mp4
  borealis tokenize --model kyutai/mimi voice.wav -o codes.json
  borealis tokenize --model kyutai/mimi --decode codes.json -o again.wav

Ids are one JSON object: {\"aspect_ratio\": \"16:9\", \"frames\": 1, \"ids\": {\"video\": [...]}};
with --plain a line for each entry.";

/// Arguments of `borealis tokenize`.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct Args {
    /// A picture, a clip, a sound, or a text (.txt)
    #[arg(value_name = "FILE", group = "what")]
    file: Option<PathBuf>,
    /// A text
    #[arg(long, value_name = "TEXT", group = "what")]
    text: Option<String>,
    /// A file of ids, to turn back
    #[arg(long, value_name = "FILE", group = "what")]
    decode: Option<PathBuf>,
    /// Where to write it [default: standard output for ids and text]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Ids as plain lines instead of JSON
    #[arg(long, conflicts_with = "decode")]
    plain: bool,
    /// Bit rate of an audio codec's codes, kbit/s [default: its highest]
    #[arg(long, value_name = "KBPS", conflicts_with = "decode")]
    bandwidth: Option<f64>,
    /// Codes of each frame of an audio codec [default: all]
    #[arg(long, value_name = "N", conflicts_with_all = ["decode", "bandwidth"])]
    codebooks: Option<usize>,
    /// The grid of the ids; the picture's middle is used [default: the one nearest to the picture]
    #[arg(long, value_name = "RATIO", value_parser = ["16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3"])]
    aspect_ratio: Option<String>,
    #[command(flatten)]
    machine: MachineArgs,
}

/// What both directions need.
struct Tool {
    manifest: Manifest,
    tokenizers: Tokenizers,
}

/// Encodes or decodes.
pub fn run(args: Args) -> Result<()> {
    if let Some(path) = &args.output {
        output::check(path)?;
    }
    if let Some(codec) = model::codec(args.machine.model.as_deref())? {
        return codes(&codec, &args);
    }
    if args.bandwidth.is_some() || args.codebooks.is_some() {
        return Err(CliError::usage("--bandwidth and --codebooks are for audio codecs: give one with --model"));
    }
    let checkpoint = model::open(args.machine.model.as_deref())?;
    let tool = Tool::new(&checkpoint, &args.machine)?;
    if let Some(path) = &args.decode {
        let text = read_text(path)?;
        let wrong = |what| CliError::Failed(format!("\"{}\" is not a file of ids: {what}", path.display()));
        return tool.decode(&Ids::parse(&text).map_err(wrong)?, &args);
    }
    let ids = match (&args.text, &args.file) {
        (Some(text), _) => tool.text(text)?,
        (None, Some(path)) => tool.file(path, args.aspect_ratio.as_deref())?,
        (None, None) => return Err(CliError::usage("nothing to do: give a FILE, --text or --decode")),
    };
    let text = if args.plain { ids.plain() } else { ids.json()? };
    write_text(args.output.as_deref(), &text)
}

/// The same with the folder of an audio codec.
fn codes(codec: &Arc<dyn AudioCodec>, args: &Args) -> Result<()> {
    match (&args.file, &args.decode) {
        (Some(path), _) if !args.plain => {
            let wanted = sound::Wanted { bandwidth: args.bandwidth, codebooks: args.codebooks };
            write_text(args.output.as_deref(), &sound::encode(codec.as_ref(), path, &wanted)?)
        }
        (_, Some(path)) => sound::decode(codec, &read_text(path)?, path, args.output.as_deref()),
        _ => {
            Err(CliError::usage("this model is an audio codec: give a sound, or codes with --decode, without --plain"))
        }
    }
}

impl Tool {
    fn new(checkpoint: &Checkpoint, machine: &MachineArgs) -> Result<Self> {
        Ok(Self {
            manifest: checkpoint.manifest().clone(),
            tokenizers: borealis_engine::open_tokenizers(checkpoint, &machine.engine())?,
        })
    }

    fn media(&self) -> Result<&Media> {
        let none = || CliError::Failed("this model has no pictures and no sound: give --text".into());
        self.manifest.media.as_ref().ok_or_else(none)
    }

    fn text(&self, text: &str) -> Result<Ids> {
        let ids = self.tokenizers.text().and_then(|t| t.encode(text)).map_err(CliError::failed)?;
        Ok(Ids::one("text", ids))
    }

    fn file(&self, path: &Path, ratio: Option<&str>) -> Result<Ids> {
        if path.extension().is_some_and(|ending| ending == "txt") {
            return self.text(&read_text(path)?);
        }
        let (limits, source) = (Limits::default(), || Source::Path(path));
        let info = probe(source(), &limits).map_err(CliError::failed)?;
        let rate = self.tokenizers.sample_rate();
        match info.kind {
            MediaKind::Image => {
                let frame = read_image(source(), &limits).map_err(CliError::failed)?;
                self.frames(&[frame], None, ratio)
            }
            MediaKind::Video => {
                let rate = if rate == 0 { 24_000 } else { rate };
                let clip = read_clip(source(), self.media()?.fps, rate, &limits).map_err(CliError::failed)?;
                self.frames(&clip.frames, clip.audio.as_ref(), ratio)
            }
            MediaKind::Audio => {
                let media = self.media()?;
                let pcm = read_audio(source(), rate.max(1), &limits).map_err(CliError::failed)?.to_mono();
                let frames =
                    (pcm.samples.len() as u64 * u64::from(media.fps)).div_ceil(u64::from(rate.max(1))) as usize;
                let mut ids = Ids::one("audio", self.sound(&pcm, media.latents(frames))?);
                ids.samples = Some(pcm.samples.len());
                Ok(ids)
            }
        }
    }

    /// Ids of a picture or clip and of its sound.
    fn frames(&self, frames: &[Frame], sound: Option<&Pcm>, ratio: Option<&str>) -> Result<Ids> {
        let first = frames.first().ok_or_else(|| CliError::Failed("the clip has no frames: give another".into()))?;
        let ratio = ratio.map(str::to_string).or_else(|| ids::nearest(&self.manifest, first.width, first.height));
        let ratio = ratio.unwrap_or_else(|| "16:9".into());
        let latents = self.tokenizers.encode_frames(frames, &ratio).map_err(CliError::failed)?;
        let mut out = BTreeMap::new();
        if let Some(pcm) = sound.filter(|_| self.tokenizers.has_audio()) {
            out.insert("audio".to_string(), self.sound(pcm, latents.len())?);
        }
        out.insert("video".to_string(), latents.concat());
        Ok(Ids { aspect_ratio: Some(ratio), frames: Some(frames.len()), samples: None, ids: out })
    }

    fn sound(&self, pcm: &Pcm, latents: usize) -> Result<Vec<TokenId>> {
        self.tokenizers.encode_sound(&pcm.samples, latents).map(|l| l.concat()).map_err(CliError::failed)
    }

    fn decode(&self, ids: &Ids, args: &Args) -> Result<()> {
        if ids.get("video").is_some() {
            let path = args.output.as_deref().ok_or_else(|| needs_output("pictures", ".png or .mp4"))?;
            self.decode_frames(ids, args.aspect_ratio.as_deref(), path)
        } else if let Some(sound) = ids.get("audio") {
            let path = args.output.as_deref().filter(|p| p.extension().is_some_and(|e| e == "wav"));
            self.decode_sound(sound, ids.samples, path.ok_or_else(|| needs_output("sound", ".wav"))?)
        } else if let Some(text) = ids.get("text") {
            let mut text = self.tokenizers.text().and_then(|t| t.decode(text)).map_err(CliError::failed)?;
            text.push('\n');
            write_text(args.output.as_deref(), &text)
        } else {
            let found: Vec<_> = ids.ids.keys().map(String::as_str).collect();
            Err(CliError::Failed(format!(
                "ids of {} cannot be turned back: give text, video or audio",
                found.join(", ")
            )))
        }
    }

    fn decode_frames(&self, ids: &Ids, ratio: Option<&str>, path: &Path) -> Result<()> {
        let kind = output::kind(path)?;
        let media = self.media()?;
        let no_ratio = || CliError::usage("these ids do not say their grid: add --aspect-ratio");
        let ratio = ratio.or(ids.aspect_ratio.as_deref()).ok_or_else(no_ratio)?;
        let video = ids.get("video").unwrap_or_default();
        let per_latent = self.ids_per_latent(ratio)?;
        if !video.len().is_multiple_of(per_latent) {
            let what = format!("{} video ids are not a whole number of latent frames of {per_latent}", video.len());
            return Err(CliError::Failed(format!("{what}: check the grid, {ratio}, and the file")));
        }
        let latents = video.len() / per_latent;
        let all = media.frames(latents);
        let frames = if kind == Kind::Still { 1 } else { ids.frames.unwrap_or(all).clamp(1, all) };
        let sound = ids.get("audio").filter(|_| kind == Kind::Clip).unwrap_or_default();
        let rate = if sound.is_empty() { 0 } else { self.tokenizers.sample_rate() };
        let samples = (frames as u64 * u64::from(rate) / u64::from(media.fps)) as usize;

        let spec = size(ratio, kind).ok_or_else(no_ratio)?;
        let decoder = self.tokenizers.decoder(ratio, spec, frames, samples).map_err(CliError::failed)?;
        let sound = sound.chunks((sound.len() / latents).max(1));
        let outputs = Outputs { decoder, video: video.chunks_exact(per_latent), sound };
        if kind == Kind::Still {
            return outputs.still(path);
        }
        let mut clip = VideoSpec::new(spec.width as u32, spec.height as u32, media.fps);
        clip.audio_rate = (rate > 0).then_some(rate);
        outputs.clip(path, clip)
    }

    /// Ids of one latent frame's pictures.
    fn ids_per_latent(&self, ratio: &str) -> Result<usize> {
        let grid = self.tokenizers.grid(ratio).map_err(CliError::failed)?;
        let (_, layout) = self.tokenizers.video().map_err(CliError::failed)?;
        let (rows, columns) = layout.positions(grid.rows, grid.columns);
        Ok(rows * columns * layout.ids_per_position())
    }

    fn decode_sound(&self, ids: &[TokenId], samples: Option<usize>, path: &Path) -> Result<()> {
        let (codec, layout) = self.tokenizers.audio().map_err(CliError::failed)?;
        let per_latent = codec.config().latent_samples();
        let all = ids.len().div_ceil(layout.ids_per_position()) * per_latent;
        let samples = samples.unwrap_or(all).min(all);
        let mut decoder = StreamDecoder::new().with_audio(codec, layout.clone(), samples);
        let mut out = Vec::with_capacity(samples);
        let mut keep = |outputs: Vec<Output>| {
            for output in outputs {
                if let Output::Pcm(samples) = output {
                    out.extend(samples);
                }
            }
        };
        for chunk in ids.chunks(layout.ids_per_position()) {
            keep(decoder.push_audio(chunk).map_err(CliError::failed)?);
        }
        keep(decoder.finish());
        write_wav(path, &Pcm::mono(self.tokenizers.sample_rate(), out)).map_err(CliError::failed)
    }
}

/// Latent frames on their way to frames and samples, as in a generation.
struct Outputs<'a> {
    decoder: StreamDecoder,
    video: std::slice::ChunksExact<'a, TokenId>,
    sound: std::slice::Chunks<'a, TokenId>,
}

impl Outputs<'_> {
    /// What comes out next; `None` at the end.
    fn next(&mut self) -> Result<Option<Vec<Output>>> {
        let Some(latent) = self.video.next() else { return Ok(None) };
        let mut out = self.decoder.push_video(latent).map_err(CliError::failed)?;
        if let Some(ids) = self.sound.next() {
            out.extend(self.decoder.push_audio(ids).map_err(CliError::failed)?);
        }
        if self.video.len() == 0 {
            out.extend(self.decoder.finish());
        }
        Ok(Some(out))
    }

    fn still(mut self, path: &Path) -> Result<()> {
        while let Some(outputs) = self.next()? {
            for output in outputs {
                if let Output::Frame(frame) = output {
                    return write_image(path, &frame).map_err(CliError::failed);
                }
            }
        }
        Err(CliError::Failed("these ids make no picture: check the file".into()))
    }

    fn clip(mut self, path: &Path, spec: VideoSpec) -> Result<()> {
        let _watch = interrupt::watch(|| ());
        let mut writer = Mp4Writer::create(path, spec).map_err(CliError::failed)?;
        while let Some(outputs) = self.next()? {
            interrupt::check()?;
            for output in outputs {
                match output {
                    Output::Frame(frame) => writer.push_owned(frame),
                    Output::Pcm(samples) => writer.push_audio(&samples),
                    Output::Text(_) => Ok(()),
                }
                .map_err(CliError::failed)?;
            }
        }
        writer.finish().map(drop).map_err(CliError::failed)
    }
}

/// Even sides of 720 lines with the ratio.
fn size(ratio: &str, kind: Kind) -> Option<FrameSpec> {
    let (w, h) = ratio.split_once(':')?;
    let (w, h): (usize, usize) = (w.parse().ok()?, h.parse().ok()?);
    let long = |a: usize, b: usize| (LINES * a).div_ceil(b).next_multiple_of(2);
    let (width, height) = if w >= h { (long(w, h), LINES) } else { (LINES, long(h, w)) };
    let format = if kind == Kind::Clip { PixelFormat::I420 } else { PixelFormat::Rgb8 };
    Some(FrameSpec { width, height, format })
}

fn needs_output(what: &str, ending: &str) -> CliError {
    CliError::usage(format!("these ids are {what}: add -o FILE with an ending such as {ending}"))
}

fn read_text(path: &Path) -> Result<String> {
    let wrong = |error: &dyn std::fmt::Display| {
        CliError::Failed(format!("cannot read \"{}\": {error}: give a text file", path.display()))
    };
    let length = std::fs::metadata(path).map_err(|e| wrong(&e))?.len();
    if length > MAX_FILE {
        return Err(wrong(&format!("it has {} MiB, more than {} MiB", length >> 20, MAX_FILE >> 20)));
    }
    std::fs::read_to_string(path).map_err(|e| wrong(&e))
}

fn write_text(path: Option<&Path>, text: &str) -> Result<()> {
    match path {
        Some(path) => output::write_whole(path, text.as_bytes()),
        None => Ok(std::io::stdout().lock().write_all(text.as_bytes())?),
    }
}
