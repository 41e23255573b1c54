//! One connection's entry, and the guard that keeps it.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::shard::Shard;
use super::{DrainPhase, Held, Purpose};
use crate::name::Name;

/// What the registry and the guards of one connection share.
///
/// Everything that a connection touches in its life is in here or in its shard; nothing is shared
/// by all connections.
pub(super) struct Entry {
    pub(super) shard: Arc<Shard>,
    /// The key in the shard: connections of one shard in the order of their births.
    pub(super) sequence: u64,
    pub(super) listener: Arc<Name>,
    /// The index of the listener's count in the shard.
    pub(super) tally: usize,
    pub(super) born: Instant,
    pub(super) peer: Option<String>,
    pub(super) purpose: Purpose,
    phase: AtomicU8,
    /// A newer generation has it.
    left: AtomicBool,
    /// It was closed on its way to a newer generation.
    lost: AtomicBool,
    /// Guards alive. Apart from the count of the `Arc`, since the registry holds the entry too.
    guards: AtomicUsize,
    moved: Notify,
    labels: Mutex<Labels>,
}

/// What the application says about a connection.
#[derive(Default)]
struct Labels {
    name: Option<String>,
    reason: Option<String>,
}

impl Entry {
    /// An entry for one guard; the caller makes the [`Guard`].
    pub(super) fn new(
        shard: Arc<Shard>,
        (sequence, tally, listener): (u64, usize, Arc<Name>),
        (born, peer): (Instant, Option<String>),
        (purpose, phase): (Purpose, DrainPhase),
    ) -> Self {
        Self {
            shard,
            sequence,
            listener,
            tally,
            born,
            peer,
            purpose,
            phase: AtomicU8::new(phase.rank()),
            left: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            guards: AtomicUsize::new(1),
            moved: Notify::new(),
            labels: Mutex::default(),
        }
    }

    pub(super) fn phase(&self) -> DrainPhase {
        DrainPhase::from_rank(self.phase.load(Ordering::Acquire))
    }

    /// Moves forward to `phase`; false if the entry was there already. Wakes nobody.
    pub(super) fn raise(&self, phase: DrainPhase) -> bool {
        self.phase.fetch_max(phase.rank(), Ordering::AcqRel) < phase.rank()
    }

    /// Wakes those who wait for a phase. Never under a lock: a waker may drop a guard.
    pub(super) fn wake(&self) {
        self.moved.notify_waiters();
    }

    /// Whether every guard of it has gone.
    pub(super) fn is_gone(&self) -> bool {
        self.guards.load(Ordering::Relaxed) == 0
    }

    /// Whether a newer generation has taken the connection.
    pub(super) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// Whether it was closed on its way to a newer generation.
    pub(super) fn was_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn held(&self) -> Held {
        let labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        Held {
            listener: Name::clone(&self.listener),
            name: labels.name.clone(),
            reason: labels.reason.clone(),
            peer: self.peer.clone(),
            age: self.born.elapsed(),
        }
    }
}

/// Keeps a drain from ending while a connection, or whatever it stands for, is in use.
///
/// A guard comes with each accepted connection. Clones stand for the same connection: give one to
/// each task that works for it; the connection counts as ended when the last is dropped. When a
/// stream leaves the hands of its framework (an HTTP upgrade, say), let a guard go with it.
///
/// Taking, cloning and dropping one needs no runtime and meets no lock or counter that all
/// connections share.
#[must_use = "the connection counts as ended when its guard is dropped"]
pub struct Guard {
    entry: Arc<Entry>,
}

impl Guard {
    /// The guard that [`Entry::new`] has counted.
    pub(super) fn first(entry: Arc<Entry>) -> Self {
        Self { entry }
    }

    /// Says what this connection is, for progress and reports. The last name given holds.
    pub fn set_name(&self, name: impl Into<String>) {
        let name = Some(name.into());
        self.entry.labels.lock().unwrap_or_else(PoisonError::into_inner).name = name;
    }

    /// Says what this connection is busy with, so that a report can tell why it was still there at
    /// the deadline. The last reason given holds.
    pub fn set_reason(&self, reason: impl Into<String>) {
        let reason = Some(reason.into());
        self.entry.labels.lock().unwrap_or_else(PoisonError::into_inner).reason = reason;
    }

    /// What [`set_name`](Self::set_name) said last.
    pub(crate) fn name(&self) -> Option<String> {
        self.entry.labels.lock().unwrap_or_else(PoisonError::into_inner).name.clone()
    }

    /// The peer's address, as far as it was known at accept.
    pub(crate) fn peer(&self) -> Option<&str> {
        self.entry.peer.as_deref()
    }

    /// A newer generation has the connection: it counts as moved once its guards are gone.
    pub(crate) fn leaves(&self) {
        self.entry.left.store(true, Ordering::Relaxed);
    }

    /// The connection was closed on its way to a newer generation: a drain's report names it among
    /// those that were cut, and says why.
    pub(crate) fn lost(&self, why: &str) {
        self.set_reason(format!("lost on its way to the successor: {why}"));
        self.entry.lost.store(true, Ordering::Relaxed);
    }

    /// Resolves when the connection's task has to be dropped: it was told that it is cut, and had
    /// this long to say goodbye.
    pub(crate) async fn cut(self, farewell: Duration) {
        self.reached(DrainPhase::Force).await;
        tokio::time::sleep(farewell).await;
    }

    /// The phase that this connection is in.
    ///
    /// When a drain is spread over a window, connections change phase one after another; and a
    /// connection keeps its phase when its generation owns again.
    #[must_use]
    pub fn phase(&self) -> DrainPhase {
        self.entry.phase()
    }

    /// Resolves when this connection is in `phase` or in a later one; at once if it is.
    ///
    /// It costs one place in a list of this connection's own waiters: connections do not meet.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it holds nothing but its place in that list. A phase that is reached while
    /// nobody waits is seen by the next call.
    pub async fn reached(&self, phase: DrainPhase) {
        while self.entry.phase() < phase {
            let mut moved = pin!(self.entry.moved.notified());
            // In the list before the second look, so that no move falls between the two.
            moved.as_mut().enable();
            if self.entry.phase() < phase {
                moved.await;
            }
        }
    }

    /// As [`reached`](Self::reached), for a plain thread, which waits at most `timeout`. Says
    /// whether the phase was reached.
    #[must_use]
    pub fn reached_within(&self, phase: DrainPhase, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut reached = pin!(self.reached(phase));
        loop {
            if reached.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                return true;
            }
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return false,
                Some(left) => thread::park_timeout(left),
                None => thread::park(),
            }
        }
    }

    /// The name of the listener that accepted the connection.
    #[must_use]
    pub fn listener(&self) -> &Name {
        &self.entry.listener
    }

    /// Whether this connection is a health check of the generation that watches this one
    /// ([`HealthCheck`](crate::HealthCheck)), and no client's.
    ///
    /// Health checks are counted nowhere in this crate and no drain waits for them. Leave them out
    /// of your own figures too.
    #[must_use]
    pub fn is_health_check(&self) -> bool {
        self.entry.purpose == Purpose::HealthCheck
    }

    /// The time since the connection was accepted.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.entry.born.elapsed()
    }
}

impl Clone for Guard {
    fn clone(&self) -> Self {
        // Relaxed as in `Arc`: this guard keeps the count above zero meanwhile.
        self.entry.guards.fetch_add(1, Ordering::Relaxed);
        Self { entry: Arc::clone(&self.entry) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.entry.guards.fetch_sub(1, Ordering::Release) == 1 {
            // As in `Arc`: what the other guards' owners did comes before the connection's end.
            fence(Ordering::Acquire);
            self.entry.shard.remove(&self.entry);
        }
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("listener", &self.entry.listener)
            .field("peer", &self.entry.peer)
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
