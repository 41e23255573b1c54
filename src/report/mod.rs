//! What became of an upgrade: one report for each that was asked for.

pub(crate) mod builder;
pub(crate) mod cuts;
pub(crate) mod file;
#[cfg(test)]
pub(crate) mod golden;
pub(crate) mod journal;
pub(crate) mod metrics;
mod parts;
pub(crate) mod queued;
#[cfg(test)]
pub(crate) mod tests;
mod text;
pub(crate) mod totals;

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

pub use self::file::JournalFile;
pub use self::parts::{AskedBy, CauseKind, CutGroup, Drained, Purpose, Window};
use self::text::{Plain, Time};
pub use self::totals::Summary;
use crate::generation::Generation;
use crate::name::Name;

/// How an upgrade ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UpgradeOutcome {
    /// The successor owns.
    Committed,
    /// The successor had its turn, and the predecessor took everything back.
    RolledBack,
    /// The successor never had its turn: the predecessor did not stop serving for a moment.
    Failed,
}

impl UpgradeOutcome {
    /// The outcome as a report tells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::RolledBack => "rolled back",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for UpgradeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The steps of an upgrade, in their order. Each lasts until the next is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UpgradePhase {
    /// Someone asked for it.
    Requested,
    /// The successor's program is tried before it is started for real.
    Preflight,
    /// The successor's program is being started.
    Spawn,
    /// The two sides find out who the other is and what it speaks.
    Hello,
    /// Descriptors and state are on their way to the successor.
    Offer,
    /// The successor's application starts up: it claims, binds, loads and checks itself.
    Start,
    /// The successor asks for its turn.
    Ready,
    /// The predecessor stops accepting on what was claimed: the accept gap begins.
    Park,
    /// The turn is given.
    Yield,
    /// The successor says that it accepts: the accept gap has ended.
    Serving,
    /// The successor serves, and the predecessor watches it.
    Probation,
    /// The successor may commit.
    Permit,
    /// The verdict is 'committed'.
    Commit,
    /// The successor answers for the service.
    Owner,
}

impl UpgradePhase {
    /// The phase as logs (field `step`) and reports name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Preflight => "preflight",
            Self::Spawn => "spawn",
            Self::Hello => "hello",
            Self::Offer => "offer",
            Self::Start => "start",
            Self::Ready => "ready",
            Self::Park => "park",
            Self::Yield => "yield",
            Self::Serving => "serving",
            Self::Probation => "probation",
            Self::Permit => "permit",
            Self::Commit => "commit",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for UpgradePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What became of one upgrade.
///
/// Its [`Display`](fmt::Display) is a few lines for people; for machines it is serialisable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// What the upgrade is called in logs and commands.
    pub id: String,
    /// The generation that was asked to upgrade.
    pub from: Generation,
    /// The generation that it started.
    pub to: Generation,
    /// The application's version in the predecessor.
    pub version: String,
    /// The application's version in the successor, if it came far enough to say so.
    pub successor_version: Option<String>,
    /// The successor's process ID as the predecessor knows it; none if there was no process.
    pub successor_pid: Option<i32>,
    /// Who asked for it.
    #[serde(default)]
    pub asked_by: AskedBy,
    /// What it was for.
    #[serde(default)]
    pub purpose: Purpose,
    /// How the upgrade ended.
    pub outcome: UpgradeOutcome,
    /// The last phase that was entered.
    pub phase: UpgradePhase,
    /// Why it did not commit, with the successor's own words where it had any.
    pub cause: Option<String>,
    /// The same in one word.
    #[serde(default)]
    pub cause_kind: Option<CauseKind>,
    /// The phases in the order in which they were entered, and the time spent in each.
    pub phases: Vec<(UpgradePhase, Duration)>,
    /// When the upgrade was asked for, by the wall clock.
    pub started: SystemTime,
    /// The time from the request to the outcome.
    pub elapsed: Duration,
    /// The longest time in which nobody accepted on a listener that was handed over.
    pub longest_gap: Duration,
    /// What an operator should know although it did not stop the upgrade: options that differ from
    /// the inherited socket's, a roll back that could not have been enforced, an elder hurried.
    pub notes: Vec<String>,
    /// Sockets of the predecessor that the successor claimed.
    pub claimed: usize,
    /// Sockets of the predecessor that the successor did not want.
    pub unclaimed: usize,
    /// Sockets that the successor bound itself.
    pub bound: usize,
    /// Connections that the successor had accepted when it was taken back; it finishes them. As it
    /// said last, if it died. None if it never had its turn, or owns.
    #[serde(default)]
    pub accepted: Option<u64>,
    /// How requests ended between the wish for the upgrade and its outcome, in both generations; of
    /// the successor's as it said last, at most one ping (an eighth of
    /// [`Config::silence_deadline`](crate::Config::silence_deadline)) before. None if none was
    /// counted.
    #[serde(default)]
    pub window: Option<Window>,
    /// How requests ended in the predecessor in a span of time as long, right before the wish; of
    /// a younger predecessor, in all its life. Between two moments at which it looked at its counts
    /// (somebody asked for figures, an upgrade began or ended, or a request failed, at most once a
    /// second) requests are taken to have come evenly.
    #[serde(default)]
    pub before: Option<Window>,
    /// How long it took to have the older release back. After a roll back: from the moment when
    /// the cause was known until the predecessor accepted again. Of an upgrade that went
    /// [back](Purpose::RollBack): from the wish until the older release served.
    #[serde(default)]
    pub back_after: Option<Duration>,
    /// What became of the predecessor's connections after the commit; none as long as it drains,
    /// or if it ended without a word.
    #[serde(default)]
    pub drain: Option<Drained>,
}

impl Report {
    /// What the upgrade of this service to this generation is called.
    pub(crate) fn id_of(service: &Name, to: Generation) -> String {
        format!("{service}-{to}")
    }

    /// Whether clients may have noticed the upgrade, as far as is known now: connections were cut
    /// at the end of the drain, or more requests failed than in an equal time before.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        let failed = |window: Option<Window>| window.map_or(0, |window| window.failed);
        self.drain.as_ref().is_some_and(|drain| drain.cut > 0)
            || failed(self.window) > failed(self.before)
    }
}
