//! Entries: used again, given back, counted by whichever thread.

use super::super::state::{State, Turn};
use super::*;

/// A process has one generation; tests have many, and a thread serves one at a time.
#[test]
fn guards_of_two_registries_on_one_thread_are_counted_apart() {
    let drains = [Drain::new(), Drain::new()];
    let mut held = Vec::new();
    for round in 0..200 {
        for drain in &drains {
            held.push(drain.guards(&http()).take());
        }
        assert_eq!(drains.each_ref().map(Drain::active), [round + 1; 2]);
    }
    // Those of the first go on a thread that serves the second.
    let mut of_first = true;
    held.retain(|_| {
        of_first = !of_first;
        of_first
    });
    assert_eq!(drains.each_ref().map(Drain::active), [0, 200]);
    thread::spawn(move || drop(held)).join().unwrap();
    assert_eq!(drains.each_ref().map(Drain::active), [0, 0]);
    assert_eq!(drains.each_ref().map(Drain::accepted), [200, 200]);
    assert!(drains.iter().all(Drain::is_empty));
}

#[test]
fn entries_are_used_again_and_what_was_said_about_one_is_forgotten() {
    let drain = Drain::new();
    let first = drain.guards(&"admin".parse().unwrap()).guard(Some("192.0.2.1:9".parse().unwrap()));
    first.set_name("console");
    first.leaves();
    drain.advance(DrainPhase::Graceful);
    drop(first);
    drain.reopen();
    let second = drain.guards(&http()).take();
    assert_eq!((second.phase(), second.name(), second.peer()), (DrainPhase::Serving, None, None));
    assert_eq!(second.listener(), &http());
    drop(second);
    assert_eq!(drain.hub().roll().all.len(), 1, "one entry did for both");
    let totals = drain.totals();
    assert_eq!((totals.made, totals.ended, totals.left), (2, 1, 1));
}

#[test]
fn a_thread_gives_back_what_is_too_much() {
    let drain = Drain::new();
    let guards = drain.guards(&http());
    let many = 10_000;
    let held: Vec<Guard> = (0..many).map(|_| guards.take()).collect();
    assert_eq!(drain.hub().roll().all.len(), many);
    drop(held);
    let kept = drain.hub().roll().all.len();
    assert!((4_096..5_000).contains(&kept), "{kept}");
    // What is left is still found where it says that it is.
    let held: Vec<Guard> = (0..many).map(|_| guards.take()).collect();
    assert_eq!(drain.progress().by_listener, [(http(), many)]);
    drop(held);
    assert!(drain.is_empty());
}

#[test]
fn a_guard_outlives_its_registry() {
    let drain = Drain::new();
    let hub = Arc::downgrade(drain.hub());
    let (guard, other) = (drain.guards(&http()).take(), drain.guards(&http()).take());
    drop(drain);
    thread::spawn(move || drop(other)).join().unwrap();
    assert_eq!(guard.listener(), &http());
    // This thread's stock keeps the hub as long as it serves it.
    drop(guard);
    drop(Drain::new().guards(&http()).take());
    assert_eq!(hub.strong_count(), 0);
}

#[test]
fn peers_are_known_by_their_addresses_whatever_the_family() {
    let drain = Drain::new();
    let guards = drain.guards(&http());
    for peer in ["192.0.2.7:80", "255.255.255.255:65535", "[2001:db8::7]:443", "[fe80::1%3]:9"] {
        let guard = guards.guard(Some(peer.parse().unwrap()));
        assert_eq!(guard.peer().as_deref(), Some(peer));
        assert_eq!(guards.guard_of_moved(Some(peer.into())).peer().as_deref(), Some(peer));
    }
    let guard = guards.guard_of_moved(Some("a name of another kind".into()));
    assert_eq!(drain.progress().oldest.unwrap().peer.as_deref(), Some("a name of another kind"));
    drop(guard);
    assert_eq!(guards.take().peer(), None);
}

/// An entry is used again while a list of its earlier lives is worked through: no later life is
/// touched. (loom has it that an exchange may be overtaken by a store, so this takes real threads.)
#[test]
fn a_phase_meant_for_one_life_never_meets_the_next() {
    let (turn, state) = (Turn::new(), State::new());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if let Some((life, _)) = state.live() {
                    (0..50).for_each(|_| std::hint::spin_loop());
                    state.raise(life, DrainPhase::Force);
                }
            }
        });
        for _ in 0..300_000 {
            state.begin(&turn);
            let (life, _) = state.live().unwrap();
            assert!(state.is_still(life));
            state.end();
            assert!(!state.is_still(life) && state.live().is_none());
            assert!(!state.raise(life, DrainPhase::Force), "that life is over");
        }
        stop.store(true, Ordering::Relaxed);
    });
    state.begin(&turn);
    assert_eq!(state.phase(), DrainPhase::Serving);
}
