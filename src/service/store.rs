//! The service manager's fd store: what a next start gets even if this process dies now.
//!
//! **Contract:** what is open for the service is stored under its name, and what is closed is not,
//! as long as this generation owns. A stop leaves everything where it is: whether a restart or an
//! end follows is the manager's to know.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::manager::Manager;
use crate::birth::Supervisor;
use crate::inventory::Inventory;
use crate::name::Name;
use crate::sys::socket::inode;
use crate::systemd::Message;

/// So many descriptors go with one message, `SCM_MAX_FD` of the kernel.
const AT_ONCE: usize = 253;

/// What the manager keeps, as far as this generation knows.
pub(super) struct Store {
    manager: Manager,
    /// What the manager would keep; 0 is no store.
    most: usize,
    added: Arc<Notify>,
    /// The inodes under each name.
    stored: BTreeMap<Name, BTreeSet<u64>>,
    /// Wait for the ends of listeners.
    ends: JoinSet<()>,
}

impl Store {
    pub(super) fn new(manager: &Manager, supervisor: &Supervisor, sockets: &Inventory) -> Self {
        let most = if manager.is_there() { supervisor.store } else { 0 };
        let (manager, added) = (manager.clone(), sockets.added());
        Self { manager, most, added, stored: BTreeMap::new(), ends: JoinSet::new() }
    }

    /// A reign begins: all is stored that is open, whatever an earlier owner has stored. What the
    /// manager has already it recognises.
    pub(super) fn begin(&mut self, sockets: &Inventory) {
        self.stored.clear();
        if self.most == 0 {
            return;
        }
        for name in sockets.take_unclaimed() {
            self.manager.post(|| Message::remove(&name));
        }
        self.update(sockets);
    }

    /// The service goes on under another manager: what this one keeps would never be served again.
    pub(super) fn give_up(&mut self) {
        self.ends.abort_all();
        for name in std::mem::take(&mut self.stored).into_keys() {
            self.manager.post(|| Message::remove(&name));
        }
    }

    /// Whether the sockets of this generation outlive its process.
    pub(super) fn is_used(&self) -> bool {
        self.most > 0
    }

    /// Resolves when what is open may have changed. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.most == 0 {
            return std::future::pending().await;
        }
        tokio::select! {
            () = self.added.notified() => {}
            Some(_) = self.ends.join_next() => {}
        }
    }

    /// Stores what is new, removes what is gone.
    pub(super) fn update(&mut self, sockets: &Inventory) {
        self.ends.abort_all();
        self.ends = JoinSet::new();
        let mut open: BTreeMap<Name, BTreeMap<u64, Arc<OwnedFd>>> = BTreeMap::new();
        let mut count = 0_usize;
        for storable in sockets.storable() {
            let Ok(inode) = inode(storable.descriptor.as_fd()) else { continue };
            if count == self.most {
                crate::log::warn!(
                    most = self.most,
                    "the fd store is full: raise FileDescriptorStoreMax="
                );
                break;
            }
            count += 1;
            open.entry(storable.name).or_default().insert(inode, storable.descriptor);
            if let Some(core) = storable.core {
                crate::task::spawn_in(&mut self.ends, async move { core.ended().await });
            }
        }
        let names: Vec<Name> = self.stored.keys().cloned().collect();
        for name in names {
            let now: BTreeSet<u64> =
                open.get(&name).map(|open| open.keys().copied().collect()).unwrap_or_default();
            let gone = self.stored.get(&name).is_some_and(|stored| !stored.is_subset(&now));
            if gone {
                // A name is removed as a whole; what is left of it is stored again below.
                self.manager.post(|| Message::remove(&name));
                self.stored.remove(&name);
            }
        }
        for (name, open) in open {
            let stored = self.stored.entry(name.clone()).or_default();
            let new: Vec<Arc<OwnedFd>> = open
                .into_iter()
                .filter(|(inode, _)| stored.insert(*inode))
                .map(|(_, descriptor)| descriptor)
                .collect();
            for part in new.chunks(AT_ONCE) {
                self.manager.post(|| Message::store(&name, part.to_vec()));
            }
        }
    }
}
