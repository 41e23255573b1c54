//! What was asked for under one name: its listeners and its sockets.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use super::bind::{Plan, listens};
use super::drift;
use super::inherited::Found;
use crate::error::Result;
use crate::listener::{Core, ListenOptions, Place};
use crate::name::Name;
use crate::wire::{Address, Kind, Member, SocketRecord};

/// What is asked for.
pub(super) struct Ask<'a> {
    pub(super) name: Name,
    pub(super) kind: Kind,
    /// The addresses that are fine, in order of preference.
    pub(super) wanted: Vec<Address>,
    /// How many listeners are wanted.
    pub(super) count: usize,
    /// Whether it is a `SO_REUSEPORT` group, be it of one.
    pub(super) group: bool,
    pub(super) options: &'a ListenOptions,
}

/// One name of this generation.
pub(super) struct Entry {
    pub(super) name: Name,
    pub(super) kind: Kind,
    group: bool,
    options: ListenOptions,
    pub(super) cores: Vec<Arc<Core>>,
    pub(super) sockets: Vec<Held>,
}

/// One socket of an entry.
pub(super) struct Held {
    /// The socket, which its listener has, and closes. `None`: it is bound at commit.
    fd: Option<Weak<OwnedFd>>,
    /// A descriptor that no listener has.
    kept: Option<Arc<OwnedFd>>,
    pub(super) address: Address,
    /// Its place in the offer that it was claimed from.
    pub(super) claimed: Option<u32>,
    /// Whether it was inherited, by whichever way.
    inherited: bool,
    /// Whether it has yet to listen.
    quiet: bool,
    /// Which listener reads from it.
    core: usize,
}

impl Entry {
    /// An entry of inherited sockets: dealt out to the listeners one by one, so that every member
    /// of a group is read from, however many listeners there are. With more listeners than members
    /// the rest have no socket until commit. Gives the differences to what was asked for as well.
    pub(super) fn claimed(
        ask: &Ask<'_>,
        cores: Vec<Arc<Core>>,
        found: Vec<Found>,
    ) -> (Self, Vec<String>) {
        let mut entry = Self::empty(ask, cores);
        let mut notes = Vec::new();
        let mut reuse_port = false;
        for (at, found) in found.into_iter().enumerate() {
            if at == 0 {
                notes = drift::notes(ask, &found);
                // Only a group wants to know.
                reuse_port =
                    ask.group && socket2::SockRef::from(&found.fd).reuse_port().unwrap_or(false);
            }
            let record = found.record;
            if let Address::Path(path) = &record.address
                && let Some(core) = entry.cores.first()
            {
                core.set_place(Arc::new(Place::inherited(path.clone(), record.path_inode)));
            }
            let mut held = Held::new(record.address, at % entry.cores.len().max(1));
            held.claimed = found.index;
            held.inherited = true;
            entry.add(held, found.fd);
        }
        if reuse_port {
            let address = entry.sockets.first().map_or(Address::None, |held| held.address.clone());
            for core in entry.sockets.len()..entry.cores.len() {
                entry.sockets.push(Held::new(address.clone(), core));
            }
        }
        (entry, notes)
    }

    /// An entry of new sockets, which nobody can reach yet unless `now`.
    ///
    /// In a successor a datagram socket that would draw traffic from `bind(2)` on is only tried
    /// out, so that an address in use or a lack of rights shows before ready.
    pub(super) fn fresh(
        ask: &Ask<'_>,
        cores: Vec<Arc<Core>>,
        now: bool,
        successor: bool,
    ) -> Result<Self> {
        let mut entry = Self::empty(ask, cores);
        let plan = entry.plan_owned();
        let plan = plan.plan();
        if let [Address::Path(path)] = ask.wanted.as_slice() {
            let (fd, place) = plan.place(path)?;
            let mut held = Held::new(Address::Path(path.clone()), 0);
            held.quiet = listens(ask.kind);
            if let Some(core) = entry.cores.first() {
                core.set_place(Arc::new(place));
            }
            entry.add(held, fd);
        } else {
            let later = successor && !now && !listens(ask.kind);
            let mut wanted = ask.wanted.clone();
            for core in 0..entry.cores.len() {
                if later {
                    let address = match (ask.group, wanted.first()) {
                        (true, Some(first)) => first.clone(),
                        _ => tried(&plan, &wanted)?,
                    };
                    entry.sockets.push(Held::new(address, core));
                    continue;
                }
                let (fd, actual) = plan.bind(&wanted)?;
                // The other members of the group join the first, whatever port it got.
                wanted = vec![actual.clone()];
                let mut held = Held::new(actual, core);
                held.quiet = listens(ask.kind);
                entry.add(held, fd);
            }
        }
        if now {
            entry.listen()?;
            entry.take_place()?;
        }
        Ok(entry)
    }

    /// A descriptor that no listener reads from, to be handed on as it is.
    pub(super) fn descriptor(name: Name, fd: OwnedFd) -> Self {
        let mut held = Held::new(Address::None, 0);
        held.kept = Some(Arc::new(fd));
        Self {
            name,
            kind: Kind::Other,
            group: false,
            options: ListenOptions::new(),
            cores: Vec::new(),
            sockets: vec![held],
        }
    }

    fn empty(ask: &Ask<'_>, cores: Vec<Arc<Core>>) -> Self {
        Self {
            name: ask.name.clone(),
            kind: ask.kind,
            group: ask.group,
            options: ask.options.clone(),
            cores,
            sockets: Vec::new(),
        }
    }

    fn add(&mut self, mut held: Held, fd: OwnedFd) {
        let fd = Arc::new(fd);
        held.fd = Some(Arc::downgrade(&fd));
        if let Some(core) = self.cores.get(held.core) {
            core.add(fd, held.address.clone(), self.sockets.len());
        }
        self.sockets.push(held);
    }

    /// Whether all its listeners are closed, closing, or about to.
    pub(super) fn is_leaving(&self) -> bool {
        !self.cores.is_empty() && self.cores.iter().all(|core| core.is_leaving())
    }

    pub(super) fn core_of(&self, held: &Held) -> Option<&Arc<Core>> {
        self.cores.get(held.core)
    }

    /// Its open sockets with their records, for an offer.
    pub(super) fn records(&self) -> Vec<(SocketRecord, Arc<OwnedFd>, Option<Arc<Core>>)> {
        let stays = |held: &&Held| self.core_of(held).is_none_or(|core| !core.is_leaving());
        let sockets = self.sockets.iter().filter(stays);
        let open: Vec<_> = sockets.filter_map(|held| Some((held, held.open()?))).collect();
        let count = u32::try_from(open.len()).unwrap_or(u32::MAX);
        let grouped = self.group || count > 1;
        (0u32..)
            .zip(open)
            .map(|(index, (held, fd))| {
                let core = self.core_of(held).cloned();
                let place = core.as_ref().and_then(|core| core.place());
                let record = SocketRecord {
                    name: self.name.clone(),
                    kind: self.kind,
                    address: held.address.clone(),
                    group: grouped.then_some(Member { index, count }),
                    path_inode: place.and_then(|place| place.inode()),
                };
                (record, fd, core)
            })
            .collect()
    }

    /// Those of its sockets that it made itself.
    pub(super) fn bound(&self) -> Vec<(SocketRecord, Arc<OwnedFd>)> {
        if self.kind == Kind::Other {
            return Vec::new();
        }
        let inherited = self.sockets.iter().any(|held| held.inherited);
        let records = if inherited { Vec::new() } else { self.records() };
        records.into_iter().map(|(record, fd, _)| (record, fd)).collect()
    }

    /// Listens on what is new.
    pub(super) fn listen(&mut self) -> Result<()> {
        // The rule in a successor, of whose listeners there may be a thousand.
        if self.sockets.iter().all(|held| !held.quiet) {
            return Ok(());
        }
        let plan = self.plan_owned();
        for held in self.sockets.iter_mut().filter(|held| held.quiet) {
            if let Some(fd) = held.open() {
                plan.plan().listen(&fd, &held.address)?;
            }
            held.quiet = false;
        }
        Ok(())
    }

    /// Puts a new Unix socket into its place if nothing is there. A datagram socket, whose clients
    /// wait for nobody's accept, has its turn at commit.
    pub(super) fn settle_place(&self) -> Result<()> {
        match self.place() {
            Some(place) if listens(self.kind) => match place.settle() {
                Ok(_) => Ok(()),
                Err(error) => Err(self.place_error(&place, error)),
            },
            _ => Ok(()),
        }
    }

    /// Puts a new Unix socket into its place, over a dead one of ours.
    pub(super) fn take_place(&self) -> Result<()> {
        match self.place() {
            Some(place) => place.take().map_err(|error| self.place_error(&place, error)),
            None => Ok(()),
        }
    }

    fn place_error(&self, place: &Place, error: std::io::Error) -> crate::error::Error {
        let address = Address::Path(place.path().to_owned());
        self.plan_owned().plan().error("take the place", &address, error)
    }

    pub(super) fn place(&self) -> Option<Arc<Place>> {
        self.cores.first().and_then(|core| core.place())
    }

    /// At commit: binds what had to wait. Gives what went wrong.
    pub(super) fn bind_deferred(&mut self) -> Vec<String> {
        let owned = self.plan_owned();
        let plan = owned.plan();
        let bound = self.sockets.iter().find(|held| held.fd.is_some());
        let mut joined = bound.map(|held| held.address.clone());
        let mut notes = Vec::new();
        let sockets = self.sockets.iter_mut().enumerate();
        for (index, held) in sockets.filter(|(_, held)| held.is_deferred()) {
            let core = self.cores.get(held.core);
            if core.is_some_and(|core| core.is_leaving()) {
                continue;
            }
            let address = joined.clone().unwrap_or_else(|| held.address.clone());
            let made = plan.bind(std::slice::from_ref(&address)).and_then(|(fd, actual)| {
                if listens(self.kind) {
                    plan.listen(&fd, &actual)?;
                }
                Ok((Arc::new(fd), actual))
            });
            match made {
                Ok((fd, actual)) => {
                    held.fd = Some(Arc::downgrade(&fd));
                    held.address = actual.clone();
                    joined.get_or_insert_with(|| actual.clone());
                    if let Some(core) = core {
                        core.add(fd, actual, index);
                    }
                }
                Err(error) => {
                    notes.push(error.chain());
                    // The other members of a group go on; a socket of its own has nothing else.
                    if let (None, Some(core)) = (&joined, core) {
                        core.fail(error.chain());
                    }
                }
            }
        }
        notes
    }

    /// At commit: what can be changed on an inherited socket becomes what was asked for. Gives
    /// what went wrong.
    pub(super) fn apply_options(&self) -> Vec<String> {
        let inherited = self.sockets.iter().filter(|held| held.inherited);
        let mut notes = Vec::new();
        for (held, fd) in inherited.filter_map(|held| Some((held, held.open()?))) {
            let place = self.core_of(held).and_then(|core| core.place());
            let applied = drift::apply(self.kind, &fd, place.as_deref(), &self.options);
            if let Err(error) = applied {
                notes.push(format!("listener \"{}\": options at commit: {error}", self.name));
            }
        }
        notes
    }

    fn plan_owned(&self) -> Owned {
        Owned {
            name: self.name.clone(),
            kind: self.kind,
            group: self.group,
            options: self.options.clone(),
        }
    }
}

/// A [`Plan`] that does not borrow from its entry.
struct Owned {
    name: Name,
    kind: Kind,
    group: bool,
    options: ListenOptions,
}

impl Owned {
    fn plan(&self) -> Plan<'_> {
        Plan { name: &self.name, kind: self.kind, group: self.group, options: &self.options }
    }
}

impl Held {
    /// A socket at this address, not bound yet, for this listener.
    fn new(address: Address, core: usize) -> Self {
        let (fd, kept, claimed) = (None, None, None);
        Self { fd, kept, address, claimed, inherited: false, quiet: false, core }
    }

    /// Whether it is yet to be bound.
    fn is_deferred(&self) -> bool {
        self.fd.is_none() && self.kept.is_none()
    }

    pub(super) fn is_open(&self) -> bool {
        self.kept.is_some() || self.fd.as_ref().is_some_and(|fd| fd.strong_count() > 0)
    }

    /// The socket, if it is open.
    fn open(&self) -> Option<Arc<OwnedFd>> {
        self.kept.clone().or_else(|| self.fd.as_ref()?.upgrade())
    }
}

/// Binds and closes again; gives the address that works, with the port as it was asked for.
fn tried(plan: &Plan<'_>, wanted: &[Address]) -> Result<Address> {
    let mut tried = plan.bind(&[]);
    for address in wanted {
        tried = plan.bind(std::slice::from_ref(address));
        if tried.is_ok() {
            return Ok(address.clone());
        }
    }
    tried.map(|(_, address)| address)
}
