//! One part of the registry, and what all parts have in common.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::guard::{Entry, Guard};
use super::{DrainPhase, Held, Progress, Purpose};
use crate::name::Name;

/// A shard knows at most this many by name that were lost: as many as a report names.
pub(super) const MAX_LOST: usize = 1_000;

/// What the shards have in common. A guard's life only reads it, unless a drain runs.
pub(super) struct Hub {
    /// Calls of [`Drain::empty`](super::Drain::empty) under way.
    pub(super) watchers: AtomicUsize,
    /// Drains under way: changes of the counts are to be told.
    pub(super) drains: AtomicUsize,
    /// Whether `changed` has been told since counts were last published.
    pub(super) stale: AtomicBool,
    pub(super) changed: Notify,
    pub(super) emptied: Notify,
    /// The phase of newcomers. Held while shards are told; never by a guard.
    pub(super) phase: Mutex<DrainPhase>,
    pub(super) progress: watch::Sender<Progress>,
}

/// One part of the registry, on cache lines of its own (two: processors fetch them in pairs).
#[repr(align(128))]
pub(super) struct Shard {
    pub(super) hub: Arc<Hub>,
    pub(super) inner: Mutex<Entries>,
}

/// What a shard's lock protects.
#[derive(Default)]
pub(super) struct Entries {
    /// By sequence, so the oldest is the first.
    pub(super) live: BTreeMap<u64, Arc<Entry>>,
    /// Health checks, by a sequence of their own: they learn of phases, and nobody counts them or
    /// waits for them.
    pub(super) checks: BTreeMap<u64, Arc<Entry>>,
    /// The next health check's key.
    next_check: u64,
    /// Entries ever made for clients, and the next one's key.
    pub(super) made: u64,
    /// Those of them that an older generation had accepted.
    pub(super) came: u64,
    /// Those of them that a newer generation has now.
    pub(super) left: u64,
    /// Those of them that were closed on their way there.
    pub(super) lost: u64,
    /// The first of those, as they were then.
    pub(super) lost_ones: Vec<Held>,
    /// The phase in which a new entry starts.
    pub(super) phase: DrainPhase,
    /// Where each listener's count is. Listeners are few and their names stay.
    pub(super) names: BTreeMap<Arc<Name>, usize>,
    pub(super) tallies: Vec<usize>,
}

impl Entries {
    /// The index and the shared name of a listener, made at its first connection.
    fn tally(&mut self, listener: &Name) -> (usize, Arc<Name>) {
        if let Some((name, &index)) = self.names.get_key_value(listener) {
            return (index, Arc::clone(name));
        }
        let name = Arc::new(listener.clone());
        let index = self.tallies.len();
        self.tallies.push(0);
        self.names.insert(Arc::clone(&name), index);
        (index, name)
    }

    pub(super) fn add(
        &mut self,
        shard: &Arc<Shard>,
        listener: &Name,
        life: (Instant, Option<String>),
        purpose: Purpose,
    ) -> Guard {
        let (tally, name) = self.tally(listener);
        let sequence = match purpose {
            Purpose::Service | Purpose::Moved => &mut self.made,
            Purpose::HealthCheck => &mut self.next_check,
        };
        let place = (*sequence, tally, name);
        *sequence += 1;
        let entry = Arc::new(Entry::new(Arc::clone(shard), place, life, (purpose, self.phase)));
        match purpose {
            Purpose::HealthCheck => _ = self.checks.insert(entry.sequence, Arc::clone(&entry)),
            Purpose::Service | Purpose::Moved => {
                self.came += u64::from(purpose == Purpose::Moved);
                self.live.insert(entry.sequence, Arc::clone(&entry));
                if let Some(count) = self.tallies.get_mut(tally) {
                    *count += 1;
                }
            }
        }
        Guard::first(entry)
    }

    /// Everyone who is to learn of a phase.
    pub(super) fn everyone(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.live.values().chain(self.checks.values())
    }
}

impl Shard {
    pub(super) fn lock(&self) -> MutexGuard<'_, Entries> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last guard of `entry` has gone.
    pub(super) fn remove(&self, entry: &Entry) {
        let mut entries = self.lock();
        if entry.purpose == Purpose::HealthCheck {
            let removed = entries.checks.remove(&entry.sequence);
            drop(entries);
            drop(removed);
            return;
        }
        let removed = entries.live.remove(&entry.sequence);
        // Its other guards' owners have seen to it before they dropped them.
        entries.left += u64::from(entry.has_left());
        if entry.was_lost() {
            entries.lost += 1;
            if entries.lost_ones.len() < MAX_LOST {
                entries.lost_ones.push(entry.held());
            }
        }
        if let Some(count) = entries.tallies.get_mut(entry.tally) {
            *count -= 1;
        }
        let watched = entries.live.is_empty() && self.hub.watchers.load(Ordering::Relaxed) > 0;
        let draining = self.hub.drains.load(Ordering::Relaxed) > 0;
        drop(entries);
        drop(removed);
        // Relaxed loads are enough: the shard's lock orders them (see the module's text). Wakers
        // run other people's code, so they are called without a lock.
        if watched {
            self.hub.emptied.notify_waiters();
        }
        if draining {
            self.hub.note_change();
        }
    }
}

impl Hub {
    /// Counts have changed while a drain runs. The first change after a publication wakes the
    /// publisher, the others only read. The change was made under a shard's lock, which the
    /// publisher takes after it has cleared the mark: it sees the change, or is woken again.
    pub(super) fn note_change(&self) {
        if !self.stale.load(Ordering::Relaxed) && !self.stale.swap(true, Ordering::AcqRel) {
            self.changed.notify_one();
        }
    }
}
