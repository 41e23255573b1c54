//! A connection and its guard in one.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::drain::Guard;
use crate::forward::writes_to;

/// An accepted connection, its peer's address, and the [`Guard`] that a drain waits for.
///
/// It derefs to the stream and reads and writes like it. When the stream goes elsewhere (into a
/// framework, a split, an upgrade), [`into_parts`](Self::into_parts) gives the guard to keep beside
/// it: dropping the guard says that the connection has ended.
#[must_use = "dropping a connection closes it"]
pub struct Conn<S, A = SocketAddr> {
    // Closed before the guard says that it has ended.
    stream: S,
    peer: A,
    guard: Guard,
}

/// What a [`TcpListener`](crate::TcpListener) accepts.
pub type TcpConn = Conn<tokio::net::TcpStream>;

/// What a [`UnixListener`](crate::UnixListener) accepts.
pub type UnixConn = Conn<tokio::net::UnixStream, std::os::unix::net::SocketAddr>;

/// A connection for threads: a [`Conn`] of a blocking stream.
pub type BlockingConn<S, A = SocketAddr> = Conn<S, A>;

impl<S, A> Conn<S, A> {
    pub(super) fn new(stream: S, peer: A, guard: Guard) -> Self {
        Self { stream, peer, guard }
    }

    /// The guard: phase of the drain, name and reason for the report.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The peer's address, as `accept4(2)` gave it. No system call.
    pub fn peer_addr(&self) -> &A {
        &self.peer
    }

    /// The stream and the guard, to be kept as long as the stream lives.
    pub fn into_parts(self) -> (S, Guard) {
        (self.stream, self.guard)
    }

    /// Another stream over this one (TLS, a codec), with the same guard and peer.
    pub fn map<T>(self, wrap: impl FnOnce(S) -> T) -> Conn<T, A> {
        Conn { stream: wrap(self.stream), peer: self.peer, guard: self.guard }
    }
}

impl<S, A> Deref for Conn<S, A> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.stream
    }
}

impl<S, A> DerefMut for Conn<S, A> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S, A: fmt::Debug> fmt::Debug for Conn<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("listener", self.guard.listener())
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl<S: AsyncRead + Unpin, A: Unpin> AsyncRead for Conn<S, A> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin, A: Unpin> AsyncWrite for Conn<S, A> {
    writes_to!(Self { stream, .. } => stream);
}

impl<S: Read, A> Read for Conn<S, A> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.stream.read_vectored(bufs)
    }
}

impl<S: Write, A> Write for Conn<S, A> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
