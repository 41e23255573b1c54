//! The predecessor's side of one handoff, as a pure state machine.
//!
//! **Contract:** whatever happens before the verdict says 'committed', the next actions lead back
//! to serving on the very same sockets, with the cause in hand.
//!
//! No I/O, no clock, no tokio: events in, actions out. Time comes in only as [`Timer`] that
//! expires, so a process that slept through all of them is the same as one that was merely slow.
//! The verdict is looked at before every event and passed in as `seen`: nothing is decided on what
//! was true before the last wait.

use super::Timer;
use crate::verdict::Decision;

/// Where the predecessor stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// The successor's program is being started.
    Spawning,
    /// It runs; its hello is awaited.
    Greeting,
    /// The offer is out; its acknowledgement is awaited.
    Offering,
    /// The successor holds every descriptor and its application starts up.
    Starting,
    /// The gap: it asked for the turn; a pong must show that it is awake.
    Checking,
    /// The gap: the claimed listeners are being parked.
    Parking,
    /// The gap: the turn is given; its 'serving' is awaited.
    Yielding,
    /// The successor serves and is watched.
    Probation,
    /// The successor may commit.
    Permitting,
    /// The verdict is being sealed as 'rolled back', which may come too late.
    Deciding(Retreat),
    /// The verdict is 'rolled back': this generation serves, or stops, as before.
    RolledBack,
    /// The verdict is 'committed': this generation drains and keeps every descriptor open.
    Elder,
    /// As `Elder`, but the whole service stops: it will not own again.
    Retired,
    /// Every newer generation died after the verdict: this one owns again.
    OwnsAgain,
}

/// Why and from where the predecessor retreats.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Retreat {
    /// What the report will say.
    pub cause: Cause,
    /// Whether listeners may be parked.
    pub parked: bool,
    /// Whether the link's other end can still be told something.
    pub reachable: bool,
}

/// What made the predecessor take the turn back, or not give it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// The program could not be started.
    Spawn(String),
    /// Credentials or protocol version do not meet; nothing has moved.
    Incompatible(String),
    /// The offer could not be sent.
    Offer(String),
    /// The successor refused the offer.
    Refused(String),
    /// The successor's application reported an error.
    Failed(String),
    /// The successor's process ended.
    Died(String),
    /// The link closed while the process may still run.
    LinkClosed,
    /// What came over the link was not the protocol.
    Nonsense(String),
    /// A step took longer than its deadline.
    TooLate(Timer),
    /// A listener could not be parked.
    Park(String),
    /// A health check, an error budget or an operator rejected it.
    Rejected(String),
    /// This generation was asked to stop.
    Stop,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Spawn(why) => write!(f, "the successor could not be started: {why}"),
            Self::Incompatible(why) => write!(f, "the successor was refused: {why}"),
            Self::Offer(why) => write!(f, "the offer could not be sent: {why}"),
            Self::Refused(why) => write!(f, "the successor refused the offer: {why}"),
            Self::Failed(why) => write!(f, "the successor failed: {why}"),
            Self::Died(how) => write!(f, "the successor's process ended: {how}"),
            Self::LinkClosed => f.write_str("the successor closed the link"),
            Self::Nonsense(why) => write!(f, "the successor broke the protocol: {why}"),
            Self::TooLate(timer) => write!(f, "the successor was too late with {timer}"),
            Self::Park(why) => write!(f, "a listener could not be paused: {why}"),
            Self::Rejected(why) => write!(f, "the successor was rejected: {why}"),
            Self::Stop => f.write_str("this generation was asked to stop"),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// The successor's process runs.
    Spawned,
    /// It could not be started.
    SpawnFailed(String),
    /// Its hello came and is acceptable.
    Hello,
    /// Its hello came and is not: wrong process, user or version.
    Stranger(String),
    /// The offer could not be sent.
    OfferFailed(String),
    /// It holds every descriptor.
    Adopted,
    /// It asks for the turn.
    Ready,
    /// It answered a ping.
    Pong,
    /// Every claimed listener is parked.
    Parked,
    /// One could not be.
    ParkFailed(String),
    /// It accepts.
    Serving,
    /// It has sealed the verdict.
    Committed,
    /// It refused the offer, or the version.
    Refused(String),
    /// Its application failed.
    Failed(String),
    /// Garbage, or a message out of order.
    Nonsense(String),
    /// The link reached its end.
    LinkClosed,
    /// Its process ended.
    Died(String),
    /// A timer that was armed ran out.
    Expired(Timer),
    /// It has proven itself early, by an operator's word.
    #[cfg_attr(not(test), allow(dead_code, reason = "health checks and operators will say it"))]
    Approved,
    /// Health check, error budget or operator say no.
    #[cfg_attr(not(test), allow(dead_code, reason = "health checks and operators will say it"))]
    Rejected(String),
    /// This generation shall stop.
    Stop,
    /// The owner says that the whole service stops.
    ServiceStops,
    /// The answer to [`Action::Seal`]: what the verdict is now.
    Sealed(Decision),
}

/// What the predecessor tells the successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Say {
    /// The chosen protocol version and the plan.
    Welcome,
    /// Nothing will move; the cause says why.
    Refuse,
    /// Every descriptor with its record.
    Offer,
    /// Are you awake?
    Ping,
    /// Your turn.
    Yield,
    /// You may seal the verdict.
    MayCommit,
    /// You own.
    Owner,
    /// Stop accepting, finish, go.
    RollBack {
        /// The whole service stops: there is nothing to take up again.
        last: bool,
    },
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Send this.
    Send(Say),
    /// Start this timer anew.
    Arm(Timer),
    /// Stop this timer.
    Disarm(Timer),
    /// Stop every timer.
    DisarmAll,
    /// Park what is claimed and answer `Parked` or `ParkFailed`.
    Park,
    /// Accept again on everything that was parked.
    Resume,
    /// Seal the verdict and answer `Sealed` at once.
    Seal(Decision),
    /// Let the successor finish, then end it, reap it.
    EndSuccessor,
    /// The successor is the one now: owner's acts end, `Owner` follows, unclaimed listeners close,
    /// the drain begins.
    HandOver,
    /// Stop accepting what may not have been parked yet: the successor took over on its own.
    ParkLate,
    /// Own and accept again.
    OwnAgain,
    /// The handoff has ended; the report can be written.
    Finish(Outcome),
}

/// How the handoff ended, as this side knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// The successor owns.
    Committed,
    /// This side goes on, or stops, as if nothing had been.
    RolledBack(Cause),
}

/// What does not change during one handoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Plan {
    /// Whether there is a probation at all.
    pub probation: bool,
}

/// The predecessor's machine: where it stands and what was planned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Predecessor {
    state: State,
    plan: Plan,
}

type Step = (State, Vec<Action>);

impl Predecessor {
    /// A handoff that begins with the start of the successor's program.
    pub(crate) fn new(plan: Plan) -> (Self, Vec<Action>) {
        (Self { state: State::Spawning, plan }, vec![Action::Arm(Timer::Spawn)])
    }

    /// A machine that stands there already, for the table.
    #[cfg(test)]
    pub(crate) fn at(state: State, plan: Plan) -> Self {
        Self { state, plan }
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// One event; `seen` is the verdict, read after the event was received.
    pub(crate) fn on(self, event: Event, seen: Option<Decision>) -> (Self, Vec<Action>) {
        let plan = self.plan;
        let (state, actions) = step(self.state, event, seen, plan);
        (Self { state, plan }, actions)
    }
}

fn step(state: State, event: Event, seen: Option<Decision>, plan: Plan) -> Step {
    if seen == Some(Decision::Committed) && before_verdict(&state) {
        // The successor sealed, with our permission or because it took us for dead.
        let (state, mut actions) = become_elder(&state);
        let (state, more) = after_verdict(state, event);
        actions.extend(more);
        return (state, actions);
    }
    if !before_verdict(&state) {
        return after_verdict(state, event);
    }
    if let State::Deciding(retreat) = state {
        return match event {
            Event::Sealed(Decision::RolledBack) => take_back(retreat),
            Event::Sealed(Decision::Committed) => become_elder(&State::Deciding(retreat)),
            _ => (State::Deciding(retreat), Vec::new()),
        };
    }
    match common(&state, &event) {
        Some(cause) => retreat(&state, cause),
        None => forward(state, event, plan),
    }
}

/// The straight way from spawn to permission.
fn forward(state: State, event: Event, plan: Plan) -> Step {
    use Action::{Arm, Disarm, Park, Send};
    match (state, event) {
        (State::Spawning, Event::Spawned) => {
            (State::Greeting, vec![Disarm(Timer::Spawn), Arm(Timer::Hello)])
        }
        (State::Greeting, Event::Hello) => (
            State::Offering,
            vec![Disarm(Timer::Hello), Send(Say::Welcome), Send(Say::Offer), Arm(Timer::Adopt)],
        ),
        (State::Offering, Event::Adopted) => {
            (State::Starting, vec![Disarm(Timer::Adopt), Arm(Timer::Ready), Arm(Timer::Ping)])
        }
        (State::Starting, Event::Ready) => {
            (State::Checking, vec![Disarm(Timer::Ready), Arm(Timer::Gap), Send(Say::Ping)])
        }
        (State::Checking, Event::Pong) => (State::Parking, vec![Park]),
        (State::Parking, Event::Parked) => (State::Yielding, vec![Send(Say::Yield)]),
        (State::Yielding, Event::Serving) if plan.probation => {
            (State::Probation, vec![Disarm(Timer::Gap), Arm(Timer::Probation), Arm(Timer::Silence)])
        }
        (State::Yielding, Event::Serving) => permit(vec![Disarm(Timer::Gap)]),
        (State::Probation, Event::Expired(Timer::Probation) | Event::Approved) => {
            permit(vec![Disarm(Timer::Probation), Disarm(Timer::Silence)])
        }
        (state @ State::Probation, Event::Pong) => (state, vec![Arm(Timer::Silence)]),
        (state, Event::Expired(Timer::Ping)) => (state, vec![Send(Say::Ping), Arm(Timer::Ping)]),
        (state, event) if out_of_order(&event) => {
            let cause = Cause::Nonsense(format!("{event:?} while {state:?}"));
            retreat(&state, cause)
        }
        // What is left is late or does not concern this state: a pong, an expired timer of a step
        // that is over, an operator's word before probation.
        (state, _) => (state, Vec::new()),
    }
}

fn permit(mut actions: Vec<Action>) -> Step {
    actions.extend([Action::Send(Say::MayCommit), Action::Arm(Timer::Commit)]);
    (State::Permitting, actions)
}

/// Whether the event is a message of the successor that means progress where none was due.
fn out_of_order(event: &Event) -> bool {
    matches!(
        event,
        Event::Hello | Event::Adopted | Event::Ready | Event::Serving | Event::Committed
    )
}

/// What ends the handoff in any state before the verdict.
fn common(state: &State, event: &Event) -> Option<Cause> {
    let cause = match event {
        Event::SpawnFailed(why) => Cause::Spawn(why.clone()),
        Event::Stranger(why) => Cause::Incompatible(why.clone()),
        Event::OfferFailed(why) => Cause::Offer(why.clone()),
        Event::Refused(why) => Cause::Refused(why.clone()),
        Event::Failed(why) => Cause::Failed(why.clone()),
        Event::Nonsense(why) => Cause::Nonsense(why.clone()),
        Event::ParkFailed(why) => Cause::Park(why.clone()),
        Event::Rejected(why) => Cause::Rejected(why.clone()),
        Event::Died(how) => Cause::Died(how.clone()),
        Event::LinkClosed => Cause::LinkClosed,
        Event::Stop => Cause::Stop,
        Event::Expired(timer) if deadline_of(state) == Some(*timer) => Cause::TooLate(*timer),
        Event::Expired(Timer::Silence) if *state == State::Probation => {
            Cause::TooLate(Timer::Silence)
        }
        _ => return None,
    };
    Some(cause)
}

/// The one deadline that a state stands under. Probation has none: its end is success.
fn deadline_of(state: &State) -> Option<Timer> {
    Some(match state {
        State::Spawning => Timer::Spawn,
        State::Greeting => Timer::Hello,
        State::Offering => Timer::Adopt,
        State::Starting => Timer::Ready,
        State::Checking | State::Parking | State::Yielding => Timer::Gap,
        State::Permitting => Timer::Commit,
        _ => return None,
    })
}

fn before_verdict(state: &State) -> bool {
    !matches!(state, State::RolledBack | State::Elder | State::Retired | State::OwnsAgain)
}

/// Whether listeners may be parked in this state.
fn parked(state: &State) -> bool {
    match state {
        State::Parking | State::Yielding | State::Probation | State::Permitting => true,
        State::Deciding(retreat) => retreat.parked,
        _ => false,
    }
}

fn retreat(state: &State, cause: Cause) -> Step {
    let reachable = !matches!(cause, Cause::Spawn(_) | Cause::Died(_) | Cause::LinkClosed);
    let retreat = Retreat { cause, parked: parked(state), reachable };
    (State::Deciding(retreat), vec![Action::Seal(Decision::RolledBack)])
}

/// The verdict is ours: serve again first, speak second.
fn take_back(retreat: Retreat) -> Step {
    let mut actions = Vec::new();
    if retreat.parked {
        // Also before a stop, which serves what is queued.
        actions.push(Action::Resume);
    }
    actions.push(Action::DisarmAll);
    if retreat.reachable {
        let last_word = match retreat.cause {
            Cause::Incompatible(_) => Say::Refuse,
            _ => Say::RollBack { last: retreat.cause == Cause::Stop },
        };
        actions.push(Action::Send(last_word));
    }
    if !matches!(retreat.cause, Cause::Spawn(_)) {
        actions.push(Action::EndSuccessor);
    }
    actions.push(Action::Finish(Outcome::RolledBack(retreat.cause)));
    (State::RolledBack, actions)
}

fn become_elder(from: &State) -> Step {
    let mut actions = Vec::new();
    if !parked(from) || *from == State::Parking {
        actions.push(Action::ParkLate);
    }
    actions.push(Action::DisarmAll);
    actions.extend([Action::HandOver, Action::Send(Say::Owner)]);
    actions.push(Action::Finish(Outcome::Committed));
    (State::Elder, actions)
}

/// The link of an elder ends only when no newer generation holds its other end any more.
fn after_verdict(state: State, event: Event) -> Step {
    match (state, event) {
        (State::Elder, Event::LinkClosed) => (State::OwnsAgain, vec![Action::OwnAgain]),
        (State::Elder, Event::ServiceStops | Event::Stop) => (State::Retired, Vec::new()),
        (state, _) => (state, Vec::new()),
    }
}
