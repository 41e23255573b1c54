//! Every order in which threads can meet in the two places that rest on fences, tried by loom: the
//! same files as in the crate, with loom's atomic types.
#![allow(clippy::duplicate_mod, reason = "one has loom's atomic types")]

use loom::sync::{Arc, Notify};
use loom::thread;

use self::count::{Countdown, Step, Tally, Totals};
use self::state::{State, Turn};
use super::DrainPhase;

/// In place of those of std.
mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
}

#[allow(dead_code, reason = "not all of it is tried here")]
#[path = "../count.rs"]
mod count;

#[allow(dead_code, reason = "not all of it is tried here")]
#[path = "../state.rs"]
mod state;

/// Tries a model with at most two threads taken off the processor where they would have gone on:
/// faults that need more are rare, says loom, and so it ends in seconds.
fn in_every_order(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

/// A task that waits for zero. loom's `Notify` keeps one notification for a single waiter, so a
/// wake-up that comes before the wait is not lost, as with one that has taken its place.
struct Waiting {
    tallies: [Tally; 2],
    countdown: Countdown,
    emptied: Notify,
}

impl Waiting {
    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.tallies.iter().for_each(|tally| totals.add_gone(tally));
        self.tallies.iter().for_each(|tally| totals.add_made(tally));
        totals
    }

    fn least(&self) -> u64 {
        let mut totals = Totals::default();
        self.tallies.iter().for_each(|tally| totals.add_made(tally));
        self.tallies.iter().for_each(|tally| totals.add_gone(tally));
        totals.active()
    }

    /// As [`Drain::empty`](super::Drain::empty), for a thread.
    fn empty(&self) {
        self.countdown.listen();
        loop {
            let heard = self.countdown.heard();
            if self.totals().active() == 0 {
                break;
            }
            if !self.countdown.wake_after(heard, self.least()) {
                self.emptied.wait();
            }
        }
        self.countdown.ignore();
    }

    /// As the end of `stock::give_back`.
    fn ends(&self, thread: usize) {
        self.tallies[thread].count(Step::Ended);
        if self.countdown.is_heard() && self.countdown.hear() {
            self.emptied.notify();
        }
    }
}

/// Two guards, taken by one thread and dropped by two, while a third thread waits: it is woken in
/// every order, or loom finds that nobody goes on.
#[test]
fn p7_zero_is_noticed_in_every_order() {
    in_every_order(|| {
        let waiting = Arc::new(Waiting {
            tallies: [Tally::new(), Tally::new()],
            countdown: Countdown::new(),
            emptied: Notify::new(),
        });
        waiting.tallies[0].count(Step::Made);
        waiting.tallies[0].count(Step::Made);
        let threads = [0, 1].map(|number| {
            let waiting = Arc::clone(&waiting);
            thread::spawn(move || waiting.ends(number))
        });
        waiting.empty();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(waiting.totals().active(), 0);
    });
}

/// A guard hands over to another that a second thread takes before the first is dropped: there is
/// never none, and nobody sees none.
#[test]
fn zero_is_seen_in_no_order_while_a_guard_is_there() {
    in_every_order(|| {
        let tallies = Arc::new([Tally::new(), Tally::new()]);
        tallies[0].count(Step::Made);
        let thread = {
            let tallies = Arc::clone(&tallies);
            thread::spawn(move || {
                tallies[1].count(Step::Made);
                tallies[1].count(Step::Ended);
                tallies[1].count(Step::Made);
            })
        };
        let mut totals = Totals::default();
        tallies.iter().for_each(|tally| totals.add_gone(tally));
        tallies.iter().for_each(|tally| totals.add_made(tally));
        assert!(totals.active() > 0);
        thread.join().unwrap();
    });
}

/// A guard is taken and waits for a phase while that phase is told: either the walk through the
/// entries finds it, or it finds that it is behind.
#[test]
fn a_newcomer_learns_of_a_phase_in_every_order() {
    in_every_order(|| {
        let both = Arc::new((Turn::new(), State::new()));
        let thread = {
            let both = Arc::clone(&both);
            thread::spawn(move || {
                let (turn, state) = &*both;
                state.begin(turn);
                // It has taken its place among those who are woken, and looks again.
                atomic::fence(atomic::Ordering::SeqCst);
                state.is_behind(turn) || state.phase() == DrainPhase::LameDuck
            })
        };
        let (turn, state) = &*both;
        turn.begin(DrainPhase::LameDuck);
        let seen = state.live();
        if let Some((life, _)) = seen {
            state.note(life, turn);
            state.raise(life, DrainPhase::LameDuck);
        }
        let knows = thread.join().unwrap();
        assert!(knows || seen.is_some());
        assert!(!(seen.is_some() && state.is_behind(turn)), "what was seen has been noted");
    });
}
