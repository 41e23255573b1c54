//! The whole transition table of both machines as text, so that a new edge shows in the diff.

use std::fmt::{Debug, Write as _};

use super::Timer;
use super::{predecessor as pred, successor as succ};
use crate::verdict::Decision;

const TIMERS: [Timer; 13] = [
    Timer::Preflight,
    Timer::Spawn,
    Timer::Hello,
    Timer::Adopt,
    Timer::Ready,
    Timer::Gap,
    Timer::Probation,
    Timer::Progress,
    Timer::Commit,
    Timer::Ping,
    Timer::Silence,
    Timer::Lease,
    Timer::Handover,
];

const VERDICTS: [Option<Decision>; 3] =
    [None, Some(Decision::Committed), Some(Decision::RolledBack)];

/// One line an edge; events that change nothing and ask for nothing are gathered at the end.
fn rows<S: Debug + PartialEq, A: Debug>(
    text: &mut String,
    state: &S,
    events: Vec<(String, S, Vec<A>)>,
) {
    let mut idle = Vec::new();
    for (event, to, actions) in events {
        if to == *state && actions.is_empty() {
            idle.push(event);
            continue;
        }
        let to = if to == *state { "stays".to_owned() } else { format!("{to:?}") };
        let _ = writeln!(text, "  {event}\n      → {to} {actions:?}");
    }
    let _ = writeln!(text, "  nothing on: {}\n", idle.join(", "));
}

fn predecessor_table(probation: bool, checked: bool) -> String {
    use pred::{Cause, Event, Retreat, State};
    let retreat = |parked| Retreat { cause: Cause::Rejected("no".into()), parked, reachable: true };
    let plan = pred::Plan { preflight: true, probation, checked };
    let states = [
        State::Preflight,
        State::Spawning,
        State::Greeting,
        State::Offering,
        State::Starting,
        State::Checking,
        State::Parking,
        State::Yielding,
        State::Probation { elapsed: false, healthy: true },
        State::Probation { elapsed: false, healthy: false },
        State::Probation { elapsed: true, healthy: false },
        State::Permitting,
        State::Deciding(retreat(false)),
        State::Deciding(retreat(true)),
        State::RolledBack,
        State::Elder,
        State::Retired,
        State::OwnsAgain,
    ];
    let mut events = vec![
        Event::PreflightPassed,
        Event::PreflightFailed("x".into()),
        Event::Spawned,
        Event::SpawnFailed("x".into()),
        Event::Hello,
        Event::Stranger("x".into()),
        Event::OfferFailed("x".into()),
        Event::Adopted,
        Event::Ready,
        Event::Pong,
        Event::Parked,
        Event::ParkFailed("x".into()),
        Event::Serving,
        Event::Committed,
        Event::Refused("x".into()),
        Event::Failed("x".into()),
        Event::Nonsense("x".into()),
        Event::LinkClosed,
        Event::Died("x".into()),
        Event::Abandoned,
        Event::Healthy,
        Event::Ailing,
        Event::Approved,
        Event::Rejected("x".into()),
        Event::Stop,
        Event::ServiceStops,
        Event::Sealed(Decision::Committed),
        Event::Sealed(Decision::RolledBack),
    ];
    events.extend(TIMERS.map(Event::Expired));
    let mut text = String::new();
    for state in states {
        for seen in VERDICTS {
            let _ = writeln!(text, "{state:?}, verdict {seen:?}");
            let steps = events.iter().map(|event| {
                let (machine, actions) =
                    pred::Predecessor::at(state.clone(), plan).on(event.clone(), seen);
                (format!("{event:?}"), machine.state().clone(), actions)
            });
            rows(&mut text, &state, steps.collect());
        }
    }
    text
}

fn successor_table(enforceable: bool) -> String {
    use succ::{Event, State};
    let states = [
        State::Greeting,
        State::Receiving,
        State::Starting { orphaned: false },
        State::Starting { orphaned: true },
        State::Waiting,
        State::Serving,
        State::Suspended,
        State::Deciding { open: false, reachable: false },
        State::Deciding { open: true, reachable: true },
        State::Committed,
        State::Owner,
        State::Leaving { spare: true },
        State::Leaving { spare: false },
        State::Failed,
    ];
    let mut events = vec![
        Event::Welcome,
        Event::Offered,
        Event::Unusable("x".into()),
        Event::Ready,
        Event::Failed("x".into()),
        Event::Yield,
        Event::OpenFailed("x".into()),
        Event::MayCommit,
        Event::Owner,
        Event::RollBack { last: false },
        Event::RollBack { last: true },
        Event::Ping,
        Event::Nonsense("x".into()),
        Event::LinkClosed,
        Event::Died,
        Event::Sealed(Decision::Committed),
        Event::Sealed(Decision::RolledBack),
    ];
    events.extend(TIMERS.map(Event::Expired));
    let mut text = String::new();
    for state in states {
        for seen in VERDICTS {
            let _ = writeln!(text, "{state:?}, verdict {seen:?}");
            let steps = events.iter().map(|event| {
                let (machine, actions) =
                    succ::Successor::at(state.clone(), succ::Plan { enforceable })
                        .on(event.clone(), seen);
                (format!("{event:?}"), machine.state().clone(), actions)
            });
            rows(&mut text, &state, steps.collect());
        }
    }
    text
}

#[test]
fn the_predecessors_table_is_the_recorded_one() {
    insta::assert_snapshot!("predecessor", predecessor_table(true, true));
    insta::assert_snapshot!("predecessor_without_probation", predecessor_table(false, false));
}

#[test]
fn the_successors_table_is_the_recorded_one() {
    insta::assert_snapshot!("successor", successor_table(true));
    insta::assert_snapshot!("successor_that_cannot_be_ended", successor_table(false));
}
