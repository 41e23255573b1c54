//! The predecessor's machine in the hands of anybody: every order of events, with a verdict that
//! the first writer decides.

use std::collections::BTreeSet;

use super::script::Script;
use crate::handoff::Timer;
use crate::handoff::predecessor::{Action, Event, Outcome, Plan, Predecessor, Say, State};
use crate::verdict::Decision;

/// What can happen to a predecessor, without timers and answers to a seal. A new event goes to the
/// end: the corpus speaks of places in this table.
pub(super) const EVENTS: &[fn() -> Event] = &[
    || Event::Spawned,
    || Event::SpawnFailed("spawn".into()),
    || Event::Hello,
    || Event::Stranger("stranger".into()),
    || Event::OfferFailed("offer".into()),
    || Event::Adopted,
    || Event::Ready,
    || Event::Pong,
    || Event::Parked,
    || Event::ParkFailed("park".into()),
    || Event::Serving,
    || Event::Committed,
    || Event::Refused("refused".into()),
    || Event::Failed("failed".into()),
    || Event::Nonsense("nonsense".into()),
    || Event::LinkClosed,
    || Event::Died("died".into()),
    || Event::Abandoned,
    || Event::Approved,
    || Event::Rejected("rejected".into()),
    || Event::Stop,
    || Event::ServiceStops,
    || Event::PreflightPassed,
    || Event::PreflightFailed("preflight".into()),
    || Event::Healthy,
    || Event::Ailing,
];

/// The plan that a byte stands for.
pub(super) fn plan(byte: u8) -> Plan {
    Plan { probation: byte & 1 == 1, preflight: byte & 2 == 2, checked: byte & 4 == 4 }
}

/// A script's instructions beyond the [`EVENTS`].
pub(super) const EXPIRES: u8 = 0x80;
const SEALS: u8 = 0xfe;
const IS_FASTER: u8 = 0xff;

/// A plan, then a byte for each event: its place in the table, or a timer that runs out, or the
/// successor that seals, before the next look at the verdict or right after it.
pub fn predecessor(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut side = Side::new(plan(script.byte()));
    let mut verdict = None;
    while let Some(instruction) = script.next() {
        match instruction {
            SEALS if side.said(&Say::Offer) && !side.died => {
                verdict.get_or_insert(Decision::Committed);
            }
            IS_FASTER if side.said(&Say::Offer) && !side.died => {
                side.rival = Some(Decision::Committed)
            }
            EXPIRES..SEALS => side.expire(usize::from(instruction - EXPIRES), &mut verdict),
            place => {
                let Some(event) = EVENTS.get(usize::from(place)) else { continue };
                side.happen(event(), &mut verdict);
            }
        }
    }
}

/// A predecessor with all that its actions have led to.
pub(super) struct Side {
    machine: Predecessor,
    timers: BTreeSet<Timer>,
    /// The new program is tried.
    pub(super) trying: bool,
    /// It is started.
    pub(super) spawning: bool,
    /// Health checks run.
    watching: bool,
    pub(super) parking: bool,
    pub(super) parked: bool,
    spawned: bool,
    closed: bool,
    died: bool,
    abandoned: bool,
    /// It ends its successor.
    pub(super) condemns: bool,
    handed_over: bool,
    outcome: Option<Outcome>,
    /// All that it has said, in order.
    pub(super) words: Vec<Say>,
    /// What the other side seals between this side's next look at the verdict and its own seal.
    rival: Option<Decision>,
}

impl Side {
    pub(super) fn new(plan: Plan) -> Self {
        let (machine, actions) = Predecessor::new(plan);
        let mut side = Self {
            machine,
            timers: BTreeSet::new(),
            trying: false,
            spawning: false,
            watching: false,
            parking: false,
            parked: false,
            spawned: false,
            closed: false,
            died: false,
            abandoned: false,
            condemns: false,
            handed_over: false,
            outcome: None,
            words: Vec::new(),
            rival: None,
        };
        side.act(actions, &mut None);
        side
    }

    pub(super) fn state(&self) -> &State {
        self.machine.state()
    }

    /// Whether its part of the handoff is over.
    fn decided(&self) -> bool {
        use State::{Elder, OwnsAgain, Retired, RolledBack};
        matches!(self.state(), RolledBack | Elder | Retired | OwnsAgain)
    }

    fn said(&self, word: &Say) -> bool {
        self.words.contains(word)
    }

    /// Tells the event, if it can happen now at all: what the other side says, it may say at any
    /// time; what the driver says follows what it was told to do.
    pub(super) fn happen(&mut self, event: Event, verdict: &mut Option<Decision>) {
        let possible = match &event {
            Event::PreflightPassed | Event::PreflightFailed(_) => self.trying,
            Event::Spawned | Event::SpawnFailed(_) => self.spawning,
            Event::Healthy | Event::Ailing => self.watching,
            Event::Parked | Event::ParkFailed(_) => self.parking,
            Event::LinkClosed => self.spawned && !self.closed,
            Event::Died(_) => self.spawned && !self.died,
            Event::Abandoned => self.died && self.closed && !self.abandoned,
            Event::Approved | Event::Rejected(_) | Event::Stop | Event::ServiceStops => true,
            _ => self.spawned && !self.closed,
        };
        if !possible {
            return;
        }
        match &event {
            Event::PreflightPassed | Event::PreflightFailed(_) => self.trying = false,
            Event::Spawned => (self.spawning, self.spawned) = (false, true),
            Event::SpawnFailed(_) => self.spawning = false,
            Event::LinkClosed => self.closed = true,
            // The dead seal nothing.
            Event::Died(_) => (self.died, self.rival) = (true, None),
            Event::Abandoned => self.abandoned = true,
            Event::Parked => (self.parking, self.parked) = (false, true),
            _ => {}
        }
        self.tell(event, verdict);
        self.check(*verdict);
    }

    /// One of the armed timers runs out.
    pub(super) fn expire(&mut self, index: usize, verdict: &mut Option<Decision>) {
        if let Some(timer) = self.timers.iter().nth(index).copied() {
            self.timers.remove(&timer);
            self.tell(Event::Expired(timer), verdict);
            self.check(*verdict);
        }
    }

    /// The place of the first armed timer that has to run out some time: a ping only asks, and
    /// whoever answers it is not silent.
    pub(super) fn deadline(&self) -> Option<usize> {
        self.timers.iter().position(|timer| !matches!(timer, Timer::Ping | Timer::Silence))
    }

    /// The place of the first armed timer that runs out if nothing else happens any more.
    pub(super) fn last_timer(&self) -> Option<usize> {
        self.timers.iter().position(|timer| *timer != Timer::Ping)
    }

    /// How much it knows of the other side's end: nothing, its link's, its process's.
    pub(super) fn learned(&self) -> usize {
        usize::from(self.closed) + usize::from(self.died) + usize::from(self.abandoned)
    }

    fn tell(&mut self, event: Event, verdict: &mut Option<Decision>) {
        let (machine, actions) = self.machine.clone().on(event, *verdict);
        self.machine = machine;
        self.act(actions, verdict);
    }

    fn act(&mut self, actions: Vec<Action>, verdict: &mut Option<Decision>) {
        assert!(actions.len() < 16, "{actions:?}");
        for action in actions {
            match action {
                Action::Send(word) => self.say(word, *verdict),
                Action::Arm(timer) => _ = self.timers.insert(timer),
                Action::Disarm(timer) => _ = self.timers.remove(&timer),
                Action::DisarmAll => self.timers.clear(),
                Action::Preflight => {
                    assert!(
                        !self.trying && self.words.is_empty(),
                        "it is tried twice, or too late"
                    );
                    self.trying = true;
                }
                Action::Spawn => {
                    assert!(!self.trying && !self.spawning && !self.spawned, "a second successor");
                    self.spawning = true;
                }
                Action::Watch => self.watching = true,
                Action::Park => {
                    assert!(!self.parked && self.outcome.is_none(), "it parks twice, or too late");
                    self.parking = true;
                }
                Action::ParkLate => (self.parking, self.parked) = (false, true),
                Action::Resume => (self.parking, self.parked) = (false, false),
                Action::OwnAgain => {
                    assert!(self.died && self.closed, "P3: it owns beside a newer generation");
                    (self.parking, self.parked) = (false, false);
                }
                Action::Seal(decision) => {
                    assert_eq!(decision, Decision::RolledBack, "committing is the successor's");
                    let first = self.rival.take().unwrap_or(decision);
                    let now = *verdict.get_or_insert(first);
                    self.tell(Event::Sealed(now), verdict);
                }
                Action::EndSuccessor => {
                    assert_eq!(*verdict, Some(Decision::RolledBack), "P2: ended without a verdict");
                    self.condemns = true;
                }
                Action::HandOver => {
                    assert!(!self.handed_over, "it hands over twice");
                    assert_eq!(*verdict, Some(Decision::Committed), "P2: handed over too early");
                    self.handed_over = true;
                }
                Action::Finish(outcome) => {
                    assert_eq!(self.outcome, None, "P12: a second report");
                    self.outcome = Some(outcome);
                    // The driver's part in the handoff ends with it.
                    (self.trying, self.spawning, self.watching) = (false, false, false);
                }
                #[allow(unreachable_patterns, reason = "an action may be added")]
                _ => {}
            }
        }
    }

    fn say(&mut self, word: Say, verdict: Option<Decision>) {
        let said = |before: &Say| self.words.contains(before);
        match word {
            Say::Welcome => assert!(self.words.is_empty(), "welcome is its first word"),
            Say::Offer => assert!(said(&Say::Welcome) && !said(&Say::Offer), "one offer"),
            Say::Yield => {
                assert!(self.parked && !said(&Say::Yield), "the turn is given once, when parked");
            }
            Say::MayCommit => {
                assert!(said(&Say::Yield) && verdict.is_none(), "a permission nobody can use");
            }
            Say::Owner => assert_eq!(verdict, Some(Decision::Committed), "P3: nobody owns yet"),
            Say::RollBack { .. } | Say::Refuse => {
                assert_eq!(verdict, Some(Decision::RolledBack), "P3: it was not decided so");
            }
            _ => {}
        }
        let last = |before: &Say| matches!(before, Say::Owner | Say::RollBack { .. } | Say::Refuse);
        assert!(!self.words.iter().any(last), "it says {word:?} after its last word");
        self.words.push(word);
    }

    /// What must be true whenever the machine waits for the next event.
    fn check(&self, verdict: Option<Decision>) {
        let state = self.state();
        let of_state = match state {
            State::RolledBack => Some(Decision::RolledBack),
            State::Elder | State::Retired | State::OwnsAgain => Some(Decision::Committed),
            _ => None,
        };
        assert_eq!(of_state, verdict, "P3: {state:?} is not what the verdict says");
        let outcome = self.outcome.as_ref().map(|outcome| match outcome {
            Outcome::Committed => Decision::Committed,
            Outcome::RolledBack(_) => Decision::RolledBack,
        });
        assert_eq!(outcome, verdict, "P12: the report of {state:?} is not what the verdict says");
        if self.decided() {
            assert!(self.timers.is_empty(), "{state:?} waits for {:?}", self.timers);
        } else {
            assert!(self.deadline().is_some(), "P4: {state:?} waits without an end");
        }
        let serves = !self.parked && !self.parking;
        match state {
            State::RolledBack | State::OwnsAgain => assert!(serves, "P1: {state:?} is parked"),
            State::Elder | State::Retired => assert!(self.parked, "P3: {state:?} accepts"),
            _ => {}
        }
        let taken_back = *state == State::RolledBack && self.spawned;
        assert!(self.condemns || !taken_back, "P5: a successor that failed is not ended");
        assert_eq!(self.handed_over, verdict == Some(Decision::Committed));
    }
}
