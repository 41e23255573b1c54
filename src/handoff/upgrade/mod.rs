//! One upgrade, driven from the predecessor's side.
//!
//! **Contract:** whatever this returns, exactly one of two things is true: the verdict is
//! 'committed' and the successor owns, or this generation accepts as before (or stops, if that was
//! asked) and the successor is on its way out under somebody's eyes.
//!
//! The machine decides; this room sends, waits, parks and seals for it.

mod hear;
mod say;

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::clock::{Clock, Lengths};
use super::leaving::{self, Leaving};
use super::offer;
use super::predecessor::{Action, Cause, Event, Outcome, Plan, Predecessor, State};
use crate::error::{Result, chain};
use crate::generation::Generation;
use crate::inventory::{Inventory, in_background};
use crate::link::{Envelope, LinkReceiver, LinkSender};
use crate::name::Name;
use crate::report::builder::ReportBuilder;
use crate::report::{Report, UpgradeOutcome, UpgradePhase};
use crate::spawn::{Child, Extra, Program, spawn};
use crate::verdict::{Decision, Verdict};
use crate::wire::SPOKEN;

/// What an upgrade needs to know of the service that asks for it.
pub(crate) struct Order {
    pub service: Name,
    pub version: String,
    pub generation: Generation,
    /// The number that the successor gets.
    pub successor: Generation,
    pub program: Program,
    pub extra: Extra,
    pub lengths: Lengths,
    /// How long a rejected successor that has served may take to finish.
    pub leave: Duration,
    pub accept_unenforceable: bool,
    pub sockets: Inventory,
    /// A pidfd of this process.
    pub own_process: Arc<OwnedFd>,
    pub elders: Vec<offer::Elder>,
    /// Links of rejected successors that have not gone yet.
    pub rejected: Vec<LinkSender>,
    /// An upgrade is to be run by whoever owns afterwards.
    pub queued: Arc<AtomicBool>,
    /// Called when the successor was asked for one.
    pub on_asked: Box<dyn Fn() + Send>,
}

/// What somebody says about the upgrade while it runs.
#[derive(Debug)]
pub(crate) enum Word {
    /// This generation shall stop.
    Stop,
}

/// How it ended.
pub(crate) enum Ended {
    /// The successor owns.
    Committed { report: Report, successor: Box<Relation> },
    /// This generation goes on, or stops.
    RolledBack {
        report: Report,
        /// Watches the successor until its end, and its link. `None` if there never was a process.
        leaving: Option<(JoinHandle<()>, Option<LinkSender>)>,
    },
}

/// The newer generation at the other end of a link, with its process.
pub(crate) struct Relation {
    pub generation: Generation,
    pub sender: LinkSender,
    pub receiver: LinkReceiver,
    pub child: Child,
    /// Decides whether this side owns again.
    pub machine: Predecessor,
}

impl Relation {
    /// Tells the machine; true if this generation owns again.
    pub(crate) fn tell(&mut self, event: Event) -> bool {
        let (machine, actions) = self.machine.clone().on(event, Some(Decision::Committed));
        self.machine = machine;
        actions.contains(&Action::OwnAgain)
    }
}

/// The successor's process, as long as it is this side's to end.
///
/// An upgrade is dropped in the middle only with its runtime: the application has failed or
/// panicked, and this generation is about to die. A successor that holds the whole offer then lives
/// on and owns, as after any other death; without it, nothing can be made of it.
struct Charge {
    child: Option<Child>,
    verdict: Arc<Verdict>,
    /// Whether it holds the whole offer.
    adopted: bool,
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        let lives_on = match self.verdict.read() {
            Ok(Some(decision)) => decision == Decision::Committed,
            Ok(None) | Err(_) => self.adopted,
        };
        if lives_on {
            child.set_free();
        }
    }
}

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// More messages without a pause are no dialogue: they would keep every timer from being heard. The
/// longest 'ready' has fewer, and so has what a socket's buffer holds.
const IN_A_ROW: u32 = 10_000;

/// How long after the verdict the report waits for the exit status of a successor that closed its
/// link. It is accepting again by then.
const STATUS_WAIT: Duration = Duration::from_millis(100);

struct Upgrade<H> {
    order: Order,
    on_hand_over: Option<H>,
    machine: Predecessor,
    clock: Clock,
    verdict: Arc<Verdict>,
    report: ReportBuilder,
    spawning: Option<Pending<Result<(Child, OwnedFd)>>>,
    charge: Charge,
    link: Option<(LinkSender, LinkReceiver)>,
    link_ended: bool,
    /// Messages since anything else happened.
    in_a_row: u32,
    protocol: u32,
    offer: Result<Vec<offer::Parcel>>,
    offering: Option<JoinHandle<Result<()>>>,
    /// Sockets in the offer.
    offered: usize,
    parking: Option<Pending<Result<()>>>,
    ready: offer::Gathered,
    sequence: u64,
    parked_at: Option<Instant>,
    served: bool,
    outcome: Option<Outcome>,
    cause: String,
    leaving: Option<Leaving>,
}

/// Runs one upgrade to its verdict. `on_hand_over` is called when this generation ceases to own,
/// before the successor is told that it does.
pub(crate) async fn run<H: FnOnce() + Send>(
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
            let report = report.finish(UpgradeOutcome::Failed, cause, Instant::now());
            return Ended::RolledBack { report, leaving: None };
        }
    };
    let probation = !order.lengths.probation.is_zero();
    let (machine, actions) = Predecessor::new(Plan { probation });
    let (program, extra) = (order.program.clone(), order.extra.clone());
    report.enter(UpgradePhase::Spawn, Instant::now());
    let mut upgrade = Upgrade {
        clock: Clock::new(order.lengths),
        order,
        on_hand_over: Some(on_hand_over),
        charge: Charge { child: None, verdict: Arc::clone(&verdict), adopted: false },
        machine,
        verdict,
        report,
        spawning: Some(Box::pin(async move { spawn(&program, &extra).await })),
        link: None,
        link_ended: false,
        in_a_row: 0,
        protocol: SPOKEN.max,
        offer: Ok(Vec::new()),
        offering: None,
        offered: 0,
        parking: None,
        ready: offer::Gathered::default(),
        sequence: 0,
        parked_at: None,
        served: false,
        outcome: None,
        cause: String::new(),
        leaving: None,
    };
    upgrade.perform(actions);
    while upgrade.outcome.is_none() {
        if let Some(event) = upgrade.next(words).await {
            upgrade.feed(event);
        }
    }
    upgrade.finish().await
}

impl<H: FnOnce() + Send> Upgrade<H> {
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
            spawned = pending(&mut self.spawning) => Some(self.spawned(spawned)),
            parked = pending(&mut self.parking) => Some(match parked {
                Ok(()) => Event::Parked,
                Err(error) => Event::ParkFailed(chain(&error)),
            }),
            failed = offer_failed(&mut self.offering) => Some(Event::OfferFailed(failed)),
            word = words.recv() => word.map(|Word::Stop| Event::Stop),
            timer = self.clock.next() => Some(Event::Expired(timer)),
        }
    }

    /// One event through the machine, with the verdict as it is now, and all that follows.
    fn feed(&mut self, event: Event) {
        let seen = self.verdict.read().unwrap_or_else(|error| {
            tracing::error!(target: "heirloom::handoff", error = %chain(&error), "the verdict cannot be read");
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
        if event == Event::Serving {
            self.served = true;
            self.end_gap();
        }
        let (machine, actions) = self.machine.clone().on(event, seen);
        let moved = machine.state() != self.machine.state();
        self.machine = machine;
        if moved && let Some(phase) = phase_of(self.machine.state()) {
            self.report.enter(phase, Instant::now());
        }
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        // The last word to the successor carries the cause with which the handoff ends.
        for action in &actions {
            if let Action::Finish(Outcome::RolledBack(cause)) = action {
                self.cause = cause.to_string();
            }
        }
        for action in actions {
            match action {
                Action::Send(say) => self.say(say),
                Action::Arm(timer) => self.clock.arm(timer),
                Action::Disarm(timer) => self.clock.disarm(timer),
                Action::DisarmAll => self.clock.disarm_all(),
                Action::Park => self.park(),
                Action::ParkLate => {
                    self.parking = None;
                    in_background(self.order.sockets.pause());
                }
                // Only an elder does, whose upgrade is over.
                Action::OwnAgain => {}
                Action::Resume => {
                    self.parking = None;
                    in_background(self.order.sockets.resume());
                    self.end_gap();
                }
                Action::Seal(decision) => self.seal(decision),
                Action::EndSuccessor => self.end_successor(),
                Action::HandOver => {
                    if let Some(hand_over) = self.on_hand_over.take() {
                        hand_over();
                    }
                    self.order.sockets.committed_as_predecessor();
                }
                Action::Finish(outcome) => {
                    if matches!(outcome, Outcome::RolledBack(_)) {
                        // Also when nothing had been parked yet.
                        self.order.sockets.release_bound();
                    }
                    self.outcome = Some(outcome);
                }
            }
        }
    }

    fn park(&mut self) {
        self.parked_at = Some(Instant::now());
        let sockets = self.order.sockets.clone();
        let claimed = std::mem::take(&mut self.ready.claimed);
        self.parking = Some(Box::pin(async move { sockets.park(&claimed).await }));
    }

    fn end_gap(&mut self) {
        if let Some(since) = self.parked_at.take() {
            self.report.gap(since.elapsed());
        }
    }

    fn seal(&mut self, decision: Decision) {
        let now = self.verdict.decide(decision).unwrap_or_else(|error| {
            tracing::error!(target: "heirloom::handoff", error = %chain(&error), "the verdict cannot be sealed");
            decision
        });
        self.feed(Event::Sealed(now));
    }

    /// The rejected successor gets its time and its end in a task that outlives this upgrade.
    fn end_successor(&mut self) {
        let grace = if self.served { self.order.leave } else { self.order.lengths.commit };
        self.leaving = Some(match (self.charge.child.take(), self.spawning.take()) {
            (Some(child), _) => leaving::watch(child, self.link.take(), grace),
            (None, Some(spawning)) => leaving::unborn(spawning),
            (None, None) => return,
        });
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
            let report = self.report.finish(UpgradeOutcome::Committed, None, now);
            let generation = self.order.successor;
            let machine = self.machine;
            let successor = Box::new(Relation { machine, generation, sender, receiver, child });
            return Ended::Committed { report, successor };
        }
        let mut text = cause.as_ref().map_or_else(String::new, Cause::to_string);
        if let (Some(Cause::LinkClosed), Some(leaving)) = (&cause, &mut self.leaving)
            && let Some(exit) = leaving.status(STATUS_WAIT).await
        {
            text = format!("{text}: {exit}");
        }
        let outcome = if self.served { UpgradeOutcome::RolledBack } else { UpgradeOutcome::Failed };
        let report = self.report.finish(outcome, Some(text), Instant::now());
        Ended::RolledBack { report, leaving: self.leaving.map(Leaving::into_parts) }
    }
}

/// The phase that a state of the machine is reported as.
fn phase_of(state: &State) -> Option<UpgradePhase> {
    Some(match state {
        State::Spawning => UpgradePhase::Spawn,
        State::Greeting => UpgradePhase::Hello,
        State::Offering => UpgradePhase::Offer,
        State::Starting => UpgradePhase::Start,
        State::Checking => UpgradePhase::Ready,
        State::Parking => UpgradePhase::Park,
        State::Yielding => UpgradePhase::Yield,
        State::Probation => UpgradePhase::Probation,
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
