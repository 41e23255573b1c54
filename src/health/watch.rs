//! Runs the checks of one generation and says what they find.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::baseline::Baseline;
use super::candidate::Subject;
use super::herald::Announcement;
use super::load::{Load, Trend};
use super::round::{Round, Rounds};
use super::saturation::{Past, Reading};
use super::vitals::{Step, Vitals};
use super::{Finding, HealthCheck, Policy};

/// So many results may wait to be looked at; a check that has more to say waits.
const PENDING: usize = 16;

/// The checks of a generation that serves. They run until this is dropped.
pub(crate) struct Watch {
    vitals: Vitals,
    results: mpsc::Receiver<(usize, Said)>,
    found: VecDeque<Finding>,
    /// The checks' tasks: they end with this.
    _checks: JoinSet<()>,
    /// Without any check nobody else would keep the results open.
    _open: mpsc::Sender<(usize, Said)>,
}

/// What a round of a check has to say.
enum Said {
    Step(Step),
    Note(String),
}

impl Watch {
    /// Begins to check at once. `before` is what the predecessor served when it yielded, `now` what
    /// the generation under check says that it serves. Needs a runtime with I/O and time.
    pub(crate) fn begin(
        policy: &Policy,
        subject: Subject,
        baseline: &Baseline,
        before: Load,
        now: &watch::Receiver<Load>,
        announce: &mpsc::Sender<Announcement>,
    ) -> Self {
        let subject = Arc::new(subject);
        let (open, results) = mpsc::channel(PENDING);
        let mut checks = JoinSet::new();
        for (index, check) in policy.checks.iter().enumerate() {
            let task = Task {
                rounds: Rounds::new(check.clone(), Arc::clone(&subject), announce.clone()),
                past: baseline.past(index),
                before,
                now: now.clone(),
                trend: Trend::default(),
                noted: false,
            };
            let results = open.clone();
            crate::task::spawn_in(&mut checks, task.run(index, results));
        }
        let thresholds = policy.checks.iter().map(HealthCheck::thresholds).collect();
        let vitals = Vitals::new(thresholds, policy.min_healthy_time, Instant::now());
        let found = vitals.missing(0).map(Finding::Ailing).into_iter().collect();
        Self { vitals, results, found, _checks: checks, _open: open }
    }

    /// The next finding.
    ///
    /// [`Finding::Healthy`] comes when every check is healthy and has been for long enough, and
    /// again after it was taken back. Until then there is a [`Finding::Ailing`] at the start and with
    /// every round, which says what is missing; [`Finding::Unhealthy`] comes as soon as a check has
    /// failed as often in a row as it may.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing found is lost.
    pub(crate) async fn next(&mut self) -> Finding {
        loop {
            if let Some(finding) = self.found.pop_front() {
                return finding;
            }
            let due = self.vitals.due();
            tokio::select! {
                biased;
                Some((check, said)) = self.results.recv() => match said {
                    Said::Note(note) => self.found.push_back(Finding::Note(note)),
                    Said::Step(step) => {
                        self.found.extend(self.vitals.on(check, step, Instant::now()));
                    }
                },
                () = until(due) => self.found.extend(self.vitals.at(Instant::now())),
            }
        }
    }
}

/// Resolves at that time, or never.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// One check's task.
struct Task {
    rounds: Rounds,
    past: Past,
    before: Load,
    now: watch::Receiver<Load>,
    trend: Trend,
    /// Whether it was said that accepts are not observed.
    noted: bool,
}

impl Task {
    /// A round, then the rest of the interval, and so on.
    async fn run(mut self, index: usize, results: mpsc::Sender<(usize, Said)>) {
        loop {
            let began = Instant::now();
            let round = self.rounds.next().await;
            for said in self.weigh(round) {
                if results.send((index, said)).await.is_err() {
                    return;
                }
            }
            until(began.checked_add(self.rounds.check().interval)).await;
        }
    }

    /// What a round comes to.
    fn weigh(&mut self, round: Round) -> Vec<Said> {
        self.trend.follow(&mut self.now);
        let name = self.rounds.check().thresholds().name;
        let mut said = Vec::new();
        let mut note = |text: String, noted: &mut bool| {
            if !std::mem::replace(noted, true) {
                said.push(Said::Note(format!("health check {name}: {text}")));
            }
        };
        let step = match round {
            Round::Passed { unobserved } => {
                if let Some(listener) = unobserved.first() {
                    let text = format!(
                        "a framework accepts on listener \"{listener}\" by itself: an answer is \
                         taken for the new generation's, and a group is not looked at as a whole"
                    );
                    note(text, &mut self.noted);
                }
                Step::Passed
            }
            Round::NotChecked(why) => Step::NotChecked(why),
            Round::Failed(failure) => match failure.read(&self.past, self.before, self.trend) {
                Reading::Sick(why) => Step::Failed(why),
                Reading::Undecided(why) => Step::Undecided(why),
                Reading::Passed(why) => {
                    note(why, &mut self.noted);
                    Step::Passed
                }
            },
        };
        said.push(Said::Step(step));
        said
    }
}
