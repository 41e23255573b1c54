//! The control socket: handed on like a listener, and exempt from yield.
//!
//! **Contract:** it is open in every generation, no handoff parks it, and who answers on it is
//! decided by who owns. Its path is taken by the first owner and never disappears in between; if
//! somebody else has removed it, the next owner puts a new socket there.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::bind::Plan;
use super::{Book, Inventory};
use crate::error::Result;
use crate::listener::{ListenOptions, Place};
use crate::name::Name;
use crate::wire::{Address, Kind, SocketRecord};

/// The name under which it is handed on.
const NAME: &str = "heirloom.control";

/// The control socket of this generation.
pub(super) struct Control {
    name: Name,
    fd: Arc<OwnedFd>,
    place: Place,
    /// Of a socket that is bound.
    mode: u32,
    /// Whether it has yet to listen.
    quiet: bool,
    /// Its place in the offer last made.
    offered: Option<u32>,
    /// Whether a successor has claimed it.
    given: bool,
}

impl Control {
    fn plan<'a>(name: &'a Name, options: &'a ListenOptions) -> Plan<'a> {
        Plan { name, kind: Kind::UnixStream, group: false, options }
    }

    /// Binds another one in place of this, whose path leads to it no more.
    fn bind_anew(&mut self) -> Result<()> {
        let options = ListenOptions::new().mode(self.mode);
        let (fd, place) = Self::plan(&self.name, &options).place(self.place.path())?;
        (self.fd, self.place, self.quiet) = (Arc::new(fd), place, true);
        Ok(())
    }

    /// A socket that was bound listens, and takes its path.
    fn listen(&mut self) -> Result<()> {
        let options = ListenOptions::new();
        let (plan, address) = (Self::plan(&self.name, &options), self.address());
        plan.listen(&self.fd, &address)?;
        let taken = self.place.take();
        taken.map_err(|error| plan.error("take the place", &address, error))?;
        self.quiet = false;
        Ok(())
    }

    fn address(&self) -> Address {
        Address::Path(self.place.path().to_owned())
    }

    fn record(&self) -> SocketRecord {
        SocketRecord {
            name: self.name.clone(),
            kind: Kind::UnixStream,
            address: self.address(),
            group: None,
            path_inode: self.place.inode(),
        }
    }

    /// Its record for an offer, at this place in it.
    pub(super) fn offer(&mut self, at: usize) -> (SocketRecord, Arc<OwnedFd>) {
        self.offered = u32::try_from(at).ok();
        self.given = false;
        (self.record(), Arc::clone(&self.fd))
    }

    /// A successor has claimed these places of the offer.
    pub(super) fn claimed(&mut self, claimed: &[u32]) {
        self.given = self.offered.is_some_and(|at| claimed.contains(&at));
    }

    /// Which of them is not known: its path stays.
    pub(super) fn claimed_perhaps(&mut self) {
        self.given = true;
    }

    /// The successor owns: the path is its own if it wanted it, and goes if it did not.
    pub(super) fn hand_over(&self) {
        if self.given {
            self.place.disown();
        } else {
            self.place.unlink();
        }
    }

    /// The path goes, if it is ours.
    pub(super) fn end(&self) {
        self.place.unlink();
    }
}

impl Inventory {
    /// Claims the control socket, or binds it anew with this mode beside its path.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Bind`](crate::error::ErrorKind::Bind) if something is at the path that is not a
    /// dead socket of ours: a second instance, a symbolic link, a file.
    pub(crate) fn control(&self, path: &Path, mode: u32) -> Result<()> {
        let name: Name = NAME.parse()?;
        let wanted = [Address::Path(path.to_owned())];
        let mut book = self.book();
        let found = book.inherited.claim(&name, Kind::UnixStream, &wanted)?.pop();
        let control = match found {
            Some(found) => {
                book.taken.extend(found.index);
                let place = Place::inherited(path.to_owned(), found.record.path_inode);
                let fd = Arc::new(found.fd);
                Control { name, fd, place, mode, quiet: false, offered: None, given: false }
            }
            None => {
                let options = ListenOptions::new().mode(mode);
                let (fd, place) = Control::plan(&name, &options).place(path)?;
                let fd = Arc::new(fd);
                Control { name, fd, place, mode, quiet: true, offered: None, given: false }
            }
        };
        book.control = Some(control);
        Ok(())
    }

    /// This generation owns, and answers on the control socket, if it has one: a new one listens
    /// and takes its path.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Bind`](crate::error::ErrorKind::Bind) if something has come to the path
    /// meanwhile.
    pub(crate) fn open_control(&self) -> Result<Option<Arc<OwnedFd>>> {
        let mut book = self.book();
        let Some(control) = &mut book.control else { return Ok(None) };
        if control.quiet {
            control.listen()?;
        } else if control.place.is_lost() {
            crate::log::warn!(target: "heirloom::control", path = ?control.place.path(), "the control socket was removed from its path, and is bound anew");
            control.bind_anew()?;
            control.listen()?;
        }
        control.place.own();
        Ok(Some(Arc::clone(&control.fd)))
    }
}

impl Book {
    /// What the successor claimed of the offer concerns the control socket as well.
    pub(super) fn control_claimed(&mut self, claimed: &[u32]) {
        if let Some(control) = &mut self.control {
            control.claimed(claimed);
        }
    }
}
