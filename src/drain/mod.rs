//! Guards, phases and the end of a drain.
//!
//! Every connection holds a [`Guard`]. A drain is over when no guard is left, or when its deadline
//! says so. [`guard`] is what a connection's owner may do with it, [`source`] where guards come
//! from. Each stands for an [`entry`], whose [`state`] says which phase it is in; entries come from
//! the [`stock`] of their thread and go back there. [`count`] says how many there are and when there
//! are none, [`registry`] is all of them over one [`hub`], and [`run`] walks through the phases and
//! writes the report, in which each that was cut has its [`cause`].

mod cause;
mod count;
mod entry;
mod guard;
mod hub;
mod names;
mod registry;
mod run;
mod source;
mod state;
mod stock;
#[cfg(test)]
mod tests;

/// The atomic types of what [`tests`] try in every order with those of loom in their place.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
}

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use cause::forced;
pub use cause::{CutCause, CutCounts};
pub use guard::Guard;
pub(crate) use run::DrainSettings;
pub use run::{DrainOutcome, DrainReport};
pub use source::Guards;

use crate::name::Name;

/// The registry of all connections of one generation; clones are the same registry.
#[derive(Clone)]
pub(crate) struct Drain {
    registry: Arc<registry::Registry>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// A client's: a drain waits for it.
    Service = 0,
    /// A client's that an older generation has accepted. Only the count of accepted connections
    /// leaves it out.
    Moved = 1,
    /// A health check by the generation that watches this one.
    HealthCheck = 2,
}

impl Purpose {
    /// The purpose with this number.
    const fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Service,
            1 => Self::Moved,
            _ => Self::HealthCheck,
        }
    }
}

/// How urgently a connection is asked to end.
///
/// The phases are ordered, and one connection only ever moves forward through them.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DrainPhase {
    /// Nothing is asked.
    #[default]
    Serving,
    /// Answer what comes, and tell the peer to come back elsewhere (`Connection: close`, a
    /// GOAWAY), but close nothing that is idle: its next request may be on the way
    /// (RFC 9112, section 9.5).
    LameDuck,
    /// Finish what is in flight, then close.
    Graceful,
    /// The deadline has passed: close now, whatever is in flight.
    Force,
}

impl DrainPhase {
    /// The phase as the number that an entry stores.
    const fn rank(self) -> u8 {
        match self {
            Self::Serving => 0,
            Self::LameDuck => 1,
            Self::Graceful => 2,
            Self::Force => 3,
        }
    }

    /// The phase that [`rank`](Self::rank) gave this number.
    const fn from_rank(rank: u8) -> Self {
        match rank {
            0 => Self::Serving,
            1 => Self::LameDuck,
            2 => Self::Graceful,
            _ => Self::Force,
        }
    }
}

impl fmt::Display for DrainPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Serving => "serving",
            Self::LameDuck => "lame duck",
            Self::Graceful => "graceful",
            Self::Force => "force",
        })
    }
}

/// What is still held, at one moment.
///
/// The counts are taken thread by thread, so under load they are those of slightly different
/// moments; the zero that ends a drain is exact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// The phase that a connection accepted now starts in.
    pub phase: DrainPhase,
    /// Connections that hold a guard.
    pub active: usize,
    /// All guards ever taken, ended ones included. Clones count once.
    pub accepted: u64,
    /// The same as `active`, for each listener that has at least one, by name.
    pub by_listener: Vec<(Name, usize)>,
    /// The connection that has been there longest.
    pub oldest: Option<Held>,
}

/// One connection that is still there, as its guard knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Held {
    /// The listener that accepted it.
    pub listener: Name,
    /// What the application calls it ([`Guard::set_name`]).
    pub name: Option<String>,
    /// Why it is still there, in the application's words ([`Guard::set_reason`]).
    pub reason: Option<String>,
    /// The peer's address.
    pub peer: Option<String>,
    /// The time since it was accepted.
    pub age: Duration,
    /// Why it was cut, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<CutCause>,
}

impl fmt::Display for Held {
    /// `http "upload" from 192.0.2.1:5000, 12 s: waits for the disk; cut at the deadline`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.listener)?;
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        if let Some(peer) = &self.peer {
            write!(f, " from {peer}")?;
        }
        write!(f, ", {} s", self.age.as_secs())?;
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        match &self.cut {
            Some(cause) => write!(f, "; cut {cause}"),
            None => Ok(()),
        }
    }
}
