//! One upgrade, driven from the predecessor's side.
//!
//! **Contract:** whatever this returns, exactly one of two things is true: the verdict is
//! 'committed' and the successor owns, or this generation accepts as before (or stops, if that was
//! asked) and the successor is on its way out under somebody's eyes.
//!
//! The machine decides; this room sends, waits, parks and seals for it.

mod act;
mod checks;
mod hear;
mod order;
mod say;
mod supply;

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::checks::{Checked, Checks};
use self::order::Charge;
pub(crate) use self::order::{Ended, News, Order, Relation, Started, Word};
use self::supply::Supply;
use super::Timer;
use super::clock::Clock;
use super::leaving::Leaving;
use super::life::Life;
use super::offer;
use super::predecessor::{Cause, Event, Outcome, Plan, Predecessor, State};
use crate::error::{Result, chain};
use crate::link::{Envelope, LinkReceiver, LinkSender};
use crate::report::builder::ReportBuilder;
use crate::report::{CauseKind, UpgradeOutcome, UpgradePhase, Window};
use crate::spawn::Child;
use crate::verdict::Verdict;
use crate::wire::{Figures, SPOKEN};

pub(crate) type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// More messages without a pause are no dialogue: they would keep every timer from being heard. The
/// longest 'ready' has fewer, and so has what a socket's buffer holds.
const IN_A_ROW: u32 = 10_000;

/// How long after the verdict the report waits for the exit status of a successor that closed its
/// link: most do so because they end, and on a busy machine that takes a while. This generation is
/// accepting again by then.
const STATUS_WAIT: Duration = Duration::from_secs(1);

/// How long after the verdict the report waits for what a rejected successor has served.
const FIGURES_WAIT: Duration = Duration::from_millis(100);

struct Upgrade<H> {
    order: Order,
    on_hand_over: Option<H>,
    machine: Predecessor,
    clock: Clock,
    verdict: Arc<Verdict>,
    report: ReportBuilder,
    preflight: Option<Pending<Result<()>>>,
    spawning: Option<Pending<Result<Started>>>,
    /// What the successor could be rolled back to.
    programs: Vec<offer::Program>,
    charge: Charge,
    link: Option<(LinkSender, LinkReceiver)>,
    link_ended: bool,
    /// Messages since anything else happened.
    in_a_row: u32,
    protocol: u32,
    offer: Result<Vec<offer::Parcel>>,
    offering: Option<JoinHandle<Result<()>>>,
    life: Option<Life>,
    /// Sockets in the offer.
    offered: usize,
    /// It is to be handed over as soon as the successor serves.
    pressed: bool,
    parking: Option<Pending<Result<()>>>,
    ready: offer::Gathered,
    sequence: u64,
    parked_at: Option<Instant>,
    /// The application has been asked to yield, and has not been told how that ended.
    asked_to_yield: bool,
    /// The application's hooks that ran when the turn was not given in time.
    held_up_by: Option<&'static str>,
    served: bool,
    checks: Option<Checks>,
    supply: Supply,
    /// Our end of the channel on which sessions will leave.
    sessions: Option<OwnedFd>,
    /// What the successor has served, as it said last.
    figures: Figures,
    /// How requests of this generation had ended when the upgrade was asked for.
    before: (u64, u64),
    /// When the event came that is being worked on.
    event_at: Instant,
    /// What the successor said last that it waits for.
    not_yet: Option<String>,
    outcome: Option<Outcome>,
    cause: String,
    leaving: Option<Leaving>,
}

/// Runs one upgrade to its verdict. `on_hand_over` is called when this generation ceases to own,
/// before the successor is told that it does; it gets the successor's pid, 0 if that is not known or
/// not our supervisor's.
pub(crate) async fn run<H: FnOnce(i32) + Send>(
    order: Order,
    mut report: ReportBuilder,
    words: &mut mpsc::Receiver<Word>,
    on_hand_over: H,
) -> Ended {
    let verdict = match Verdict::create() {
        Ok(verdict) => Arc::new(verdict),
        Err(error) => {
            // Nothing has been started; the report tells it like any other failure.
            let cause = Some(chain(&error));
            report.blame(CauseKind::Predecessor);
            let report = report.finish(UpgradeOutcome::Failed, cause, Instant::now());
            let served = Figures::default();
            return Ended::RolledBack { report, blamed: false, served, leaving: None };
        }
    };
    (order.on_news)(News::Verdict(Arc::clone(&verdict)));
    let (machine, actions) = Predecessor::new(Plan {
        preflight: order.preflight.is_some(),
        probation: !order.lengths.probation.is_zero(),
        checked: !order.health.checks.is_empty(),
    });
    let mut upgrade = Upgrade::new(order, report, machine, verdict, on_hand_over);
    upgrade.enter_phase();
    upgrade.measure_ourselves();
    upgrade.perform(actions);
    while upgrade.outcome.is_none() {
        if let Some(event) = upgrade.next(words).await {
            upgrade.feed(event);
        }
    }
    upgrade.finish().await
}

impl<H: FnOnce(i32) + Send> Upgrade<H> {
    fn new(
        order: Order,
        report: ReportBuilder,
        machine: Predecessor,
        verdict: Arc<Verdict>,
        on_hand_over: H,
    ) -> Self {
        let requests = order.requests.clone();
        requests.remember();
        Self {
            clock: Clock::new(order.lengths),
            checks: Checks::of(order.health.clone()),
            sessions: None,
            supply: Supply::new(order.states.clone()),
            pressed: false,
            order,
            on_hand_over: Some(on_hand_over),
            charge: Charge { child: None, verdict: Arc::clone(&verdict), adopted: false },
            machine,
            verdict,
            report,
            preflight: None,
            spawning: None,
            programs: Vec::new(),
            link: None,
            link_ended: false,
            in_a_row: 0,
            protocol: SPOKEN.max,
            offer: Ok(Vec::new()),
            offering: None,
            life: None,
            offered: 0,
            parking: None,
            ready: offer::Gathered::default(),
            sequence: 0,
            parked_at: None,
            asked_to_yield: false,
            held_up_by: None,
            served: false,
            figures: Figures::default(),
            before: requests.totals(),
            event_at: Instant::now(),
            not_yet: None,
            outcome: None,
            cause: String::new(),
            leaving: None,
        }
    }

    /// The next thing that happens. The link is read to its end before a death is believed, and
    /// both come before any timer: who was stopped for a while learns first and acts second.
    async fn next(&mut self, words: &mut mpsc::Receiver<Word>) -> Option<Event> {
        let link_ended = self.link_ended;
        let in_a_row = std::mem::take(&mut self.in_a_row);
        tokio::select! {
            biased;
            envelope = receive(&mut self.link), if !link_ended => {
                self.in_a_row = in_a_row + 1;
                self.heard(envelope)
            }
            exit = ended(&mut self.charge.child) => Some(Event::Died(exit)),
            tried = pending(&mut self.preflight) => Some(match tried {
                Ok(()) => Event::PreflightPassed,
                Err(error) => {
                    self.spare_the_program(&error);
                    Event::PreflightFailed(chain(&error))
                }
            }),
            spawned = pending(&mut self.spawning) => Some(self.spawned(spawned)),
            parked = pending(&mut self.parking) => Some(match parked {
                Ok(()) => Event::Parked,
                Err(error) => Event::ParkFailed(chain(&error)),
            }),
            failed = offer_failed(&mut self.offering) => Some(Event::OfferFailed(failed)),
            word = words.recv() => word.and_then(|word| self.told_by_operator(word)),
            checked = checks::next(&mut self.checks) => self.checked(checked),
            timer = self.clock.next() => Some(Event::Expired(timer)),
        }
    }

    /// The successor is not wanted any more, and that is why.
    fn rejected(&mut self, kind: CauseKind, why: String) -> Event {
        self.report.blame(kind);
        Event::Rejected(why)
    }

    /// One event through the machine, with the verdict as it is now, and all that follows.
    fn feed(&mut self, event: Event) {
        self.event_at = Instant::now();
        let seen = self.verdict.read().unwrap_or_else(|error| {
            crate::log::error!(target: "heirloom::handoff", error = %chain(&error), "the verdict cannot be read");
            None
        });
        if event == Event::Ready {
            let bound = std::mem::take(&mut self.ready.bound);
            let claimed = self.ready.claimed.len();
            let unclaimed = self.offered.saturating_sub(claimed);
            self.report.sockets(claimed, unclaimed, bound.len());
            self.order.sockets.adopt_bound(bound);
            for note in std::mem::take(&mut self.ready.notes) {
                self.report.note(note);
            }
        }
        self.charge.adopted |= event == Event::Adopted;
        let serving = event == Event::Serving;
        if serving {
            self.served = true;
            self.end_gap();
        }
        let (machine, actions) = self.machine.clone().on(event, seen);
        let moved = machine.state() != self.machine.state();
        self.machine = machine;
        if moved {
            self.enter_phase();
        }
        self.perform(actions);
        if serving && self.pressed {
            self.feed(Event::Approved);
        }
    }

    /// What an operator's word means here; nothing if it changes nothing.
    ///
    /// A stop ends the handoff, and the service with it, but not if somebody else has started the
    /// successor: then it is this process alone that shall go, and it hands over as soon as it can.
    /// A second stop means it.
    fn told_by_operator(&mut self, word: Word) -> Option<Event> {
        match word {
            Word::Approve => Some(Event::Approved),
            Word::Reject(why) => Some(self.rejected(CauseKind::Operator, why)),
            Word::Stop if !self.order.taken_over || self.pressed => Some(Event::Stop),
            Word::Stop => {
                self.pressed = true;
                let serves = matches!(self.machine.state(), State::Probation { .. });
                serves.then_some(Event::Approved)
            }
        }
    }

    fn enter_phase(&mut self) {
        // Within probation the machine moves without a new phase.
        if let Some(phase) = phase_of(self.machine.state())
            && phase != self.report.phase()
        {
            self.report.enter(phase, Instant::now());
            (self.order.on_news)(News::Phase(phase));
        }
    }

    async fn finish(mut self) -> Ended {
        if let Some(offering) = self.offering.take() {
            offering.abort();
        }
        let cause = match self.outcome.take() {
            Some(Outcome::RolledBack(cause)) => Some(cause),
            _ => None,
        };
        let now = Instant::now();
        if cause.is_none()
            && let (Some((sender, receiver)), Some(mut child)) =
                (self.link.take(), self.charge.child.take())
        {
            child.set_free();
            self.count_requests(now);
            let span = self.report.span();
            let report = self.report.finish(UpgradeOutcome::Committed, None, now);
            let generation = self.order.successor;
            let machine = self.machine;
            let life = self.life.take();
            let relation = Relation { machine, generation, sender, receiver, child, life, span };
            let successor = Box::new(relation);
            return Ended::Committed { report, successor };
        }
        let mut text = cause.as_ref().map_or_else(String::new, |cause| self.in_full(cause));
        if let (Some(Cause::LinkClosed), Some(leaving)) = (&cause, &mut self.leaving)
            && let Some(exit) = leaving.status(STATUS_WAIT).await
        {
            text = format!("{text}: {exit}");
            self.report.blame(CauseKind::Died);
        }
        let outcome = if self.served { UpgradeOutcome::RolledBack } else { UpgradeOutcome::Failed };
        if self.served {
            let known = match &mut self.leaving {
                Some(leaving) => leaving.figures(FIGURES_WAIT).await,
                None => None,
            };
            self.figures = known.unwrap_or(self.figures);
            self.report.accepted(self.figures.accepted);
        }
        if let Some(cause) = &cause {
            self.report.blame(cause.kind());
        }
        self.count_requests(now);
        let report = self.report.finish(outcome, Some(text), Instant::now());
        // One that has come by itself, and was not let begin, has not been tried.
        let untried = self.order.taken_over && report.phase <= UpgradePhase::Spawn;
        let blamed = !untried && report.cause_kind.is_some_and(CauseKind::is_of_the_program);
        let (served, leaving) = (self.figures, self.leaving.map(Leaving::into_parts));
        Ended::RolledBack { report, blamed, served, leaving }
    }
}

impl<H> Upgrade<H> {
    /// How requests have ended since the upgrade was asked for, in both generations, and before.
    fn count_requests(&mut self, now: Instant) {
        let (requests, figures) = (&self.order.requests, self.figures);
        requests.remember();
        let (succeeded, failed) = requests.totals();
        let failed = failed.saturating_sub(self.before.1).saturating_add(figures.failed);
        let succeeded = succeeded.saturating_sub(self.before.0).saturating_add(figures.succeeded);
        let length = self.report.elapsed(now);
        let requests = requests.before(self.report.started(), length);
        let window = Window { length, requests: succeeded.saturating_add(failed), failed };
        self.report.requests(window, requests);
    }

    /// The cause, with what is known behind it.
    fn in_full(&self, cause: &Cause) -> String {
        let why = match cause {
            Cause::TooLate(Timer::Ready) => self.not_yet.clone(),
            Cause::TooLate(Timer::Progress) => {
                self.checks.as_ref().and_then(|checks| checks.ailing.clone())
            }
            Cause::Park(_) => {
                let hook = self.held_up_by;
                hook.map(|hook| format!("the application's {hook} has not returned"))
            }
            _ => None,
        };
        why.map_or_else(|| cause.to_string(), |why| format!("{cause}: {why}"))
    }
}

/// The phase that a state of the machine is reported as.
fn phase_of(state: &State) -> Option<UpgradePhase> {
    Some(match state {
        State::Preflight => UpgradePhase::Preflight,
        State::Spawning => UpgradePhase::Spawn,
        State::Greeting => UpgradePhase::Hello,
        State::Offering => UpgradePhase::Offer,
        State::Starting => UpgradePhase::Start,
        State::Checking => UpgradePhase::Ready,
        State::Parking => UpgradePhase::Park,
        State::Yielding => UpgradePhase::Yield,
        State::Probation { .. } => UpgradePhase::Probation,
        State::Permitting => UpgradePhase::Permit,
        State::Elder => UpgradePhase::Commit,
        _ => return None,
    })
}

async fn receive(link: &mut Option<(LinkSender, LinkReceiver)>) -> Result<Option<Envelope>> {
    match link {
        Some((_, receiver)) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

async fn ended(child: &mut Option<Child>) -> String {
    match child {
        Some(child) => child.ended().await.to_string(),
        None => std::future::pending().await,
    }
}

/// What a future that may not be there yields, once.
async fn pending<T>(slot: &mut Option<Pending<T>>) -> T {
    let Some(future) = slot else {
        return std::future::pending().await;
    };
    let value = future.await;
    *slot = None;
    value
}

async fn offer_failed(offering: &mut Option<JoinHandle<Result<()>>>) -> String {
    let Some(task) = offering else {
        return std::future::pending().await;
    };
    let result = task.await;
    *offering = None;
    match result {
        Ok(Err(error)) => chain(&error),
        _ => std::future::pending().await,
    }
}
