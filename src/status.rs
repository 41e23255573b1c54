//! What a generation says about itself.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::drain::{CutCounts, DrainReport};
use crate::generation::Generation;
use crate::name::Name;
use crate::report::{Report, UpgradePhase};

/// What a generation is for the service at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// The application starts; another generation may be serving.
    Starting,
    /// A successor that serves, or is about to, and does not own yet.
    Successor,
    /// It owns the service.
    Owner,
    /// A newer generation owns; this one finishes what it accepted.
    Elder,
    /// It was rejected, or gave up, and finishes what it accepted.
    Leaving,
    /// The service stops; it finishes what it accepted.
    Stopping,
    /// Nothing is left to do.
    Ended,
}

/// A release that can be rolled back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Previous {
    /// The generation that ran it.
    pub generation: Generation,
    /// The application's version.
    pub version: String,
    /// The path by which it was started; its file may have been replaced or deleted since.
    pub path: PathBuf,
}

/// One generation as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// The service's name.
    pub service: Name,
    /// The application's version.
    pub version: String,
    /// The generation's number.
    pub generation: Generation,
    /// Its process.
    pub pid: u32,
    /// What it is for the service.
    pub role: Role,
    /// Whether an upgrade runs.
    pub upgrading: bool,
    /// How far that upgrade is.
    #[serde(default)]
    pub phase: Option<UpgradePhase>,
    /// What an application that starts still waits for: this one, or the successor's.
    #[serde(default)]
    pub not_yet: Option<String>,
    /// Why the health checks of a successor in probation are not content with it, or not yet.
    #[serde(default)]
    pub ailing: Option<String>,
    /// Whether an upgrade was asked for meanwhile and waits for whoever owns afterwards.
    pub queued: bool,
    /// What ran before this generation's program, to roll back to.
    #[serde(default)]
    pub previous: Option<Previous>,
    /// Older generations that still drain, oldest first. Empty also means that no older code runs.
    pub elders: Vec<Generation>,
}

impl Status {
    pub(crate) fn new(service: &Name, version: &str, generation: Generation) -> Self {
        Self {
            service: service.clone(),
            version: version.to_owned(),
            generation,
            pid: std::process::id(),
            role: Role::Starting,
            upgrading: false,
            phase: None,
            not_yet: None,
            ailing: None,
            previous: None,
            queued: false,
            elders: Vec::new(),
        }
    }
}

/// What happened to a generation, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(
    clippy::large_enum_variant,
    reason = "there are few, and a box would be in the reader's way"
)]
#[non_exhaustive]
pub enum Event {
    /// This generation owns from now on. It may happen again after a hand-over, if every newer
    /// generation died while this one still drained.
    Owns,
    /// An upgrade began; the number is the successor's.
    UpgradeStarted(Generation),
    /// The upgrade that runs has come to this phase.
    UpgradePhase(UpgradePhase),
    /// An upgrade ended, one way or the other.
    UpgradeEnded(Report),
    /// An upgrade was asked for while another one runs, and is remembered.
    UpgradeQueued,
    /// A successor that was taken back is gone.
    SuccessorLeft {
        /// Which one.
        generation: Generation,
        /// Connections that it had accepted and finished. None if it ended without a word.
        accepted: Option<u64>,
    },
    /// An older generation has drained and said so.
    ElderDrained {
        /// Which one.
        generation: Generation,
        /// Connections that finished.
        drained: u64,
        /// Connections that this generation, or one before it, has taken over.
        #[serde(default)]
        moved: u64,
        /// Connections that were cut.
        cut: u64,
        /// The same by cause, if it has said so.
        #[serde(default, skip_serializing_if = "CutCounts::is_empty")]
        cuts: CutCounts,
    },
    /// The process of an older generation has ended.
    ElderEnded(Generation),
    /// An older generation was told to cut what it still serves: too many drain at once.
    ElderHurried(Generation),
    /// No older code runs any more.
    AloneAtLast,
    /// Nothing is left to do; [`Running::finished`](crate::Running::finished) returns.
    Ended(Outcome),
}

/// How a generation ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// A newer generation owns, and what this one had accepted is finished or cut.
    HandedOver(DrainReport),
    /// It was asked to stop, and what it had accepted is finished or cut.
    Stopped(DrainReport),
    /// It was a successor that never came to own: the predecessor serves.
    RolledBack {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// 0 for an orderly end, 1 for a successor that never came to own.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::HandedOver(_) | Self::Stopped(_) => 0,
            Self::RolledBack { .. } => 1,
        }
    }
}

impl From<Outcome> for std::process::ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.exit_code())
    }
}
