//! `borealis generate`: arguments to a [`borealis_engine::Request`], its events to files.

mod request;

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use borealis_engine::{Window, render_image, render_live, render_mp4, render_text, variant_paths};
use borealis_media::VideoSpec;

use crate::args::MachineArgs;
use crate::error::{CliError, Result};
use crate::output::{self, Kind};
use crate::ranks::{RankArgs, Ranks};
use crate::tell::Teller;
use crate::{interrupt, limits, model};

pub const EXAMPLES: &str = "\
Examples:
  A clip of six seconds with sound:
    borealis generate \"a red ball bounces on grass\" -o ball.mp4
  Four pictures, upright, sky-1.png to sky-4.png:
    borealis generate \"a yellow sun in the sky\" --aspect-ratio 9:16 --variants 4 -o sky.png
  Bring a picture of yours to life, and change it:
    borealis generate \"the ball rolls to the right\" --image ball.jpg -o roll.mp4
    borealis generate \"the ball turns blue\" --image ball.jpg -o blue.png
  Go on where a clip ends, and change a clip:
    borealis generate \"the ball bounces\" --extend ball.mp4 --seconds 4 -o longer.mp4
    borealis generate \"the grass becomes a desert\" --video ball.mp4 -o desert.mp4
  Pictures named in the prompt:
    borealis generate \"@image1 before @image2\" --reference a.png --reference b.png -o both.png
  Watched while it is made:
    borealis generate \"a purple ring orbits a star\" --stream -o - | ffplay -
  A model whose experts are spread over two processes:
    mpirun -n 2 borealis generate \"a blue star\" --model DIR -o star.png
  For a program, one JSON event per line:
    borealis generate \"a blue star\" -o star.mp4 --json

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
A file is there whole or not at all (with --stream it grows); one that was there before is replaced.";

/// Arguments of `borealis generate`.
#[derive(clap::Args)]
pub struct Args {
    /// What to make, in words; - reads it from standard input
    #[arg(value_name = "PROMPT")]
    prompt: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Positions that a step decides, for open models, which decide one after another: auto (by what steps cost here) or 1 to 64. The file does not depend on it; the model
    /// inside this program decides blocks, which have no window
    #[arg(long, value_name = "N", default_value = "auto", value_parser = str::parse::<Window>, help_heading = "Model and machine")]
    window: Window,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    ranks: RankArgs,
    /// Tell events on standard output, one JSON object per line
    #[arg(long, help_heading = "Messages")]
    pub json: bool,
    /// No progress bar and no summary
    #[arg(long, short, help_heading = "Messages")]
    quiet: bool,
    /// Also tell the speed beside this machine's limits, measured first (takes a second)
    #[arg(long, help_heading = "Messages", conflicts_with = "quiet")]
    stats: bool,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Output")]
struct OutputArgs {
    /// The file; its ending says what to make: .png, .jpg, .webp a still, .mp4 a clip, .txt text (- prints it) [default: borealis.mp4, or what the model makes]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Length of the clip, 1 to 15 [default: 6]
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<f32>,
    /// Size of the shorter side
    #[arg(long, value_enum, default_value = "720p")]
    resolution: Lines,
    /// Width to height [default: that of the picture or clip given, else 16:9]
    #[arg(long, value_name = "RATIO", value_parser = ["16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3"])]
    aspect_ratio: Option<String>,
    /// Size of a still in pixels, for open models that draw pictures of any size
    #[arg(long, value_name = "WxH", value_parser = size, conflicts_with = "resolution")]
    size: Option<(u32, u32)>,
    /// Most tokens of a text [default: 512]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Make so many at once, 1 to 4, in files numbered -1, -2, ...
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    variants: u8,
    /// A clip without sound
    #[arg(long)]
    no_audio: bool,
    /// Write the clip while it is made, as a fragmented MP4 that players can read from its first half second on; -o - writes it to standard output
    #[arg(long, conflicts_with = "variants")]
    stream: bool,
    /// FFmpeg's name of the video encoder [default: libx264, or the first that this machine has]
    #[arg(long, value_name = "NAME")]
    encoder: Option<String>,
    /// Also write the ids that were generated, as JSON that `borealis tokenize --decode` reads
    #[arg(long, value_name = "FILE")]
    save_ids: Option<PathBuf>,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Start from")]
#[group(multiple = true)]
struct InputArgs {
    /// A picture: changed (when a still is made) or brought to life (when a clip is made)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["video", "extend", "reference"])]
    image: Option<PathBuf>,
    /// The picture that the clip ends with, for models that can
    #[arg(long, value_name = "FILE", requires = "image")]
    last_frame: Option<PathBuf>,
    /// A clip to change
    #[arg(long, value_name = "FILE", conflicts_with_all = ["extend", "reference"])]
    video: Option<PathBuf>,
    /// A clip to go on from; --seconds is what is added
    #[arg(long, value_name = "FILE", conflicts_with = "reference")]
    extend: Option<PathBuf>,
    /// A picture that the prompt names as <IMAGE_0> or @image1; up to 7 times
    #[arg(long, value_name = "FILE")]
    reference: Vec<PathBuf>,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Sampling")]
struct SamplingArgs {
    /// The same seed, prompt and model give the same file [default: chosen and told]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How closely to follow the prompt; 1 = not more than the model does by itself
    #[arg(long, value_name = "X")]
    guidance: Option<f32>,
    /// What to lead away from, for open models that take such words
    #[arg(long, value_name = "WORDS")]
    negative: Option<String>,
    /// 0 takes the likeliest, 1 draws as the model was trained
    #[arg(long, value_name = "X")]
    temperature: Option<f32>,
    /// Draw from the K likeliest only; 0 = all
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the likeliest that make up this share, above 0 to 1
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Leave out what is less than this times as likely as the likeliest; 0 = nothing
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Make ids that were there before less likely; 1 = not
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f32>,
    /// The best that the model does (the default)
    #[arg(long, conflicts_with = "speed")]
    quality: bool,
    /// Faster and plainer
    #[arg(long)]
    speed: bool,
}

/// Values of `--resolution`.
#[derive(clap::ValueEnum, Clone, Copy)]
enum Lines {
    #[value(name = "480p")]
    P480,
    #[value(name = "720p")]
    P720,
    #[value(name = "1080p")]
    P1080,
}

/// Parses `--seconds`.
pub fn seconds(text: &str) -> std::result::Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (1.0..=15.0).contains(&value) => Ok(value),
        _ => Err("use a number from 1 to 15".into()),
    }
}

/// Parses `--size`.
fn size(text: &str) -> std::result::Result<(u32, u32), String> {
    let side = |s: &str| s.parse::<u32>().ok().filter(|v| (1..=16_384).contains(v));
    let both = text.split_once(['x', 'X']).and_then(|(w, h)| Some((side(w)?, side(h)?)));
    both.ok_or_else(|| "use width and height in pixels, such as 720x720".into())
}

/// Makes the request and writes what comes back.
pub fn run(args: Args) -> Result<()> {
    let start = Instant::now();
    let mut ranks = Ranks::join(&args.ranks, &args.machine)?;
    if ranks.is_member() {
        return ranks.serve(&args.machine, 1);
    }
    let result = make(&args, &mut ranks, start);
    ranks.end(result)
}

fn make(args: &Args, ranks: &mut Ranks, start: Instant) -> Result<()> {
    let path = &args.path()?;
    let kind = args.kind(path)?;
    let request = args.request(kind)?;
    let variants = request.variants;
    let written = if path.as_os_str() == output::STDOUT { Vec::new() } else { variant_paths(path, variants) };
    let ids = args.output.save_ids.as_ref().map(|path| variant_paths(path, variants)).unwrap_or_default();
    // A stream may go to what is no file, such as a pipe with a name.
    written.iter().filter(|_| !args.output.stream).chain(&ids).try_for_each(|path| output::check(path))?;

    let checkpoint = model::open(args.machine.model.as_deref())?;
    if args.input.last_frame.is_some() {
        let name = checkpoint.name();
        return Err(CliError::usage(format!("model {name} cannot end at a given picture: leave --last-frame out")));
    }
    let threads = borealis_engine::step_threads(&checkpoint, &args.machine.engine())?;
    args.machine.tell_fallback();
    let engine = ranks.engine(checkpoint, args.machine.engine())?;
    let limits = args.stats.then(|| limits::measure(threads, args.machine.device())).transpose()?;

    let subject = args.subject(&request, engine.info().fps, written.is_empty());
    let stream = engine.submit(request)?;
    let request = stream.canceller();
    let mut teller = Teller::new(subject, request.clone());
    let watch = interrupt::watch(move || request.cancel());
    let rendered = match kind {
        Kind::Clip => {
            let like = VideoSpec { encoder: args.output.encoder.clone(), ..VideoSpec::new(16, 16, engine.info().fps) };
            let see = |event: &_| teller.see(event);
            let rendered = match args.output.stream {
                true => output::live(path, |to| render_live(stream, to, &like, see))?,
                false => render_mp4(stream, path, &like, see),
            };
            rendered.map(|rendered| (rendered, Vec::new()))
        }
        Kind::Still => render_image(stream, path, |event| teller.see(event)).map(|rendered| (rendered, Vec::new())),
        Kind::Text => render_text(stream, |event| teller.see(event)),
    };
    drop(watch);
    teller.end()?;
    let (mut rendered, texts) = rendered?;
    write_texts(&texts, &written, args.json)?;
    rendered.files = written;
    for (variant, file) in teller.take_ids(engine.manifest(), &rendered) {
        if let Some(path) = ids.get(variant) {
            output::write_whole(path, file.json()?.as_bytes())?;
        }
    }
    if args.json {
        teller.report_json(&rendered, start.elapsed())?;
    } else if !args.quiet {
        teller.report(&rendered, kind, start.elapsed(), limits.as_ref());
        if let Some(cost) = ranks.cost().filter(|_| args.stats) {
            eprintln!("ranks: {cost}");
        }
    }
    Ok(())
}

/// Writes each text to its file; without files, what was not printed while it came.
fn write_texts(texts: &[String], files: &[PathBuf], json: bool) -> Result<()> {
    for (text, file) in texts.iter().zip(files) {
        output::write_whole(file, format!("{text}\n").as_bytes())?;
    }
    if files.is_empty() && !json && !texts.is_empty() {
        let several = texts.len() > 1;
        let text = if several { texts.join("\n\n") } else { String::new() };
        writeln!(std::io::stdout().lock(), "{text}")?;
    }
    Ok(())
}
