//! What all guards of one generation have in common. A guard's life only reads it, unless a drain
//! runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::atomic::{AtomicBool, Ordering};
use super::count::{Countdown, Step, Tally, Totals};
use super::entry::Entry;
use super::names::Names;
use super::state::Turn;
use super::{Held, Progress};

/// So many entries without a connection are kept for later ones; more are given back to the
/// allocator.
const KEPT: usize = 4_096;

/// At most so many that were lost are known by name: as many as a report names.
const MAX_LOST: usize = 1_000;

/// So many entries go to a thread, or come from it, at once.
pub(super) const BATCH: usize = 32;

/// What all guards of one generation have in common.
pub(super) struct Hub {
    pub(super) names: Names,
    /// What newcomers start with.
    pub(super) turn: Turn,
    /// Held while a phase is told; never by a guard, unless it has to catch up with that.
    pub(super) telling: Mutex<()>,
    pub(super) countdown: Countdown,
    pub(super) emptied: Notify,
    /// Whether `changed` has been told since counts were last published.
    pub(super) stale: AtomicBool,
    pub(super) changed: Notify,
    pub(super) progress: watch::Sender<Progress>,
    roll: Mutex<Roll>,
}

/// All entries, and who counts.
#[derive(Default)]
pub(super) struct Roll {
    pub(super) all: Vec<Arc<Entry>>,
    /// Those that are for no connection and with no thread.
    spare: Vec<Arc<Entry>>,
    /// The counts of the threads that are there.
    tallies: Vec<Arc<Tally>>,
    /// The counts of those that were, and of what has no thread to count it.
    past: Totals,
    /// The first that were lost on their way to a newer generation, as they were then.
    pub(super) lost: Vec<Held>,
    /// Nobody takes guards any more.
    closed: bool,
}

impl Hub {
    pub(super) fn new() -> Self {
        Self {
            names: Names::new(),
            turn: Turn::new(),
            telling: Mutex::default(),
            countdown: Countdown::new(),
            emptied: Notify::new(),
            stale: AtomicBool::new(false),
            changed: Notify::new(),
            progress: watch::Sender::default(),
            roll: Mutex::default(),
        }
    }

    pub(super) fn roll(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread begins to count.
    pub(super) fn open_tally(&self) -> Arc<Tally> {
        let tally = Arc::new(Tally::new());
        self.roll().tallies.push(Arc::clone(&tally));
        tally
    }

    /// A thread ends: its counts stay, and its entries are for others.
    pub(super) fn close_tally(&self, tally: &Arc<Tally>, entries: Vec<Arc<Entry>>) {
        let mut roll = self.roll();
        roll.tallies.retain(|other| !Arc::ptr_eq(other, tally));
        roll.past.add_gone(tally);
        roll.past.add_made(tally);
        let surplus = roll.put(entries);
        drop(roll);
        drop(surplus);
    }

    /// Fills a thread's stock with what is there, and gives one entry more.
    pub(super) fn supply(self: &Arc<Self>, stock: &mut Vec<Arc<Entry>>) -> Arc<Entry> {
        let mut roll = self.roll();
        let from = roll.spare.len().saturating_sub(BATCH);
        stock.extend(roll.spare.drain(from..));
        match stock.pop() {
            Some(entry) => entry,
            None => roll.make(self),
        }
    }

    /// Takes back a part of a thread's stock.
    pub(super) fn take_back(&self, stock: &mut Vec<Arc<Entry>>) {
        let surplus = self.roll().put(stock.split_off(stock.len().saturating_sub(BATCH)));
        drop(surplus);
    }

    /// An entry for a thread that has no stock, counted.
    pub(super) fn supply_one(self: &Arc<Self>, step: Option<Step>) -> Arc<Entry> {
        let mut roll = self.roll();
        if let Some(step) = step {
            roll.past.count(step);
        }
        match roll.spare.pop() {
            Some(entry) => entry,
            None => roll.make(self),
        }
    }

    /// Takes an entry back from a thread that has no stock, and counts it.
    pub(super) fn take_back_one(&self, entry: Arc<Entry>, step: Option<Step>) {
        let mut roll = self.roll();
        if let Some(step) = step {
            roll.past.count(step);
        }
        let surplus = roll.put(vec![entry]);
        drop(roll);
        drop(surplus);
    }

    /// The last who could take guards has gone: entries are no longer kept.
    pub(super) fn close(&self) {
        let mut roll = self.roll();
        roll.closed = true;
        let (all, spare) = (std::mem::take(&mut roll.all), std::mem::take(&mut roll.spare));
        drop(roll);
        drop((all, spare));
    }

    pub(super) fn totals(&self) -> Totals {
        self.roll().totals()
    }

    /// A connection was closed on its way to a newer generation.
    #[cold]
    pub(super) fn note_lost(&self, held: Held) {
        let mut roll = self.roll();
        if roll.lost.len() < MAX_LOST {
            roll.lost.push(held);
        }
    }

    /// A guard whose entry is behind the turn: it has been told, or learns now what it has missed.
    #[cold]
    pub(super) fn catch_up(&self, entry: &Entry) {
        let telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((life, _)) = entry.state.live() else { return };
        // With the lock in hand nobody walks through the entries: whoever is still behind was missed.
        let missed = entry.state.is_behind(&self.turn).then(|| self.turn.phase());
        entry.state.note(life, &self.turn);
        drop(telling);
        if let Some(phase) = missed {
            entry.raise(life, phase);
        }
    }

    /// Something has ended while somebody listens. Not under a lock: wakers run other people's code.
    #[cold]
    pub(super) fn hear_end(&self) {
        if self.countdown.hear() {
            self.emptied.notify_waiters();
        }
        self.note_change();
    }

    /// Counts have changed while somebody listens. The first change after a publication wakes the
    /// publisher, the others only read. The change was counted before; the publisher clears the mark
    /// before it adds up, so it sees the change, or is woken again.
    #[cold]
    pub(super) fn note_change(&self) {
        if !self.stale.load(Ordering::Relaxed) && !self.stale.swap(true, Ordering::AcqRel) {
            self.changed.notify_one();
        }
    }
}

impl Roll {
    /// A new entry, on the roll.
    fn make(&mut self, hub: &Arc<Hub>) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(Arc::clone(hub), self.all.len()));
        if !self.closed {
            self.all.push(Arc::clone(&entry));
        }
        entry
    }

    /// Keeps entries for later; what is too many comes back, to be dropped without the lock.
    #[must_use = "to be dropped after the lock"]
    fn put(&mut self, mut entries: Vec<Arc<Entry>>) -> Vec<Arc<Entry>> {
        let keep = if self.closed { 0 } else { KEPT.saturating_sub(self.spare.len()) };
        let surplus = entries.split_off(entries.len().min(keep));
        self.spare.extend(entries);
        if !self.closed {
            for entry in &surplus {
                self.strike(entry);
            }
        }
        surplus
    }

    /// Takes an entry off the roll.
    fn strike(&mut self, entry: &Entry) {
        let place = entry.place.load(Ordering::Relaxed);
        self.all.swap_remove(place);
        if let Some(other) = self.all.get(place) {
            other.place.store(place, Ordering::Relaxed);
        }
    }

    /// The sums of all counts: first of what has gone, then of what has come.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = self.past;
        self.tallies.iter().for_each(|tally| totals.add_gone(tally));
        self.tallies.iter().for_each(|tally| totals.add_made(tally));
        totals
    }

    /// How many connections are there at least: what has come is read first.
    pub(super) fn least(&self) -> u64 {
        let mut totals = self.past;
        self.tallies.iter().for_each(|tally| totals.add_made(tally));
        self.tallies.iter().for_each(|tally| totals.add_gone(tally));
        totals.active()
    }
}
