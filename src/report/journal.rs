//! What is known of the service's whole life: the last upgrades, and counts that go on over them.
//!
//! **Contract:** nothing is counted twice, however often it is heard of: every count belongs to one
//! generation and only grows, so of two values the greater is the newer one; and a report is known
//! by the number of its successor.
//!
//! A predecessor writes all it knows into a memory file that goes with its offer, and goes on to
//! write there what happens to it after that: how the upgrade ended, what it has served until it
//! handed over, while it drains, and at its end. It alone writes, its successor reads. What a
//! `SIGKILL` loses is therefore what a process counted since its last line: for an owner since it
//! began its last upgrade, for an elder at most what it counted in the last 100 ms of changes.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::totals::Totals;
use super::{Drained, Report};
use crate::drain::CutCounts;
use crate::error::{Error, ErrorKind, Result};
use crate::generation::Generation;
use crate::sys::{file_size, memfd};

/// So many reports are kept.
const REPORTS: usize = 64;
/// Counts of so many generations are kept apart; older ones have ended long ago.
const GENERATIONS: usize = 64;
/// More than this is not read at one look.
const MAX_READ: u64 = 16 * 1024 * 1024;

/// What one generation has served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tally {
    /// Connections accepted.
    pub accepted: u64,
    /// Requests that the application called good.
    pub succeeded: u64,
    /// Requests that the application called failed.
    pub failed: u64,
    /// Connections that ended by themselves in its drain.
    pub drained: u64,
    /// Connections that its drain has cut.
    pub cut: u64,
    /// The same by cause, as far as generations have said.
    #[serde(skip_serializing_if = "CutCounts::is_empty")]
    pub cuts: CutCounts,
    /// Connections that a newer generation has taken over.
    pub moved: u64,
}

impl Tally {
    fn merge(&mut self, other: Self) {
        self.accepted = self.accepted.max(other.accepted);
        self.succeeded = self.succeeded.max(other.succeeded);
        self.failed = self.failed.max(other.failed);
        self.drained = self.drained.max(other.drained);
        self.cut = self.cut.max(other.cut);
        self.cuts = self.cuts.join(other.cuts, u64::max);
        self.moved = self.moved.max(other.moved);
    }

    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.drained += other.drained;
        self.cut += other.cut;
        self.cuts = self.cuts.join(other.cuts, u64::saturating_add);
        self.moved += other.moved;
    }
}

/// One line of a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Known(Box<Known>),
    Report(Box<Report>),
    Tally(Generation, Tally),
    /// The drain after the upgrade to this generation is over.
    Drained(Generation, Drained),
}

/// All that is known.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    reports: VecDeque<Report>,
    totals: Totals,
    /// Of generations that are not in the list any more.
    folded: Tally,
    /// The newest of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    folded_to: Option<Generation>,
    tallies: BTreeMap<Generation, Tally>,
}

impl Known {
    fn record(&mut self, report: Report) {
        if self.reports.iter().any(|known| known.to == report.to) {
            return;
        }
        self.totals.add(&report);
        self.reports.push_back(report);
        while self.reports.len() > REPORTS {
            self.reports.pop_front();
        }
    }

    fn drained(&mut self, to: Generation, drained: Drained) {
        let mut reports = self.reports.iter_mut();
        let Some(report) = reports.find(|known| known.to == to && known.drain.is_none()) else {
            return;
        };
        let before = report.clone();
        report.drain = Some(drained);
        self.totals.drained(&before, report);
    }

    /// Takes in what a generation counts, and says whether that is news. Those that `live` go on
    /// counting, so they are kept apart however many have come after them.
    fn merge(&mut self, generation: Generation, tally: Tally, live: &[Generation]) -> bool {
        let known = self.tallies.get(&generation).copied();
        // One that was folded has said its last word long ago.
        if known.is_none() && self.folded_to.is_some_and(|newest| generation <= newest) {
            return false;
        }
        let merged = self.tallies.entry(generation).or_default();
        merged.merge(tally);
        let news = known != Some(*merged);
        while self.tallies.len() > GENERATIONS {
            let mut ended = self.tallies.keys().filter(|counts| !live.contains(counts));
            let Some(oldest) = ended.next().copied() else { break };
            if let Some(tally) = self.tallies.remove(&oldest) {
                self.folded.add(tally);
                self.folded_to = self.folded_to.max(Some(oldest));
            }
        }
        news
    }

    fn read(&mut self, line: Line, live: &[Generation]) {
        match line {
            Line::Known(known) => *self = *known,
            Line::Report(report) => self.record(*report),
            Line::Tally(generation, tally) => _ = self.merge(generation, tally, live),
            Line::Drained(to, drained) => self.drained(to, drained),
        }
    }
}

/// A file that another generation writes.
struct Source {
    writer: Generation,
    file: Arc<OwnedFd>,
    /// Whether it begins with all that is known; of an older one that is outdated.
    newest: bool,
    read: u64,
}

impl Source {
    /// The whole lines that have come since the last look.
    fn news(&mut self) -> Vec<Line> {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 64 * 1024];
        let mut at = self.read;
        while at - self.read < MAX_READ {
            let offset = i64::try_from(at).unwrap_or(i64::MAX);
            match nix::sys::uio::pread(&*self.file, &mut chunk, offset) {
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
                    at += read as u64;
                }
            }
        }
        // Its writer may be in the middle of a line.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        self.read += whole as u64;
        let lines = bytes.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n');
        // What a later version writes may mean nothing to us.
        lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

/// The file that our successor reads.
struct Target {
    file: File,
    written: u64,
}

#[derive(Default)]
struct Inner {
    known: Known,
    /// This generation, once it has handed on what it knows.
    us: Option<Generation>,
    sources: Vec<Source>,
    target: Option<Target>,
}

/// The journal of this generation.
#[derive(Default)]
pub(crate) struct Journal(Mutex<Inner>);

impl Journal {
    /// Takes over what a predecessor handed on: its own file, and those of its elders.
    pub(crate) fn inherit(mut files: Vec<(Generation, OwnedFd)>) -> Self {
        // The newest begins with all that was known; the others add to it.
        files.sort_by_key(|(writer, _)| std::cmp::Reverse(*writer));
        let source = |(at, (writer, file))| Source {
            writer,
            file: Arc::new(file),
            newest: at == 0,
            read: 0,
        };
        let sources = files.into_iter().enumerate().map(source).collect();
        Self(Mutex::new(Inner { sources, ..Inner::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.catch_up();
        inner
    }

    /// An upgrade of ours has ended.
    pub(crate) fn record(&self, report: &Report) {
        let mut inner = self.lock();
        inner.known.record(report.clone());
        inner.write(&Line::Report(Box::new(report.clone())));
    }

    /// The drain after the upgrade to this generation is over.
    pub(crate) fn drained(&self, to: Generation, drained: &Drained) {
        let mut inner = self.lock();
        inner.known.drained(to, drained.clone());
        inner.write(&Line::Drained(to, drained.clone()));
    }

    /// What a generation has served until now.
    pub(crate) fn merge(&self, generation: Generation, tally: Tally) {
        let mut inner = self.lock();
        let live = inner.live();
        if inner.known.merge(generation, tally, &live) {
            inner.write(&Line::Tally(generation, tally));
        }
    }

    /// The last reports, the oldest first.
    pub(crate) fn reports(&self) -> Vec<Report> {
        self.lock().known.reports.iter().cloned().collect()
    }

    /// The counts of the service's whole life.
    pub(crate) fn totals(&self) -> (Totals, Tally) {
        let inner = self.lock();
        let mut sum = inner.known.folded;
        inner.known.tallies.values().for_each(|tally| sum.add(*tally));
        (inner.known.totals.clone(), sum)
    }

    /// `writer` has ended: what it wrote last is read, and its file is let go.
    pub(crate) fn forget(&self, writer: Generation) {
        self.lock().sources.retain(|source| source.writer != writer);
    }

    /// Our successor was taken back: there is nobody to write for.
    pub(crate) fn take_back(&self) {
        self.lock().target = None;
    }

    /// What a successor is given: a file that begins with all that is known, which `us` writes, and
    /// those that the generations write that still live.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if there is no memory for it.
    pub(crate) fn hand_on(
        &self,
        us: Generation,
        elders: &[Generation],
    ) -> Result<Vec<(Generation, Arc<OwnedFd>)>> {
        let mut inner = self.lock();
        let failed = |error: io::Error| {
            Error::new(ErrorKind::Io, "the journal of upgrades cannot be handed on")
                .with_source(error)
        };
        let file = memfd::create(c"heirloom-journal").map_err(failed)?;
        let shared = Arc::new(file.try_clone().map_err(failed)?);
        inner.us = Some(us);
        inner.target = Some(Target { file: File::from(file), written: 0 });
        let known = Line::Known(Box::new(inner.known.clone()));
        inner.write(&known);
        inner.sources.retain(|source| elders.contains(&source.writer));
        let sources = inner.sources.iter();
        let others = sources.map(|source| (source.writer, Arc::clone(&source.file)));
        Ok(std::iter::once((us, shared)).chain(others).collect())
    }
}

impl Inner {
    /// Those who still count: us, and whoever writes a file that we read.
    fn live(&self) -> Vec<Generation> {
        self.us.into_iter().chain(self.sources.iter().map(|source| source.writer)).collect()
    }

    /// Reads what others have written since.
    fn catch_up(&mut self) {
        let live = self.live();
        for source in &mut self.sources {
            let newest = source.newest;
            for line in source.news() {
                if newest || !matches!(line, Line::Known(_)) {
                    self.known.read(line, &live);
                }
            }
        }
    }

    /// A line for our successor, if there is one.
    fn write(&mut self, line: &Line) {
        let Some(target) = &mut self.target else { return };
        let Ok(mut bytes) = serde_json::to_vec(line) else { return };
        bytes.push(b'\n');
        let end = target.written + bytes.len() as u64;
        let written =
            file_size::check(end).and_then(|()| target.file.write_all_at(&bytes, target.written));
        match written {
            Ok(()) => target.written = end,
            Err(error) => {
                crate::log::warn!(%error, "the journal of upgrades cannot be written on");
                self.target = None;
            }
        }
    }
}
