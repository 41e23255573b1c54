//! Where clients come in, as a health check needs to know it.

use std::sync::Arc;

use super::Inventory;
use super::bind::listens;
use super::entry::Entry;
use crate::listener::{Core, Expecting, State, Taken};
use crate::name::Name;
use crate::wire::{Address, Kind, SocketRecord};

/// One listener as its clients reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    /// The name under which it is asked for.
    pub(crate) name: Name,
    /// What kind of listener.
    pub(crate) kind: Kind,
    /// What it is bound to, wildcards included.
    pub(crate) address: Address,
    /// The sockets of that name: more than one is a `SO_REUSEPORT` group.
    pub(crate) members: usize,
    /// Whether accepts on it pass through this crate, so that an announced connection is
    /// recognised. Not so if a framework accepts by itself.
    pub(crate) observed: bool,
    /// Whether both generations accept on it in probation, so that nobody knows who answers.
    pub(crate) overlap: bool,
}

impl Inventory {
    /// The listener of this name, while it accepts or may accept again.
    pub(crate) fn door(&self, listener: &str) -> Option<Door> {
        let book = self.book();
        let name: Name = listener.parse().ok()?;
        book.by_name.get(&name).and_then(|&at| book.entries.get(at))?.door(&|_| true)
    }

    /// Every listener of this generation.
    pub(crate) fn doors(&self) -> Vec<Door> {
        self.book().entries.iter().filter_map(|entry| entry.door(&|_| true)).collect()
    }

    /// The listeners on which the successor answers, by the names that they have here: what it
    /// claimed and what it bound anew. To be asked for after [`park`](Self::park).
    pub(crate) fn doors_of_successor(&self) -> Vec<Door> {
        let book = self.book();
        let given = |core: &Arc<Core>| book.given.iter().any(|given| Arc::ptr_eq(given, core));
        let mut doors: Vec<Door> =
            book.entries.iter().filter_map(|entry| entry.door(&given)).collect();
        for (record, _) in book.adopted.iter().filter(|(record, _)| listens(record.kind)) {
            match doors.iter_mut().find(|door| door.name == record.name) {
                Some(door) if door.address == record.address => door.members += 1,
                Some(door) => *door = new_door(record),
                None => doors.push(new_door(record)),
            }
        }
        doors
    }

    /// Recognises the connection from this address when one of our listeners accepts it, and calls
    /// `told` then. Beyond 1 024 of them the oldest is forgotten.
    pub(crate) fn expect(&self, from: &Address, told: Box<dyn FnOnce(Taken) + Send>) -> Expecting {
        self.expected.expect(from, told)
    }
}

/// What a successor has bound, of which nothing more is known here.
fn new_door(record: &SocketRecord) -> Door {
    Door {
        name: record.name.clone(),
        kind: record.kind,
        address: record.address.clone(),
        members: 1,
        observed: true,
        overlap: false,
    }
}

impl Entry {
    /// Where clients reach it, as far as its listeners are among the wanted ones.
    fn door(&self, wanted: &dyn Fn(&Arc<Core>) -> bool) -> Option<Door> {
        if !listens(self.kind) {
            return None;
        }
        let open = |core: &Arc<Core>| wanted(core) && core.state() != State::Ended;
        let mut sockets = self
            .sockets
            .iter()
            .filter(|held| held.is_open() && self.core_of(held).is_some_and(&open));
        let address = sockets.next()?.address.clone();
        Some(Door {
            name: self.name.clone(),
            kind: self.kind,
            address,
            members: 1 + sockets.count(),
            observed: !self.cores.iter().any(|core| core.is_raw()),
            overlap: self.cores.iter().any(|core| core.is_overlap()),
        })
    }
}
