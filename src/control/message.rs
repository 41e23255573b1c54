//! What a client asks, and what it is told.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::view::Overview;
use crate::drain::{DrainReport, Progress};
use crate::error::{Error, ErrorKind};
use crate::generation::Generation;
use crate::report::{Report, Summary, UpgradePhase};
use crate::status::Event;
use crate::wire::Identity;
use crate::wire::text::fit;

/// The longest text of an error, in bytes of UTF-8.
const MAX_TEXT: usize = 16 * 1024;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// What is there.
    Status,
    /// The next generation is to be started.
    Upgrade {
        /// Instead of the program that the service would start.
        executable: Option<PathBuf>,
        /// Whether to be told 'busy' while another one runs, instead of 'queued'.
        unless_busy: bool,
        /// Whether to be told how it goes and ends, or only that it began.
        wait: bool,
    },
    /// How the first upgrade ends that a generation after this one runs.
    Follow {
        /// The generation.
        after: Generation,
    },
    /// The successor in probation has proven itself.
    Commit,
    /// The previous release is to run again, as the next generation.
    RollBack {
        /// Only if this is the newest generation.
        of: Option<Generation>,
    },
    /// The upgrade that runs is not wanted.
    Abort {
        /// Why, for the report.
        reason: String,
    },
    /// Not ready, paused, and connections are asked to go; the process stays.
    Drain,
    /// New connections wait in the backlog.
    Pause,
    /// Accepting and ready again.
    Resume,
    /// Drain and end.
    Stop {
        /// Whether what is left is cut at once.
        force: bool,
    },
    /// What happens from now on.
    Watch,
    /// The reports of the last upgrades.
    History,
    /// Figures in the OpenMetrics format.
    Metrics,
    /// Whether the service is ready.
    Check,
    /// A process that somebody else has started would be the next generation: this connection
    /// becomes its link.
    TakeOver {
        /// The service that it means.
        service: String,
        /// What it runs, if it knows.
        program: Option<Identity>,
    },
    /// A command of a later version.
    Unknown,
}

impl Command {
    /// Its name, in a request and in logs.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Upgrade { .. } => "upgrade",
            Self::Follow { .. } => "follow",
            Self::Commit => "commit",
            Self::RollBack { .. } => "roll-back",
            Self::Abort { .. } => "abort",
            Self::Drain => "drain",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Stop { .. } => "stop",
            Self::Watch => "watch",
            Self::History => "history",
            Self::Metrics => "metrics",
            Self::Check => "check",
            Self::TakeOver { .. } => "take-over",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it is never answered: its client stays until it has had enough.
    pub(super) fn stays(&self) -> bool {
        matches!(self, Self::Watch)
    }

    /// Whether it changes anything, so that the log names who gave it.
    pub(super) fn changes(&self) -> bool {
        match self {
            Self::Status
            | Self::Follow { .. }
            | Self::Watch
            | Self::History
            | Self::Metrics
            | Self::Check
            | Self::Unknown => false,
            Self::Upgrade { .. }
            | Self::Commit
            | Self::RollBack { .. }
            | Self::Abort { .. }
            | Self::Drain
            | Self::Pause
            | Self::Resume
            | Self::Stop { .. }
            | Self::TakeOver { .. } => true,
        }
    }
}

/// What is told before the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "news", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum News {
    /// An upgrade has begun; the number is the successor's.
    Started {
        /// The generation that runs the upgrade.
        from: Generation,
        /// The generation that it starts.
        to: Generation,
    },
    /// Another upgrade runs; this one begins when it has ended.
    Queued {
        /// The generation that owns now.
        owner: Generation,
    },
    /// The upgrade has come to another phase.
    Phase {
        /// Which one.
        phase: UpgradePhase,
        /// How long probation lasts, by configuration.
        probation: std::time::Duration,
    },
    /// The successor's application starts, and this is what it still waits for.
    NotYet {
        /// In its own words.
        reason: String,
    },
    /// A drain goes on.
    Draining {
        /// What is still held.
        progress: Progress,
    },
    /// Something happened.
    Event {
        /// What.
        event: Box<Event>,
    },
    /// The service as it stands now.
    Overview {
        /// All of it.
        overview: Box<Overview>,
    },
    /// An upgrade that has ended.
    Report {
        /// How.
        report: Box<Report>,
    },
    /// What all upgrades of the service's life were like.
    Summary {
        /// The answers.
        summary: Box<Summary>,
    },
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

/// What became of a wish for an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Started {
    /// It runs.
    Begun,
    /// It runs as soon as the one that runs now has ended.
    Queued,
}

/// The last word about a command that was obeyed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub(crate) enum Answer {
    Done,
    Overview {
        overview: Box<Overview>,
    },
    Upgrade {
        started: Started,
    },
    Report {
        report: Box<Report>,
    },
    Drained {
        report: Box<DrainReport>,
    },
    Text {
        text: String,
    },
    /// What follows on this connection is a handoff.
    Turn,
}

/// The last frame of every exchange.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Last<A = Answer> {
    Ok(A),
    Error { kind: String, text: String },
}

impl From<Result<Answer, Error>> for Last {
    fn from(result: Result<Answer, Error>) -> Self {
        match result {
            Ok(answer) => Self::Ok(answer),
            Err(error) => {
                let kind = word(error.kind()).to_owned();
                Self::Error { kind, text: fit(&error.chain(), MAX_TEXT) }
            }
        }
    }
}

impl<A> From<Last<A>> for Result<A, Error> {
    fn from(last: Last<A>) -> Self {
        match last {
            Last::Ok(answer) => Ok(answer),
            Last::Error { kind, text } => Err(Error::new(kind_of(&kind), fit(&text, MAX_TEXT))),
        }
    }
}

/// Kinds of errors as they travel.
const KINDS: [ErrorKind; 23] = [
    ErrorKind::Config,
    ErrorKind::Birth,
    ErrorKind::Descriptor,
    ErrorKind::Bind,
    ErrorKind::Spawn,
    ErrorKind::Preflight,
    ErrorKind::Protocol,
    ErrorKind::Credentials,
    ErrorKind::Link,
    ErrorKind::Timeout,
    ErrorKind::Successor,
    ErrorKind::Predecessor,
    ErrorKind::RolledBack,
    ErrorKind::HeldOff,
    ErrorKind::Busy,
    ErrorKind::Crowded,
    ErrorKind::NotNow,
    ErrorKind::NotReady,
    ErrorKind::StateRefused,
    ErrorKind::PassedOn,
    ErrorKind::Stopping,
    ErrorKind::NobodyThere,
    ErrorKind::Io,
];

fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Config => "config",
        ErrorKind::Birth => "birth",
        ErrorKind::Descriptor => "descriptor",
        ErrorKind::Bind => "bind",
        ErrorKind::Spawn => "spawn",
        ErrorKind::Preflight => "preflight",
        ErrorKind::Protocol => "protocol",
        ErrorKind::Credentials => "credentials",
        ErrorKind::Link => "link",
        ErrorKind::Timeout => "timeout",
        ErrorKind::Successor => "successor",
        ErrorKind::Predecessor => "predecessor",
        ErrorKind::RolledBack => "rolled-back",
        ErrorKind::HeldOff => "held-off",
        ErrorKind::Busy => "busy",
        ErrorKind::Crowded => "crowded",
        ErrorKind::NotNow => "not-now",
        ErrorKind::NotReady => "not-ready",
        ErrorKind::StateRefused => "state-refused",
        ErrorKind::PassedOn => "passed-on",
        ErrorKind::Stopping => "stopping",
        ErrorKind::NobodyThere => "nobody-there",
        ErrorKind::Io => "io",
    }
}

/// A kind of a later version is taken for an input or output error.
fn kind_of(text: &str) -> ErrorKind {
    KINDS.into_iter().find(|kind| word(*kind) == text).unwrap_or(ErrorKind::Io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_travels() {
        for kind in KINDS {
            assert_eq!(kind_of(word(kind)), kind);
        }
        assert_eq!(kind_of("of-tomorrow"), ErrorKind::Io);
    }
}
