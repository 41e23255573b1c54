//! Connections that leave this process between two requests, and those that come.

use std::future::Future;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;

use bytes::Bytes;
use socket2::{SockRef, Type};
use tokio::net::{TcpStream, UnixStream};

use crate::name::Name;

/// A plaintext HTTP/1.1 connection between two requests.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// The connected socket.
    pub(crate) socket: OwnedFd,
    /// What was read from it and not parsed: to be read before what the socket gives.
    pub(crate) read_ahead: Bytes,
    /// The listener that accepted it.
    pub(crate) listener: Name,
    /// Whether it has not had a request yet, and so may still turn out to speak HTTP/2.
    pub(crate) fresh: bool,
}

/// Takes idle connections to a successor.
pub(crate) trait Mover: Send + Sync {
    /// Whether there is a successor that takes connections now. While there is, answers in a
    /// drain do not say `Connection: close`, for the connection goes on elsewhere.
    fn is_open(&self) -> bool;

    /// Takes one. `Ok` once the successor has acknowledged it: from then on it is the successor's
    /// to serve. Otherwise it comes back as it was, nothing read from it, and is served here.
    ///
    /// Dropping the future, as the drain's deadline does, gives the connection up.
    fn take(&self, parcel: Parcel) -> Taking<'_>;
}

/// The outcome of a move.
pub(crate) type Taking<'a> = Pin<Box<dyn Future<Output = Result<(), GivenBack>> + Send + 'a>>;

/// A connection that was declined, as it was.
#[derive(Debug)]
pub(crate) struct GivenBack(pub(crate) Parcel);

/// A stream that is nothing but its socket, so that another process can go on with it.
pub trait Plaintext: AsFd + Sized {
    #[doc(hidden)]
    fn into_socket(self) -> io::Result<OwnedFd>;
    #[doc(hidden)]
    fn from_socket(socket: OwnedFd) -> io::Result<Self>;
}

impl Plaintext for TcpStream {
    fn into_socket(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }

    fn from_socket(socket: OwnedFd) -> io::Result<Self> {
        check(&socket)?;
        Self::from_std(socket.into())
    }
}

impl Plaintext for UnixStream {
    fn into_socket(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }

    fn from_socket(socket: OwnedFd) -> io::Result<Self> {
        check(&socket)?;
        Self::from_std(socket.into())
    }
}

/// What came from another process has to be what it says.
fn check(socket: &OwnedFd) -> io::Result<()> {
    if SockRef::from(socket).r#type()? == Type::STREAM {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "not a stream socket"))
}

/// How a stream becomes a socket and a socket a stream again, where that is possible.
#[doc(hidden)]
pub struct Carriage<S> {
    pub(super) off: fn(S) -> io::Result<OwnedFd>,
    pub(super) on: fn(OwnedFd) -> io::Result<S>,
    /// Reads what the kernel has, whatever the runtime knows of it: under load its readiness is
    /// older than what has arrived.
    pub(super) read: fn(&S, &mut [u8]) -> io::Result<usize>,
}

impl<S> Clone for Carriage<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Carriage<S> {}

impl<S: Plaintext> Carriage<S> {
    pub(super) fn new() -> Self {
        Self {
            off: S::into_socket,
            on: S::from_socket,
            read: |stream, chunk| (&*SockRef::from(stream)).read(chunk),
        }
    }
}
