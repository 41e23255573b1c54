//! A drain from the first word to the report.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::cause::forced;
use super::count::Totals;
use super::registry::{Named, after};
use super::{CutCause, CutCounts, Drain, DrainPhase, Held};

/// Counts that change while a drain runs are published at most this often.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);

/// Every connection is looked at for that. With very many it takes no more than one part in so many
/// of one processor's time.
const PUBLISH_SHARE: u32 = 50;

/// A report names at most this many connections, the oldest; the others it counts.
const MAX_NAMED: usize = 1_000;

/// How long each phase of a drain may take. Any of them may be zero; a value too great for the
/// clock means no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct DrainSettings {
    /// How long peers are only told to come back elsewhere, before idle connections are closed
    /// (500 ms by default). A client that has just sent its next request on an idle connection
    /// gets its answer within this time.
    pub lame_duck: Duration,
    /// The time from the start of the drain until what is left is forced to end (30 s by default).
    /// Lame duck and spread count towards it and are cut short by it.
    pub deadline: Duration,
    /// The window over which connections are asked to close one after another, so that not all
    /// clients come back at once. Zero, which asks all at once, by default.
    pub spread: Duration,
    /// How long connections that are forced to end have for it (1 s by default). After that the
    /// drain ends with whatever is left.
    pub force_grace: Duration,
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self {
            lame_duck: Duration::from_millis(500),
            deadline: Duration::from_secs(30),
            spread: Duration::ZERO,
            force_grace: Duration::from_secs(1),
        }
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DrainOutcome {
    /// Every connection ended by itself.
    Drained,
    /// Some were still there at the deadline, or when the drain was hurried; told to end at once,
    /// they did. Or some were lost on their way to a newer generation.
    Cut,
    /// Some did not even end when they were told to end at once: the end of the process ends them.
    Forced,
}

impl fmt::Display for DrainOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Drained => "drained",
            Self::Cut => "cut",
            Self::Forced => "forced",
        })
    }
}

/// What became of the connections of a generation that drained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DrainReport {
    /// How it ended.
    pub outcome: DrainOutcome,
    /// Connections that were there at the start, or came later, and ended by themselves.
    pub drained: u64,
    /// Connections that a newer generation has taken over, and that go on there
    /// ([`Running::hand_off`](crate::Running::hand_off)).
    #[serde(default)]
    pub moved: u64,
    /// Connections that were forced to end: those that were there at the deadline, those that came
    /// after it, and those that were lost on their way to a newer generation, which did not say
    /// whether it took them.
    pub cut_count: u64,
    /// The same by cause.
    #[serde(default, skip_serializing_if = "CutCounts::is_empty")]
    pub cuts: CutCounts,
    /// Those of them that were there at the deadline or were lost, by name: the oldest first, at
    /// most 1 000. The reason of a lost one says so.
    pub cut: Vec<Held>,
    /// Connections that were still there at the end, the grace of the forced ones included.
    pub left: u64,
    /// Whether the force came before the deadline: [`cuts`](Self::cuts) tells why.
    pub hurried: bool,
    /// The time from the start of the drain to its end.
    pub elapsed: Duration,
}

impl DrainReport {
    /// Nothing but so many that ended by themselves.
    fn new(drained: u64) -> Self {
        Self {
            outcome: DrainOutcome::Drained,
            drained,
            moved: 0,
            cut_count: 0,
            cuts: CutCounts::default(),
            cut: Vec::new(),
            left: 0,
            hurried: false,
            elapsed: Duration::ZERO,
        }
    }
}

/// Why the gentle part of a drain ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gentle {
    Empty,
    Over(CutCause),
}

impl Drain {
    /// Drains: lame duck, then graceful (spread over a window), then, at the deadline, force, and
    /// a grace for those who are forced. Ends at once when no guard is left, in whichever phase.
    ///
    /// The first [`notify_one`](Notify::notify_one) on `hurry`, even one before this is called,
    /// goes to force at once; further ones change nothing.
    ///
    /// # Cancel safety
    ///
    /// When cancelled, connections stay in the phase they are in and nothing more happens to them;
    /// [`reopen`](Self::reopen) lets newcomers be served again, another `run` goes on draining.
    pub(crate) async fn run(&self, settings: &DrainSettings, hurry: &Notify) -> DrainReport {
        self.run_until_empty_after(std::future::ready(()), settings, forced(hurry)).await
    }

    /// The same, but it does not end for want of guards before `arrived` has resolved: until then
    /// more may come. That is dropped at the deadline and when the drain is hurried, for the cause
    /// that `hurried` gives.
    pub(crate) async fn run_until_empty_after(
        &self,
        arrived: impl Future<Output = ()>,
        settings: &DrainSettings,
        hurried: impl Future<Output = CutCause>,
    ) -> DrainReport {
        let began = Instant::now();
        let noting = self.noting_changes();
        let before = self.totals();
        // Those of a drain that was given up are no part of this one.
        drop(self.take_lost());
        self.advance(DrainPhase::LameDuck);
        let gentle = tokio::select! {
            biased;
            () = async {
                arrived.await;
                self.empty().await;
            } => Gentle::Empty,
            cause = hurried => Gentle::Over(cause),
            () = self.gently(settings, began) => Gentle::Over(CutCause::Deadline),
            () = self.publish_changes() => Gentle::Over(CutCause::Deadline),
        };
        let mut report = DrainReport::new(self.totals().ended.saturating_sub(before.ended));
        report.hurried = !matches!(gentle, Gentle::Empty | Gentle::Over(CutCause::Deadline));
        let lost = self.take_lost().into_iter();
        report.cut = lost.map(|held| Held { cut: Some(CutCause::Lost), ..held }).collect();
        match gentle {
            Gentle::Empty => report.cut_count = self.totals().lost.saturating_sub(before.lost),
            Gentle::Over(cause) => {
                self.force(settings.force_grace, cause, before, &mut report).await;
            }
        }
        report.cuts.lost = self.totals().lost.saturating_sub(before.lost);
        report.cut.sort_by_key(|held| std::cmp::Reverse(held.age));
        report.cut.truncate(MAX_NAMED);
        report.outcome = match (report.cut_count, report.left) {
            (0, _) => DrainOutcome::Drained,
            (_, 0) => DrainOutcome::Cut,
            _ => DrainOutcome::Forced,
        };
        report.moved = self.totals().left.saturating_sub(before.left);
        drop(noting);
        self.publish();
        report.elapsed = began.elapsed();
        report
    }

    /// Lame duck and graceful; resolves at the deadline.
    async fn gently(&self, settings: &DrainSettings, began: Instant) {
        let deadline = after(began, settings.deadline);
        sleep_until(deadline.min(after(began, settings.lame_duck))).await;
        // When the deadline comes first, force moves those that the spread has not reached.
        let graceful = self.advance_spread(DrainPhase::Graceful, settings.spread);
        let _late = timeout_at(deadline, graceful).await;
        sleep_until(deadline).await;
    }

    /// Force and its grace; adds to the report what came of it.
    async fn force(
        &self,
        grace: Duration,
        cause: CutCause,
        before: Totals,
        report: &mut DrainReport,
    ) {
        // Of some it will turn out that they left.
        let (then, named) = self.held(2 * MAX_NAMED);
        report.drained = then.ended.saturating_sub(before.ended);
        self.advance(DrainPhase::Force);
        tokio::select! {
            biased;
            () = self.empty() => (),
            () = sleep_until(after(Instant::now(), grace)) => (),
            () = self.publish_changes() => (),
        }
        // Whoever had been taken by the successor, or was under way to it, is not cut.
        let held = named.into_iter().filter_map(Named::unless_it_left);
        report.cut.extend(held.map(|held| Held { cut: Some(cause), ..held }));
        let now = self.totals();
        // All that came, less those that had ended by then, have left or were lost before.
        let others = then.ended.saturating_add(now.left).saturating_add(before.lost);
        report.cut_count = now.made.saturating_sub(others);
        let lost = now.lost.saturating_sub(before.lost);
        report.cuts = CutCounts::of(cause, report.cut_count.saturating_sub(lost));
        report.left = now.active();
    }

    /// Publishes counts when they have changed, with the least pause between two; never resolves.
    async fn publish_changes(&self) {
        let mut pause = PUBLISH_EVERY;
        loop {
            let published = Instant::now();
            self.changed().await;
            sleep_until(published + pause).await;
            let began = Instant::now();
            self.publish();
            pause = PUBLISH_EVERY.max(began.elapsed() * PUBLISH_SHARE);
        }
    }
}
