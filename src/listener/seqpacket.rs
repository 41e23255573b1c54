//! Connections that keep the bounds of records.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use std::sync::Arc;

use socket2::SockRef;
use tokio::io::Interest;

use crate::sys::datagram::recv_from;
use crate::sys::watch::Watched;

/// A Unix sequential-packet connection (`SOCK_SEQPACKET`, `unix(7)`): each send is one record.
#[derive(Debug)]
pub struct SeqpacketStream {
    io: Watched,
}

impl SeqpacketStream {
    /// Takes over a connected socket. Must be called in a tokio runtime with I/O enabled.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        SockRef::from(&fd).set_nonblocking(true)?;
        Ok(Self {
            io: Watched::new(Arc::new(fd), Interest::READABLE | Interest::WRITABLE)?,
        })
    }

    /// Sends `record` whole, and waits while the peer's queue is full.
    ///
    /// # Cancel safety
    /// Cancel safe: a record is sent whole or not at all.
    ///
    /// # Errors
    /// Those of `send(2)`: `EMSGSIZE` for a record larger than the send buffer, `EPIPE` when the
    /// peer has closed (no signal is raised).
    pub async fn send(&self, record: &[u8]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        self.io
            .async_io(Interest::WRITABLE, |fd| {
                SockRef::from(fd).send_with_flags(record, flags)
            })
            .await
    }

    /// Receives one record and gives its length in bytes; 0 is the peer's end or an empty record.
    /// What does not fit into `buffer` is lost (`recv(2)`).
    ///
    /// # Cancel safety
    /// Cancel safe: a record is received in the poll that returns it.
    ///
    /// # Errors
    /// Those of `recv(2)`.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io
            .async_io(Interest::READABLE, |fd| {
                recv_from(fd.as_fd(), buffer).map(|(length, _)| length)
            })
            .await
    }
}

impl AsFd for SeqpacketStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.get_ref().as_fd()
    }
}
