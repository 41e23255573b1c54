//! The connection of a check.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::forward::writes_to;

/// A client's connection to the generation under check, made by
/// [`Candidate::connect`](crate::Candidate::connect): for TLS, HTTP/2 or a protocol of your own.
///
/// It reads and writes like a [`TcpStream`] or a [`UnixStream`]. On a sequential-packet listener
/// each write is one record, and each read takes one.
#[derive(Debug)]
pub struct CheckStream {
    inner: Inner,
    /// Set with the first byte that comes: from then on there was an answer.
    answered: Arc<AtomicBool>,
}

#[derive(Debug)]
pub(super) enum Inner {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl CheckStream {
    pub(super) fn new(inner: Inner, answered: Arc<AtomicBool>) -> Self {
        Self { inner, answered }
    }
}

impl AsyncRead for CheckStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = match &mut self.inner {
            Inner::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Inner::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if buf.filled().len() > before {
            self.answered.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for CheckStream {
    writes_to!(
        Self { inner: Inner::Tcp(stream), .. } => stream,
        Self { inner: Inner::Unix(stream), .. } => stream
    );
}
