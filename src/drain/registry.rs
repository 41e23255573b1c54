//! The entries of all connections, in shards, and the moment when there are none.
//!
//! # What connections share
//!
//! A guard locks one shard when it is taken and once more when it is dropped, and between the two
//! touches nothing but its own entry. A thread always takes its guards from the same shard. The
//! only words that all of them read are two counters in the [`Hub`], which nobody writes unless a
//! drain runs: in steady state they stay in every core's cache.
//!
//! # Zero
//!
//! *If no guard exists at some moment after [`Drain::empty`] was called, and none is taken from
//! then on, then `empty` resolves; and it resolves only if there was a moment during the call when
//! no guard existed.*
//!
//! The second half: before it resolves, `empty` holds the locks of all shards at once and sees
//! each of them empty. A look at one shard after another would not do, for a connection may begin
//! in a shard already seen while the last of a later one ends.
//!
//! The first half: `empty` (a) adds itself to `Hub::watchers`, (b) takes its place among the
//! waiters of `Hub::emptied`, (c) looks into the shards under their locks. Whoever removes the
//! last entry of a shard reads `watchers` under that shard's lock, and after unlocking wakes the
//! waiters if there is a watcher. The lock orders the removal and the look (c): if the look is
//! later, it sees the shard empty. If it is earlier, then (a) and (b) come before the read, so the
//! remover sees a watcher, wakes it, and it looks again. The last removal of all is one of these.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::guard::{Entry, Guard};
use super::shard::{Entries, Hub, Shard};
use super::{Drain, DrainPhase, Held, Progress, Purpose};
use crate::name::Name;

/// The bounds of the number of shards; between them it is four for each core.
const SHARDS: std::ops::RangeInclusive<usize> = 8..=64;

/// Counts something for as long as it lives, a cancelled future included.
pub(super) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Connections that came, that are there, that have left for a newer generation and that were lost on
/// their way to one; every shard's share is of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) made: u64,
    pub(super) accepted: u64,
    pub(super) active: u64,
    pub(super) left: u64,
    pub(super) lost: u64,
}

impl Totals {
    fn add(&mut self, entries: &Entries) {
        self.made += entries.made;
        self.accepted += entries.made - entries.came;
        self.active += entries.live.len() as u64;
        self.left += entries.left;
        self.lost += entries.lost;
    }

    /// Connections that had ended here by themselves or were cut. It never goes back, since each
    /// shard's share is of one moment.
    pub(super) fn ended(self) -> u64 {
        self.made.saturating_sub(self.active).saturating_sub(self.left).saturating_sub(self.lost)
    }
}

impl Drain {
    /// An empty registry in [`DrainPhase::Serving`].
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = (cores * 4).clamp(*SHARDS.start(), *SHARDS.end()).next_power_of_two();
        let hub = Arc::new(Hub {
            watchers: AtomicUsize::new(0),
            drains: AtomicUsize::new(0),
            stale: AtomicBool::new(false),
            changed: Notify::new(),
            emptied: Notify::new(),
            phase: Mutex::default(),
            progress: watch::Sender::default(),
        });
        let shard = || Arc::new(Shard { hub: Arc::clone(&hub), inner: Mutex::default() });
        Self { shards: std::iter::repeat_with(shard).take(count).collect(), hub }
    }

    /// Takes a guard for a connection that `listener` has accepted. Needs no runtime.
    pub(crate) fn guard(&self, listener: &Name, peer: Option<String>) -> Guard {
        self.guard_in(shard_of_this_thread(), listener, peer)
    }

    /// Takes a guard for a connection that an older generation has accepted and handed over.
    pub(crate) fn guard_of_moved(&self, listener: &Name, peer: Option<String>) -> Guard {
        self.guard_for(shard_of_this_thread(), listener, peer, Purpose::Moved)
    }

    /// Takes a guard for a health check: it learns of every phase, but is counted nowhere, and no
    /// drain waits for it.
    pub(crate) fn guard_of_check(&self, listener: &Name, peer: Option<String>) -> Guard {
        let shard = &self.shards[shard_of_this_thread() % self.shards.len()];
        let life = (Instant::now(), peer);
        shard.lock().add(shard, listener, life, Purpose::HealthCheck)
    }

    /// Takes a guard from a shard of the caller's choice: any number will do.
    pub(super) fn guard_in(&self, shard: usize, listener: &Name, peer: Option<String>) -> Guard {
        self.guard_for(shard, listener, peer, Purpose::Service)
    }

    fn guard_for(
        &self,
        shard: usize,
        listener: &Name,
        peer: Option<String>,
        purpose: Purpose,
    ) -> Guard {
        let life = (Instant::now(), peer);
        let shard = &self.shards[shard % self.shards.len()];
        let mut entries = shard.lock();
        let guard = entries.add(shard, listener, life, purpose);
        let draining = self.hub.drains.load(Ordering::Relaxed) > 0;
        drop(entries);
        if draining {
            self.hub.note_change();
        }
        guard
    }

    /// Connections that hold a guard.
    pub(crate) fn active(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().live.len()).sum()
    }

    /// Connections ever accepted; clones of a guard are not counted.
    pub(crate) fn accepted(&self) -> u64 {
        self.totals().accepted
    }

    /// The totals of all shards.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in self.shards.iter() {
            totals.add(&shard.lock());
        }
        totals
    }

    /// Moves every connection, and whatever comes later, to `phase` at once. What is in a later
    /// phase stays there.
    pub(crate) fn advance(&self, phase: DrainPhase) {
        for entry in self.advance_newcomers(phase) {
            if entry.raise(phase) {
                entry.wake();
            }
        }
    }

    /// Moves newcomers to `phase` at once and the connections that are there one by one, evenly
    /// over `window`; resolves when the last has been moved. With a window of zero it is
    /// [`advance`](Self::advance). Needs a runtime with time.
    ///
    /// # Cancel safety
    ///
    /// When cancelled, connections that have not been moved yet keep their phase; another call
    /// goes on with them.
    pub(crate) async fn advance_spread(&self, phase: DrainPhase, window: Duration) {
        let began = Instant::now();
        let entries = self.advance_newcomers(phase);
        let count = entries.len().max(1) as u128;
        let turn = |index: usize| {
            let nanos = window.as_nanos().saturating_mul(index as u128) / count;
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        for (index, entry) in entries.into_iter().enumerate() {
            if entry.is_gone() {
                continue;
            }
            let wait = turn(index);
            if began.elapsed() < wait {
                tokio::time::sleep_until(after(began, wait)).await;
            }
            if entry.raise(phase) {
                entry.wake();
            }
        }
    }

    /// Newcomers start in `phase` from now on; gives those who are there already and not as far.
    fn advance_newcomers(&self, phase: DrainPhase) -> Vec<Arc<Entry>> {
        let mut behind = Vec::new();
        {
            let mut now = self.lock_phase();
            *now = (*now).max(phase);
            for shard in self.shards.iter() {
                let mut entries = shard.lock();
                entries.phase = *now;
                behind.extend(entries.everyone().filter(|entry| entry.phase() < phase).cloned());
            }
        }
        self.publish();
        behind
    }

    /// This generation owns again: guards taken from now on are [`DrainPhase::Serving`]. Those
    /// who have been told to go keep their phase, for what a peer was told cannot be taken back.
    pub(crate) fn reopen(&self) {
        {
            let mut now = self.lock_phase();
            *now = DrainPhase::Serving;
            for shard in self.shards.iter() {
                shard.lock().phase = DrainPhase::Serving;
            }
        }
        self.publish();
    }

    /// Resolves when no guard exists (see the module's text for what that means exactly). Others
    /// may be taken right after; that none are is up to the listeners.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn empty(&self) {
        let _watching = Counted::new(&self.hub.watchers);
        loop {
            let mut emptied = pin!(self.hub.emptied.notified());
            emptied.as_mut().enable();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Whether there is no guard, at one moment for all shards.
    pub(super) fn is_empty(&self) -> bool {
        // Locked in the order of the shards; everyone else holds one shard's lock at a time.
        let mut seen = Vec::with_capacity(self.shards.len());
        for shard in self.shards.iter() {
            let entries = shard.lock();
            if !entries.live.is_empty() {
                return false;
            }
            seen.push(entries);
        }
        true
    }

    /// What is held now.
    pub(crate) fn progress(&self) -> Progress {
        let mut progress = Progress { phase: *self.lock_phase(), ..Progress::default() };
        let mut by_listener = BTreeMap::new();
        let mut oldest: Option<Arc<Entry>> = None;
        for shard in self.shards.iter() {
            let entries = shard.lock();
            progress.active += entries.live.len();
            progress.accepted += entries.made - entries.came;
            for (name, &index) in &entries.names {
                let count = entries.tallies.get(index).copied().unwrap_or_default();
                if count > 0 {
                    *by_listener.entry(Arc::clone(name)).or_insert(0) += count;
                }
            }
            if let Some((_, first)) = entries.live.first_key_value()
                && oldest.as_ref().is_none_or(|oldest| first.born < oldest.born)
            {
                oldest = Some(Arc::clone(first));
            }
        }
        progress.by_listener =
            by_listener.into_iter().map(|(name, count)| (Name::clone(&name), count)).collect();
        progress.oldest = oldest.map(|entry| entry.held());
        progress
    }

    /// Progress as it is published: at every change of phase and, while [`run`](Self::run) is
    /// under way, when counts have changed, but not more often than every 100 ms. In steady state
    /// nothing is published, so the value may be old; [`progress`](Self::progress) never is.
    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.hub.progress.subscribe()
    }

    /// The totals, and at most `limit` of those who are there, the oldest first.
    pub(super) fn held(&self, limit: usize) -> (Totals, Vec<Held>) {
        let mut totals = Totals::default();
        let mut eldest: Vec<Arc<Entry>> = Vec::new();
        for shard in self.shards.iter() {
            let entries = shard.lock();
            totals.add(&entries);
            eldest.extend(entries.live.values().take(limit).cloned());
        }
        eldest.sort_by_key(|entry| entry.born);
        (totals, eldest.iter().take(limit).map(|entry| entry.held()).collect())
    }

    /// Those that were lost on their way to a newer generation since this was last asked, as they
    /// were then.
    pub(super) fn take_lost(&self) -> Vec<Held> {
        let shards = self.shards.iter();
        shards.flat_map(|shard| std::mem::take(&mut shard.lock().lost_ones)).collect()
    }

    /// Changes of the counts are noted in [`Hub::changed`] while the answer lives.
    pub(super) fn noting_changes(&self) -> Counted<'_> {
        Counted::new(&self.hub.drains)
    }

    /// Resolves when counts have changed since [`publish`](Self::publish) was last called.
    pub(super) async fn changed(&self) {
        self.hub.changed.notified().await;
    }

    /// Publishes what is held now.
    pub(super) fn publish(&self) {
        // Cleared before the shards are read: see `note_change`.
        self.hub.stale.store(false, Ordering::Release);
        self.hub.progress.send_replace(self.progress());
    }

    fn lock_phase(&self) -> MutexGuard<'_, DrainPhase> {
        self.hub.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number of the calling thread: always the same one, and rarely that of another thread in the
/// low bits that choose a shard.
///
/// The address of a thread-local byte tells threads apart without a counter or a registry of
/// them; Fibonacci hashing spreads addresses that differ by whole stacks.
pub(crate) fn shard_of_this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    let address = HERE.with(|here| std::ptr::from_ref(here).addr()) as u64;
    (address.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize
}

/// A time after a start, or what counts as never (30 years) if the clock does not reach so far.
pub(super) fn after(start: Instant, wait: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    start + wait.min(NEVER)
}
