//! What the registry and the guards of one connection share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use super::count::Step;
use super::hub::Hub;
use super::state::{Life, State};
use super::{DrainPhase, Held, Purpose};
use crate::sys::clock::coarse_now;

const ENDED: u64 = 0;
const LEFT: u64 = 1;
const LOST: u64 = 2;

/// One connection's entry. It is used again for another one when its last guard has gone, so all
/// of it can change under the eyes of who looks at it through the registry: [`Entry::look`].
pub(super) struct Entry {
    pub(super) hub: Arc<Hub>,
    pub(super) state: State,
    /// Its index in the registry; changed under the registry's lock only.
    pub(super) place: AtomicUsize,
    /// Guards alive. Apart from the count of the `Arc`, since the registry holds the entry too.
    guards: AtomicUsize,
    /// Nanoseconds, by [`coarse_now`].
    born: AtomicU64,
    listener: AtomicUsize,
    purpose: AtomicU64,
    peer: [AtomicU64; 3],
    /// What its end counts as: [`ENDED`], [`LEFT`] or [`LOST`].
    fate: AtomicU64,
    /// The application has said something about it.
    labelled: AtomicBool,
    labels: Mutex<Option<Box<Labels>>>,
    /// Tells of phases.
    pub(super) moved: Notify,
}

/// What is known of a connection when its guard is taken.
#[derive(Clone, Copy)]
pub(super) struct Birth {
    /// The index of its listener's name.
    pub(super) listener: usize,
    pub(super) peer: Option<SocketAddr>,
    pub(super) purpose: Purpose,
    /// Nanoseconds, by [`coarse_now`].
    pub(super) born: u64,
}

/// What is said about a connection.
#[derive(Default)]
pub(super) struct Labels {
    pub(super) name: Option<String>,
    pub(super) reason: Option<String>,
    /// A peer's address that is no internet address.
    pub(super) peer: Option<String>,
}

impl Entry {
    /// An entry that has not been used.
    pub(super) fn new(hub: Arc<Hub>, place: usize) -> Self {
        Self {
            hub,
            state: State::new(),
            place: AtomicUsize::new(place),
            guards: AtomicUsize::new(0),
            born: AtomicU64::new(0),
            listener: AtomicUsize::new(0),
            purpose: AtomicU64::new(0),
            peer: [const { AtomicU64::new(0) }; 3],
            fate: AtomicU64::new(ENDED),
            labelled: AtomicBool::new(false),
            labels: Mutex::new(None),
            moved: Notify::new(),
        }
    }

    /// A connection begins, with one guard. Only who has the entry to itself may say so.
    #[inline]
    pub(super) fn begin(&self, birth: Birth) {
        // Whoever sees one of the next stores sees that the life before is over.
        fence(Ordering::Release);
        self.born.store(birth.born, Ordering::Relaxed);
        self.listener.store(birth.listener, Ordering::Relaxed);
        self.purpose.store(birth.purpose as u64, Ordering::Relaxed);
        self.set_peer(birth.peer);
        self.guards.store(1, Ordering::Relaxed);
        self.fate.store(ENDED, Ordering::Relaxed);
        self.state.begin(&self.hub.turn);
    }

    /// The connection has ended. Only whoever drops its last guard may say so.
    #[inline]
    pub(super) fn end(&self) {
        self.state.end();
        if self.labelled.load(Ordering::Relaxed) {
            self.labelled.store(false, Ordering::Relaxed);
            *self.lock_labels() = None;
        }
    }

    /// One guard more.
    #[inline]
    pub(super) fn keep(&self) {
        // Relaxed as in `Arc`: the guard that is cloned keeps the count above zero.
        self.guards.fetch_add(1, Ordering::Relaxed);
    }

    /// One guard less; true if it was the last.
    #[inline]
    pub(super) fn let_go(&self) -> bool {
        // Nobody can clone the only guard while it is dropped, so one look is enough for it. What
        // the other guards' owners did comes before the connection's end, as in `Arc`.
        self.guards.load(Ordering::Acquire) == 1 || self.guards.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// The phase of the connection, for its guards.
    #[inline]
    pub(super) fn phase(&self) -> DrainPhase {
        if self.state.is_behind(&self.hub.turn) {
            self.hub.catch_up(self);
        }
        self.state.phase()
    }

    /// Moves this life forward to `phase` and tells who waits for it. Never under a lock: a waker
    /// may drop a guard.
    pub(super) fn raise(&self, life: Life, phase: DrainPhase) {
        if self.state.raise(life, phase) {
            self.moved.notify_waiters();
        }
    }

    /// A newer generation has taken the connection.
    pub(super) fn leave(&self) {
        self.fate.store(LEFT, Ordering::Relaxed);
    }

    /// It was closed on its way to a newer generation.
    pub(super) fn lose(&self) {
        self.fate.store(LOST, Ordering::Relaxed);
    }

    /// Whether what had this life goes on in a newer generation. Not known any more, and so not said,
    /// once the entry is another connection's.
    pub(super) fn has_left(&self, life: Life) -> bool {
        let left = self.fate.load(Ordering::Relaxed) == LEFT;
        left && self.state.is_last(life)
    }

    /// What its end counts as.
    #[inline]
    pub(super) fn last_step(&self) -> Step {
        match self.fate.load(Ordering::Relaxed) {
            ENDED => Step::Ended,
            LEFT => Step::Left,
            _ => Step::Lost,
        }
    }

    /// The index of its listener's name.
    #[inline]
    pub(super) fn listener(&self) -> usize {
        self.listener.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn purpose(&self) -> Purpose {
        Purpose::from_number(self.purpose.load(Ordering::Relaxed))
    }

    /// When it was accepted, by [`coarse_now`].
    #[inline]
    pub(super) fn born(&self) -> u64 {
        self.born.load(Ordering::Relaxed)
    }

    pub(super) fn age(&self) -> Duration {
        Duration::from_nanos(coarse_now().saturating_sub(self.born()))
    }

    /// What `read` finds in this life; nothing if it ends meanwhile.
    pub(super) fn look<R>(&self, life: Life, read: impl FnOnce(&Self) -> R) -> Option<R> {
        let found = read(self);
        self.state.is_still(life).then_some(found)
    }

    /// What a report says of it.
    pub(super) fn held(&self) -> Held {
        let (name, reason) = match &*self.lock_labels() {
            Some(labels) => (labels.name.clone(), labels.reason.clone()),
            None => (None, None),
        };
        Held {
            listener: self.hub.names.get(self.listener()).clone(),
            name,
            reason,
            peer: self.peer(),
            age: self.age(),
            cut: None,
        }
    }

    /// Changes what is said about it.
    pub(super) fn label(&self, change: impl FnOnce(&mut Labels)) {
        let mut labels = self.lock_labels();
        change(labels.get_or_insert_default());
        self.labelled.store(true, Ordering::Relaxed);
    }

    /// What was said last about who it is.
    pub(super) fn name(&self) -> Option<String> {
        self.lock_labels().as_ref()?.name.clone()
    }

    /// The peer's address, as people read it.
    pub(super) fn peer(&self) -> Option<String> {
        let said = || self.lock_labels().as_ref()?.peer.clone();
        self.inet_peer().map(|peer| peer.to_string()).or_else(said)
    }

    fn lock_labels(&self) -> MutexGuard<'_, Option<Box<Labels>>> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an address in words that can be read while they change: port, scope and family in the
    /// first, the address in the others.
    #[inline]
    fn set_peer(&self, peer: Option<SocketAddr>) {
        let [first, high, low] = &self.peer;
        let about = |family: u64, port: u16, scope: u32| {
            family | u64::from(port) << 16 | u64::from(scope) << 32
        };
        match peer {
            None => first.store(0, Ordering::Relaxed),
            Some(SocketAddr::V4(peer)) => {
                low.store(u64::from(u32::from(*peer.ip())), Ordering::Relaxed);
                first.store(about(4, peer.port(), 0), Ordering::Relaxed);
            }
            Some(SocketAddr::V6(peer)) => {
                let ip = u128::from(*peer.ip());
                high.store((ip >> 64) as u64, Ordering::Relaxed);
                low.store(ip as u64, Ordering::Relaxed);
                first.store(about(6, peer.port(), peer.scope_id()), Ordering::Relaxed);
            }
        }
    }

    fn inet_peer(&self) -> Option<SocketAddr> {
        let [first, high, low] = self.peer.each_ref().map(|word| word.load(Ordering::Relaxed));
        let (port, scope) = ((first >> 16) as u16, (first >> 32) as u32);
        match first as u16 {
            4 => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(low as u32)), port)),
            6 => {
                let ip = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
                // The flow label is not shown to anybody.
                Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)))
            }
            _ => None,
        }
    }
}
