//! Ctrl-C: ends the process at once while nothing is on the disk, and winds the work down once something is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{CliError, Result};

/// Set by Ctrl-C (or SIGTERM, SIGHUP).
static ASKED: AtomicBool = AtomicBool::new(false);
/// Stops what runs; without it the process just ends.
static STOP: Mutex<Option<Box<dyn Fn() + Send>>> = Mutex::new(None);

/// Installs the handler; called once, at the start of `main`.
pub fn install() -> Result<()> {
    let handler = || {
        ASKED.store(true, Ordering::SeqCst);
        match &*stop() {
            Some(stop) => stop(),
            None => {
                eprintln!("error: {}", CliError::Interrupted);
                std::process::exit(i32::from(CliError::Interrupted.exit_code()));
            }
        }
    };
    ctrlc::set_handler(handler).map_err(CliError::failed)
}

/// From now on Ctrl-C calls `end`, after which the caller cleans up, until the guard goes. A caller that looks at [`check`] needs nothing else.
pub fn watch(end: impl Fn() + Send + 'static) -> Watch {
    *stop() = Some(Box::new(end));
    Watch(())
}

/// See [`watch`].
#[must_use]
pub struct Watch(());

impl Drop for Watch {
    fn drop(&mut self) {
        *stop() = None;
    }
}

/// [`CliError::Interrupted`] once the user has asked to stop.
pub fn check() -> Result<()> {
    if ASKED.load(Ordering::SeqCst) { Err(CliError::Interrupted) } else { Ok(()) }
}

/// A panic elsewhere leaves a valid value behind.
fn stop() -> MutexGuard<'static, Option<Box<dyn Fn() + Send>>> {
    STOP.lock().unwrap_or_else(PoisonError::into_inner)
}
