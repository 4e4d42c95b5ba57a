//! `borealis keys`: who may use the server.

use std::io::Write;
use std::path::PathBuf;

use borealis_server::KeyRing;
use clap::Subcommand;

use super::serve::{data, runtime};
use crate::error::{CliError, Result};

/// Ticks in a dollar.
const TICKS: f64 = 1e10;

pub const EXAMPLES: &str = "\
Examples:
  borealis keys create --account ann --name laptop
  borealis keys create --account ann --credits 10     (dollars; for a server with prices)
  borealis keys list
  borealis keys revoke key_01K...

Keys of one account share its jobs, files and credits. A running server notices at once.";

/// Arguments of `borealis keys`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Folder of the server [default: borealis in the user's data folder]
    #[arg(long, global = true, value_name = "DIR", env = "BOREALIS_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key; it is shown this once
    Create {
        /// Whose it is; the account is made when it is new
        #[arg(long, default_value = "default")]
        account: String,
        /// What it is called in lists
        #[arg(long, default_value = "key")]
        name: String,
        /// Dollars that the account may spend from now on [default: as before; without limit at first]
        #[arg(long, value_name = "USD", value_parser = dollars)]
        credits: Option<f64>,
    },
    /// List all keys
    List,
    /// Make a key useless
    Revoke {
        /// Its id, or its name (all keys of that name)
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Print the secret with which webhooks of an account are signed
    WebhookSecret {
        /// The account
        #[arg(long, default_value = "default")]
        account: String,
    },
}

fn dollars(text: &str) -> std::result::Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| (0.0..=1e8).contains(value));
    value.ok_or_else(|| "use dollars, 0 to 100000000".into())
}

/// Does what was asked.
pub fn run(args: Args) -> Result<()> {
    let folder = data(args.data)?;
    runtime()?.block_on(async {
        let ring = KeyRing::open(&folder).await.map_err(CliError::failed)?;
        let mut out = std::io::stdout().lock();
        match args.command {
            Command::Create { account, name, credits } => {
                let credits = credits.map(|usd| (usd * TICKS).round() as i64);
                let key = ring.create(&account, &name, credits).await.map_err(CliError::failed)?;
                writeln!(out, "{}", key.key)?;
                eprintln!("{} of account {}; the key is shown this once", key.id, key.account);
            }
            Command::List => {
                for key in ring.list().await.map_err(CliError::failed)? {
                    let state = if key.revoked { "revoked" } else { "valid" };
                    writeln!(out, "{}  {:<8} {:<16} {:<16} {}", key.id, state, key.account, key.name, key.redacted)?;
                }
            }
            Command::Revoke { key } => {
                if ring.revoke(&key).await.map_err(CliError::failed)? == 0 {
                    let what = format!("there is no valid key \"{key}\": see borealis keys list");
                    return Err(CliError::Failed(what));
                }
                eprintln!("revoked");
            }
            Command::WebhookSecret { account } => {
                writeln!(out, "{}", ring.webhook_secret(&account).await.map_err(CliError::failed)?)?;
            }
        }
        Ok(())
    })
}
