//! What became of an upgrade: one report for each that was asked for.

pub(crate) mod builder;
pub(crate) mod journal;
pub(crate) mod metrics;
#[cfg(test)]
mod tests;
pub(crate) mod totals;

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::generation::Generation;

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
    /// How the upgrade ended.
    pub outcome: UpgradeOutcome,
    /// The last phase that was entered.
    pub phase: UpgradePhase,
    /// Why it did not commit, with the successor's own words where it had any.
    pub cause: Option<String>,
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
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upgrade {} from generation {} ({})", self.id, self.from, Plain(&self.version))?;
        write!(f, " to {}", self.to)?;
        let version = self.successor_version.as_deref().unwrap_or("version unknown");
        match self.successor_pid {
            Some(pid) => write!(f, " ({}, pid {pid})", Plain(version))?,
            None => write!(f, " ({}, not started)", Plain(version))?,
        }
        write!(f, ": {}", self.outcome)?;
        if self.outcome != UpgradeOutcome::Committed {
            write!(f, " in phase {}", self.phase)?;
        }
        write!(f, " after {}", Time(self.elapsed))?;
        if let Some(cause) = &self.cause {
            write!(f, "\n  cause: {}", Plain(cause))?;
        }
        f.write_str("\n  times:")?;
        for (index, (phase, time)) in self.phases.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma} {phase} {}", Time(*time))?;
        }
        write!(f, "\n  longest accept gap: {}", Time(self.longest_gap))?;
        write!(
            f,
            "\n  sockets: {} claimed, {} unclaimed, {} bound",
            self.claimed, self.unclaimed, self.bound
        )?;
        if let Some(accepted) = self.accepted {
            write!(f, "\n  accepted by the successor: {accepted} connections")?;
        }
        self.notes.iter().try_for_each(|note| write!(f, "\n  note: {}", Plain(note)))
    }
}

/// Text from elsewhere on one line, without anything that a terminal would obey.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            if char.is_control() {
                write!(f, "{}", char.escape_default())?;
            } else {
                fmt::Write::write_char(f, char)?;
            }
        }
        Ok(())
    }
}

/// A time with as many digits as a reader wants: `413 µs`, `58 ms`, `12.3 s`.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_micros() {
            micros @ 0..1_000 => write!(f, "{micros} µs"),
            1_000..10_000_000 => write!(f, "{} ms", self.0.as_millis()),
            _ => write!(f, "{:.1} s", self.0.as_secs_f64()),
        }
    }
}
