//! What became of an upgrade: one report for each that was asked for.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing::field::{Empty, display};

use crate::generation::Generation;

/// A report keeps at most this many notes; some of them are a successor's own words.
const MAX_NOTES: usize = 256;

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
    /// Connections that a successor had accepted when it was rolled back; it finishes them. None
    /// when there was no roll back, or when the successor did not live to say.
    pub accepted_by_rejected: Option<u64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "upgrade {} from generation {} ({})",
            self.id,
            self.from,
            Plain(&self.version)
        )?;
        write!(f, " to {}", self.to)?;
        let version = self
            .successor_version
            .as_deref()
            .unwrap_or("version unknown");
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
        if let Some(accepted) = self.accepted_by_rejected {
            write!(
                f,
                "\n  connections the rejected successor accepted: {accepted}"
            )?;
        }
        self.notes
            .iter()
            .try_for_each(|note| write!(f, "\n  note: {}", Plain(note)))
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

/// Writes the report while the upgrade runs, and the log with it: one span `upgrade`, and in it
/// one line for each phase, as it is entered, and one for the outcome.
#[must_use = "every upgrade ends in a report: call `finish`"]
pub(crate) struct ReportBuilder {
    report: Report,
    started: Instant,
    entered: Instant,
    span: Span,
}

impl ReportBuilder {
    /// An upgrade has been asked for: its first phase is [`UpgradePhase::Requested`].
    pub(crate) fn new(
        id: impl Into<String>,
        (from, to): (Generation, Generation),
        version: impl Into<String>,
        now: Instant,
    ) -> Self {
        let (id, version) = (id.into(), version.into());
        let span = tracing::info_span!(
            target: "heirloom::handoff",
            "upgrade",
            %id,
            from = from.get(),
            to = to.get(),
            pid = std::process::id(),
            %version,
            successor_pid = Empty,
            successor_version = Empty,
        );
        let report = Report {
            id,
            from,
            to,
            version,
            successor_version: None,
            successor_pid: None,
            outcome: UpgradeOutcome::Failed,
            phase: UpgradePhase::Requested,
            cause: None,
            phases: Vec::new(),
            started: SystemTime::now(),
            elapsed: Duration::ZERO,
            longest_gap: Duration::ZERO,
            notes: Vec::new(),
            claimed: 0,
            unclaimed: 0,
            bound: 0,
            accepted_by_rejected: None,
        };
        let builder = Self {
            report,
            started: now,
            entered: now,
            span,
        };
        builder.log_step(now);
        builder
    }

    /// The upgrade's span, for what else is logged about it.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// The last phase that was entered.
    pub(crate) fn phase(&self) -> UpgradePhase {
        self.report.phase
    }

    /// The phase at hand ends and `phase` begins.
    pub(crate) fn enter(&mut self, phase: UpgradePhase, now: Instant) {
        self.close_phase(now);
        self.report.phase = phase;
        self.log_step(now);
    }

    /// The successor has a process.
    pub(crate) fn successor_pid(&mut self, pid: i32) {
        self.report.successor_pid = Some(pid);
        self.span.record("successor_pid", pid);
    }

    /// The successor has said which version of the application it is.
    pub(crate) fn successor_version(&mut self, version: impl Into<String>) {
        let version = version.into();
        self.span.record("successor_version", display(&version));
        self.report.successor_version = Some(version);
    }

    /// What the successor did with the predecessor's sockets.
    pub(crate) fn sockets(&mut self, claimed: usize, unclaimed: usize, bound: usize) {
        self.report.claimed = claimed;
        self.report.unclaimed = unclaimed;
        self.report.bound = bound;
    }

    /// A listener had nobody who accepted for that long; the longest one counts.
    pub(crate) fn gap(&mut self, gap: Duration) {
        self.report.longest_gap = self.report.longest_gap.max(gap);
    }

    /// Something that an operator should know although it stops nothing. Beyond 256, notes are
    /// dropped.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        if self.report.notes.len() < MAX_NOTES {
            self.report.notes.push(note.into());
        }
    }

    /// A successor that was rolled back has said how many connections it had accepted.
    pub(crate) fn accepted_by_rejected(&mut self, connections: u64) {
        self.report.accepted_by_rejected = Some(connections);
    }

    /// The upgrade has ended.
    pub(crate) fn finish(
        mut self,
        outcome: UpgradeOutcome,
        cause: Option<String>,
        now: Instant,
    ) -> Report {
        self.close_phase(now);
        self.report.outcome = outcome;
        self.report.cause = cause;
        self.report.elapsed = now.saturating_duration_since(self.started);
        let _entered = self.span.enter();
        let report = &self.report;
        let elapsed = Time(report.elapsed);
        match &report.cause {
            None => tracing::info!(
                target: "heirloom::handoff", %outcome, phase = report.phase.as_str(), %elapsed,
                gap = %Time(report.longest_gap), "upgrade {outcome}"
            ),
            Some(cause) => tracing::warn!(
                target: "heirloom::handoff", %outcome, phase = report.phase.as_str(), %elapsed,
                gap = %Time(report.longest_gap), cause = %Plain(cause), "upgrade {outcome}"
            ),
        }
        drop(_entered);
        self.report
    }

    fn close_phase(&mut self, now: Instant) {
        let time = now.saturating_duration_since(self.entered);
        self.report.phases.push((self.report.phase, time));
        self.entered = now;
    }

    fn log_step(&self, now: Instant) {
        let elapsed = Time(now.saturating_duration_since(self.started));
        let step = self.report.phase.as_str();
        self.span
            .in_scope(|| tracing::info!(target: "heirloom::handoff", step, %elapsed));
    }
}

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
        Self {
            reports: VecDeque::new(),
            capacity,
        }
    }

    /// Adds the newest report.
    pub(crate) fn push(&mut self, report: Report) {
        while self.reports.len() >= self.capacity.get() {
            self.reports.pop_front();
        }
        self.reports.push_back(report);
    }

    /// The newest report.
    pub(crate) fn last(&self) -> Option<&Report> {
        self.reports.back()
    }

    /// The report of one upgrade.
    pub(crate) fn find(&self, id: &str) -> Option<&Report> {
        self.reports.iter().rev().find(|report| report.id == id)
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    const FIRST: Generation = Generation::FIRST;

    fn builder(now: Instant) -> ReportBuilder {
        ReportBuilder::new("u-7", (FIRST, FIRST.next()), "1.4.0", now)
    }

    fn rolled_back() -> Report {
        let start = Instant::now();
        let at = |micros| start + Duration::from_micros(micros);
        let mut builder = builder(start);
        builder.enter(UpgradePhase::Spawn, at(20));
        builder.successor_pid(812);
        builder.enter(UpgradePhase::Hello, at(433));
        builder.successor_version("1.5.0");
        builder.enter(UpgradePhase::Probation, at(58_433));
        builder.gap(Duration::from_micros(700));
        builder.gap(Duration::from_millis(2));
        builder.gap(Duration::from_millis(1));
        builder.sockets(2, 1, 3);
        builder.note("listener \"http\": backlog 128 asked for, 4096 inherited");
        builder.accepted_by_rejected(41);
        let cause = "health check \"db\": \u{1b}[31mno\nanswer".to_owned();
        builder.finish(UpgradeOutcome::RolledBack, Some(cause), at(12_358_433))
    }

    #[test]
    fn the_operator_reads_what_happened() {
        assert_eq!(
            rolled_back().to_string(),
            "upgrade u-7 from generation 0 (1.4.0) to 1 (1.5.0, pid 812): \
             rolled back in phase probation after 12.4 s\n  \
             cause: health check \"db\": \\u{1b}[31mno\\nanswer\n  \
             times: requested 20 µs, spawn 413 µs, hello 58 ms, probation 12.3 s\n  \
             longest accept gap: 2 ms\n  \
             sockets: 2 claimed, 1 unclaimed, 3 bound\n  \
             connections the rejected successor accepted: 41\n  \
             note: listener \"http\": backlog 128 asked for, 4096 inherited"
        );
    }

    #[test]
    fn a_commit_is_told_in_a_few_lines() {
        let start = Instant::now();
        let mut builder = builder(start);
        builder.enter(UpgradePhase::Owner, start);
        let report = builder.finish(UpgradeOutcome::Committed, None, start);
        assert_eq!(report.phase, UpgradePhase::Owner);
        assert_eq!(
            report.to_string(),
            "upgrade u-7 from generation 0 (1.4.0) to 1 (version unknown, not started): \
             committed after 0 µs\n  \
             times: requested 0 µs, owner 0 µs\n  \
             longest accept gap: 0 µs\n  \
             sockets: 0 claimed, 0 unclaimed, 0 bound"
        );
    }

    #[test]
    fn a_report_survives_its_serialisation() {
        let report = rolled_back();
        let text = serde_json::to_string(&report).unwrap();
        assert!(
            text.contains(r#""outcome":"rolled_back","phase":"probation""#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    #[test]
    fn the_times_of_the_phases_add_up() {
        let report = rolled_back();
        assert_eq!(
            report
                .phases
                .iter()
                .map(|(_, time)| *time)
                .sum::<Duration>(),
            report.elapsed
        );
    }

    #[test]
    fn notes_are_bounded() {
        let now = Instant::now();
        let mut builder = builder(now);
        (0..MAX_NOTES + 5).for_each(|note| builder.note(note.to_string()));
        let report = builder.finish(UpgradeOutcome::Failed, None, now);
        assert_eq!(report.notes.len(), MAX_NOTES);
    }

    #[test]
    fn history_forgets_the_oldest() {
        let mut history = History::default();
        assert!(history.last().is_none());
        for id in 0..70 {
            let now = Instant::now();
            let builder = ReportBuilder::new(id.to_string(), (FIRST, FIRST.next()), "1", now);
            history.push(builder.finish(UpgradeOutcome::Committed, None, now));
        }
        assert_eq!(history.iter().count(), 64);
        assert_eq!(history.iter().next().unwrap().id, "6");
        assert_eq!(history.last().unwrap().id, "69");
        assert!(history.find("5").is_none() && history.find("6").is_some());
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn the_log_has_one_span_and_one_line_for_each_phase() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(lines.clone())
            .without_time()
            .with_ansi(false)
            .finish();
        tracing::subscriber::with_default(subscriber, rolled_back);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        for (line, step) in lines
            .iter()
            .zip(["requested", "spawn", "hello", "probation"])
        {
            assert!(line.contains(&format!("step=\"{step}\"")), "{line}");
            assert!(line.contains("heirloom::handoff"), "{line}");
        }
        assert!(
            lines[3].contains("successor_pid=812 successor_version=1.5.0"),
            "{text}"
        );
        assert!(
            lines[4].contains("WARN") && lines[4].contains("outcome=rolled back"),
            "{text}"
        );
    }
}
