//! The predecessor's side of one handoff, as a pure state machine.
//!
//! **Contract:** whatever happens before the verdict says 'committed', the next actions lead back
//! to serving on the very same sockets, with the cause in hand.
//!
//! No I/O, no clock, no tokio: events in, actions out. Time comes in only as [`Timer`] that
//! expires, so a process that slept through all of them is the same as one that was merely slow.
//! The verdict is looked at before every event and passed in as `seen`: nothing is decided on what
//! was true before the last wait.

mod words;

pub(crate) use self::words::{Action, Cause, Event, Outcome, Plan, Retreat, Say, State};
use super::Timer;
use crate::verdict::Decision;

/// The predecessor's machine: where it stands and what was planned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Predecessor {
    state: State,
    plan: Plan,
}

type Step = (State, Vec<Action>);

impl Predecessor {
    /// A handoff that begins with the preflight, or with the start of the successor's program.
    pub(crate) fn new(plan: Plan) -> (Self, Vec<Action>) {
        let (state, actions) = if plan.preflight {
            (State::Preflight, vec![Action::Arm(Timer::Preflight), Action::Preflight])
        } else {
            spawn(Vec::new())
        };
        (Self { state, plan }, actions)
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

/// The straight way from preflight to permission.
fn forward(state: State, event: Event, plan: Plan) -> Step {
    use Action::{Arm, Disarm, Park, Send};
    match (state, event) {
        (State::Preflight, Event::PreflightPassed) => spawn(vec![Disarm(Timer::Preflight)]),
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
        (State::Yielding, Event::Serving) => watch(plan),
        (State::Probation { elapsed, healthy }, event) => probation(elapsed, healthy, event),
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

fn spawn(mut actions: Vec<Action>) -> Step {
    actions.extend([Action::Arm(Timer::Spawn), Action::Spawn]);
    (State::Spawning, actions)
}

/// The successor serves: the watch over it begins, if there is to be one.
fn watch(plan: Plan) -> Step {
    use Action::{Arm, Disarm};
    let mut actions = vec![Disarm(Timer::Gap)];
    if !plan.probation && !plan.checked {
        return permit(actions);
    }
    actions.extend([Arm(Timer::Probation), Arm(Timer::Silence)]);
    if plan.checked {
        actions.extend([Arm(Timer::Progress), Action::Watch]);
    }
    (State::Probation { elapsed: false, healthy: !plan.checked }, actions)
}

/// Probation ends well when it has lasted long enough and every check agrees, or by an operator's
/// word. How it ends badly is common to all states.
fn probation(elapsed: bool, healthy: bool, event: Event) -> Step {
    use Action::{Arm, Send};
    let was_healthy = healthy;
    let (elapsed, healthy) = match event {
        Event::Expired(Timer::Probation) => (true, healthy),
        Event::Healthy => (elapsed, true),
        Event::Ailing => (elapsed, false),
        Event::Approved => (true, true),
        _ => (elapsed, healthy),
    };
    let here = State::Probation { elapsed, healthy };
    match event {
        // The deadline of its health may have run out while it was well: it stands anew.
        Event::Ailing if was_healthy => (here, vec![Arm(Timer::Progress)]),
        _ if elapsed && healthy => {
            let watched = [Timer::Probation, Timer::Progress, Timer::Silence];
            permit(watched.map(Action::Disarm).to_vec())
        }
        Event::Pong => (here, vec![Arm(Timer::Silence)]),
        Event::Expired(Timer::Ping) => (here, vec![Send(Say::Ping), Arm(Timer::Ping)]),
        event if out_of_order(&event) => {
            let cause = Cause::Nonsense(format!("{event:?} in probation"));
            retreat(&here, cause)
        }
        _ => (here, Vec::new()),
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
        Event::PreflightFailed(why) => Cause::Preflight(why.clone()),
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
        // It has done its part: what is late is ours.
        Event::Expired(Timer::Gap) if *state == State::Parking => {
            Cause::Park("it took longer than the gap may last".into())
        }
        Event::Expired(timer) if deadline_of(state) == Some(*timer) => Cause::TooLate(*timer),
        Event::Expired(Timer::Silence) if matches!(state, State::Probation { .. }) => {
            Cause::TooLate(Timer::Silence)
        }
        _ => return None,
    };
    Some(cause)
}

/// The one deadline that a state stands under. A healthy probation has none: its end is success.
fn deadline_of(state: &State) -> Option<Timer> {
    Some(match state {
        State::Preflight => Timer::Preflight,
        State::Probation { healthy: false, .. } => Timer::Progress,
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
        State::Parking | State::Yielding | State::Probation { .. } | State::Permitting => true,
        State::Deciding(retreat) => retreat.parked,
        _ => false,
    }
}

fn retreat(state: &State, cause: Cause) -> Step {
    let unreachable =
        matches!(cause, Cause::Preflight(_) | Cause::Spawn(_) | Cause::Died(_) | Cause::LinkClosed);
    let reachable = !unreachable;
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
    if !matches!(retreat.cause, Cause::Preflight(_) | Cause::Spawn(_)) {
        actions.push(Action::EndSuccessor);
    }
    actions.push(Action::Finish(Outcome::RolledBack(retreat.cause)));
    (State::RolledBack, actions)
}

fn become_elder(from: &State) -> Step {
    let mut actions = Vec::new();
    // A retreat does not know whether the parking was over when it began.
    if !parked(from) || matches!(from, State::Parking | State::Deciding(_)) {
        actions.push(Action::ParkLate);
    }
    actions.push(Action::DisarmAll);
    actions.extend([Action::HandOver, Action::Send(Say::Owner)]);
    actions.push(Action::Finish(Outcome::Committed));
    (State::Elder, actions)
}

/// The end of the link alone says nothing any more: it may have broken while the successor lives.
fn after_verdict(state: State, event: Event) -> Step {
    match (state, event) {
        (State::Elder, Event::Abandoned) => (State::OwnsAgain, vec![Action::OwnAgain]),
        (State::Elder, Event::ServiceStops | Event::Stop) => (State::Retired, Vec::new()),
        (state, _) => (state, Vec::new()),
    }
}
