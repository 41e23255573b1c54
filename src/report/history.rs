//! The reports of the last upgrades.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use super::Report;

/// The last reports, the newest last.
#[derive(Clone, Debug)]
pub(crate) struct History {
    reports: VecDeque<Report>,
    capacity: NonZeroUsize,
}

impl History {
    /// How many reports are kept unless the application says otherwise.
    pub(crate) const DEFAULT_CAPACITY: NonZeroUsize = NonZeroUsize::new(64).unwrap();

    /// An empty history that forgets the oldest report when it has `capacity` of them.
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        Self { reports: VecDeque::new(), capacity }
    }

    /// Adds the newest report.
    pub(crate) fn push(&mut self, report: Report) {
        while self.reports.len() >= self.capacity.get() {
            self.reports.pop_front();
        }
        self.reports.push_back(report);
    }

    /// All that are kept, the oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Report> {
        self.reports.iter()
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new(Self::DEFAULT_CAPACITY)
    }
}
