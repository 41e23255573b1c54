//! The stream of a session.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::{Domain, SockRef, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::forward::writes_to;

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

impl AsyncRead for SessionStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for SessionStream {
    writes_to!(Self::Tcp(stream) => stream, Self::Unix(stream) => stream);
}
