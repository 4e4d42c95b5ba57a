//! What can end a command early, and the exit code of each way.

use std::error::Error;
use std::fmt;
use std::io;

use borealis_engine::{EngineError, ErrorKind};
use borealis_hub::chain;

/// Result of a command.
pub type Result<T> = std::result::Result<T, CliError>;

/// Why a command ended early.
#[derive(Debug)]
pub enum CliError {
    /// The arguments make no sense; exit code 2.
    Usage(String),
    /// Something could not be done; exit code 1.
    Failed(String),
    /// Ctrl-C or a request to terminate; exit code 130.
    Interrupted,
    /// The reader of standard output went away (`borealis inspect | head`); not an error, exit code 0.
    ClosedPipe,
}

impl CliError {
    /// A usage error.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// A failure with the words of `error` and of everything that caused it.
    pub fn failed(error: impl Error) -> Self {
        Self::Failed(chain(&error))
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Interrupted => 130,
        }
    }
}

/// One line, whatever the cause wrote.
impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Failed(text) => f.write_str(&one_line(text)),
            Self::Interrupted => f.write_str("interrupted: no file was written"),
            Self::ClosedPipe => Ok(()),
        }
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        match (&error, error.kind()) {
            // A file that cannot be used is no fault of the command line.
            (EngineError::Input { .. }, _) => Self::failed(error),
            (_, ErrorKind::InvalidArgument | ErrorKind::Unsupported) => Self::Usage(chain(&error)),
            (_, ErrorKind::Cancelled) => Self::Interrupted,
            _ => Self::failed(error),
        }
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::ClosedPipe } else { Self::failed(error) }
    }
}

/// Joins the lines of a message and drops control characters, which file names of strangers may hold.
fn one_line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line() {
        let error = CliError::Failed("cannot read\n  \"a\u{1b}[31m.png\"".into());
        assert_eq!(error.to_string(), "cannot read \"a [31m.png\"");
    }

    #[test]
    fn every_way_has_its_exit_code() {
        assert_eq!(CliError::usage("x").exit_code(), 2);
        assert_eq!(CliError::Failed(String::new()).exit_code(), 1);
        assert_eq!(CliError::Interrupted.exit_code(), 130);
        let closed: CliError = io::Error::from(io::ErrorKind::BrokenPipe).into();
        assert_eq!(closed.exit_code(), 0);
    }
}
