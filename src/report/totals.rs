//! Counts over all upgrades of the service's life.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Report, UpgradeOutcome, UpgradePhase};

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
    }

    /// How many have committed.
    #[cfg(test)]
    pub(crate) fn committed(&self) -> u64 {
        let committed = self.upgrades.iter().filter(|(o, ..)| *o == UpgradeOutcome::Committed);
        committed.map(|(_, _, count)| count).sum()
    }
}
