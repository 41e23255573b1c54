//! Where the guards of one listener come from.

use std::fmt;
use std::net::SocketAddr;

use super::entry::Birth;
use super::{Drain, Guard, Purpose, stock};
use crate::name::Name;
use crate::sys::clock::coarse_now;

/// Gives guards for the connections of one listener, or for other work under one name.
#[derive(Clone)]
pub struct Guards {
    drain: Drain,
    /// The number of its name.
    listener: usize,
}

impl Drain {
    /// The guards of this listener.
    pub(crate) fn guards(&self, listener: &Name) -> Guards {
        Guards { drain: self.clone(), listener: self.hub().names.number(listener) }
    }
}

impl Guards {
    /// A guard: the drain waits for it. Needs no runtime.
    #[inline]
    pub fn take(&self) -> Guard {
        self.guard(None)
    }

    /// A guard for a connection that was accepted.
    #[inline]
    pub(crate) fn guard(&self, peer: Option<SocketAddr>) -> Guard {
        self.begin(peer, Purpose::Service)
    }

    /// A guard for a connection that an older generation has accepted and handed over.
    pub(crate) fn guard_of_moved(&self, peer: Option<String>) -> Guard {
        let Some(text) = peer else { return self.begin(None, Purpose::Moved) };
        match text.parse() {
            Ok(peer) => self.begin(Some(peer), Purpose::Moved),
            Err(_) => {
                let guard = self.begin(None, Purpose::Moved);
                guard.set_peer(text);
                guard
            }
        }
    }

    /// A guard for a health check: it learns of every phase, but is counted nowhere, and no drain
    /// waits for it.
    pub(crate) fn guard_of_check(&self, peer: Option<SocketAddr>) -> Guard {
        self.begin(peer, Purpose::HealthCheck)
    }

    #[inline]
    fn begin(&self, peer: Option<SocketAddr>, purpose: Purpose) -> Guard {
        self.begin_at(Birth { listener: self.listener, peer, purpose, born: coarse_now() })
    }

    #[inline]
    fn begin_at(&self, birth: Birth) -> Guard {
        Guard::first(stock::take(self.drain.hub(), birth))
    }

    /// As if it had been taken so long ago.
    #[cfg(test)]
    pub(super) fn guard_since(&self, ago: std::time::Duration, peer: Option<SocketAddr>) -> Guard {
        let born = coarse_now() - u64::try_from(ago.as_nanos()).unwrap();
        self.begin_at(Birth { listener: self.listener, peer, purpose: Purpose::Service, born })
    }
}

impl fmt::Debug for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listener = self.drain.hub().names.get(self.listener);
        f.debug_struct("Guards").field("listener", listener).finish_non_exhaustive()
    }
}
