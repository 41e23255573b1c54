//! Counts over all upgrades of the service's life.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CauseKind, Report, Time, UpgradeOutcome, UpgradePhase, Window};

/// The upper bounds of the buckets, in seconds.
pub(crate) const BOUNDS: [f64; 11] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0];

/// What became of all upgrades.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Totals {
    /// How many ended so, in this phase.
    pub upgrades: Vec<(UpgradeOutcome, UpgradePhase, u64)>,
    /// The time in each phase.
    pub phases: Vec<(UpgradePhase, Histogram)>,
    /// From the wish to the end.
    pub whole: Histogram,
    /// The longest time without an accept.
    pub gap: Histogram,
    /// Of those that were rolled back, how many for this cause.
    pub causes: Vec<(CauseKind, u64)>,
    /// How requests ended while upgrades ran.
    pub window: Window,
    /// And before.
    pub before: Window,
    /// Upgrades that committed, and that clients may have noticed.
    pub interrupted: u64,
    /// Connections that drains after a commit have cut.
    pub cut: u64,
    /// How long it took to have the older release back.
    pub back: Histogram,
    pub longest_back: Duration,
}

/// A distribution of times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Histogram {
    /// How many were in each bucket, and above the last bound.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Their sum, in seconds.
    pub sum: f64,
}

impl Histogram {
    fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let at = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get_mut(at) {
            *bucket += 1;
        }
        self.sum += seconds;
    }

    fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl Totals {
    pub(crate) fn add(&mut self, report: &Report) {
        let (outcome, phase) = (report.outcome, report.phase);
        let mut known = self.upgrades.iter_mut();
        match known.find(|(known, at, _)| (*known, *at) == (outcome, phase)) {
            Some((_, _, count)) => *count += 1,
            None => self.upgrades.push((outcome, phase, 1)),
        }
        for (phase, time) in &report.phases {
            match self.phases.iter_mut().find(|(known, _)| known == phase) {
                Some((_, histogram)) => histogram.add(*time),
                None => {
                    let mut histogram = Histogram::default();
                    histogram.add(*time);
                    self.phases.push((*phase, histogram));
                }
            }
        }
        self.whole.add(report.elapsed);
        if phase >= UpgradePhase::Serving {
            self.gap.add(report.longest_gap);
        }
        self.add_quality(report);
    }

    /// What it was like for clients and operators.
    fn add_quality(&mut self, report: &Report) {
        if report.outcome == UpgradeOutcome::RolledBack {
            let kind = report.cause_kind.unwrap_or(CauseKind::Other);
            match self.causes.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => self.causes.push((kind, 1)),
            }
        }
        for (sum, window) in [(&mut self.window, report.window), (&mut self.before, report.before)]
        {
            let Some(window) = window else { continue };
            sum.length = sum.length.saturating_add(window.length);
            sum.requests = sum.requests.saturating_add(window.requests);
            sum.failed = sum.failed.saturating_add(window.failed);
        }
        if let Some(time) = report.back_after {
            self.back.add(time);
            self.longest_back = self.longest_back.max(time);
        }
        if let Some(drained) = &report.drain {
            self.cut = self.cut.saturating_add(drained.cut);
        }
        self.interrupted += u64::from(was_interrupted(report));
    }

    /// A drain is over: the report is the same but for that.
    pub(crate) fn drained(&mut self, before: &Report, after: &Report) {
        let cut = after.drain.as_ref().map_or(0, |drained| drained.cut);
        self.cut = self.cut.saturating_add(cut);
        self.interrupted += u64::from(was_interrupted(after) && !was_interrupted(before));
    }

    fn count(&self, outcome: UpgradeOutcome) -> u64 {
        let such = self.upgrades.iter().filter(|(known, ..)| *known == outcome);
        such.map(|(_, _, count)| count).sum()
    }

    pub(crate) fn summary(&self) -> Summary {
        let backs = self.back.count();
        #[allow(clippy::cast_precision_loss, reason = "nobody rolls back 2^53 times")]
        let mean = self.back.sum / backs.max(1) as f64;
        Summary {
            committed: self.count(UpgradeOutcome::Committed),
            rolled_back: self.count(UpgradeOutcome::RolledBack),
            failed: self.count(UpgradeOutcome::Failed),
            interrupted: self.interrupted,
            window: self.window,
            before: self.before,
            cut: self.cut,
            backs,
            mean_back: Duration::try_from_secs_f64(mean).unwrap_or_default(),
            longest_back: self.longest_back,
        }
    }

    /// How many have committed.
    #[cfg(test)]
    pub(crate) fn committed(&self) -> u64 {
        self.count(UpgradeOutcome::Committed)
    }
}

fn was_interrupted(report: &Report) -> bool {
    report.outcome == UpgradeOutcome::Committed && report.interrupted()
}

/// What all upgrades of the service's life were like: the answers to three questions.
///
/// How many deployments succeed without interruption? [`committed`](Self::committed) less
/// [`interrupted`](Self::interrupted). How many errors fall into deployments?
/// [`window`](Self::window) against [`before`](Self::before), and [`cut`](Self::cut). How long does
/// a roll back take? [`mean_back`](Self::mean_back) and [`longest_back`](Self::longest_back).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Summary {
    /// Upgrades that committed.
    pub committed: u64,
    /// Upgrades whose successor served and was taken back.
    pub rolled_back: u64,
    /// Upgrades whose successor never served.
    pub failed: u64,
    /// Of those that committed, those that clients [may have noticed](Report::interrupted).
    pub interrupted: u64,
    /// How requests ended while upgrades ran; the lengths of all of them together.
    pub window: Window,
    /// How requests ended in as much time right before.
    pub before: Window,
    /// Connections that drains after a commit have cut.
    pub cut: u64,
    /// How often an older release was taken back: roll backs, and upgrades to the release before.
    pub backs: u64,
    /// How long that took, on average.
    pub mean_back: Duration,
    /// The longest of them.
    pub longest_back: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clean = self.committed.saturating_sub(self.interrupted);
        let all = self.committed.saturating_add(self.rolled_back).saturating_add(self.failed);
        write!(f, "deployments: {clean} of {all} committed without interruption")?;
        write!(f, ", {} rolled back, {} failed before they served", self.rolled_back, self.failed)?;
        write!(f, "\nerrors in deployments: {}", self.window)?;
        write!(f, ", {} connections cut; before: {}", self.cut, self.before)?;
        match self.backs {
            0 => f.write_str("\nroll backs: none"),
            backs => write!(
                f,
                "\nroll backs: {backs}, {} on average, {} at most",
                Time(self.mean_back),
                Time(self.longest_back)
            ),
        }
    }
}
