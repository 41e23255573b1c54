//! The sockets that outlive the server.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use super::options::Endpoint;
use super::say;
use crate::error::{Error, ErrorKind, Result};
use crate::listener::{Occupant, occupant, sock_addr};
use crate::name::Name;
use crate::sys::same::same;
use crate::wire::Address;

/// So many connections may wait for a server that is being started again; the kernel's own limit
/// (`net.core.somaxconn`) holds as well.
const BACKLOG: i32 = 4096;

/// What a server may store, if we may open as many files: as much as one start can pass on.
const MOST: usize = 1024;
/// How many files are open besides: our own, and what comes with one message (`SCM_MAX_FD`).
const BESIDES: usize = 64 + 253;

/// Named descriptors, in the order in which they came.
#[derive(Debug)]
pub(super) struct Store {
    kept: Vec<(Name, OwnedFd)>,
    most: usize,
    /// Something did not fit, and that was said.
    overflowed: bool,
}

impl Store {
    /// How many files have to be allowed for a store of full size.
    pub(super) const FILES: u64 = (MOST + BESIDES) as u64;

    /// As much as fits where so many files may be open.
    pub(super) fn fitting(files: u64) -> Self {
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        let most = MOST.min(files.saturating_sub(BESIDES));
        Self { kept: Vec::new(), most, overflowed: false }
    }

    /// Listens on what was asked for.
    pub(super) fn listening(endpoints: &[(Name, Endpoint)], files: u64) -> Result<Self> {
        let mut store = Self::fitting(files);
        for (name, endpoint) in endpoints {
            let socket = listen(endpoint).map_err(|error| {
                let text = format!("--listen {name}: {endpoint:?} cannot be listened on");
                Error::new(ErrorKind::Bind, text).with_source(error)
            })?;
            store.kept.push((name.clone(), socket));
        }
        Ok(store)
    }

    /// How many descriptors it can keep.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Keeps a descriptor, once.
    pub(super) fn keep(&mut self, name: &Name, descriptor: OwnedFd) {
        if self.kept.iter().any(|(_, kept)| same(kept.as_fd(), descriptor.as_fd())) {
            return;
        }
        if self.kept.len() < self.most {
            return self.kept.push((name.clone(), descriptor));
        }
        if !std::mem::replace(&mut self.overflowed, true) {
            say(&format!("the store is full with {}: \"{name}\" is not kept", self.most));
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
        Endpoint::Abstract(name) => {
            let socket = Socket::new(Domain::UNIX, stream, None)?;
            socket.bind(&sock_addr(&Address::Abstract(name.as_bytes().to_vec()))?)?;
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
