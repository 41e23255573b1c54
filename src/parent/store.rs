//! The sockets that outlive the server.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::fstat;
use socket2::{Domain, SockAddr, Socket, Type};

use super::options::Endpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::listener::{Occupant, occupant};
use crate::name::Name;

/// So many connections may wait for a server that is being started again; the kernel's own limit
/// (`net.core.somaxconn`) holds as well.
const BACKLOG: i32 = 4096;

/// What a server may store: as much as one start can pass on.
pub(super) const MOST: usize = 1024;

/// Named descriptors, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Store {
    kept: Vec<(Name, OwnedFd)>,
}

impl Store {
    /// Listens on what was asked for.
    pub(super) fn listening(endpoints: &[(Name, Endpoint)]) -> Result<Self> {
        let mut store = Self::default();
        for (name, endpoint) in endpoints {
            let socket = listen(endpoint).map_err(|error| {
                let text = format!("--listen {name}: {endpoint:?} cannot be listened on");
                Error::new(ErrorKind::Bind, text).with_source(error)
            })?;
            store.kept.push((name.clone(), socket));
        }
        Ok(store)
    }

    /// Keeps a descriptor, once.
    pub(super) fn keep(&mut self, name: &Name, descriptor: OwnedFd) {
        let identity = |fd: &OwnedFd| fstat(fd.as_fd()).map(|stat| (stat.st_dev, stat.st_ino)).ok();
        let new = identity(&descriptor);
        let known = self.kept.iter().any(|(_, kept)| new.is_some() && identity(kept) == new);
        if !known && self.kept.len() < MOST {
            self.kept.push((name.clone(), descriptor));
        }
    }

    /// Keeps nothing of this name any more.
    pub(super) fn remove(&mut self, name: &Name) {
        self.kept.retain(|(other, _)| other != name);
    }

    pub(super) fn kept(&self) -> &[(Name, OwnedFd)] {
        &self.kept
    }
}

fn listen(endpoint: &Endpoint) -> io::Result<OwnedFd> {
    let stream = Type::STREAM.nonblocking().cloexec();
    let socket = match endpoint {
        Endpoint::Tcp(address) => {
            let socket = Socket::new(Domain::for_address(*address), stream, None)?;
            socket.set_reuse_address(true)?;
            if address.is_ipv6() {
                socket.set_only_v6(false)?;
            }
            socket.bind(&SockAddr::from(*address))?;
            socket
        }
        Endpoint::Unix(path) => {
            make_room(path)?;
            let socket = Socket::new(Domain::UNIX, stream, None)?;
            socket.bind(&SockAddr::unix(path)?)?;
            socket
        }
    };
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A dead socket of our own goes; anything else stays.
fn make_room(path: &Path) -> io::Result<()> {
    match occupant(path)? {
        Occupant::Nobody => Ok(()),
        Occupant::Dead => std::fs::remove_file(path),
        Occupant::Other(what) => Err(io::Error::new(io::ErrorKind::AddrInUse, what)),
    }
}
