//! What was inherited: checked when it comes in, found by name or by address, taken once.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::stat::{SFlag, fstat};
use socket2::{Domain, SockRef, Type};

use crate::error::{Error, ErrorKind, Result};
use crate::listener::{Occupant, address_of, inode_of, is_temporary, occupant};
use crate::name::Name;
use crate::wire::{Address, Kind, SocketRecord};

/// How this generation came to its descriptors.
pub(crate) enum Inherited {
    /// From a predecessor that serves; indices of claims count in this order.
    Link(Vec<(SocketRecord, OwnedFd)>),
    /// From a service manager (`sd_listen_fds(3)`).
    Activated(Vec<(Option<Name>, OwnedFd)>),
    /// There are none.
    Fresh,
}

/// An inherited descriptor.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) record: SocketRecord,
    pub(super) fd: OwnedFd,
    /// Its place in the offer; `None` when no predecessor waits to hear that it was claimed.
    pub(super) index: Option<u32>,
    /// What it is, in words.
    what: &'static str,
}

/// The inherited descriptors that nobody has claimed yet.
pub(super) struct Table {
    slots: Vec<Option<Found>>,
    by_name: HashMap<Name, Vec<usize>>,
    by_address: HashMap<(Kind, Address), Vec<usize>>,
    /// Whether the predecessor has been told what was claimed.
    closed: bool,
}

impl Table {
    pub(super) fn new(inherited: Inherited) -> Result<Self> {
        let found: Vec<Found> = match inherited {
            Inherited::Fresh => Vec::new(),
            Inherited::Link(list) => (0u32..)
                .zip(list)
                .map(|(index, (record, fd))| handed_over(index, record, fd))
                .collect::<Result<_>>()?,
            Inherited::Activated(list) => {
                once_each(list)?.map(|(name, fd)| activated(name, fd)).collect::<Result<_>>()?
            }
        };
        let mut by_name: HashMap<Name, Vec<usize>> = HashMap::with_capacity(found.len());
        let mut by_address: HashMap<(Kind, Address), Vec<usize>> =
            HashMap::with_capacity(found.len());
        for (at, found) in found.iter().enumerate() {
            let record = &found.record;
            by_name.entry(record.name.clone()).or_default().push(at);
            by_address.entry((record.kind, record.address.clone())).or_default().push(at);
        }
        Ok(Self {
            slots: found.into_iter().map(Some).collect(),
            by_name,
            by_address,
            closed: false,
        })
    }

    /// Takes the socket that is wanted, with all members of its `SO_REUSEPORT` group. Nothing
    /// found: bind anew.
    pub(super) fn claim(
        &mut self,
        name: &Name,
        kind: Kind,
        wanted: &[Address],
    ) -> Result<Vec<Found>> {
        if self.closed {
            return Ok(Vec::new());
        }
        self.find_renamed(name, kind, wanted);
        let named = self.by_name.get(name).map(Vec::as_slice).unwrap_or_default();
        let address = match self.compatible(named, kind, wanted) {
            Some(address) => address,
            None => {
                self.refuse_misfit(named, name, kind)?;
                let there = |address: &&Address| self.first(kind, address, |_| true).is_some();
                match wanted.iter().find(there) {
                    Some(address) => address.clone(),
                    None => return Ok(Vec::new()),
                }
            }
        };
        let owner = self
            .first(kind, &address, |found| found.record.name == *name)
            .or_else(|| self.first(kind, &address, |_| true))
            .map(|found| found.record.name.clone());
        let places = self.by_address.get(&(kind, address)).cloned().unwrap_or_default();
        let mut taken = Vec::new();
        for at in places {
            let slot = &mut self.slots[at];
            if slot.as_ref().map(|found| &found.record.name) == owner.as_ref() {
                taken.extend(slot.take());
            }
        }
        Ok(taken)
    }

    /// A Unix socket of ours that comes back from a service manager's store shows the name it was
    /// bound to, not the path to which it was renamed. Under its own name, in the same directory,
    /// with a living socket at the path, it is the one that is wanted there.
    fn find_renamed(&mut self, name: &Name, kind: Kind, wanted: &[Address]) {
        for &at in self.by_name.get(name).map(Vec::as_slice).unwrap_or_default() {
            let Some(found) = &mut self.slots[at] else { continue };
            let Address::Path(shown) = &found.record.address else { continue };
            if found.index.is_some() || found.record.kind != kind || !is_temporary(shown) {
                continue;
            }
            let beside = wanted.iter().find_map(|wanted| match wanted {
                Address::Path(path) if path.parent() == shown.parent() => Some(path.clone()),
                _ => None,
            });
            let lives = |path: &PathBuf| matches!(occupant(path), Ok(Occupant::Other(_)));
            if let Some(path) = beside.filter(lives) {
                found.record.path_inode = inode_of(&path).ok();
                found.record.address = Address::Path(path);
                let place = (kind, found.record.address.clone());
                self.by_address.entry(place).or_default().push(at);
            }
        }
    }

    /// Takes a descriptor that is not one of our sockets.
    pub(super) fn descriptor(&mut self, name: &Name) -> Result<Option<Found>> {
        let named = self.by_name.get(name).map(Vec::as_slice).unwrap_or_default();
        let Some(&at) = named.iter().find(|&&at| self.slots[at].is_some()) else {
            return Ok(None);
        };
        match &self.slots[at] {
            Some(found) if found.record.kind != Kind::Other => {
                let text =
                    format!("descriptor \"{name}\": it is {}; ask for it as such", found.what);
                Err(Error::new(ErrorKind::Descriptor, text))
            }
            _ => Ok(self.slots[at].take()),
        }
    }

    /// What is unclaimed now stays so: it is held until the verdict, and never claimed.
    pub(super) fn close_claims(&mut self) {
        self.closed = true;
    }

    /// Closes what nobody has claimed; gives the names.
    pub(super) fn clear(&mut self) -> Vec<Name> {
        self.by_name.clear();
        self.by_address.clear();
        self.slots.drain(..).flatten().map(|found| found.record.name).collect()
    }

    /// The address of the first socket of this name that is what is wanted.
    fn compatible(&self, named: &[usize], kind: Kind, wanted: &[Address]) -> Option<Address> {
        let found = named.iter().filter_map(|&at| self.slots[at].as_ref());
        let mut fit = found.filter(|found| found.record.kind == kind).map(|f| &f.record.address);
        fit.find(|address| wanted.iter().any(|wanted| is_compatible(wanted, address))).cloned()
    }

    fn first(
        &self,
        kind: Kind,
        address: &Address,
        fits: impl Fn(&Found) -> bool,
    ) -> Option<&Found> {
        let places = self.by_address.get(&(kind, address.clone()))?;
        places.iter().filter_map(|&at| self.slots[at].as_ref()).find(|found| fits(found))
    }

    /// A service manager says by name what a descriptor is for: another kind under that name is a
    /// mistake in its configuration. Between generations a name may change its kind.
    fn refuse_misfit(&self, named: &[usize], name: &Name, kind: Kind) -> Result<()> {
        let mut unclaimed =
            named.iter().filter_map(|&at| self.slots[at].as_ref()).filter(|f| f.index.is_none());
        match unclaimed.find(|found| found.record.kind != kind) {
            Some(found) => Err(misfit(name, found.what, kind)),
            None => Ok(()),
        }
    }
}

fn misfit(name: &Name, what: &str, kind: Kind) -> Error {
    let wanted = match kind {
        Kind::Tcp => "a TCP listener",
        Kind::UnixStream => "a listener on a Unix stream socket",
        Kind::UnixSeqpacket => "a listener on a Unix sequential-packet socket",
        Kind::UnixDatagram => "a Unix datagram socket",
        Kind::Udp => "a UDP socket",
        Kind::Other => "a descriptor of another kind",
    };
    let text = format!("listener \"{name}\": inherited descriptor is {what}, not {wanted}");
    Error::new(ErrorKind::Descriptor, text)
}

/// Whether a socket at `found` is what is asked for with `wanted`: port 0 is any port, and one
/// wildcard is the other.
pub(super) fn is_compatible(wanted: &Address, found: &Address) -> bool {
    match (wanted, found) {
        (Address::Inet(wanted), Address::Inet(found)) => {
            let port = wanted.port() == 0 || wanted.port() == found.port();
            let wildcards = wanted.ip().is_unspecified() && found.ip().is_unspecified();
            port && (wanted.ip() == found.ip() || wildcards)
        }
        (Address::Path(_) | Address::Abstract(_), _) => wanted == found,
        _ => false,
    }
}

/// A descriptor with the record that a predecessor gave it.
fn handed_over(index: u32, record: SocketRecord, fd: OwnedFd) -> Result<Found> {
    let wrong = |error: io::Error| unusable(&record.name, error);
    let looked = look(&fd).map_err(wrong)?;
    if record.kind != Kind::Other {
        if looked.kind != record.kind {
            return Err(misfit(&record.name, looked.what, record.kind));
        }
        if !is_at(&looked.address, &record.address) {
            let text = format!(
                "listener \"{}\": inherited descriptor is bound to {}, not to {}",
                record.name, looked.address, record.address
            );
            return Err(Error::new(ErrorKind::Descriptor, text));
        }
        SockRef::from(&fd).set_nonblocking(true).map_err(wrong)?;
    }
    Ok(Found { record, fd, index: Some(index), what: looked.what })
}

/// Without those that were passed before: a socket of a socket unit may be in the fd store as well,
/// and must not become a group of two.
fn once_each(
    list: Vec<(Option<Name>, OwnedFd)>,
) -> Result<impl Iterator<Item = (Option<Name>, OwnedFd)>> {
    let mut seen = HashSet::new();
    let mut first = Vec::new();
    for (name, fd) in list {
        let stat = fstat(fd.as_fd()).map_err(|error| {
            let text = "a descriptor of the service manager cannot be looked at";
            Error::new(ErrorKind::Descriptor, text).with_source(error)
        })?;
        let socket = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFSOCK;
        if !socket || seen.insert(stat.st_ino) {
            first.push((name, fd));
        }
    }
    Ok(first.into_iter())
}

/// A descriptor of a service manager: all that is known is what can be seen.
fn activated(name: Option<Name>, fd: OwnedFd) -> Result<Found> {
    // The name that sd_listen_fds_with_names(3) gives to what has none.
    let name = match name {
        Some(name) => name,
        None => "unknown".parse()?,
    };
    let looked = look(&fd).map_err(|error| unusable(&name, error))?;
    if looked.kind != Kind::Other {
        SockRef::from(&fd).set_nonblocking(true).map_err(|error| unusable(&name, error))?;
    }
    // Without an inode: its path is the service manager's, and never ours to unlink.
    let record = SocketRecord {
        name,
        kind: looked.kind,
        address: looked.address,
        group: None,
        path_inode: None,
    };
    Ok(Found { record, fd, index: None, what: looked.what })
}

fn unusable(name: &Name, error: io::Error) -> Error {
    let text = format!("listener \"{name}\": inherited descriptor cannot be used");
    Error::new(ErrorKind::Descriptor, text).with_source(error)
}

/// Whether the kernel's address agrees with the record's. A Unix path may have been renamed, so
/// there the family is all that must agree.
fn is_at(seen: &Address, recorded: &Address) -> bool {
    match (seen, recorded) {
        (Address::Inet(seen), Address::Inet(recorded)) => {
            seen.ip() == recorded.ip() && seen.port() == recorded.port()
        }
        (Address::Inet(_), _) | (_, Address::Inet(_)) => false,
        _ => true,
    }
}

/// What a descriptor shows of itself.
struct Looked {
    kind: Kind,
    address: Address,
    what: &'static str,
}

fn look(fd: &OwnedFd) -> io::Result<Looked> {
    let socket = SockRef::from(fd);
    // One of a thousand, perhaps: nothing is asked that the address does not say as well.
    let address = match socket.local_addr() {
        // The second for one that was opened with O_PATH.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTSOCK | libc::EBADF)) => {
            return look_at_file(fd);
        }
        address => address?,
    };
    let listens = socket.is_listener()?;
    let domain = address.domain();
    let inet = domain == Domain::IPV4 || domain == Domain::IPV6;
    let unix = domain == Domain::UNIX;
    // Of these only a stream can listen.
    let kind = if inet && listens { Type::STREAM } else { socket.r#type()? };
    let (kind, what) = match kind {
        Type::STREAM if inet && listens => (Kind::Tcp, "a TCP listener"),
        Type::STREAM if unix && listens => (Kind::UnixStream, "a listener on a Unix stream socket"),
        Type::STREAM => (Kind::Other, "a stream socket that does not listen (Accept=yes?)"),
        Type::SEQPACKET if unix && listens => {
            (Kind::UnixSeqpacket, "a listener on a Unix sequential-packet socket")
        }
        Type::SEQPACKET => (Kind::Other, "a sequential-packet socket that does not listen"),
        Type::DGRAM if inet => (Kind::Udp, "a datagram socket, UDP"),
        Type::DGRAM if unix => (Kind::UnixDatagram, "a datagram socket, Unix"),
        _ => (Kind::Other, "a socket of another family"),
    };
    Ok(Looked { kind, address: address_of(&address), what })
}

fn look_at_file(fd: &OwnedFd) -> io::Result<Looked> {
    let what = match SFlag::from_bits_truncate(fstat(fd.as_fd())?.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFIFO => "a pipe",
        SFlag::S_IFREG => "a file",
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFCHR => "a character device",
        _ => "no socket",
    };
    Ok(Looked { kind: Kind::Other, address: Address::None, what })
}
