//! Connections that were announced: health checks, recognised by the address they come from.
//!
//! A checker binds its socket, announces the address that it got, and connects when it has been
//! told that the announcement is known. So whoever accepts knows whose connection it is before the
//! first byte, and can say that it was this generation, by which socket. While nothing is
//! announced, an accept pays one load for it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::SockAddr;

use super::address::address_of;
use crate::name::Name;
use crate::wire::Address;

/// So many connections may be announced and not have come. Beyond it the oldest announcement is
/// forgotten: whoever made it has given up long since.
const MOST: usize = 1_024;

/// Who took a connection that was announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The listener that accepted it.
    pub(crate) listener: Name,
    /// Which socket of that name it came by.
    pub(crate) member: usize,
}

/// What is called when the connection has come, outside every lock.
pub(crate) type Told = Box<dyn FnOnce(Taken) + Send>;

/// The connections that are announced to one generation; clones are the same list.
#[derive(Clone, Default)]
pub(crate) struct Expected(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// How many there are, for a look without the lock.
    count: AtomicUsize,
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    waiting: HashMap<Address, Waiting>,
    /// The next one's number.
    next: u64,
}

struct Waiting {
    number: u64,
    told: Told,
}

/// An announced connection. Dropped, the announcement is withdrawn.
#[must_use = "dropping it withdraws the announcement"]
pub(crate) struct Expecting {
    shared: Arc<Shared>,
    from: Address,
    number: u64,
}

/// An announced connection that has come.
pub(super) struct Met {
    told: Told,
    taken: Taken,
}

impl Met {
    /// Tells whoever announced it.
    pub(super) fn tell(self) {
        (self.told)(self.taken);
    }
}

impl Expected {
    /// Recognises the connection from this address when it is accepted. A second announcement of
    /// an address takes the place of the first.
    pub(crate) fn expect(&self, from: &Address, told: Told) -> Expecting {
        let from = canonical(from);
        let mut list = self.0.lock();
        let number = list.next;
        list.next += 1;
        if list.waiting.len() >= MOST && !list.waiting.contains_key(&from) {
            let oldest = list.waiting.iter().min_by_key(|(_, waiting)| waiting.number);
            if let Some(oldest) = oldest.map(|(from, _)| from.clone()) {
                list.waiting.remove(&oldest);
            }
        }
        let replaced = list.waiting.insert(from.clone(), Waiting { number, told });
        self.0.publish(&list);
        drop(list);
        drop(replaced);
        Expecting { shared: Arc::clone(&self.0), from, number }
    }

    /// The announcement of an accepted connection, if there was one; it is used up.
    pub(super) fn meet(&self, peer: &SockAddr, by: &Name, member: Option<usize>) -> Option<Met> {
        // The count was stored before the announcer was told to go ahead, and the connection came
        // after that: through the kernel, which orders what the two processors do.
        if self.0.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let (from, member) = (canonical(&address_of(peer)), member?);
        let mut list = self.0.lock();
        let Waiting { told, .. } = list.waiting.remove(&from)?;
        self.0.publish(&list);
        Some(Met { told, taken: Taken { listener: by.clone(), member } })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, list: &List) {
        self.count.store(list.waiting.len(), Ordering::Release);
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        let mut list = self.shared.lock();
        let same = |waiting: &Waiting| waiting.number == self.number;
        // Used up, or announced anew by somebody else.
        if !list.waiting.get(&self.from).is_some_and(same) {
            return;
        }
        let withdrawn = list.waiting.remove(&self.from);
        self.shared.publish(&list);
        drop(list);
        drop(withdrawn);
    }
}

/// One spelling of an address: a listener on `[::]` sees IPv4 peers as mapped ones, and the scope
/// of a peer's address is the listener's.
fn canonical(address: &Address) -> Address {
    match address {
        Address::Inet(inet) => {
            Address::Inet(SocketAddr::new(inet.ip().to_canonical(), inet.port()))
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn peer(text: &str) -> SockAddr {
        text.parse::<SocketAddr>().unwrap().into()
    }

    fn from(text: &str) -> Address {
        Address::Inet(text.parse().unwrap())
    }

    fn name() -> Name {
        "http".parse().unwrap()
    }

    fn told() -> (Told, mpsc::Receiver<Taken>) {
        let (sender, receiver) = mpsc::channel();
        (Box::new(move |taken| sender.send(taken).unwrap()), receiver)
    }

    #[test]
    fn an_announced_connection_is_met_once() {
        let expected = Expected::default();
        let (tell, taken) = told();
        let _expecting = expected.expect(&from("127.0.0.1:9"), tell);
        assert!(expected.meet(&peer("127.0.0.1:10"), &name(), Some(0)).is_none());
        expected.meet(&peer("127.0.0.1:9"), &name(), Some(3)).unwrap().tell();
        assert_eq!(taken.recv().unwrap(), Taken { listener: name(), member: 3 });
        assert!(expected.meet(&peer("127.0.0.1:9"), &name(), Some(3)).is_none());
        assert_eq!(expected.0.count.load(Ordering::Acquire), 0);
    }

    #[test]
    fn addresses_meet_whatever_their_spelling() {
        let expected = Expected::default();
        for (announced, seen) in [
            ("127.0.0.1:9", "[::ffff:127.0.0.1]:9"),
            ("[::ffff:127.0.0.1]:9", "127.0.0.1:9"),
            ("[fe80::1%3]:9", "[fe80::1%4]:9"),
        ] {
            let _expecting = expected.expect(&from(announced), told().0);
            assert!(expected.meet(&peer(seen), &name(), Some(0)).is_some(), "{announced}");
        }
        let _expecting = expected.expect(&Address::Abstract(b"0001f".to_vec()), told().0);
        let unix = SockAddr::unix("\x000001f").unwrap();
        assert!(expected.meet(&unix, &name(), Some(0)).is_some());
    }

    #[test]
    fn what_is_withdrawn_is_a_client_again() {
        let expected = Expected::default();
        let first = expected.expect(&from("127.0.0.1:9"), told().0);
        let second = expected.expect(&from("127.0.0.1:9"), told().0);
        drop(first);
        assert_eq!(expected.0.count.load(Ordering::Acquire), 1, "the second one stays");
        drop(second);
        assert_eq!(expected.0.count.load(Ordering::Acquire), 0);
        assert!(expected.meet(&peer("127.0.0.1:9"), &name(), Some(0)).is_none());
    }

    #[test]
    fn p9_announcements_are_bounded_and_the_oldest_goes() {
        let expected = Expected::default();
        let all: Vec<Expecting> = (0..=MOST)
            .map(|port| expected.expect(&from(&format!("127.0.0.1:{}", port + 1)), told().0))
            .collect();
        assert_eq!(expected.0.count.load(Ordering::Acquire), MOST);
        assert!(expected.meet(&peer("127.0.0.1:1"), &name(), Some(0)).is_none());
        assert!(expected.meet(&peer("127.0.0.1:2"), &name(), Some(0)).is_some());
        drop(all);
        assert_eq!(expected.0.count.load(Ordering::Acquire), 0);
    }
}
