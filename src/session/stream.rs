//! The stream of a session.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::{Domain, SockRef, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A stream that can move to another process.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionStream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix stream socket.
    Unix(UnixStream),
}

impl SessionStream {
    /// A descriptor that arrived.
    ///
    /// # Errors
    ///
    /// It is no connected stream socket of a family that we know, or the runtime cannot watch it.
    pub(crate) fn adopt(fd: OwnedFd) -> io::Result<Self> {
        let (domain, kind) = {
            let socket = SockRef::from(&fd);
            // A runtime would be stopped by one that blocks.
            socket.set_nonblocking(true)?;
            (socket.domain()?, socket.r#type()?)
        };
        if kind != Type::STREAM {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no stream socket"));
        }
        match domain {
            Domain::IPV4 | Domain::IPV6 => TcpStream::from_std(fd.into()).map(Self::Tcp),
            Domain::UNIX => UnixStream::from_std(fd.into()).map(Self::Unix),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "its family is not known")),
        }
    }

    /// The descriptor, which no runtime watches any more.
    pub(crate) fn into_fd(self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(Into::into),
            Self::Unix(stream) => stream.into_std().map(Into::into),
        }
    }
}

impl From<TcpStream> for SessionStream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for SessionStream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

/// Does the same with whichever stream it is.
macro_rules! either {
    ($self:ident, $stream:ident => $action:expr) => {
        match $self.get_mut() {
            SessionStream::Tcp($stream) => $action,
            SessionStream::Unix($stream) => $action,
        }
    };
}

impl AsyncRead for SessionStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for SessionStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }
}
