//! Whose turn it is to leave, for connections that go on being served while they wait for it.
//!
//! A session that is handed over is served by nobody until it is settled. A wing with thousands of
//! idle connections therefore asks for a turn first: of each kind one is sent ahead, to see whether
//! the successor takes it, and then as many at once as the channel holds anyway.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(feature = "http")]
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::{Semaphore, watch};

use super::session::About;
use crate::name::Name;

/// What a receiver takes or declines once and for all: a kind, a version, a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(super) Name, pub(super) u32, pub(super) Name);

impl Key {
    pub(crate) fn new(kind: &Name, version: u32, listener: &Name) -> Self {
        Self(kind.clone(), version, listener.clone())
    }

    pub(super) fn of(about: &About) -> Self {
        Self(about.kind.clone(), about.version, about.guard.listener().clone())
    }
}

/// The turns of one channel; clones are the same.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only HTTP waits for its turn"))]
pub(super) struct Turns {
    inner: Arc<Mutex<Inner>>,
    /// How many of one key may leave at once.
    window: usize,
    pending: Pending,
}

/// How many want to leave and have not been settled.
#[derive(Clone, Debug, Default)]
struct Pending(Arc<watch::Sender<usize>>);

/// One that wants to leave. Dropped once that is settled.
#[derive(Debug)]
#[must_use = "dropped, it does not count"]
pub(super) struct Wish(Pending);

impl Drop for Wish {
    fn drop(&mut self) {
        self.0.0.send_if_modified(|count| {
            *count = count.saturating_sub(1);
            *count == 0
        });
    }
}

#[derive(Debug, Default)]
struct Inner {
    /// Whether the receiver has spoken.
    open: bool,
    shut: bool,
    /// What need not be offered again.
    refused: HashSet<Key>,
    places: HashMap<Key, Place>,
}

#[derive(Debug)]
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only HTTP waits for its turn"))]
struct Place {
    turns: Arc<Semaphore>,
    /// The receiver has taken one.
    proven: bool,
}

/// The right to leave now. Dropped once that is settled.
#[cfg(feature = "http")]
#[derive(Debug)]
pub(crate) struct Turn {
    /// Whose, and the place that it takes; none if nobody counts.
    place: Option<(Turns, Key, OwnedSemaphorePermit)>,
    _wish: Option<Wish>,
}

#[cfg(feature = "http")]
impl Turn {
    /// The receiver has taken one: from now on they leave side by side.
    pub(crate) fn taken(self) {
        if let Some((turns, key, _)) = &self.place {
            turns.prove(key);
        }
    }

    /// Nobody else wants to leave.
    #[cfg(test)]
    pub(crate) fn at_once() -> Self {
        Self { place: None, _wish: None }
    }
}

impl Turns {
    pub(super) fn new(window: usize) -> Self {
        Self { inner: Arc::default(), window, pending: Pending::default() }
    }

    /// One wants to leave.
    pub(super) fn wish(&self) -> Wish {
        self.pending.0.send_if_modified(|count| {
            *count += 1;
            false
        });
        Wish(self.pending.clone())
    }

    /// How many want to leave, those under way included.
    pub(super) fn wishes(&self) -> usize {
        *self.pending.0.borrow()
    }

    /// Resolves when nobody wants to leave. Cancel safe.
    pub(super) async fn at_rest(&self) {
        // An error would mean that the other end, which is held here, has gone.
        let _ = self.pending.0.subscribe().wait_for(|count| *count == 0).await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The receiver has spoken. If it had before, it takes something that it did not take then.
    pub(super) fn open(&self) {
        let mut inner = self.lock();
        let refused = std::mem::take(&mut inner.refused);
        inner.places.retain(|key, _| !refused.contains(key));
        if !inner.open {
            inner.open = true;
            inner.places.values().for_each(|place| place.turns.add_permits(1));
        }
    }

    /// Nothing more is sent: nobody waits in vain.
    pub(super) fn shut(&self) {
        let mut inner = self.lock();
        inner.shut = true;
        inner.places.values().for_each(|place| place.turns.close());
    }

    /// The receiver never takes any like these.
    pub(super) fn refuse(&self, key: Key) {
        let mut inner = self.lock();
        if let Some(place) = inner.places.get(&key) {
            place.turns.close();
        }
        inner.refused.insert(key);
    }

    pub(super) fn are_refused(&self, key: &Key) -> bool {
        self.lock().refused.contains(key)
    }

    #[cfg(feature = "http")]
    fn prove(&self, key: &Key) {
        let mut inner = self.lock();
        if let Some(place) = inner.places.get_mut(key).filter(|place| !place.proven) {
            place.proven = true;
            place.turns.add_permits(self.window.saturating_sub(1));
        }
    }

    /// Whether sessions like these may leave, now or soon.
    #[cfg(feature = "http")]
    pub(super) fn may_come(&self, key: &Key) -> bool {
        let inner = self.lock();
        !inner.shut && !inner.refused.contains(key)
    }

    /// Resolves when one like these may leave; `None` when none may any more.
    #[cfg(feature = "http")]
    pub(super) async fn next(self, key: Key) -> Option<Turn> {
        let wish = self.wish();
        let turns = {
            let mut inner = self.lock();
            if inner.shut || inner.refused.contains(&key) {
                return None;
            }
            let first = usize::from(inner.open);
            let place = inner
                .places
                .entry(key.clone())
                .or_insert_with(|| Place { turns: Arc::new(Semaphore::new(first)), proven: false });
            Arc::clone(&place.turns)
        };
        let permit = turns.acquire_owned().await.ok()?;
        Some(Turn { place: Some((self, key, permit)), _wish: Some(wish) })
    }
}
