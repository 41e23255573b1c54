//! Connections that leave this process between two requests, and those that come.

use std::future::Future;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;

use bytes::Bytes;
use socket2::{SockAddr, SockRef};
use tokio::net::{TcpStream, UnixStream};

use crate::drain::Guard;
use crate::session::{SessionStream, Turn};

/// A plaintext HTTP/1.1 connection between two requests.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// The connected socket.
    pub(crate) socket: OwnedFd,
    /// What was read from it and not parsed: to be read before what the socket gives.
    pub(crate) read_ahead: Bytes,
    /// Whether it has not had a request yet, and so may still turn out to speak HTTP/2.
    pub(crate) fresh: bool,
    /// Of the generation that has it now. It knows the listener that accepted it.
    pub(crate) guard: Guard,
}

/// Takes idle connections to a successor.
pub(crate) trait Mover: Send + Sync {
    /// Whether there is a successor that takes connections now or soon. While there is, answers in
    /// a drain do not say `Connection: close`, for the connection goes on elsewhere.
    fn is_open(&self) -> bool;

    /// Resolves when one may be taken; `None` when none may any more. The connection is served
    /// meanwhile.
    fn turn(&self) -> Turning;

    /// Takes one. `Ok` once the successor has acknowledged it: from then on it is the successor's
    /// to serve. `Ok` also if it was lost on its way, which its guard then says. Otherwise it comes
    /// back as it was, nothing read from it, and is served here.
    ///
    /// Dropping the future, as the drain's deadline does, gives the connection up.
    fn take(&self, parcel: Parcel, turn: Turn) -> Taking<'_>;
}

/// A connection's wait for its turn.
pub(crate) type Turning = Pin<Box<dyn Future<Output = Option<Turn>> + Send>>;

/// The outcome of a move.
pub(crate) type Taking<'a> = Pin<Box<dyn Future<Output = Result<(), GivenBack>> + Send + 'a>>;

/// A connection that was declined, as it was.
#[derive(Debug)]
pub(crate) struct GivenBack {
    pub(crate) stream: SessionStream,
    pub(crate) read_ahead: Bytes,
}

/// A stream that is nothing but its socket, so that another process can go on with it.
pub trait Plaintext: AsFd + Sized {
    #[doc(hidden)]
    const KIND: &str;
    #[doc(hidden)]
    fn into_socket(self) -> io::Result<OwnedFd>;
    #[doc(hidden)]
    fn from_session(stream: SessionStream) -> Option<Self>;
}

impl Plaintext for TcpStream {
    const KIND: &str = "heirloom http/1.1 tcp";

    fn into_socket(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }

    fn from_session(stream: SessionStream) -> Option<Self> {
        match stream {
            SessionStream::Tcp(stream) => Some(stream),
            SessionStream::Unix(_) => None,
        }
    }
}

impl Plaintext for UnixStream {
    const KIND: &str = "heirloom http/1.1 unix";

    fn into_socket(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }

    fn from_session(stream: SessionStream) -> Option<Self> {
        match stream {
            SessionStream::Unix(stream) => Some(stream),
            SessionStream::Tcp(_) => None,
        }
    }
}

/// How a stream becomes a socket and a session's stream this stream again, where that is possible.
#[doc(hidden)]
pub struct Carriage<S> {
    /// What such a connection is called on its way.
    pub(super) kind: &'static str,
    pub(super) off: fn(S) -> io::Result<OwnedFd>,
    /// `None` if it is another kind of stream.
    pub(super) on: fn(SessionStream) -> Option<S>,
    pub(super) peer: fn(&S) -> io::Result<SockAddr>,
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
            kind: S::KIND,
            off: S::into_socket,
            on: S::from_session,
            peer: |stream| SockRef::from(stream).peer_addr(),
            read: |stream, chunk| (&*SockRef::from(stream)).read(chunk),
        }
    }
}
