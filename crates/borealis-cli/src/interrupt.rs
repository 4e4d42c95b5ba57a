//! Ctrl-C: ends the process at once while nothing is on the disk, and winds a generation down once something is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use borealis_engine::Canceller;

use crate::error::{CliError, Result};

/// Set by the first Ctrl-C (or SIGTERM, SIGHUP).
static ASKED: AtomicBool = AtomicBool::new(false);
/// The request that is to be cancelled; without one the process just ends.
static RUNNING: Mutex<Option<Canceller>> = Mutex::new(None);

/// Installs the handler; called once, at the start of `main`.
pub fn install() -> Result<()> {
    let handler = || {
        ASKED.store(true, Ordering::SeqCst);
        match &*running() {
            Some(request) => request.cancel(),
            None => {
                eprintln!("error: {}", CliError::Interrupted);
                std::process::exit(i32::from(CliError::Interrupted.exit_code()));
            }
        }
    };
    ctrlc::set_handler(handler).map_err(CliError::failed)
}

/// From now on Ctrl-C cancels `request`, whose owner cleans up, until the guard goes.
pub fn watch(request: Canceller) -> Watch {
    *running() = Some(request);
    Watch(())
}

/// See [`watch`].
#[must_use]
pub struct Watch(());

impl Drop for Watch {
    fn drop(&mut self) {
        *running() = None;
    }
}

/// [`CliError::Interrupted`] once the user has asked to stop.
pub fn check() -> Result<()> {
    if ASKED.load(Ordering::SeqCst) { Err(CliError::Interrupted) } else { Ok(()) }
}

/// A panic elsewhere leaves a valid value behind.
fn running() -> MutexGuard<'static, Option<Canceller>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
