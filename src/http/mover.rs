//! Connections that leave this process between two requests, and those that come.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;

use bytes::Bytes;
use tokio::net::{TcpStream, UnixStream};

use crate::name::Name;

/// A plaintext HTTP/1.1 connection between two requests.
#[expect(dead_code, reason = "read by those who take it")]
#[derive(Debug)]
pub(crate) struct Parcel {
    /// The connected socket.
    pub(crate) socket: OwnedFd,
    /// What was read from it and not parsed: to be read before what the socket gives.
    pub(crate) read_ahead: Bytes,
    /// The listener that accepted it.
    pub(crate) listener: Name,
    /// The peer, as the guard knows it.
    pub(crate) peer: Option<String>,
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
pub trait Plaintext: Sized {
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
    let kind = socket2::SockRef::from(&socket.as_fd()).r#type()?;
    if kind == socket2::Type::STREAM {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "not a stream socket"))
}

/// How a stream becomes a socket and a socket a stream again, where that is possible.
#[doc(hidden)]
pub struct Carriage<S> {
    pub(super) off: fn(S) -> io::Result<OwnedFd>,
    pub(super) on: fn(OwnedFd) -> io::Result<S>,
}

impl<S> Clone for Carriage<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Carriage<S> {}

impl<S: Plaintext> Carriage<S> {
    pub(super) fn new() -> Self {
        Self { off: S::into_socket, on: S::from_socket }
    }
}
