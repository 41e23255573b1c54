//! Making a socket anew.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::error::{Error, ErrorKind, Result};
use crate::listener::{
    ListenOptions, Occupant, Place, address_of, fits, occupant, sock_addr, temporary_name,
};
use crate::name::Name;
use crate::wire::{Address, Kind};

/// What a new socket is made from.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) name: &'a Name,
    pub(super) kind: Kind,
    /// A member of a `SO_REUSEPORT` group.
    pub(super) group: bool,
    pub(super) options: &'a ListenOptions,
}

impl Plan<'_> {
    /// Makes a socket and binds it to the first of these addresses that works; gives it with the
    /// address that it got. A Unix path is not for this: [`place`](Self::place).
    pub(super) fn bind(&self, wanted: &[Address]) -> Result<(OwnedFd, Address)> {
        let mut last =
            Error::new(ErrorKind::Config, format!("socket \"{}\": no address", self.name));
        for address in wanted {
            match self.bind_one(address) {
                Ok(bound) => return Ok(bound),
                Err(error) => last = self.error("bind to", address, error),
            }
        }
        Err(last)
    }

    fn bind_one(&self, address: &Address) -> io::Result<(OwnedFd, Address)> {
        let wanted = sock_addr(address)?;
        let socket = self.socket(wanted.domain())?;
        socket.bind(&wanted)?;
        let actual = address_of(&socket.local_addr()?);
        Ok((socket.into(), actual))
    }

    /// Binds a Unix socket to a temporary name beside its path, ready to be put into its place.
    pub(super) fn place(&self, path: &Path) -> Result<(OwnedFd, Place)> {
        let address = Address::Path(path.to_owned());
        let wrong = |error| self.error("bind to", &address, error);
        fits(path).map_err(wrong)?;
        if let Occupant::Other(what) = occupant(path).map_err(wrong)? {
            return Err(wrong(io::Error::new(io::ErrorKind::AddrInUse, what)));
        }
        let temporary = temporary_name(path).map_err(wrong)?;
        let socket = self.socket(Domain::UNIX).map_err(wrong)?;
        socket.bind(&SockAddr::unix(&temporary).map_err(wrong)?).map_err(wrong)?;
        let place = Place::bound(path.to_owned(), temporary.clone()).map_err(wrong)?;
        if let Some(mode) = self.options.mode {
            fs::set_permissions(&temporary, Permissions::from_mode(mode)).map_err(wrong)?;
        }
        Ok((socket.into(), place))
    }

    /// Listens, with the backlog that was asked for (`listen(2)`).
    pub(super) fn listen(&self, fd: &OwnedFd, address: &Address) -> Result<()> {
        let backlog = self.options.backlog_for_listen();
        let listened = socket2::SockRef::from(fd).listen(backlog);
        listened.map_err(|error| self.error("listen on", address, error))
    }

    /// A socket with its options, not bound: `CLOEXEC` and non-blocking from birth.
    fn socket(&self, domain: Domain) -> io::Result<Socket> {
        let options = self.options;
        let socket = Socket::new(domain, socket_type(self.kind), None)?;
        socket.set_nonblocking(true)?;
        if self.kind == Kind::Tcp {
            socket.set_reuse_address(options.reuse_address)?;
        }
        if self.group {
            socket.set_reuse_port(true)?;
        }
        if domain == Domain::IPV6 {
            socket.set_only_v6(options.only_v6)?;
        }
        if let Some(bytes) = options.receive_buffer {
            socket.set_recv_buffer_size(bytes.get())?;
        }
        if let Some(bytes) = options.send_buffer {
            socket.set_send_buffer_size(bytes.get())?;
        }
        if let Some(configure) = &options.configure {
            configure(&socket)?;
        }
        Ok(socket)
    }

    pub(super) fn error(&self, what: &str, address: &Address, error: io::Error) -> Error {
        let text = format!("listener \"{}\": {what} {address}", self.name);
        Error::new(ErrorKind::Bind, text).with_source(error)
    }
}

pub(super) fn listens(kind: Kind) -> bool {
    matches!(kind, Kind::Tcp | Kind::UnixStream | Kind::UnixSeqpacket)
}

pub(super) fn socket_type(kind: Kind) -> Type {
    match kind {
        Kind::Tcp | Kind::UnixStream | Kind::Other => Type::STREAM,
        Kind::UnixSeqpacket => Type::SEQPACKET,
        Kind::UnixDatagram | Kind::Udp => Type::DGRAM,
    }
}
