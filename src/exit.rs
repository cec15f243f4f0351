//! How a command ends.

use std::fmt;
use std::process::ExitCode;

use drachma_client::ClientError;

use crate::local::LocalError;
use crate::settings::SettingsError;

/// The exit statuses of every command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: rejected, or a check failed.
    Failed,
    /// 2: wrong usage or configuration.
    Usage,
    /// 3: unavailable, unknown, or the level was not met.
    Unavailable,
    /// 4: a simulated cluster did not come to rest.
    Stuck,
    /// 5: a role of a simulated cluster broke an assertion of its own.
    Crashed,
    /// 130: interrupted.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub const fn status(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unavailable => 3,
            Exit::Stuck => 4,
            Exit::Crashed => 5,
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.status())
    }
}

/// A command that could not do what it was asked: the exit status, and what standard error says.
#[derive(Debug)]
pub struct Failure {
    /// How the command ends.
    pub exit: Exit,
    /// What happened and what to do; nothing if it was said already.
    pub message: String,
}

impl Failure {
    /// Wrong usage or configuration: exit status 2.
    pub fn usage(message: impl fmt::Display) -> Failure {
        Failure { exit: Exit::Usage, message: message.to_string() }
    }

    /// Rejected, or a check failed: exit status 1.
    pub fn failed(message: impl fmt::Display) -> Failure {
        Failure { exit: Exit::Failed, message: message.to_string() }
    }

    /// Unavailable or unknown: exit status 3.
    pub fn unavailable(message: impl fmt::Display) -> Failure {
        Failure { exit: Exit::Unavailable, message: message.to_string() }
    }

    /// Says it on standard error, and gives the exit status.
    pub fn report(&self) -> Exit {
        if !self.message.is_empty() {
            eprintln!("error: {}", self.message);
        }
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Standard output, or a file, failed: exit status 2.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::usage(error)
    }
}

/// The text has the place: exit status 2.
impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Failure {
        Failure::usage(error)
    }
}

/// No cluster, or nodes that do not start: exit status 2 for what the user can put right, 3 for what he must wait for.
impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Failure {
        match error {
            LocalError::State(_) => Failure::unavailable(error),
            _ => Failure::usage(error),
        }
    }
}

/// No node answered: exit status 3.
impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::unavailable(error)
    }
}

/// What a command yields.
pub type Outcome = Result<Exit, Failure>;
