//! What a thread has at hand, so that most guards are taken and dropped without a lock.
//!
//! A thread keeps entries that were used before, and its own [`Tally`]. Only when it has none left,
//! or too many, it exchanges a batch with the others through the [`Hub`]. It serves one generation,
//! of which a process has one; guards of another one (in tests) take the way with the lock.

use std::cell::RefCell;
use std::sync::Arc;

use super::Purpose;
use super::count::{Step, Tally};
use super::entry::{Birth, Entry};
use super::hub::{BATCH, Hub};

/// A thread has at most so many entries at hand.
const MOST: usize = 2 * BATCH;

thread_local!(static HERE: RefCell<Option<Stock>> = const { RefCell::new(None) });

struct Stock {
    hub: Arc<Hub>,
    tally: Arc<Tally>,
    entries: Vec<Arc<Entry>>,
}

impl Stock {
    fn new(hub: &Arc<Hub>) -> Self {
        let entries = Vec::with_capacity(MOST);
        Self { hub: Arc::clone(hub), tally: hub.open_tally(), entries }
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.hub.close_tally(&self.tally, std::mem::take(&mut self.entries));
    }
}

impl Stock {
    /// One of its own, or of all.
    #[inline]
    fn take(&mut self, step: Option<Step>) -> Arc<Entry> {
        let entry = self.entries.pop().unwrap_or_else(|| self.hub.supply(&mut self.entries));
        if let Some(step) = step {
            self.tally.count(step);
        }
        entry
    }

    /// Keeps one; gives the hub if somebody wants to hear that a connection has ended.
    #[inline]
    fn keep(&mut self, entry: Arc<Entry>, step: Option<Step>) -> Option<Arc<Hub>> {
        let mut heard = None;
        if let Some(step) = step {
            self.tally.count(step);
            heard = self.hub.countdown.is_heard().then(|| Arc::clone(&self.hub));
        }
        if self.entries.len() >= MOST {
            self.hub.take_back(&mut self.entries);
        }
        self.entries.push(entry);
        heard
    }
}

/// An entry for a new connection, begun and counted.
#[inline]
pub(super) fn take(hub: &Arc<Hub>, birth: Birth) -> Arc<Entry> {
    let step = match birth.purpose {
        Purpose::Service => Some(Step::Made),
        Purpose::Moved => Some(Step::Came),
        Purpose::HealthCheck => None,
    };
    let taken = HERE.try_with(|here| {
        // It is in use if something that it drops takes a guard.
        let mut here = here.try_borrow_mut().ok()?;
        let stock = match &mut *here {
            Some(stock) if Arc::ptr_eq(&stock.hub, hub) => stock,
            other => other.insert(Stock::new(hub)),
        };
        Some(stock.take(step))
    });
    let entry = taken.ok().flatten().unwrap_or_else(|| hub.supply_one(step));
    entry.begin(birth);
    if hub.countdown.listens() {
        hub.note_change();
    }
    entry
}

/// The last guard of an entry has gone: that is counted and told, and the entry is for another.
#[inline]
pub(super) fn give_back(entry: Arc<Entry>) {
    let step = (entry.purpose() != Purpose::HealthCheck).then(|| entry.last_step());
    if let Some(Step::Lost) = step {
        entry.hub.note_lost(entry.held());
    }
    entry.end();
    let mut entry = Some(entry);
    let kept = HERE.try_with(|here| {
        let mut here = here.try_borrow_mut().ok()?;
        let hub = &entry.as_ref()?.hub;
        let stock = match &mut *here {
            Some(stock) if Arc::ptr_eq(&stock.hub, hub) => stock,
            Some(_) => return None,
            none => none.insert(Stock::new(hub)),
        };
        entry.take().map(|entry| stock.keep(entry, step))
    });
    match (kept.ok().flatten(), entry) {
        (Some(Some(hub)), _) => hub.hear_end(),
        (None, Some(entry)) => give_back_slowly(entry, step),
        (_, _) => {}
    }
}

/// Without a stock of this thread's.
#[cold]
fn give_back_slowly(entry: Arc<Entry>, step: Option<Step>) {
    let hub = Arc::clone(&entry.hub);
    hub.take_back_one(entry, step);
    if step.is_some() && hub.countdown.is_heard() {
        hub.hear_end();
    }
}
