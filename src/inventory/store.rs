//! What a service manager may keep for the next generation: its fd store.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::Notify;

use super::{Book, Inventory};
use crate::listener::Core;
use crate::name::Name;

/// Something that can be stored.
pub(crate) struct Storable {
    pub(crate) name: Name,
    pub(crate) descriptor: Arc<OwnedFd>,
    /// The listener that reads from it, whose end is its end.
    pub(crate) core: Option<Arc<Core>>,
}

impl Inventory {
    /// Everything that is open, in the order in which it was asked for.
    pub(crate) fn storable(&self) -> Vec<Storable> {
        let book = self.book();
        let records = book.entries.iter().flat_map(super::Entry::records);
        let storable = |(record, descriptor, core): (crate::wire::SocketRecord, _, _)| Storable {
            name: record.name,
            descriptor,
            core,
        };
        records.map(storable).collect()
    }

    /// Notified whenever something is added.
    pub(crate) fn added(&self) -> Arc<Notify> {
        Arc::clone(&self.added)
    }

    /// The paths of Unix sockets stay when this generation stops: who gets the sockets from the
    /// store serves them.
    pub(crate) fn leave_paths(&self) {
        for place in self.book().cores().iter().filter_map(|core| core.place()) {
            place.disown();
        }
    }

    /// A service manager has passed something under these names that is not used: it is treated like
    /// what was inherited and never claimed.
    pub(crate) fn has_no_use_for(&self, names: impl IntoIterator<Item = Name>) {
        self.book().unclaimed.extend(names);
    }

    /// The names of what was inherited and never claimed, once.
    pub(crate) fn take_unclaimed(&self) -> Vec<Name> {
        std::mem::take(&mut self.book().unclaimed)
    }
}

impl Book {
    /// Closes what was inherited and not claimed, and remembers the names.
    pub(super) fn close_unclaimed(&mut self) {
        let names = self.inherited.clear();
        self.unclaimed.extend(names);
    }
}
