//! What an application can ask for. Every kind goes through [`Inventory::ask`].

use std::net::ToSocketAddrs;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::Inventory;
use super::entry::{Ask, Entry};
use crate::error::{Error, ErrorKind, Result};
use crate::listener::{
    Core, ListenOptions, Listener, SeqpacketListener, TcpListener, UdpSocket, UnixDatagram,
    UnixListener,
};
use crate::wire::{Address, Kind};

impl Inventory {
    /// A TCP listener.
    pub(crate) fn tcp(
        &self,
        name: &str,
        address: impl ToSocketAddrs,
        options: &ListenOptions,
    ) -> Result<TcpListener> {
        let wanted = resolve(name, address)?;
        Ok(Listener::new(self.one(name, Kind::Tcp, wanted, options)?, options))
    }

    /// `count` TCP listeners of one `SO_REUSEPORT` group (`socket(7)`).
    ///
    /// A group never shrinks in the kernel: with fewer listeners than inherited members each
    /// accepts on several. With more, the new ones join at commit.
    pub(crate) fn tcp_group(
        &self,
        name: &str,
        address: impl ToSocketAddrs,
        count: NonZeroUsize,
        options: &ListenOptions,
    ) -> Result<Vec<TcpListener>> {
        let cores = self.group(name, Kind::Tcp, resolve(name, address)?, count, options)?;
        Ok(cores.into_iter().map(|core| Listener::new(core, options)).collect())
    }

    /// A listener on a Unix stream socket: a path, or `@` and an abstract name.
    pub(crate) fn unix(
        &self,
        name: &str,
        path: impl AsRef<Path>,
        options: &ListenOptions,
    ) -> Result<UnixListener> {
        let wanted = unix_address(name, path.as_ref())?;
        Ok(Listener::new(self.one(name, Kind::UnixStream, wanted, options)?, options))
    }

    /// A listener on a Unix sequential-packet socket: a path, or `@` and an abstract name.
    pub(crate) fn seqpacket(
        &self,
        name: &str,
        path: impl AsRef<Path>,
        options: &ListenOptions,
    ) -> Result<SeqpacketListener> {
        let wanted = unix_address(name, path.as_ref())?;
        Ok(Listener::new(self.one(name, Kind::UnixSeqpacket, wanted, options)?, options))
    }

    /// A Unix datagram socket: a path, or `@` and an abstract name.
    pub(crate) fn unix_datagram(
        &self,
        name: &str,
        path: impl AsRef<Path>,
        options: &ListenOptions,
    ) -> Result<UnixDatagram> {
        let wanted = unix_address(name, path.as_ref())?;
        Ok(UnixDatagram::new(self.one(name, Kind::UnixDatagram, wanted, options)?))
    }

    /// A UDP socket.
    pub(crate) fn udp(
        &self,
        name: &str,
        address: impl ToSocketAddrs,
        options: &ListenOptions,
    ) -> Result<UdpSocket> {
        let wanted = resolve(name, address)?;
        Ok(UdpSocket::new(self.one(name, Kind::Udp, wanted, options)?))
    }

    /// `count` UDP sockets of one `SO_REUSEPORT` group, as [`tcp_group`](Self::tcp_group).
    pub(crate) fn udp_group(
        &self,
        name: &str,
        address: impl ToSocketAddrs,
        count: NonZeroUsize,
        options: &ListenOptions,
    ) -> Result<Vec<UdpSocket>> {
        let cores = self.group(name, Kind::Udp, resolve(name, address)?, count, options)?;
        Ok(cores.into_iter().map(UdpSocket::new).collect())
    }

    /// Takes an inherited descriptor that is none of our sockets. `None`: there is none.
    pub(crate) fn descriptor(&self, name: &str) -> Result<Option<OwnedFd>> {
        let name = name.parse()?;
        let mut book = self.book();
        let Some(found) = book.inherited.descriptor(&name)? else {
            return Ok(None);
        };
        book.taken.extend(found.index);
        Ok(Some(found.fd))
    }

    /// Hands a descriptor to every later generation, under a name of its own.
    pub(crate) fn provide_descriptor(&self, name: &str, fd: OwnedFd) -> Result<()> {
        let name = name.parse()?;
        let mut book = self.book();
        book.may_ask(&name)?;
        book.insert(Entry::descriptor(name, fd));
        self.added.notify_one();
        Ok(())
    }

    fn one(
        &self,
        name: &str,
        kind: Kind,
        wanted: Vec<Address>,
        options: &ListenOptions,
    ) -> Result<Arc<Core>> {
        let ask = Ask { name: name.parse()?, kind, wanted, count: 1, group: false, options };
        let none = || Error::new(ErrorKind::Config, format!("socket \"{name}\": none was made"));
        self.ask(&ask)?.pop().ok_or_else(none)
    }

    fn group(
        &self,
        name: &str,
        kind: Kind,
        wanted: Vec<Address>,
        count: NonZeroUsize,
        options: &ListenOptions,
    ) -> Result<Vec<Arc<Core>>> {
        let (name, count) = (name.parse()?, count.get());
        self.ask(&Ask { name, kind, wanted, count, group: true, options })
    }
}

fn resolve(name: &str, address: impl ToSocketAddrs) -> Result<Vec<Address>> {
    let wrong = || Error::new(ErrorKind::Config, format!("socket \"{name}\": not an address"));
    let found = address.to_socket_addrs().map_err(|error| wrong().with_source(error))?;
    let wanted: Vec<Address> = found.map(Address::Inet).collect();
    if wanted.is_empty() { Err(wrong()) } else { Ok(wanted) }
}

/// A path is made absolute, since the next generation may have another working directory.
fn unix_address(name: &str, path: &Path) -> Result<Vec<Address>> {
    if let [b'@', abstract_name @ ..] = path.as_os_str().as_bytes() {
        return Ok(vec![Address::Abstract(abstract_name.to_vec())]);
    }
    let absolute = std::path::absolute(path).map_err(|error| {
        Error::new(ErrorKind::Config, format!("socket \"{name}\": not a path")).with_source(error)
    })?;
    Ok(vec![Address::Path(absolute)])
}
