//! The report while the upgrade runs.

use std::time::{Duration, Instant, SystemTime};

use tracing::Span;
use tracing::field::{Empty, display};

use super::{
    AskedBy, CauseKind, Plain, Purpose, Report, Time, UpgradeOutcome, UpgradePhase, Window,
};
use crate::generation::Generation;

/// A report keeps at most this many notes; some of them are a successor's own words.
pub(crate) const MAX_NOTES: usize = 256;

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
            accepted: None,
            asked_by: AskedBy::Unknown,
            purpose: Purpose::Release,
            cause_kind: None,
            window: None,
            before: None,
            back_after: None,
            drain: None,
        };
        let builder = Self { report, started: now, entered: now, span };
        builder.log_step(now);
        builder
    }

    /// Lines that belong to the upgrade are logged in this.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Who asked for it, and what for.
    pub(crate) fn asked(&mut self, by: AskedBy, purpose: Purpose) {
        self.report.asked_by = by;
        self.report.purpose = purpose;
        self.span.in_scope(|| {
            crate::log::info!(target: "heirloom::handoff", %by, %purpose, "an upgrade was asked for");
        });
    }

    /// The phase at hand ends and `phase` begins.
    pub(crate) fn enter(&mut self, phase: UpgradePhase, now: Instant) {
        self.close_phase(now);
        self.report.phase = phase;
        self.log_step(now);
    }

    /// The phase at hand.
    pub(crate) fn phase(&self) -> UpgradePhase {
        self.report.phase
    }

    /// How many connections a successor that is taken back had accepted.
    pub(crate) fn accepted(&mut self, connections: u64) {
        self.report.accepted = Some(connections);
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

    /// Why it will not commit, in a word; the first one counts.
    pub(crate) fn blame(&mut self, kind: CauseKind) {
        self.report.cause_kind.get_or_insert(kind);
    }

    /// How requests have ended since it was asked for, and before.
    pub(crate) fn requests(&mut self, window: Window, before: Option<Window>) {
        if window.requests > 0 || before.is_some_and(|before| before.requests > 0) {
            self.report.window = Some(window);
            self.report.before = before;
        }
    }

    /// The predecessor accepts again, so long after it knew that it should.
    pub(crate) fn back(&mut self, after: Duration) {
        self.report.back_after = Some(after);
    }

    /// The time since it was asked for.
    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// When it was asked for.
    pub(crate) fn started(&self) -> Instant {
        self.started
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
        self.report.elapsed = self.elapsed(now);
        if outcome == UpgradeOutcome::Committed {
            self.report.cause_kind = None;
            self.report.back_after = self.went_back();
        }
        let _entered = self.span.enter();
        let report = &self.report;
        let elapsed = Time(report.elapsed);
        match &report.cause {
            None => crate::log::info!(
                target: "heirloom::handoff", %outcome, phase = report.phase.as_str(), %elapsed,
                gap = %Time(report.longest_gap), "upgrade {outcome}"
            ),
            Some(cause) => crate::log::warn!(
                target: "heirloom::handoff", %outcome, phase = report.phase.as_str(), %elapsed,
                gap = %Time(report.longest_gap), cause = %Plain(cause), "upgrade {outcome}"
            ),
        }
        drop(_entered);
        self.report
    }

    /// How long it took until the older release served again, if that is what this was for.
    fn went_back(&self) -> Option<Duration> {
        let back = self.report.purpose == Purpose::RollBack;
        let until = |(phase, _): &&(UpgradePhase, Duration)| *phase < UpgradePhase::Serving;
        let before_it_served = self.report.phases.iter().filter(until);
        back.then(|| before_it_served.map(|(_, time)| *time).sum())
    }

    fn close_phase(&mut self, now: Instant) {
        let time = now.saturating_duration_since(self.entered);
        self.report.phases.push((self.report.phase, time));
        self.entered = now;
    }

    fn log_step(&self, now: Instant) {
        let elapsed = Time(now.saturating_duration_since(self.started));
        let step = self.report.phase.as_str();
        self.span.in_scope(|| crate::log::info!(target: "heirloom::handoff", step, %elapsed));
    }
}
