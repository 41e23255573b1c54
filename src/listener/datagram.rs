//! Datagram sockets: one generation reads, any may send.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::Path;
use std::sync::Arc;

use socket2::{SockAddr, SockRef};
use tokio::io::Interest;

use super::core::Core;
use super::member::Source;
use super::transport::{inet, unix, unix_peer};
use super::{Handle, State};
use crate::drain::Guard;
use crate::error::{Error, ErrorKind, Result};
use crate::name::Name;
use crate::sys::datagram::recv_from;
use crate::sys::watch::Watched;

/// A UDP socket that outlives the process (`udp(7)`).
///
/// One generation reads at a time: receiving is pending while it is not our turn. Sending works as
/// soon as the socket is bound. Clones share the socket and its queue.
#[derive(Clone)]
pub struct UdpSocket(Datagram);

/// A Unix datagram socket that outlives the process (`unix(7)`).
///
/// One generation reads at a time: receiving is pending while it is not our turn. Sending works as
/// soon as the socket is bound. Clones share the socket and its queue.
#[derive(Clone)]
pub struct UnixDatagram(Datagram);

#[derive(Clone)]
struct Datagram(Arc<Handle>);

impl Datagram {
    fn core(&self) -> &Arc<Core> {
        &self.0.0
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> Result<Option<(usize, SockAddr)>> {
        self.core().next(&mut |source| recv_from(source.fd, buffer), "receive").await
    }

    /// Takes the guard under the lock that parking takes, so that a drain that begins afterwards
    /// knows of the datagram.
    async fn recv_guarded(&self, buffer: &mut [u8]) -> Result<Option<(usize, SockAddr, Guard)>> {
        let core = self.core();
        let mut receive = |source: Source<'_>| {
            let (length, peer) = recv_from(source.fd, buffer)?;
            let guard = core.guards.guard(peer.as_socket());
            Ok((length, peer, guard))
        };
        core.next(&mut receive, "receive").await
    }

    /// Sends one datagram; waits for the socket to be bound, and for room.
    async fn send_to(&self, data: &[u8], to: &SockAddr) -> io::Result<usize> {
        let socket = self.core().bound().await?;
        let send = || SockRef::from(&socket).send_to_with_flags(data, to, FLAGS);
        match send() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
        // Rare, so the socket is watched for it only now: by a duplicate, because a parked
        // socket is in no epoll.
        let watched = Watched::new(Arc::new(socket.try_clone()?), Interest::WRITABLE)?;
        watched.async_io(Interest::WRITABLE, |_| send()).await
    }

    async fn remove(self) {
        let core = Arc::clone(self.core());
        core.close();
        drop(self);
        core.ended().await;
    }
}

const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

impl Core {
    /// The socket, as soon as there is one: a new datagram socket is bound at commit.
    async fn bound(&self) -> io::Result<Arc<OwnedFd>> {
        loop {
            let told = self.bound.notified();
            if let Some(fd) = self.first() {
                return Ok(fd);
            }
            if self.state() == State::Ended {
                return Err(io::ErrorKind::NotConnected.into());
            }
            told.await;
        }
    }
}

impl UdpSocket {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self(Datagram(Arc::new(Handle(core))))
    }

    /// The name under which it is handed over.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.0.core().name()
    }

    /// The address that it is bound to, with the port that it got.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] until it is bound: a new one is bound at commit.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        inet(&self.0.core().address().ok_or(io::ErrorKind::NotConnected)?)
    }

    /// Receives one datagram and its sender; what does not fit into `buffer` is lost. Pending while
    /// it is not our turn. `None`: nothing comes any more, as in
    /// [`Listener::accept`](super::Listener::accept).
    ///
    /// # Cancel safety
    /// Cancel safe: a datagram is received in the poll that returns it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for those of `recvfrom(2)`, and if it could not be bound.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> Result<Option<(usize, SocketAddr)>> {
        let Some((length, peer)) = self.0.recv_from(buffer).await? else {
            return Ok(None);
        };
        match peer.as_socket() {
            Some(peer) => Ok(Some((length, peer))),
            None => Err(foreign(self.name())),
        }
    }

    /// As [`recv_from`](Self::recv_from), with a guard: the generation does not end before the
    /// guard is dropped. Hold it until the answer is sent; without it, an answer that takes its time
    /// may be lost with a generation that has nothing else to drain.
    ///
    /// # Cancel safety
    /// Cancel safe, as [`recv_from`](Self::recv_from).
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub async fn recv_from_guarded(
        &self,
        buffer: &mut [u8],
    ) -> Result<Option<(usize, SocketAddr, Guard)>> {
        let Some((length, peer, guard)) = self.0.recv_guarded(buffer).await? else {
            return Ok(None);
        };
        match peer.as_socket() {
            Some(peer) => Ok(Some((length, peer, guard))),
            None => Err(foreign(self.name())),
        }
    }

    /// Sends one datagram to `target`, in any phase of a handoff. Waits while the send buffer is
    /// full, and until commit if the socket is new.
    ///
    /// # Cancel safety
    /// Cancel safe: a datagram is sent whole or not at all.
    ///
    /// # Errors
    /// Those of `sendto(2)`; [`io::ErrorKind::NotConnected`] when the socket is closed.
    pub async fn send_to(&self, data: &[u8], target: SocketAddr) -> io::Result<usize> {
        self.0.send_to(data, &target.into()).await
    }

    /// Closes the socket for good, as [`Listener::remove`](super::Listener::remove) does.
    pub async fn remove(self) {
        self.0.remove().await;
    }
}

impl UnixDatagram {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self(Datagram(Arc::new(Handle(core))))
    }

    /// The name under which it is handed over.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.0.core().name()
    }

    /// The path or abstract name that it is bound to.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] until it is bound: a new abstract one is bound at commit.
    pub fn local_addr(&self) -> io::Result<UnixAddr> {
        unix(&self.0.core().address().ok_or(io::ErrorKind::NotConnected)?)
    }

    /// Receives one datagram; what does not fit into `buffer` is lost. Pending while it is not our
    /// turn. `None`: nothing comes any more.
    ///
    /// # Cancel safety
    /// Cancel safe: a datagram is received in the poll that returns it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for those of `recvfrom(2)`, and if it could not be bound.
    pub async fn recv(&self, buffer: &mut [u8]) -> Result<Option<usize>> {
        Ok(self.0.recv_from(buffer).await?.map(|(length, _)| length))
    }

    /// As [`recv`](Self::recv), with the sender's address (unnamed for most).
    ///
    /// # Cancel safety
    /// Cancel safe, as [`recv`](Self::recv).
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub async fn recv_from(&self, buffer: &mut [u8]) -> Result<Option<(usize, UnixAddr)>> {
        let Some((length, peer)) = self.0.recv_from(buffer).await? else {
            return Ok(None);
        };
        let peer = unix_peer(&peer).map_err(|error| foreign(self.name()).with_source(error))?;
        Ok(Some((length, peer)))
    }

    /// As [`recv_from`](Self::recv_from), with a guard to hold until the answer is sent, as
    /// [`UdpSocket::recv_from_guarded`] has it.
    ///
    /// # Cancel safety
    /// Cancel safe, as [`recv`](Self::recv).
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub async fn recv_from_guarded(
        &self,
        buffer: &mut [u8],
    ) -> Result<Option<(usize, UnixAddr, Guard)>> {
        let Some((length, peer, guard)) = self.0.recv_guarded(buffer).await? else {
            return Ok(None);
        };
        let peer = unix_peer(&peer).map_err(|error| foreign(self.name()).with_source(error))?;
        Ok(Some((length, peer, guard)))
    }

    /// Sends one datagram to the socket at `path`, in any phase of a handoff. Waits while the send
    /// buffer is full, and until commit if the socket is a new abstract one.
    ///
    /// # Cancel safety
    /// Cancel safe: a datagram is sent whole or not at all.
    ///
    /// # Errors
    /// Those of `sendto(2)`; [`io::ErrorKind::NotConnected`] when the socket is closed.
    pub async fn send_to(&self, data: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.0.send_to(data, &SockAddr::unix(path)?).await
    }

    /// Closes the socket for good, as [`Listener::remove`](super::Listener::remove) does.
    pub async fn remove(self) {
        self.0.remove().await;
    }
}

fn foreign(name: &Name) -> Error {
    Error::new(ErrorKind::Io, format!("socket \"{name}\": a datagram from an address of no use"))
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSocket").field("name", self.name()).finish_non_exhaustive()
    }
}

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixDatagram").field("name", self.name()).finish_non_exhaustive()
    }
}
