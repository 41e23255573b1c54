//! Why connections are cut.

use std::fmt;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Why a drain has cut a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CutCause {
    /// It was still there at the drain's deadline
    /// ([`Config::drain_deadline`](crate::Config::drain_deadline)).
    Deadline,
    /// More generations drained than may at once, and its own was the oldest
    /// ([`Config::max_draining`](crate::Config::max_draining)).
    Room,
    /// A stop was forced, by a second signal or an operator (`heirloom stop --force`).
    Forced,
    /// It was on its way to a newer generation, which did not say in time whether it took it
    /// ([`Config::session_deadline`](crate::Config::session_deadline)).
    Lost,
    /// A later version has more.
    #[serde(other)]
    Other,
}

impl CutCause {
    /// The word, as metrics have it in the label `cause`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Room => "room",
            Self::Forced => "forced",
            Self::Lost => "lost",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for CutCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Deadline => "at the deadline",
            Self::Room => "as too many generations drained",
            Self::Forced => "by a forced stop",
            Self::Lost => "on the way to a newer generation",
            Self::Other => "for another cause",
        })
    }
}

/// How many connections a drain has cut, by cause. The sum is less than all that were cut if an
/// earlier version has counted them, which knew no causes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CutCounts {
    /// [`CutCause::Deadline`].
    pub deadline: u64,
    /// [`CutCause::Room`].
    pub room: u64,
    /// [`CutCause::Forced`].
    pub forced: u64,
    /// [`CutCause::Lost`].
    pub lost: u64,
}

impl CutCounts {
    /// Each cause and how many.
    #[must_use]
    pub const fn all(&self) -> [(CutCause, u64); 4] {
        [
            (CutCause::Deadline, self.deadline),
            (CutCause::Room, self.room),
            (CutCause::Forced, self.forced),
            (CutCause::Lost, self.lost),
        ]
    }

    /// Whether none was cut, as far as causes are known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn of(cause: CutCause, count: u64) -> Self {
        let mut counts = Self::default();
        match cause {
            CutCause::Deadline => counts.deadline = count,
            CutCause::Room => counts.room = count,
            CutCause::Forced => counts.forced = count,
            CutCause::Lost => counts.lost = count,
            CutCause::Other => {}
        }
        counts
    }

    /// These and those: `with` is told both counts of each cause.
    pub(crate) fn join(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            deadline: with(self.deadline, other.deadline),
            room: with(self.room, other.room),
            forced: with(self.forced, other.forced),
            lost: with(self.lost, other.lost),
        }
    }
}

impl fmt::Display for CutCounts {
    /// `2 at the deadline, 1 on the way to a newer generation`; `none` if there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut some = self.all().into_iter().filter(|(_, count)| *count > 0);
        let Some((cause, count)) = some.next() else { return f.write_str("none") };
        write!(f, "{count} {cause}")?;
        some.try_for_each(|(cause, count)| write!(f, ", {count} {cause}"))
    }
}

/// Resolves when a stop is forced.
pub(crate) async fn forced(hurry: &Notify) -> CutCause {
    hurry.notified().await;
    CutCause::Forced
}
