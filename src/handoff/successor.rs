//! The successor's side of one handoff, as a pure state machine.
//!
//! **Contract:** it accepts only after the turn was given, or after the verdict says 'committed';
//! it owns only after the verdict says so; and once it holds the whole offer, the service survives
//! with it if the predecessor dies.
//!
//! As for the predecessor there is no I/O, no clock and no tokio in here.

use super::Timer;
use crate::verdict::Decision;

/// Where the successor stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// Hello is out; the predecessor's welcome is awaited.
    Greeting,
    /// The offer is on its way.
    Receiving,
    /// Everything is adopted; the application starts up.
    Starting {
        /// The predecessor is gone: readiness leads straight to ownership.
        orphaned: bool,
    },
    /// The application is ready; the turn is awaited.
    Waiting,
    /// It accepts; the predecessor watches.
    Serving,
    /// It has paused itself: the predecessor cannot end it and has not been heard for a while.
    Suspended,
    /// The verdict is being sealed as 'committed', which may come too late.
    Deciding {
        /// Whether it accepts already.
        open: bool,
        /// Whether the predecessor can still hear it.
        reachable: bool,
    },
    /// The verdict is 'committed'; the predecessor's last act as owner is awaited.
    Committed,
    /// It owns the service.
    Owner,
    /// The verdict is 'rolled back': it finishes what it accepted and goes.
    Leaving {
        /// Whether it would take the service back up if the predecessor died meanwhile: it has
        /// served, and the service is not meant to stop.
        spare: bool,
    },
    /// It gave up by itself before the verdict: it finishes what it accepted and goes.
    Failed,
}

impl State {
    /// Whether it goes and will in no case accept again.
    pub(crate) fn is_useless(&self) -> bool {
        matches!(self, Self::Leaving { spare: false } | Self::Failed)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// The predecessor accepted our hello.
    Welcome,
    /// The last descriptor of the offer came and every one is what it says.
    Offered,
    /// The predecessor refused, or the offer cannot be used: text for both sides.
    Unusable(String),
    /// The application is ready.
    Ready,
    /// The application failed, or was asked to stop.
    Failed(String),
    /// Our turn.
    Yield,
    /// A listener could not be opened at our turn.
    OpenFailed(String),
    /// We may seal the verdict.
    MayCommit,
    /// We own.
    Owner,
    /// Stop accepting, finish, go; `last` if the whole service stops.
    RollBack {
        /// Whether the predecessor is going to stop as well.
        last: bool,
    },
    /// The predecessor asked whether we are awake.
    Ping,
    /// Garbage, or a message out of order.
    Nonsense(String),
    /// The link reached its end; the predecessor may still run.
    LinkClosed,
    /// The predecessor's process ended, and the link has been read to its end.
    Died,
    /// A timer that was armed ran out.
    Expired(Timer),
    /// The answer to [`Action::Seal`]: what the verdict is now.
    Sealed(Decision),
}

/// What the successor tells the predecessor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Say {
    /// Every descriptor is here.
    Adopted,
    /// We ask for the turn, and this is what we claimed and bound.
    Ready,
    /// We are awake.
    Pong,
    /// We accept.
    Serving,
    /// We have sealed.
    Committed,
    /// We cannot go on, and why.
    Failed(String),
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
    /// Let the application start.
    Start,
    /// Listen on what is new and accept; `OpenFailed` is fed back if that cannot be.
    Open,
    /// Stop accepting for now.
    Pause,
    /// Seal the verdict and answer `Sealed` at once.
    Seal(Decision),
    /// Do what only an owner may do.
    Own,
    /// Stop accepting, finish what was accepted, and go.
    Leave(Why),
}

/// Why it goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// The predecessor took the turn back.
    RolledBack,
    /// There is nothing to serve with.
    Unusable(String),
    /// The application, or a listener, failed.
    Failed(String),
}

/// What does not change during one handoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Plan {
    /// Whether the predecessor can end this process. If not, this side pauses by itself when the
    /// predecessor's lease runs out.
    pub enforceable: bool,
}

/// The successor's machine: where it stands and what was planned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Successor {
    state: State,
    plan: Plan,
}

type Step = (State, Vec<Action>);

impl Successor {
    /// A handoff that begins with our hello.
    pub(crate) fn new(plan: Plan) -> (Self, Vec<Action>) {
        (Self { state: State::Greeting, plan }, vec![Action::Arm(Timer::Hello)])
    }

    /// The plan became known with the welcome.
    pub(crate) fn with_plan(mut self, plan: Plan) -> Self {
        self.plan = plan;
        self
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
    if seen == Some(Decision::RolledBack) && before_verdict(&state) {
        let (state, mut actions) = leave(open(&state));
        let (state, more) = after_verdict(state, event);
        actions.extend(more);
        return (state, actions);
    }
    match state {
        State::Greeting | State::Receiving => adopting(state, event),
        State::Starting { orphaned } => starting(orphaned, event),
        State::Waiting | State::Serving | State::Suspended => serving(state, event, plan),
        State::Deciding { open, reachable } => deciding(open, reachable, event),
        State::Committed => committed(event),
        State::Leaving { .. } | State::Owner | State::Failed => after_verdict(state, event),
    }
}

fn before_verdict(state: &State) -> bool {
    !matches!(state, State::Committed | State::Owner | State::Leaving { .. } | State::Failed)
}

/// Whether it has accepted since its turn came.
fn open(state: &State) -> bool {
    matches!(state, State::Serving | State::Suspended | State::Deciding { open: true, .. })
}

/// Until everything is here there is nothing to save: any failure ends it.
fn adopting(state: State, event: Event) -> Step {
    use Action::{Arm, Disarm, Send};
    match (state, event) {
        (State::Greeting, Event::Welcome) => {
            (State::Receiving, vec![Disarm(Timer::Hello), Arm(Timer::Adopt)])
        }
        (State::Receiving, Event::Offered) => (
            State::Starting { orphaned: false },
            vec![Disarm(Timer::Adopt), Send(Say::Adopted), Action::Start],
        ),
        (_, Event::LinkClosed | Event::Died) => fail(
            Why::Unusable("the predecessor went away before every descriptor was here".into()),
            false,
        ),
        (_, Event::Unusable(why)) => fail(Why::Unusable(why), true),
        (_, Event::Failed(why) | Event::Nonsense(why)) => fail(Why::Failed(why), true),
        (State::Greeting, Event::Expired(Timer::Hello))
        | (State::Receiving, Event::Expired(Timer::Adopt)) => {
            fail(Why::Unusable("the predecessor did not answer in time".into()), true)
        }
        (state, Event::Ping) => (state, vec![Send(Say::Pong)]),
        (_, Event::RollBack { .. }) => leave(false),
        (state, _) => (state, Vec::new()),
    }
}

fn starting(orphaned: bool, event: Event) -> Step {
    use Action::{Arm, Send};
    let here = State::Starting { orphaned };
    match event {
        Event::Ready if orphaned => seal(false, false),
        Event::Ready => (State::Waiting, vec![Send(Say::Ready), Arm(Timer::Silence)]),
        // Whether the link broke by itself or with its process: the verdict will tell at readiness.
        // Elders see in this process that a newer generation lives, so it must not start for ever.
        Event::LinkClosed | Event::Died | Event::Nonsense(_) if !orphaned => {
            (State::Starting { orphaned: true }, vec![Arm(Timer::Ready)])
        }
        Event::Expired(Timer::Ready) if orphaned => {
            fail(Why::Failed("its predecessor is gone and it was not ready in time".into()), false)
        }
        Event::Ping => (here, vec![Send(Say::Pong)]),
        Event::Failed(why) => fail(Why::Failed(why), !orphaned),
        Event::RollBack { .. } => leave(false),
        _ => (here, Vec::new()),
    }
}

/// From 'ready' on this side can stand alone: whoever falls silent meets the verdict.
fn serving(state: State, event: Event, plan: Plan) -> Step {
    use Action::{Arm, Send};
    let served = open(&state);
    let open = state == State::Serving;
    match (state, event) {
        (State::Waiting, Event::Yield) => {
            let mut actions = vec![Action::Open, Send(Say::Serving), Arm(Timer::Silence)];
            if !plan.enforceable {
                actions.push(Arm(Timer::Lease));
            }
            (State::Serving, actions)
        }
        (State::Serving | State::Suspended, Event::MayCommit) => seal(open, true),
        (_, Event::LinkClosed | Event::Died | Event::Nonsense(_)) => seal(open, false),
        (_, Event::Expired(Timer::Silence)) => seal(open, true),
        (State::Serving, Event::Expired(Timer::Lease)) if !plan.enforceable => {
            (State::Suspended, vec![Action::Pause])
        }
        (state, Event::Ping) => heard(state, plan),
        (_, Event::OpenFailed(why) | Event::Failed(why)) => fail(Why::Failed(why), true),
        (_, Event::RollBack { last }) => leave(served && !last),
        (state, _) => (state, Vec::new()),
    }
}

fn heard(state: State, plan: Plan) -> Step {
    let mut actions = vec![Action::Send(Say::Pong), Action::Arm(Timer::Silence)];
    if !plan.enforceable && state != State::Waiting {
        actions.push(Action::Arm(Timer::Lease));
    }
    if state == State::Suspended {
        actions.insert(0, Action::Open);
        return (State::Serving, actions);
    }
    (state, actions)
}

fn seal(open: bool, reachable: bool) -> Step {
    (State::Deciding { open, reachable }, vec![Action::Seal(Decision::Committed)])
}

fn deciding(open: bool, reachable: bool, event: Event) -> Step {
    match event {
        Event::Sealed(Decision::RolledBack) => leave(open),
        Event::Sealed(Decision::Committed) => {
            let mut actions = vec![Action::DisarmAll];
            if !open {
                actions.push(Action::Open);
            }
            if reachable {
                actions.extend([Action::Send(Say::Committed), Action::Arm(Timer::Handover)]);
                return (State::Committed, actions);
            }
            actions.push(Action::Own);
            (State::Owner, actions)
        }
        _ => (State::Deciding { open, reachable }, Vec::new()),
    }
}

/// The predecessor's last act as owner comes first, but only if there is still a predecessor.
fn committed(event: Event) -> Step {
    match event {
        Event::Owner
        | Event::LinkClosed
        | Event::Died
        | Event::Nonsense(_)
        | Event::Expired(Timer::Handover) => {
            (State::Owner, vec![Action::Disarm(Timer::Handover), Action::Own])
        }
        Event::Ping => (State::Committed, vec![Action::Send(Say::Pong)]),
        _ => (State::Committed, Vec::new()),
    }
}

fn leave(spare: bool) -> Step {
    let mut actions = vec![Action::DisarmAll];
    actions.push(Action::Leave(Why::RolledBack));
    (State::Leaving { spare }, actions)
}

fn fail(why: Why, reachable: bool) -> Step {
    let mut actions = vec![Action::DisarmAll];
    if reachable {
        let text = match &why {
            Why::Unusable(text) | Why::Failed(text) => text.clone(),
            Why::RolledBack => String::new(),
        };
        actions.push(Action::Send(Say::Failed(text)));
    }
    actions.push(Action::Leave(why));
    (State::Failed, actions)
}

/// A rejected successor that has served is better than nobody: if the predecessor dies before it
/// has gone, it takes the service up again.
fn after_verdict(state: State, event: Event) -> Step {
    match (state, event) {
        (State::Leaving { spare: true }, Event::Died) => {
            (State::Owner, vec![Action::Open, Action::Own])
        }
        (State::Leaving { .. }, Event::RollBack { last: true }) => {
            (State::Leaving { spare: false }, Vec::new())
        }
        (state, _) => (state, Vec::new()),
    }
}
