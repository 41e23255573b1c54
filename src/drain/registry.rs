//! All connections of one generation: telling them of phases, and looking at what they are.
//!
//! # What connections share
//!
//! A guard is taken and dropped from a [`stock`](super::stock) that its thread has to itself, and
//! between the two touches nothing but its own [`Entry`]. The only words that all of them read are
//! two in the [`Hub`], the turn and the number of those who listen, which nobody writes unless a
//! drain runs: in steady state they stay in every core's cache.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::count::{Countdown, Totals};
use super::entry::Entry;
use super::hub::{Hub, Roll};
use super::state::Life;
use super::{Drain, DrainPhase, Held, Progress, Purpose};

/// Owns the [`Hub`] for those who can take guards; guards only share it.
pub(super) struct Registry {
    pub(super) hub: Arc<Hub>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.hub.close();
    }
}

/// Hears of ends for as long as it lives, a cancelled future included.
pub(super) struct Listening<'a>(&'a Countdown);

impl<'a> Listening<'a> {
    fn new(countdown: &'a Countdown) -> Self {
        countdown.listen();
        Self(countdown)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.ignore();
    }
}

impl Drain {
    /// An empty registry in [`DrainPhase::Serving`].
    pub(crate) fn new() -> Self {
        Self { registry: Arc::new(Registry { hub: Arc::new(Hub::new()) }) }
    }

    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.registry.hub
    }

    /// Connections that hold a guard.
    pub(crate) fn active(&self) -> usize {
        usize::try_from(self.totals().active()).unwrap_or(usize::MAX)
    }

    /// Connections ever accepted; clones of a guard are not counted.
    pub(crate) fn accepted(&self) -> u64 {
        self.totals().accepted()
    }

    /// The totals of all threads.
    pub(super) fn totals(&self) -> Totals {
        self.hub().totals()
    }

    /// Moves every connection, and whatever comes later, to `phase` at once. What is in a later
    /// phase stays there.
    pub(crate) fn advance(&self, phase: DrainPhase) {
        for (entry, life) in self.advance_newcomers(phase) {
            entry.raise(life, phase);
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
        for (index, (entry, life)) in entries.into_iter().enumerate() {
            // One that has gone needs no turn.
            if entry.state.live().is_none_or(|(now, _)| now != life) {
                continue;
            }
            let wait = turn(index);
            if began.elapsed() < wait {
                tokio::time::sleep_until(after(began, wait)).await;
            }
            entry.raise(life, phase);
        }
    }

    /// Newcomers start in `phase` from now on; gives those who are there already and not as far.
    fn advance_newcomers(&self, phase: DrainPhase) -> Vec<(Arc<Entry>, Life)> {
        let hub = self.hub();
        let mut behind = Vec::new();
        {
            let _telling = hub.telling.lock().unwrap_or_else(PoisonError::into_inner);
            hub.turn.begin(phase.max(hub.turn.phase()));
            for entry in &hub.roll().all {
                let Some((life, reached)) = entry.state.live() else { continue };
                entry.state.note(life, &hub.turn);
                if reached < phase {
                    behind.push((Arc::clone(entry), life));
                }
            }
        }
        self.publish();
        behind
    }

    /// This generation owns again: guards taken from now on are [`DrainPhase::Serving`]. Those
    /// who have been told to go keep their phase, for what a peer was told cannot be taken back.
    pub(crate) fn reopen(&self) {
        {
            let hub = self.hub();
            let _telling = hub.telling.lock().unwrap_or_else(PoisonError::into_inner);
            hub.turn.begin(DrainPhase::Serving);
        }
        self.publish();
    }

    /// Resolves when no guard exists (see [`count`](super::count) for what that means exactly).
    /// Others may be taken right after; that none are is up to the listeners.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn empty(&self) {
        let hub = self.hub();
        let _listening = Listening::new(&hub.countdown);
        loop {
            let mut emptied = pin!(hub.emptied.notified());
            emptied.as_mut().enable();
            let heard = hub.countdown.heard();
            if self.is_empty() {
                return;
            }
            if !hub.countdown.wake_after(heard, hub.roll().least()) {
                emptied.await;
            }
        }
    }

    /// Whether there is no guard, at one moment for all threads.
    pub(super) fn is_empty(&self) -> bool {
        self.totals().active() == 0
    }

    /// What is held now.
    pub(crate) fn progress(&self) -> Progress {
        let hub = self.hub();
        let roll = hub.roll();
        let totals = roll.totals();
        let mut progress = Progress {
            phase: hub.turn.phase(),
            active: usize::try_from(totals.active()).unwrap_or(usize::MAX),
            accepted: totals.accepted(),
            ..Progress::default()
        };
        let mut counts = Vec::new();
        let mut oldest: Option<Seen<'_>> = None;
        for seen in clients(&roll) {
            if counts.len() <= seen.listener {
                counts.resize(seen.listener + 1, 0);
            }
            counts[seen.listener] += 1;
            if oldest.as_ref().is_none_or(|oldest| seen.born < oldest.born) {
                oldest = Some(seen);
            }
        }
        progress.oldest = oldest.and_then(Seen::held);
        let by_number = counts.into_iter().enumerate().filter(|(_, count)| *count > 0);
        progress.by_listener =
            by_number.map(|(number, count)| (hub.names.get(number).clone(), count)).collect();
        progress.by_listener.sort();
        progress
    }

    /// Progress as it is published: at every change of phase and, while [`run`](Self::run) is
    /// under way, when counts have changed, but not more often than every 100 ms. In steady state
    /// nothing is published, so the value may be old; [`progress`](Self::progress) never is.
    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.hub().progress.subscribe()
    }

    /// The totals, and at most `limit` of those who are there, the oldest first.
    pub(super) fn held(&self, limit: usize) -> (Totals, Vec<Named>) {
        let roll = self.hub().roll();
        let mut eldest: Vec<Seen<'_>> = clients(&roll).collect();
        eldest.sort_by_key(|seen| seen.born);
        let named = |seen: Seen<'_>| {
            let (entry, life) = (Arc::clone(seen.entry), seen.life);
            seen.held().map(|held| Named { entry, life, held })
        };
        (roll.totals(), eldest.into_iter().filter_map(named).take(limit).collect())
    }

    /// Those that were lost on their way to a newer generation since this was last asked, as they
    /// were then.
    pub(super) fn take_lost(&self) -> Vec<Held> {
        std::mem::take(&mut self.hub().roll().lost)
    }

    /// Changes of the counts are noted in [`Hub::changed`] while the answer lives.
    pub(super) fn noting_changes(&self) -> Listening<'_> {
        Listening::new(&self.hub().countdown)
    }

    /// Resolves when counts have changed since [`publish`](Self::publish) was last called.
    pub(super) async fn changed(&self) {
        self.hub().changed.notified().await;
    }

    /// Publishes what is held now.
    pub(super) fn publish(&self) {
        let hub = self.hub();
        // Cleared before the counts are read: see `note_change`.
        hub.stale.store(false, Ordering::Release);
        hub.progress.send_replace(self.progress());
    }
}

/// A connection that was there when it was looked at, and what a report says of it.
pub(super) struct Named {
    entry: Arc<Entry>,
    life: Life,
    held: Held,
}

impl Named {
    /// Nothing if it goes on in a newer generation.
    pub(super) fn unless_it_left(self) -> Option<Held> {
        (!self.entry.has_left(self.life)).then_some(self.held)
    }
}

/// A connection that was there when it was looked at.
struct Seen<'a> {
    entry: &'a Arc<Entry>,
    life: Life,
    listener: usize,
    born: u64,
}

impl Seen<'_> {
    /// What a report says of it; nothing if it has ended meanwhile.
    fn held(self) -> Option<Held> {
        self.entry.look(self.life, Entry::held)
    }
}

/// The connections that are there, without health checks.
fn clients(roll: &Roll) -> impl Iterator<Item = Seen<'_>> {
    roll.all.iter().filter_map(|entry| {
        let (life, _) = entry.state.live()?;
        let read = |entry: &Entry| (entry.purpose(), entry.listener(), entry.born());
        let (purpose, listener, born) = entry.look(life, read)?;
        (purpose != Purpose::HealthCheck).then_some(Seen { entry, life, listener, born })
    })
}

/// A time after a start, or what counts as never (30 years) if the clock does not reach so far.
pub(super) fn after(start: Instant, wait: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    start + wait.min(NEVER)
}
