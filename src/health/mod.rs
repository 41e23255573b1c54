//! Health checks of the generation that serves, through the front door.
//!
//! While a successor is on probation its predecessor has parked, so whoever connects is answered
//! by the successor: what a check sees is what clients get. A check wants an answer; a bare connect
//! proves nothing, since the kernel completes it.
//!
//! Each connection is announced ([`herald`]): the checker binds its socket first, tells the
//! generation under check the address, and connects when that is known there. So the accepting side
//! keeps it out of its counters and says that it was this generation that took it, and by which
//! socket of a group. A round of a check goes on until every socket has been met ([`round`]).
//!
//! No answer may mean sick or saturated. The predecessor checks itself while the successor starts
//! ([`baseline`]), and [`saturation`] weighs both. [`vitals`] counts passes and failures in a row,
//! as Kubernetes and Nomad do, and [`watch`] runs it all.
//!
//! | word | meaning |
//! | --- | --- |
//! | interval | from the beginning of one round to that of the next |
//! | timeout | for one connection, from the announcement to the whole answer |
//! | healthy threshold | rounds in a row that have to pass |
//! | unhealthy threshold | rounds in a row that have to fail for the turn to be taken back |
//! | minimum healthy time | how long every check has to be healthy, without a failure |

mod ask;
mod baseline;
mod candidate;
mod check;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod herald;
mod http;
mod load;
mod patience;
mod round;
mod saturation;
mod stream;
#[cfg(test)]
mod tests;
mod vitals;
mod watch;

use std::time::Duration;

pub(crate) use self::baseline::{Baseline, baseline_of_ourselves};
pub(crate) use self::candidate::Subject;
pub use self::candidate::{Candidate, CheckAddress};
pub use self::check::HealthCheck;
pub(crate) use self::herald::{Announced, Announcement};
pub(crate) use self::load::Load;
pub use self::stream::CheckStream;
pub(crate) use self::watch::Watch;
use crate::error::Result;

/// What has to be well before a successor is committed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    pub(crate) checks: Vec<HealthCheck>,
    /// How long every check has to be healthy, without a failure.
    pub(crate) min_healthy_time: Duration,
}

impl Policy {
    /// Looks for settings that could never work.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for the first check that cannot be made.
    pub(crate) fn validate(&self) -> Result<()> {
        self.checks.iter().try_for_each(HealthCheck::validate)
    }
}

/// What the checks have found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Every check is healthy and has been for long enough.
    Healthy,
    /// It is not, or not yet, and why.
    Ailing(String),
    /// A check has failed as often in a row as it may: the turn is to be taken back.
    Unhealthy(String),
    /// For the report; it changes nothing.
    Note(String),
}
