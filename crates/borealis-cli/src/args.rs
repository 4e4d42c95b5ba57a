//! The command line, except for what belongs to one subcommand alone.

use std::path::PathBuf;
use std::process::ExitCode;

use borealis_engine::EngineConfig;
use borealis_kernels::{DeviceSpec, KvFormat, QuantFormat};
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::commands::{bench, completions, convert, evaluate, generate, hub, inspect, keys, serve, synth, tokenize};

/// Heading of the options that choose the model and where it runs.
pub const MACHINE: &str = "Model and machine";

const AFTER_HELP: &str = "\
Examples:
  borealis generate \"a red ball bounces on grass\" -o ball.mp4
  borealis generate \"a blue star at night\" -o star.png
  borealis generate \"the star turns green\" --image star.png -o green.png
  borealis inspect
  borealis bench

Exit codes:
  0    done
  1    it failed: a file, the disk, a model, memory
  2    the command line makes no sense
  130  interrupted by Ctrl-C; no file was left half written";

/// Words to pictures and clips with sound, on this machine
#[derive(Parser)]
#[command(name = "borealis", version, max_term_width = 100, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Make a picture, a clip or a text from a prompt
    #[command(after_help = generate::EXAMPLES)]
    Generate(Box<generate::Args>),
    /// Turn text, pictures, clips and sound into ids, and ids back
    #[command(after_help = tokenize::EXAMPLES)]
    Tokenize(tokenize::Args),
    /// Say what a model is: parameters, vocabulary, plans, modes, memory
    #[command(after_help = inspect::EXAMPLES)]
    Inspect(inspect::Args),
    /// Write a model in the native format, quantised when asked
    #[command(after_help = convert::EXAMPLES)]
    Convert(convert::Args),
    /// Write a model with random weights, to measure speeds on
    #[command(after_help = synth::EXAMPLES)]
    Synth(synth::Args),
    /// Fetch a model from the Hugging Face hub
    #[command(after_help = hub::PULL_EXAMPLES)]
    Pull(hub::PullArgs),
    /// List the models that were fetched
    List(hub::ListArgs),
    /// Remove models that were fetched
    Rm(hub::RemoveArgs),
    /// Serve the xAI Imagine API, OpenAI's and a page for the browser on one port
    #[command(after_help = serve::EXAMPLES)]
    Serve(Box<serve::Args>),
    /// Who may use the server: make, list and revoke API keys
    #[command(after_help = keys::EXAMPLES)]
    Keys(keys::Args),
    /// Makes jobs for a server
    #[command(hide = true)]
    Worker(Box<serve::WorkerArgs>),
    /// Reads media of strangers for a server
    #[command(hide = true)]
    Media,
    /// Measure speed, beside what this machine could do at most
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::Args),
    /// Score a model on prompts whose truth is known, by what its clips show and sound like
    #[command(after_help = evaluate::EXAMPLES)]
    Evaluate(evaluate::Args),
    /// Write a completion script for a shell
    Completions(completions::Args),
}

impl Command {
    /// Whether standard output is for programs, so that errors are told there too.
    pub fn json(&self) -> bool {
        match self {
            Self::Generate(args) => args.json,
            Self::Inspect(args) => args.json,
            Self::Bench(args) => args.json(),
            Self::Evaluate(args) => args.json,
            Self::List(args) => args.json,
            Self::Tokenize(_)
            | Self::Convert(_)
            | Self::Synth(_)
            | Self::Pull(_)
            | Self::Rm(_)
            | Self::Completions(_) => false,
            Self::Serve(_) | Self::Keys(_) | Self::Worker(_) | Self::Media => false,
        }
    }
}

/// Which model, and where it runs: shared by the subcommands.
#[derive(clap::Args, Clone)]
pub struct MachineArgs {
    /// Folder of a model (see weights.md), or OWNER/NAME of one that was pulled; without it the model inside this program
    #[arg(long, value_name = "MODEL", env = "BOREALIS_MODEL", hide_env_values = true, help_heading = MACHINE)]
    pub model: Option<PathBuf>,
    /// Where to compute: auto (a GPU when there is one), cpu, cuda, cuda:N, metal, or reference (slow, the specification); with --ranks a list, one for each, or the first of as many GPUs
    #[arg(long = "device", value_name = "DEVICE", default_value = "auto", value_parser = device, value_delimiter = ',', help_heading = MACHINE)]
    pub devices: Vec<DeviceSpec>,
    /// How weights are kept: f32, bf16, int8 or int4 [default: as in the model's files]
    #[arg(long, value_name = "TYPE", value_parser = dtype, help_heading = MACHINE)]
    pub dtype: Option<QuantFormat>,
    /// How keys and values of past positions are kept: auto (f32 beside f32 weights, else bf16), f32, bf16 or int8
    #[arg(long, value_name = "TYPE", default_value = "auto", value_parser = kv_dtype, help_heading = MACHINE)]
    pub kv_dtype: KvChoice,
    /// Threads that compute [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256), help_heading = MACHINE)]
    pub threads: Option<u16>,
    /// Memory of the device for everything, such as 900M or 24GiB; experts that do not fit stay in the model's files and are copied when they are chosen
    #[arg(long, value_name = "SIZE", value_parser = budget, default_value = "auto", help_heading = MACHINE)]
    pub memory: MemoryBudget,
    /// Refuse requests that would take more memory beside the weights than this [default: a quarter of --memory, or what is free]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = MACHINE)]
    pub memory_limit: Option<u64>,
}

impl MachineArgs {
    /// The device, or that of rank 0.
    pub fn device(&self) -> &DeviceSpec {
        self.devices.first().unwrap_or(&DeviceSpec::Auto)
    }

    /// Says in one line when the CPU computes in the place of a GPU.
    pub fn tell_fallback(&self) {
        if let Some(why) = self.device().fallback() {
            eprintln!("note: {why}");
        }
    }

    /// The engine's configuration.
    pub fn engine(&self) -> EngineConfig {
        EngineConfig {
            device: self.device().clone(),
            dtype: self.dtype,
            kv_dtype: self.kv_dtype.0,
            threads: self.threads.map(usize::from),
            memory: self.memory.0,
            memory_limit: self.memory_limit,
            measurements: cache_folder(),
        }
    }
}

/// Where measurements of this machine are kept: a folder in the user's cache.
fn cache_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let usual = || set("HOME").map(|home| home.join(".cache"));
    set("XDG_CACHE_HOME").or_else(usual).map(|cache| cache.join("borealis"))
}

/// A device, by its name.
pub fn device(text: &str) -> Result<DeviceSpec, String> {
    text.parse().map_err(|_| "use auto, cpu, cuda, cuda:N, metal, reference or reference:metal".to_string())
}

fn dtype(text: &str) -> Result<QuantFormat, String> {
    text.parse().map_err(|_| "use f32, bf16, int8 or int4".to_string())
}

/// How keys and values are kept; none: the engine chooses.
#[derive(Debug, Clone, Copy)]
pub struct KvChoice(pub Option<KvFormat>);

/// `auto`, or the name of a format.
pub fn kv_dtype(text: &str) -> Result<KvChoice, String> {
    let named = |text: &str| text.parse().map_err(|_| "use auto, f32, bf16 or int8".to_string());
    Ok(KvChoice(if text == "auto" { None } else { Some(named(text)?) }))
}

/// Value of `--memory`: bytes, or what is free.
#[derive(Clone, Copy)]
pub struct MemoryBudget(pub Option<u64>);

impl std::fmt::Display for MemoryBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes}"),
            None => f.write_str("auto"),
        }
    }
}

fn budget(text: &str) -> Result<MemoryBudget, String> {
    if text == "auto" {
        return Ok(MemoryBudget(None));
    }
    let bytes = size(text).map_err(|_| "use auto, or a number with K, M or G, such as 900M or 24GiB")?;
    Ok(MemoryBudget(Some(bytes)))
}

/// Bytes from `1500`, `900M`, `1.5G` (powers of 1024).
fn size(text: &str) -> Result<u64, String> {
    let wrong = || "use a number with K, M or G, such as 900M or 4G".to_string();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let bytes = number * (1u64 << unit) as f64;
    if bytes.is_finite() && bytes >= 1.0 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// Prints help as clap lays it out, and a usage error as one line.
pub fn report(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Nothing is left to do when standard output is closed.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(2);
    }
    eprintln!("{}", usage_line(&error.render().to_string()));
    ExitCode::from(2)
}

/// Clap's message without its usage block: `error: WHAT: REMEDY`.
fn usage_line(text: &str) -> String {
    let mut line = String::new();
    for part in text.lines().map(str::trim) {
        let part = match part.strip_prefix("[possible values: ") {
            Some(values) => format!("use one of {}", values.trim_end_matches(']')),
            None => part.to_string(),
        };
        // The values are all named already.
        let said =
            ["Usage:", "For more information", "tip: a similar value"].iter().any(|start| part.starts_with(start));
        if part.is_empty() || said {
            continue;
        }
        if !line.is_empty() {
            line.push_str(if line.ends_with(':') { " " } else { ": " });
        }
        line.push_str(&part);
    }
    line.push_str("; see --help");
    line
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes() {
        assert_eq!(size("1500"), Ok(1500));
        assert_eq!(size("1.5G"), Ok(3 << 29));
        assert_eq!(size("900mib"), Ok(900 << 20));
        for wrong in ["", "G", "-1G", "1T", "nan", "inf", "0"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn usage_errors_are_one_line() {
        let text = Cli::try_parse_from(["borealis", "bench", "--threads", "0"]).err().map(|e| e.render().to_string());
        let line = usage_line(&text.unwrap_or_default());
        assert_eq!(line, "error: invalid value '0' for '--threads <N>': 0 is not in 1..=256; see --help");
    }
}
