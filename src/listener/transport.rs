//! What differs between TCP, Unix stream and Unix sequential-packet listeners: the types.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr as UnixAddr;

use socket2::{SockAddr, SockRef, Socket};

use super::SeqpacketStream;
use crate::wire::Address;

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Tcp {}
    impl Sealed for super::Unix {}
    impl Sealed for super::Seqpacket {}
}

/// A kind of listener. Sealed: [`Tcp`], [`Unix`] and [`Seqpacket`] are all there are.
pub trait Transport: sealed::Sealed + Send + Sync + 'static {
    /// A connection for async code.
    type Stream: Send;
    /// A connection for threads.
    type Blocking: Send;
    /// The address of a listener or a peer.
    type Addr: Clone + std::fmt::Debug + Send + Sync;
    /// The listener that a framework takes.
    type Raw;

    #[doc(hidden)]
    fn stream(fd: OwnedFd, nodelay: bool) -> io::Result<Self::Stream>;
    #[doc(hidden)]
    fn blocking(fd: OwnedFd, nodelay: bool) -> io::Result<Self::Blocking>;
    #[doc(hidden)]
    fn peer(peer: &SockAddr) -> io::Result<Self::Addr>;
    #[doc(hidden)]
    fn raw(fd: OwnedFd) -> Self::Raw;
    #[doc(hidden)]
    fn local(path_or_port: Local) -> io::Result<Self::Addr>;
}

/// An address as the inventory has it.
#[doc(hidden)]
pub struct Local(pub(crate) Address);

/// TCP, over IPv4 or IPv6 (`tcp(7)`).
#[derive(Debug)]
pub enum Tcp {}

/// Unix stream sockets (`unix(7)`).
#[derive(Debug)]
pub enum Unix {}

/// Unix sequential-packet sockets (`unix(7)`): connections that keep the bounds of records.
#[derive(Debug)]
pub enum Seqpacket {}

impl Transport for Tcp {
    type Stream = tokio::net::TcpStream;
    type Blocking = std::net::TcpStream;
    type Addr = SocketAddr;
    type Raw = std::net::TcpListener;

    fn stream(fd: OwnedFd, nodelay: bool) -> io::Result<Self::Stream> {
        set_nodelay(&fd, nodelay);
        tokio::net::TcpStream::from_std(fd.into())
    }

    fn blocking(fd: OwnedFd, nodelay: bool) -> io::Result<Self::Blocking> {
        set_nodelay(&fd, nodelay);
        SockRef::from(&fd).set_nonblocking(false)?;
        Ok(fd.into())
    }

    fn peer(peer: &SockAddr) -> io::Result<SocketAddr> {
        peer.as_socket().ok_or_else(|| other_family("TCP"))
    }

    fn raw(fd: OwnedFd) -> Self::Raw {
        fd.into()
    }

    fn local(Local(address): Local) -> io::Result<SocketAddr> {
        inet(&address)
    }
}

impl Transport for Unix {
    type Stream = tokio::net::UnixStream;
    type Blocking = std::os::unix::net::UnixStream;
    type Addr = UnixAddr;
    type Raw = std::os::unix::net::UnixListener;

    fn stream(fd: OwnedFd, _: bool) -> io::Result<Self::Stream> {
        tokio::net::UnixStream::from_std(fd.into())
    }

    fn blocking(fd: OwnedFd, _: bool) -> io::Result<Self::Blocking> {
        SockRef::from(&fd).set_nonblocking(false)?;
        Ok(fd.into())
    }

    fn peer(peer: &SockAddr) -> io::Result<UnixAddr> {
        unix_peer(peer)
    }

    fn raw(fd: OwnedFd) -> Self::Raw {
        fd.into()
    }

    fn local(Local(address): Local) -> io::Result<UnixAddr> {
        unix(&address)
    }
}

impl Transport for Seqpacket {
    type Stream = SeqpacketStream;
    type Blocking = Socket;
    type Addr = UnixAddr;
    type Raw = OwnedFd;

    fn stream(fd: OwnedFd, _: bool) -> io::Result<Self::Stream> {
        SeqpacketStream::new(fd)
    }

    fn blocking(fd: OwnedFd, _: bool) -> io::Result<Self::Blocking> {
        let socket = Socket::from(fd);
        socket.set_nonblocking(false)?;
        Ok(socket)
    }

    fn peer(peer: &SockAddr) -> io::Result<UnixAddr> {
        unix_peer(peer)
    }

    fn raw(fd: OwnedFd) -> Self::Raw {
        fd
    }

    fn local(Local(address): Local) -> io::Result<UnixAddr> {
        unix(&address)
    }
}

/// A connection that is slower than it could be is better than none, so a failure is not one.
fn set_nodelay(fd: &OwnedFd, nodelay: bool) {
    if nodelay {
        let _ = SockRef::from(fd).set_tcp_nodelay(true);
    }
}

/// The address of the peer of a Unix socket, unnamed for most clients.
pub(super) fn unix_peer(peer: &SockAddr) -> io::Result<UnixAddr> {
    if let Some(path) = peer.as_pathname() {
        return UnixAddr::from_pathname(path);
    }
    match peer.as_abstract_namespace() {
        Some(name) => UnixAddr::from_abstract_name(name),
        None => UnixAddr::from_pathname(""),
    }
}

pub(super) fn inet(address: &Address) -> io::Result<SocketAddr> {
    match address {
        Address::Inet(address) => Ok(*address),
        _ => Err(other_family("TCP or UDP")),
    }
}

pub(super) fn unix(address: &Address) -> io::Result<UnixAddr> {
    match address {
        Address::Path(path) => UnixAddr::from_pathname(path),
        Address::Abstract(name) => UnixAddr::from_abstract_name(name),
        Address::None => UnixAddr::from_pathname(""),
        Address::Inet(_) => Err(other_family("Unix")),
    }
}

fn other_family(wanted: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("not a {wanted} address"),
    )
}
