//! The successor's machine in the hands of anybody: every order of events, with a verdict that the
//! first writer decides.

use std::collections::BTreeSet;

use super::script::Script;
use crate::handoff::Timer;
use crate::handoff::successor::{Action, Event, Plan, Say, State, Successor};
use crate::verdict::Decision;

/// What can happen to a successor, without timers and answers to a seal. A new event goes to the
/// end: the corpus speaks of places in this table.
pub(super) const EVENTS: &[fn() -> Event] = &[
    || Event::Welcome,
    || Event::Offered,
    || Event::Unusable("unusable".into()),
    || Event::Ready,
    || Event::Failed("failed".into()),
    || Event::Yield,
    || Event::OpenFailed("open".into()),
    || Event::MayCommit,
    || Event::Owner,
    || Event::RollBack { last: false },
    || Event::RollBack { last: true },
    || Event::Ping,
    || Event::Nonsense("nonsense".into()),
    || Event::LinkClosed,
    || Event::Died,
];

/// A script's instructions beyond the [`EVENTS`].
pub(super) const EXPIRES: u8 = 0x80;
const SEALS: u8 = 0xfe;
const IS_FASTER: u8 = 0xff;

/// A plan, then a byte for each event: its place in the table, or a timer that runs out, or the
/// predecessor that seals, before the next look at the verdict or right after it.
pub fn successor(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut side = Side::new(Plan { enforceable: script.byte() & 1 == 1 });
    let mut verdict = None;
    while let Some(instruction) = script.next() {
        match instruction {
            SEALS if !side.died => _ = verdict.get_or_insert(Decision::RolledBack),
            IS_FASTER if !side.died => side.rival = Some(Decision::RolledBack),
            EXPIRES..SEALS => side.expire(usize::from(instruction - EXPIRES), &mut verdict),
            place => {
                let Some(event) = EVENTS.get(usize::from(place)) else { continue };
                side.happen(event(), &mut verdict);
            }
        }
    }
}

/// A successor with all that its actions have led to.
pub(super) struct Side {
    machine: Successor,
    plan: Plan,
    timers: BTreeSet<Timer>,
    /// It accepts.
    pub(super) open: bool,
    /// Its application runs.
    pub(super) started: bool,
    pub(super) ready: bool,
    yielded: bool,
    permitted: bool,
    told_to_go: bool,
    closed: bool,
    died: bool,
    owns: bool,
    leaves: bool,
    /// All that it has said, in order.
    pub(super) words: Vec<Say>,
    /// What the other side seals between this side's next look at the verdict and its own seal.
    rival: Option<Decision>,
}

impl Side {
    pub(super) fn new(plan: Plan) -> Self {
        let (machine, actions) = Successor::new(plan);
        let mut side = Self {
            machine,
            plan,
            timers: BTreeSet::new(),
            open: false,
            started: false,
            ready: false,
            yielded: false,
            permitted: false,
            told_to_go: false,
            closed: false,
            died: false,
            owns: false,
            leaves: false,
            words: Vec::new(),
            rival: None,
        };
        side.act(actions, &mut None, None);
        side
    }

    pub(super) fn state(&self) -> &State {
        self.machine.state()
    }

    /// Tells the event, if it can happen now at all: what the other side says, it may say at any
    /// time; what the driver says follows what it was told to do.
    pub(super) fn happen(&mut self, event: Event, verdict: &mut Option<Decision>) {
        let possible = match &event {
            Event::Ready => self.started && !self.ready,
            Event::LinkClosed => !self.closed,
            Event::Died => !self.died,
            Event::OpenFailed(_) => self.open,
            Event::Failed(_) | Event::Unusable(_) => true,
            _ => !self.closed,
        };
        if !possible {
            return;
        }
        match &event {
            Event::Ready => self.ready = true,
            Event::LinkClosed => self.closed = true,
            // The link has been read to its end before, and the dead seal nothing.
            Event::Died => (self.closed, self.died, self.rival) = (true, true, None),
            Event::Yield => self.yielded |= *self.state() == State::Waiting,
            Event::MayCommit => self.permitted = true,
            Event::RollBack { .. } => self.told_to_go = true,
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

    /// The place of the first armed timer that runs out if nothing else happens any more.
    pub(super) fn last_timer(&self) -> Option<usize> {
        self.timers.iter().position(|timer| *timer != Timer::Ping)
    }

    /// How much it knows of the other side's end: nothing, its link's, its process's.
    pub(super) fn learned(&self) -> usize {
        usize::from(self.closed) + usize::from(self.died)
    }

    fn tell(&mut self, event: Event, verdict: &mut Option<Decision>) {
        let (machine, actions) = self.machine.clone().on(event.clone(), *verdict);
        self.machine = machine;
        self.act(actions, verdict, Some(&event));
    }

    fn act(&mut self, actions: Vec<Action>, verdict: &mut Option<Decision>, cause: Option<&Event>) {
        assert!(actions.len() < 16, "{actions:?}");
        for action in actions {
            match action {
                Action::Send(word) => self.say(word, *verdict),
                Action::Arm(timer) => _ = self.timers.insert(timer),
                Action::Disarm(timer) => _ = self.timers.remove(&timer),
                Action::DisarmAll => self.timers.clear(),
                Action::Start => {
                    assert!(!self.started, "the application starts twice");
                    self.started = true;
                }
                Action::Open => {
                    self.assert_may_accept(*verdict);
                    self.open = true;
                }
                Action::Pause => self.open = false,
                Action::Seal(decision) => {
                    assert_eq!(decision, Decision::Committed, "taking back is the predecessor's");
                    self.assert_may_seal(cause);
                    let first = self.rival.take().unwrap_or(decision);
                    let now = *verdict.get_or_insert(first);
                    self.tell(Event::Sealed(now), verdict);
                }
                Action::Own => {
                    assert!(!self.owns, "it becomes the owner twice");
                    let spare = self.leaves && self.died;
                    let decided = *verdict == Some(Decision::Committed);
                    assert!(decided || spare, "P3: it owns without a verdict");
                    self.owns = true;
                }
                Action::Leave(_) => {
                    assert!(!self.leaves && !self.owns, "it leaves twice, or as owner");
                    (self.leaves, self.open) = (true, false);
                }
                #[allow(unreachable_patterns, reason = "an action may be added")]
                _ => {}
            }
        }
    }

    /// Nobody else accepts: the turn is ours, or the verdict, or the predecessor is dead.
    fn assert_may_accept(&self, verdict: Option<Decision>) {
        match verdict {
            // A predecessor may say 'roll back' without having sealed it; once it is dead, that
            // makes no difference.
            None => {
                let again = !self.leaves || self.died;
                assert!(self.yielded && again, "the fence: it accepts before its turn");
            }
            Some(Decision::Committed) => {}
            Some(Decision::RolledBack) => {
                assert!(self.leaves && self.died, "P3: it accepts after it was rolled back");
                assert!(self.yielded, "one that never served takes over");
            }
        }
    }

    /// Without a permission only if the predecessor is gone, or has been silent for too long.
    fn assert_may_seal(&self, cause: Option<&Event>) {
        let gone = matches!(
            cause,
            Some(Event::LinkClosed | Event::Died | Event::Nonsense(_))
                | Some(Event::Expired(Timer::Silence))
        );
        let alone = matches!(cause, Some(Event::Ready));
        assert!(self.permitted || gone || alone, "P3: it seals on {cause:?}");
        assert!(self.words.contains(&Say::Ready) || alone, "P2: it commits before it is ready");
    }

    fn say(&mut self, word: Say, verdict: Option<Decision>) {
        let said = |before: &Say| self.words.contains(before);
        match &word {
            Say::Adopted => assert!(!said(&Say::Adopted), "it adopts twice"),
            Say::Ready => assert!(said(&Say::Adopted) && !said(&Say::Ready), "ready once"),
            Say::Serving => assert!(self.open && !said(&Say::Serving), "serving once, when open"),
            Say::Committed => {
                assert_eq!(verdict, Some(Decision::Committed), "P3: it was not decided so");
            }
            _ => {}
        }
        let last = |before: &Say| matches!(before, Say::Failed(_));
        assert!(!self.words.iter().any(last), "it says {word:?} after its last word");
        self.words.push(word);
    }

    /// What must be true whenever the machine waits for the next event.
    fn check(&self, verdict: Option<Decision>) {
        let state = self.state();
        assert!(!matches!(state, State::Deciding { .. }), "an answer was not understood");
        let accepts = matches!(state, State::Serving | State::Committed | State::Owner);
        assert_eq!(self.open, accepts, "{state:?}");
        assert_eq!(self.owns, *state == State::Owner);
        match state {
            State::Leaving { .. } => {
                let so = verdict == Some(Decision::RolledBack) || self.told_to_go;
                assert!(self.leaves && so, "P1: it leaves and nobody told it to");
            }
            State::Failed => assert!(self.leaves),
            State::Committed => assert_eq!(verdict, Some(Decision::Committed)),
            State::Owner => {
                assert!(verdict == Some(Decision::Committed) || self.leaves && self.died, "P3");
            }
            _ => assert_eq!(verdict, None, "{state:?} has not learned of the verdict"),
        }
        let spare = *state == State::Leaving { spare: true };
        assert!(!(spare && self.died), "P1: nobody is left, and it goes although it could serve");
        match state {
            State::Owner | State::Leaving { .. } | State::Failed => {
                assert!(self.timers.is_empty(), "{state:?} waits for {:?}", self.timers);
            }
            // How long an application may take to start is for the predecessor to say.
            State::Starting { orphaned: false } => {}
            _ => {
                let deadline = self.timers.iter().any(|timer| *timer != Timer::Lease);
                assert!(deadline, "P4: {state:?} waits without an end");
            }
        }
        let leased = self.timers.contains(&Timer::Lease);
        let needs_lease = *state == State::Serving && !self.plan.enforceable;
        assert!(leased || !needs_lease, "a successor that nobody can end has no lease");
    }
}
