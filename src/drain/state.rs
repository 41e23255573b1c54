//! What an entry is in, and what a generation asks of its connections, in one word each.
//!
//! # Newcomers
//!
//! *A connection learns of every phase that is told while it is there.* Telling a phase is: store
//! the new [`Turn`], then go through the entries and note the new epoch in each that is live. Taking
//! a guard is: read the turn, then store it in the entry as its epoch, with nothing between the two
//! that would make other processors wait. So whoever tells may pass a newcomer by that has read the
//! old turn and whose entry it does not see yet.
//!
//! Such an entry has an epoch that is not the turn's, and that is what a guard looks at whenever it
//! is asked for its phase ([`State::is_behind`]). A guard that goes to sleep looks once more after
//! it has taken its place among those who are woken, with a fence before that look; there is one
//! between the turn's store and the walk as well. Of these two fences one is the first: either the
//! walk sees the entry, or the guard sees the turn.

use super::DrainPhase;
use super::atomic::{AtomicU64, Ordering, fence};

const PHASE: u64 = 0b011;
const LIVE: u64 = 0b100;
const ONE_EPOCH: u64 = 0b1000;
const EPOCH: u64 = 0xFFFF_FFF8;
const ONE_LIFE: u64 = 1 << 32;

/// What newcomers start with: a phase, and the number of the epoch in which it was told.
pub(super) struct Turn(AtomicU64);

impl Turn {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline]
    fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// The phase of newcomers.
    #[inline]
    pub(super) fn phase(&self) -> DrainPhase {
        phase_of(self.get())
    }

    /// A new epoch, in which newcomers start in `phase`. One at a time: the caller holds a lock.
    pub(super) fn begin(&self, phase: DrainPhase) {
        let epoch = self.get().wrapping_add(ONE_EPOCH) & EPOCH;
        self.0.store(epoch | u64::from(phase.rank()), Ordering::Release);
        // Before the walk through the entries: see the module's text.
        fence(Ordering::SeqCst);
    }
}

/// An entry's word: how many lives it has had, the epoch that it knows of, whether it is live, and
/// its phase.
pub(super) struct State(AtomicU64);

/// One life of an entry: entries are used again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life(u64);

impl Life {
    /// What the entry counts once this one is over.
    fn next(self) -> Self {
        Self(self.0.wrapping_add(1) & u64::from(u32::MAX))
    }
}

impl State {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// A life begins, in the phase of newcomers. Only who has the entry to itself may say so.
    #[inline]
    pub(super) fn begin(&self, turn: &Turn) {
        let life = self.0.load(Ordering::Relaxed) & !(ONE_LIFE - 1);
        self.0.store(life | turn.get() | LIVE, Ordering::Release);
    }

    /// The life ends. Only whoever drops the last guard may say so.
    #[inline]
    pub(super) fn end(&self) {
        let life = self.0.load(Ordering::Relaxed) & !(ONE_LIFE - 1);
        self.0.store(life.wrapping_add(ONE_LIFE), Ordering::Release);
    }

    /// The life that is under way, and its phase.
    #[inline]
    pub(super) fn live(&self) -> Option<(Life, DrainPhase)> {
        let state = self.0.load(Ordering::Acquire);
        (state & LIVE != 0).then(|| (Life(state / ONE_LIFE), phase_of(state)))
    }

    /// Whether this life is still under way. What was read of the entry before belongs to it then.
    pub(super) fn is_still(&self, life: Life) -> bool {
        // What was read before this stays before it, as in a sequence lock.
        fence(Ordering::Acquire);
        let state = self.0.load(Ordering::Relaxed);
        state & LIVE != 0 && state / ONE_LIFE == life.0
    }

    /// Whether no life has begun since this one, and what was read of the entry before belongs to it
    /// though it may be over.
    pub(super) fn is_last(&self, life: Life) -> bool {
        // As in `is_still`.
        fence(Ordering::Acquire);
        let state = self.0.load(Ordering::Relaxed);
        let ended = state & LIVE == 0;
        state / ONE_LIFE == life.0 || ended && Life(state / ONE_LIFE) == life.next()
    }

    #[inline]
    pub(super) fn phase(&self) -> DrainPhase {
        phase_of(self.0.load(Ordering::Acquire))
    }

    /// Whether a phase was told that this entry may have been passed by with.
    #[inline]
    pub(super) fn is_behind(&self, turn: &Turn) -> bool {
        (self.0.load(Ordering::Acquire) ^ turn.get()) & EPOCH != 0
    }

    /// Notes that this life has been seen in the turn's epoch.
    pub(super) fn note(&self, life: Life, turn: &Turn) {
        let turn = turn.get();
        self.change(life, |state| (state & !EPOCH) | (turn & EPOCH));
    }

    /// Moves this life forward to `phase`; false if it was there already or is over.
    pub(super) fn raise(&self, life: Life, phase: DrainPhase) -> bool {
        let rank = u64::from(phase.rank());
        self.change(life, |state| (state & !PHASE) | rank.max(state & PHASE))
    }

    /// Changes the word of this life; false if nothing changed.
    fn change(&self, life: Life, new: impl Fn(u64) -> u64) -> bool {
        let of_life = |state: u64| {
            let alive = state & LIVE != 0 && state / ONE_LIFE == life.0;
            alive.then(|| new(state)).filter(|new| *new != state)
        };
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, of_life).is_ok()
    }
}

#[inline]
fn phase_of(word: u64) -> DrainPhase {
    DrainPhase::from_rank((word & PHASE) as u8)
}
