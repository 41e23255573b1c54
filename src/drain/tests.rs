mod entries;
mod orders;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::*;

/// Far beyond what any of these takes; reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

fn http() -> Name {
    "http".parse().unwrap()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn settings() -> DrainSettings {
    DrainSettings {
        lame_duck: ms(500),
        deadline: ms(10_000),
        spread: ms(1_000),
        force_grace: ms(1_000),
    }
}

/// Drops the guard when it is told to reach `phase`; gives the time of that.
fn obey(guard: Guard, phase: DrainPhase) -> tokio::task::JoinHandle<Instant> {
    tokio::spawn(async move {
        guard.reached(phase).await;
        Instant::now()
    })
}

#[test]
fn a_connection_counts_until_its_last_clone_is_gone() {
    let drain = Drain::new();
    let guard = drain.guards(&http()).take();
    let clone = guard.clone();
    assert_eq!((drain.active(), drain.accepted()), (1, 1));
    drop(guard);
    assert_eq!(drain.active(), 1);
    thread::spawn(move || drop(clone)).join().unwrap();
    assert_eq!((drain.active(), drain.accepted()), (0, 1));
    assert!(drain.is_empty());
}

#[test]
fn progress_counts_by_listener_and_names_the_oldest() {
    let drain = Drain::new();
    let guards = drain.guards(&"admin".parse().unwrap());
    let first = guards.guard_since(ms(12_000), Some("192.0.2.1:9".parse().unwrap()));
    first.set_name("console");
    first.set_reason("waits for a command");
    let others = [drain.guards(&http()).take(), drain.guards(&http()).take()];
    let progress = drain.progress();
    assert_eq!(progress.active, 3);
    assert_eq!(progress.by_listener, [(first.listener().clone(), 1), (http(), 2)]);
    assert_eq!(
        progress.oldest.unwrap().to_string(),
        "admin \"console\" from 192.0.2.1:9, 12 s: waits for a command"
    );
    drop((first, others));
    assert_eq!(drain.progress(), Progress { accepted: 3, ..Progress::default() });
}

#[tokio::test]
async fn each_guard_is_told_its_phase_and_may_stop_waiting() {
    let drain = Drain::new();
    let guard = drain.guards(&http()).take();
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        let mut wait = Box::pin(guard.reached(DrainPhase::Graceful));
        assert!(wait.as_mut().poll(&mut context).is_pending());
    }
    let mut early = Box::pin(guard.reached(DrainPhase::LameDuck));
    let mut late = Box::pin(guard.reached(DrainPhase::Graceful));
    assert!(early.as_mut().poll(&mut context).is_pending());
    assert!(late.as_mut().poll(&mut context).is_pending());
    drain.advance(DrainPhase::LameDuck);
    assert_eq!(early.as_mut().poll(&mut context), Poll::Ready(()));
    assert!(late.as_mut().poll(&mut context).is_pending());
    drain.advance(DrainPhase::Force);
    timeout(LONG, late).await.unwrap();
    timeout(LONG, guard.reached(DrainPhase::Serving)).await.unwrap();
    assert_eq!(guard.phase(), DrainPhase::Force);
}

#[test]
fn a_predecessor_that_owns_again_serves_newcomers_and_calls_nobody_back() {
    let drain = Drain::new();
    let old = drain.guards(&http()).take();
    drain.advance(DrainPhase::Graceful);
    assert_eq!(drain.guards(&http()).take().phase(), DrainPhase::Graceful);
    drain.reopen();
    let new = drain.guards(&http()).take();
    assert_eq!((old.phase(), new.phase()), (DrainPhase::Graceful, DrainPhase::Serving));
    drain.advance(DrainPhase::LameDuck);
    assert_eq!((old.phase(), new.phase()), (DrainPhase::Graceful, DrainPhase::LameDuck));
    assert_eq!(drain.progress().phase, DrainPhase::LameDuck);
}

#[tokio::test(start_paused = true)]
async fn closings_are_spread_evenly_over_the_window() {
    let drain = Drain::new();
    let tasks: Vec<_> =
        (0..1_000).map(|_| obey(drain.guards(&http()).take(), DrainPhase::Graceful)).collect();
    tokio::task::yield_now().await;
    let began = Instant::now();
    drain.advance_spread(DrainPhase::Graceful, ms(2_000)).await;
    let mut tenths = [0; 10];
    for task in tasks {
        let at = task.await.unwrap() - began;
        tenths[usize::try_from(at.as_millis() / 200).unwrap()] += 1;
    }
    // A tenth may differ by the one that falls on the clock's next tick.
    assert!(tenths.iter().all(|count| (99..=101).contains(count)), "{tenths:?}");
}

#[tokio::test(start_paused = true)]
async fn a_spread_that_is_cancelled_goes_on_where_it_was() {
    let drain = Drain::new();
    let guards: Vec<_> = (0..100).map(|_| drain.guards(&http()).take()).collect();
    let moved = || guards.iter().filter(|guard| guard.phase() == DrainPhase::Graceful).count();
    let spread = drain.advance_spread(DrainPhase::Graceful, ms(1_000));
    assert!(timeout(ms(500), spread).await.is_err());
    assert!((49..=52).contains(&moved()), "{}", moved());
    drain.advance_spread(DrainPhase::Graceful, Duration::ZERO).await;
    assert_eq!(moved(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_at_once_at_zero_in_every_phase() {
    for (phase, at) in [
        (DrainPhase::Serving, 0),
        (DrainPhase::LameDuck, 0),
        (DrainPhase::Graceful, 500),
        (DrainPhase::Force, 10_000),
    ] {
        let drain = Drain::new();
        let task = (phase > DrainPhase::Serving).then(|| obey(drain.guards(&http()).take(), phase));
        let report = drain.run(&settings(), &Notify::new()).await;
        // The clock of tokio's timers ticks once a millisecond.
        assert!(report.elapsed.as_millis().abs_diff(at) <= 1, "{phase}: {:?}", report.elapsed);
        let forced = phase == DrainPhase::Force;
        let outcome = if forced { DrainOutcome::Cut } else { DrainOutcome::Drained };
        assert_eq!(report.outcome, outcome, "{phase}");
        assert_eq!(report.drained, u64::from(task.is_some() && !forced), "{phase}");
        assert_eq!((report.cut_count, report.left), (u64::from(forced), 0), "{phase}");
        assert_eq!(drain.watch().borrow().active, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_at_the_deadline_and_names_who_was_cut_and_why() {
    let drain = Drain::new();
    let gentle = obey(drain.guards(&http()).take(), DrainPhase::Graceful);
    let peer = "192.0.2.7:80".parse().unwrap();
    let deaf = drain.guards(&http()).guard_since(ms(10_000), Some(peer));
    deaf.set_name("GET /events");
    deaf.set_reason("endless stream");
    let late = obey(drain.guards(&http()).take(), DrainPhase::Force);
    let report = drain.run(&settings(), &Notify::new()).await;
    assert_eq!(report.outcome, DrainOutcome::Forced);
    assert_eq!((report.drained, report.cut_count, report.left), (1, 2, 1));
    assert_eq!(report.cut.len(), 2);
    let named = report.cut.iter().find(|held| held.name.is_some()).unwrap();
    let text = "http \"GET /events\" from 192.0.2.7:80, 10 s: endless stream; cut at the deadline";
    assert_eq!(named.to_string(), text);
    assert_eq!(report.cuts, CutCounts { deadline: 2, ..CutCounts::default() });
    assert!(report.elapsed.as_millis().abs_diff(11_000) <= 2, "{:?}", report.elapsed);
    assert!(!report.hurried);
    gentle.await.unwrap();
    late.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_on_its_way_is_cut_and_named_and_not_drained() {
    let drain = Drain::new();
    let earlier = drain.guards(&http()).take();
    earlier.lost("in a drain that was given up");
    drop(earlier);
    let ends = obey(drain.guards(&http()).take(), DrainPhase::Graceful);
    let lost = drain.guards(&http()).guard(Some("192.0.2.7:80".parse().unwrap()));
    lost.lost("the successor did not answer in time");
    let leaves = drain.guards(&http()).take();
    leaves.leaves();
    let going = tokio::spawn(async move {
        lost.reached(DrainPhase::Graceful).await;
        drop(leaves);
    });
    let report = drain.run(&settings(), &Notify::new()).await;
    assert_eq!(report.outcome, DrainOutcome::Cut);
    assert_eq!((report.drained, report.moved, report.cut_count, report.left), (1, 1, 1, 0));
    let named: Vec<_> = report.cut.iter().map(ToString::to_string).collect();
    let why = "lost on its way to the successor: the successor did not answer in time";
    let cut = "cut on the way to a newer generation";
    assert_eq!(named, [format!("http from 192.0.2.7:80, 0 s: {why}; {cut}")]);
    assert_eq!(report.cuts, CutCounts { lost: 1, ..CutCounts::default() });
    ends.await.unwrap();
    going.await.unwrap();

    // And the same if others are there until the deadline.
    let (deaf, lost) = (drain.guards(&http()).take(), drain.guards(&http()).take());
    lost.lost("gone");
    let going = tokio::spawn(async move { lost.reached(DrainPhase::Graceful).await });
    let report = drain.run(&settings(), &Notify::new()).await;
    assert_eq!(report.outcome, DrainOutcome::Forced);
    assert_eq!((report.drained, report.cut_count, report.cut.len(), report.left), (0, 2, 2, 1));
    assert_eq!(report.cuts, CutCounts { deadline: 1, lost: 1, ..CutCounts::default() });
    going.await.unwrap();
    drop(deaf);
}

/// It has the successor's answer, and its task has not heard of it; or that answer is on its way.
#[tokio::test(start_paused = true)]
async fn what_has_left_when_the_others_are_cut_is_not_named_among_them() {
    let drain = Drain::new();
    let (left, leaves) = (drain.guards(&http()).take(), drain.guards(&http()).take());
    left.leaves();
    let cut = drain.guards(&http()).take();
    cut.set_name("GET /slow");
    let tasks = [left, cut].map(|guard| obey(guard, DrainPhase::Force));
    let moves = tokio::spawn(async move {
        leaves.reached(DrainPhase::Force).await;
        leaves.leaves();
    });
    let report = drain.run(&settings(), &Notify::new()).await;
    assert_eq!((report.drained, report.moved, report.cut_count, report.left), (0, 2, 1, 0));
    let named: Vec<_> = report.cut.iter().map(|held| held.name.as_deref()).collect();
    assert_eq!(named, [Some("GET /slow")]);
    moves.await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_hurried_forces_at_once() {
    let drain = Drain::new();
    let task = obey(drain.guards(&http()).take(), DrainPhase::Force);
    let hurry = Notify::new();
    hurry.notify_one();
    let report = drain.run(&settings(), &hurry).await;
    assert_eq!((report.outcome, report.cut_count), (DrainOutcome::Cut, 1));
    assert!(report.hurried);
    assert_eq!(report.cuts, CutCounts { forced: 1, ..CutCounts::default() });
    assert_eq!(report.cut[0].cut, Some(CutCause::Forced));
    assert!(report.elapsed <= ms(1), "{:?}", report.elapsed);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deadline_without_end_does_not_overflow_the_clock() {
    let drain = Drain::new();
    let task = obey(drain.guards(&http()).take(), DrainPhase::Graceful);
    let endless = DrainSettings {
        lame_duck: Duration::ZERO,
        deadline: Duration::MAX,
        spread: Duration::MAX,
        force_grace: Duration::MAX,
    };
    let report = drain.run(&endless, &Notify::new()).await;
    assert_eq!(report.outcome, DrainOutcome::Drained);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_ten_times_a_second_in_a_drain_and_never_in_steady_state() {
    let drain = Drain::new();
    let mut watch = drain.watch();
    let mut guards: Vec<_> = (0..1_000).map(|_| drain.guards(&http()).take()).collect();
    guards.truncate(500);
    assert!(!watch.has_changed().unwrap(), "told in steady state");
    let run = tokio::spawn({
        let drain = drain.clone();
        async move { drain.run(&settings(), &Notify::new()).await }
    });
    let ends = tokio::spawn(async move {
        while guards.pop().is_some() {
            tokio::time::advance(ms(2)).await;
        }
    });
    let mut last = watch.borrow_and_update().active;
    let mut told = 0;
    while !run.is_finished() {
        if timeout(LONG, watch.changed()).await.is_ok() {
            let active = watch.borrow_and_update().active;
            assert!(active <= last || told == 0, "{active} after {last}");
            (last, told) = (active, told + 1);
        }
        tokio::task::yield_now().await;
    }
    ends.await.unwrap();
    let report = run.await.unwrap();
    assert_eq!((report.outcome, report.drained, last), (DrainOutcome::Drained, 500, 0));
    // 1 s of closings: one every 100 ms, two phases and the end.
    assert!((8..=14).contains(&told), "{told} times in {:?}", report.elapsed);
}

/// One connection moves between two threads, a new guard before the old one goes: there is no
/// moment without a guard, though a look at one thread's counts after another's could find none.
#[test]
fn zero_is_not_seen_while_guards_only_change_hands() {
    let drain = Drain::new();
    let guards = drain.guards(&http());
    let stop = AtomicBool::new(false);
    let (to_there, there) = mpsc::channel::<Guard>();
    let (to_here, here) = mpsc::channel::<Guard>();
    to_there.send(guards.take()).unwrap();
    let pass_on = |from: mpsc::Receiver<Guard>, to: mpsc::Sender<Guard>| {
        while !stop.load(Ordering::Relaxed) {
            // The other one has stopped, then.
            let Ok(old) = from.recv() else { break };
            let new = guards.take();
            drop(old);
            if let Err(mpsc::SendError(last)) = to.send(new) {
                return Some(last);
            }
        }
        // What is under way stays there until the end.
        from.try_recv().ok()
    };
    thread::scope(|scope| {
        let threads =
            [scope.spawn(|| pass_on(there, to_here)), scope.spawn(|| pass_on(here, to_there))];
        let seen = (0..500_000).filter(|_| drain.is_empty()).count();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(seen, 0);
        threads.into_iter().for_each(|thread| drop(thread.join().unwrap()));
    });
}

/// The only guard goes at a moment that differs from round to round, before, while and after
/// `empty` looks and takes its place: no round's wake-up may be lost.
#[test]
fn a_guard_that_goes_while_the_wait_for_zero_begins_is_noticed() {
    let drain = Drain::new();
    let slot = std::sync::Mutex::new(None::<Guard>);
    let stop = AtomicBool::new(false);
    let rounds = async {
        for _ in 0..30_000 {
            *slot.lock().unwrap() = Some(drain.guards(&http()).take());
            drain.empty().await;
        }
    };
    let mut in_time = Ok(());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0_usize;
            while !stop.load(Ordering::Relaxed) {
                let taken = slot.lock().unwrap().take();
                if taken.is_some() {
                    round += 1;
                    (0..round * 7 % 101).for_each(|_| std::hint::spin_loop());
                }
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        in_time = runtime.block_on(async { timeout(LONG, rounds).await });
        stop.store(true, Ordering::Relaxed);
    });
    in_time.unwrap();
}

/// Many rounds of guards that come and go on several threads while someone waits for zero: no
/// round's last wake-up may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_last_guard_always_wakes_who_waits_for_zero() {
    let drain = Drain::new();
    let ended = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (send, receive) = mpsc::channel::<Guard>();
            let (drain, ended) = (drain.clone(), Arc::clone(&ended));
            let thread = thread::spawn(move || {
                for guard in receive {
                    let child = drain.guards(guard.listener()).take();
                    drop(guard);
                    ended.fetch_add(1, Ordering::SeqCst);
                    drop(child);
                }
            });
            (send, thread)
        })
        .collect();
    let rounds = 5_000;
    for round in 1..=rounds {
        let guards: Vec<_> = workers.iter().map(|_| drain.guards(&http()).take()).collect();
        for (guard, (send, _)) in guards.into_iter().zip(&workers) {
            send.send(guard).unwrap();
        }
        timeout(LONG, drain.empty()).await.unwrap();
        assert_eq!(ended.load(Ordering::SeqCst), round * workers.len());
    }
    for (send, thread) in workers {
        drop(send);
        thread.join().unwrap();
    }
    assert_eq!(drain.accepted(), rounds as u64 * 8);
}

#[test]
fn a_thread_waits_for_a_phase_without_a_runtime() {
    let drain = Drain::new();
    let guard = drain.guards(&"http".parse().unwrap()).take();
    assert!(!guard.reached_within(DrainPhase::LameDuck, Duration::from_millis(1)));
    let waiting = std::thread::spawn({
        let guard = guard.clone();
        move || guard.reached_within(DrainPhase::Graceful, Duration::from_secs(60))
    });
    drain.advance(DrainPhase::Graceful);
    assert!(waiting.join().unwrap());
    assert!(guard.reached_within(DrainPhase::LameDuck, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_health_check_learns_of_phases_and_is_counted_nowhere() {
    let drain = Drain::new();
    let check = drain.guards(&http()).guard_of_check(Some("127.0.0.1:9".parse().unwrap()));
    assert!(check.is_health_check() && check.clone().is_health_check());
    assert!(!drain.guards(&http()).take().is_health_check());
    assert_eq!(drain.progress(), Progress { accepted: 1, ..Progress::default() });
    assert_eq!((drain.active(), drain.accepted()), (0, 1));
    let told = obey(check.clone(), DrainPhase::LameDuck);
    drop(obey(drain.guards(&http()).take(), DrainPhase::Graceful));
    let report = drain.run(&settings(), &Notify::new()).await;
    assert_eq!((report.outcome, report.drained, report.left), (DrainOutcome::Drained, 1, 0));
    assert!(report.cut.is_empty());
    assert!(check.phase() < DrainPhase::Force, "the drain did not wait for the check");
    told.await.unwrap();
    drop(check);
    assert_eq!(drain.accepted(), 2);
}
