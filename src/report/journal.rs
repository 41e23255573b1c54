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

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::Report;
use super::totals::Totals;
use crate::error::{Error, ErrorKind, Result};
use crate::generation::Generation;
use crate::sys::{file_size, memfd};

/// So many reports are kept.
const REPORTS: usize = 64;
/// Counts of so many generations are kept apart; older ones have ended long ago.
const GENERATIONS: usize = 64;
/// More than this is not read from one file.
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
}

impl Tally {
    fn merge(&mut self, other: Self) {
        self.accepted = self.accepted.max(other.accepted);
        self.succeeded = self.succeeded.max(other.succeeded);
        self.failed = self.failed.max(other.failed);
        self.drained = self.drained.max(other.drained);
        self.cut = self.cut.max(other.cut);
    }

    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.drained += other.drained;
        self.cut += other.cut;
    }
}

/// One line of a file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Known(Box<Known>),
    Report(Box<Report>),
    Tally(Generation, Tally),
}

/// All that is known.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    reports: VecDeque<Report>,
    totals: Totals,
    /// Of generations that are not in the list any more.
    folded: Tally,
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

    fn merge(&mut self, generation: Generation, tally: Tally) {
        // One that was folded has said its last word long ago.
        let oldest = self.tallies.first_key_value().map(|(oldest, _)| *oldest);
        if self.tallies.len() >= GENERATIONS && oldest.is_some_and(|oldest| generation < oldest) {
            return;
        }
        self.tallies.entry(generation).or_default().merge(tally);
        while self.tallies.len() > GENERATIONS {
            if let Some((_, oldest)) = self.tallies.pop_first() {
                self.folded.add(oldest);
            }
        }
    }

    fn read(&mut self, line: Line) {
        match line {
            Line::Known(known) => *self = *known,
            Line::Report(report) => self.record(*report),
            Line::Tally(generation, tally) => self.merge(generation, tally),
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
        while at < MAX_READ {
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

    /// What a generation has served until now.
    pub(crate) fn merge(&self, generation: Generation, tally: Tally) {
        let mut inner = self.lock();
        inner.known.merge(generation, tally);
        inner.write(&Line::Tally(generation, tally));
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
    /// Reads what others have written since.
    fn catch_up(&mut self) {
        for source in &mut self.sources {
            let newest = source.newest;
            for line in source.news() {
                if newest || !matches!(line, Line::Known(_)) {
                    self.known.read(line);
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
                tracing::warn!(%error, "the journal of upgrades cannot be written on");
                self.target = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::report::builder::ReportBuilder;
    use crate::report::{UpgradeOutcome, UpgradePhase};

    fn generation(number: u64) -> Generation {
        (0..number).fold(Generation::FIRST, |generation, _| generation.next())
    }

    fn report(to: u64) -> Report {
        let numbers = (generation(to - 1), generation(to));
        let mut builder = ReportBuilder::new(format!("s-{to}"), numbers, "1", Instant::now());
        builder.enter(UpgradePhase::Commit, Instant::now());
        builder.finish(UpgradeOutcome::Committed, None, Instant::now())
    }

    fn served(accepted: u64) -> Tally {
        Tally { accepted, ..Tally::default() }
    }

    #[test]
    fn the_last_words_of_one_that_has_ended_are_read_and_its_file_is_let_go() {
        let elder = Journal::default();
        let ours = handed(&elder, 1, &[]);
        let file = Arc::downgrade(&ours.lock().sources[0].file);
        elder.merge(generation(1), served(7));
        ours.forget(generation(1));
        assert_eq!(ours.totals().1, served(7));
        assert_eq!(file.strong_count(), 0);
    }

    fn handed(from: &Journal, us: u64, elders: &[Generation]) -> Journal {
        let files = from.hand_on(generation(us), elders).unwrap();
        let copies = files.into_iter().map(|(writer, file)| (writer, file.try_clone().unwrap()));
        Journal::inherit(copies.collect())
    }

    #[test]
    fn counts_go_on_over_generations_and_nothing_counts_twice() {
        let first = Journal::default();
        first.merge(generation(0), served(5));
        let second = handed(&first, 0, &[]);
        assert_eq!(second.totals().1, served(5));
        // It serves on until the verdict, and drains after it.
        first.merge(generation(0), served(7));
        first.record(&report(1));
        second.merge(generation(1), served(2));
        assert_eq!(second.totals().1, served(9));
        assert_eq!(second.reports(), first.reports());
        let third = handed(&second, 1, &[generation(0)]);
        first.merge(generation(0), Tally { accepted: 8, drained: 3, ..Tally::default() });
        second.merge(generation(1), served(4));
        second.record(&report(2));
        let sum = Tally { accepted: 12, drained: 3, ..Tally::default() };
        assert_eq!(third.totals().1, sum);
        assert_eq!(third.totals().1, sum, "however often it is read");
        assert_eq!(third.totals().0.committed(), 2);
        assert_eq!(third.reports().len(), 2);
    }

    #[test]
    fn a_hundred_generations_are_folded_and_none_is_lost() {
        let mut journal = Journal::default();
        for number in 0..100 {
            journal.merge(generation(number), served(1));
            let next = handed(&journal, number, &[]);
            journal.record(&report(number + 1));
            journal = next;
        }
        let (totals, tally) = journal.totals();
        assert_eq!((totals.committed(), tally), (100, served(100)));
        assert_eq!(journal.reports().len(), REPORTS);
        journal.merge(generation(0), served(1));
        assert_eq!(journal.totals().1, served(100), "one that was folded is not counted again");
    }

    #[test]
    fn half_a_line_and_nonsense_are_skipped() {
        let file = memfd::create(c"journal").unwrap();
        let copy = File::from(file.try_clone().unwrap());
        let journal = Journal::inherit(vec![(generation(3), file)]);
        copy.write_all_at(b"nonsense\n{\"eclipse\":1}\n{\"tally\":[3,{\"accep", 0).unwrap();
        assert_eq!(journal.totals().1, Tally::default());
        let half = "nonsense\n{\"eclipse\":1}\n{\"tally\":[3,{\"accep".len() as u64;
        copy.write_all_at(b"ted\":4,\"new\":1}]}\n", half).unwrap();
        assert_eq!(journal.totals().1, served(4));
    }
}
