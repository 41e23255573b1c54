//! Counting without a word that all connections write, and the moment of zero.
//!
//! Each thread counts on its own: the guards that it has taken, and those whose last clone it has
//! dropped. Both only ever grow.
//!
//! # Zero
//!
//! *If no guard exists at some moment after [`Drain::empty`](super::Drain::empty) was called, and
//! none is taken from then on, then `empty` resolves; and it resolves only if there was a moment
//! during the call when no guard existed.*
//!
//! The second half: `empty` adds up what has ended on all threads, and after that what was made on
//! all threads. What has ended was made before, so if both sums are the same, then every guard that
//! was made had ended at the moment between the two.
//!
//! The first half: `empty` (a) says that it listens, (b) takes its place among those who are woken,
//! (c) reads the number of ends heard so far, (d) adds up. Whoever drops a last guard counts it,
//! then looks whether somebody listens, and tells the [`Countdown`] if so; there is a fence between
//! the two, and one after (a). So of an end either (d) knows, or it is heard. `empty` asks to be
//! woken after as many more ends, counted from (c), as (d) saw guards, or fewer, but at least one:
//! each of those guards has its end heard after (c), so the count is reached when the last of them
//! goes, if not before. A drain of a hundred thousand wakes its task a few times, and the last
//! connection wakes it at once.

use super::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

/// What one thread has counted; only that thread writes it.
#[repr(align(128))] // Two cache lines: processors fetch them in pairs.
pub(super) struct Tally {
    made: AtomicU64,
    came: AtomicU64,
    ended: AtomicU64,
    left: AtomicU64,
    lost: AtomicU64,
}

/// What there is to count in a connection's life.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// Accepted here.
    Made,
    /// Taken over from an older generation.
    Came,
    /// Ended here.
    Ended,
    /// Left for a newer generation.
    Left,
    /// Closed on its way to one.
    Lost,
}

/// Sums of tallies: connections that came, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// All guards taken, moved connections included.
    pub(super) made: u64,
    /// Those of them that an older generation had accepted.
    pub(super) came: u64,
    /// Connections that have ended here, by themselves or cut. It never goes back.
    pub(super) ended: u64,
    /// Connections that have left for a newer generation. It never goes back.
    pub(super) left: u64,
    /// Connections that were lost on their way to one. It never goes back.
    pub(super) lost: u64,
}

impl Tally {
    pub(super) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { made: zero(), came: zero(), ended: zero(), left: zero(), lost: zero() }
    }

    /// Counts one; only this tally's own thread does.
    #[inline]
    pub(super) fn count(&self, step: Step) {
        let up = |count: &AtomicU64| {
            // No other thread writes it, so this needs no exchange.
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Release);
        };
        match step {
            Step::Made => up(&self.made),
            Step::Came => {
                up(&self.made);
                up(&self.came);
            }
            Step::Ended => up(&self.ended),
            Step::Left => up(&self.left),
            Step::Lost => up(&self.lost),
        }
    }
}

impl Totals {
    /// As [`Tally::count`].
    pub(super) fn count(&mut self, step: Step) {
        match step {
            Step::Made => self.made += 1,
            Step::Came => {
                self.made += 1;
                self.came += 1;
            }
            Step::Ended => self.ended += 1,
            Step::Left => self.left += 1,
            Step::Lost => self.lost += 1,
        }
    }

    /// Adds what has gone.
    pub(super) fn add_gone(&mut self, tally: &Tally) {
        self.ended += tally.ended.load(Ordering::Acquire);
        self.left += tally.left.load(Ordering::Acquire);
        self.lost += tally.lost.load(Ordering::Acquire);
    }

    /// Adds what has come; to be called for all tallies after [`add_gone`](Self::add_gone) was.
    pub(super) fn add_made(&mut self, tally: &Tally) {
        self.came += tally.came.load(Ordering::Acquire);
        self.made += tally.made.load(Ordering::Acquire);
    }

    /// Connections that are there. Zero is exact; under load the number may be too great by those
    /// that ended meanwhile.
    pub(super) fn active(self) -> u64 {
        self.made.saturating_sub(self.ended + self.left + self.lost)
    }

    /// Connections that were accepted here.
    pub(super) fn accepted(self) -> u64 {
        self.made.saturating_sub(self.came)
    }
}

/// Wakes who waits for zero when enough has ended.
pub(super) struct Countdown {
    /// Those who want to hear of ends.
    listening: AtomicUsize,
    /// Ends heard.
    heard: AtomicU64,
    /// The number of ends at which somebody is to be woken.
    due: AtomicU64,
}

impl Countdown {
    pub(super) fn new() -> Self {
        Self {
            listening: AtomicUsize::new(0),
            heard: AtomicU64::new(0),
            due: AtomicU64::new(u64::MAX),
        }
    }

    /// From now on ends are heard, until [`ignore`](Self::ignore).
    pub(super) fn listen(&self) {
        self.listening.fetch_add(1, Ordering::Relaxed);
        // (a) in the module's text.
        fence(Ordering::SeqCst);
    }

    pub(super) fn ignore(&self) {
        self.listening.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the end that was just counted, or something else that was just done, is to be told.
    #[inline]
    pub(super) fn is_heard(&self) -> bool {
        fence(Ordering::SeqCst);
        self.listens()
    }

    /// Whether somebody listens, if that is not to be known for certain.
    #[inline]
    pub(super) fn listens(&self) -> bool {
        self.listening.load(Ordering::Relaxed) > 0
    }

    /// An end is heard; true if it is time to wake those who wait.
    pub(super) fn hear(&self) -> bool {
        let heard = self.heard.fetch_add(1, Ordering::AcqRel) + 1;
        fence(Ordering::SeqCst);
        heard >= self.due.load(Ordering::Relaxed) && {
            // All who wait are woken and ask anew. Whoever had asked already is seen by the caller
            // to wait: an exchange comes after what it takes away.
            self.due.swap(u64::MAX, Ordering::AcqRel);
            true
        }
    }

    /// (c) in the module's text.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Acquire)
    }

    /// Asks to be woken at `more` ends after `from`; true if that many have been heard.
    pub(super) fn wake_after(&self, from: u64, more: u64) -> bool {
        let due = from + more.max(1);
        self.due.fetch_min(due, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        self.heard() >= due
    }
}
