//! Who judges a successor: the settings of probation beyond its length.

use std::time::Duration;

use super::Config;
use crate::executable::{HoldOff, Preflight};
use crate::health::HealthCheck;
use crate::requests::ErrorBudget;

impl Config {
    /// Tries the new program before it is started for real. Default: it is not tried.
    ///
    /// It has to exit with 0 within its deadline; otherwise the upgrade fails, with its last words
    /// in the report, and nothing has been started. So it does if another file is put in the
    /// program's place meanwhile, which would be started untried. What it says is not proven by it: it gets no
    /// socket and takes no turn.
    pub fn preflight(mut self, preflight: Preflight) -> Self {
        self.preflight = Some(preflight);
        self
    }

    /// How long [`Running::upgrade_unattended`](crate::Running::upgrade_unattended) does not start a
    /// program that has failed: `first` after one failure, twice as long after each further one in a
    /// row, never longer than `longest`. Default 30 s and 1 h.
    pub fn hold_off(mut self, first: Duration, longest: Duration) -> Self {
        self.hold_off = HoldOff { first, longest };
        self
    }

    /// Adds a health check: the successor may commit only when it is healthy, and is taken back when
    /// it is not. Default: none, so death, silence and the error budget alone judge it.
    ///
    /// Checks are made through the front door, by the generation that gave the turn away. With any
    /// check, probation ends when it has lasted [`probation`](Self::probation) *and* every check is
    /// healthy and has been for [`min_healthy_time`](Self::min_healthy_time), at the latest with
    /// [`progress_deadline`](Self::progress_deadline): then the turn is taken back.
    ///
    /// While an operator has paused or drained the service no check is made, and the report says
    /// so: behind a door that is closed no release could answer. The error budget, silence and
    /// death judge it as ever.
    pub fn health_check(mut self, check: HealthCheck) -> Self {
        self.health.checks.push(check);
        self
    }

    /// How long every health check has to be healthy without a failure before the successor may
    /// commit. Default zero: that each is healthy at the end of probation is enough.
    pub fn min_healthy_time(mut self, time: Duration) -> Self {
        self.health.min_healthy_time = time;
        self
    }

    /// How long after it began to serve a successor may take to become healthy. Default 30 s, and
    /// never shorter than probation and the minimum healthy time together.
    pub fn progress_deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.progress = deadline;
        self
    }

    /// How many requests of a successor may fail in probation before it is taken back. Default: any
    /// number, since nobody may be counting them.
    pub fn error_budget(mut self, budget: ErrorBudget) -> Self {
        self.budget = Some(budget);
        self
    }
}
