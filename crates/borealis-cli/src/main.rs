//! The `borealis` command: words to pictures and clips on this machine.
//!
//! One file per subcommand in `commands/`. A command returns a [`error::CliError`] at most; `main` turns it into one line on
//! standard error, an event when the caller asked for `--json`, and an exit code.

mod analyse;
mod args;
mod commands;
mod error;
mod evaluation;
mod events;
mod ids;
mod interrupt;
mod limits;
mod model;
mod output;
mod progress;
mod ranks;
mod tell;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use error::{CliError, Result};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return args::report(&error),
    };
    let json = cli.command.json();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, CliError::ClosedPipe) {
                if json {
                    events::failed(&error);
                }
                eprintln!("error: {error}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command) -> Result<()> {
    interrupt::install()?;
    match command {
        Command::Generate(args) => commands::generate::run(*args),
        Command::Tokenize(args) => commands::tokenize::run(args),
        Command::Inspect(args) => commands::inspect::run(args),
        Command::Convert(args) => commands::convert::run(args),
        Command::Synth(args) => commands::synth::run(args),
        Command::Pull(args) => commands::hub::pull(args),
        Command::List(args) => commands::hub::list(args),
        Command::Rm(args) => commands::hub::remove(args),
        Command::Serve(args) => commands::serve::run(*args),
        Command::Keys(args) => commands::keys::run(args),
        Command::Worker(args) => commands::serve::run_worker(*args),
        Command::Media => commands::serve::run_media(),
        Command::Bench(args) => commands::bench::run(args),
        Command::Evaluate(args) => commands::evaluate::run(args),
        Command::Completions(args) => commands::completions::run(args),
    }
}
