//! Listeners that can be parked, resumed and handed on.

mod accept;
mod address;
mod blocking;
mod conn;
mod core;
mod datagram;
mod expected;
mod inner;
mod member;
mod options;
mod passing;
mod place;
mod raw;
mod seqpacket;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod transport;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

pub(crate) use self::address::{address_of, sock_addr};
pub use self::conn::{BlockingConn, Conn, TcpConn, UnixConn};
pub(crate) use self::core::Core;
pub use self::datagram::{UdpSocket, UnixDatagram};
pub(crate) use self::expected::{Expected, Expecting, Taken};
pub use self::options::ListenOptions;
pub(crate) use self::place::{
    Occupant, Place, fits, inode_of, is_temporary, occupant, temporary_name, unlink_if,
};
pub use self::raw::Pause;
pub(crate) use self::raw::RawPause;
pub use self::seqpacket::SeqpacketStream;
pub(crate) use self::state::State;
pub use self::stream::Incoming;
use self::transport::Local;
pub use self::transport::{Seqpacket, Tcp, Transport, Unix};
use crate::error::Result;
use crate::name::Name;

/// A TCP listener.
pub type TcpListener = Listener<Tcp>;
/// A listener on a Unix stream socket.
pub type UnixListener = Listener<Unix>;
/// A listener on a Unix sequential-packet socket.
pub type SeqpacketListener = Listener<Seqpacket>;

/// A listener that outlives the process.
///
/// It is handed to the next generation with its queue. While another generation accepts, it is
/// parked: [`accept`](Self::accept) is pending, the descriptor stays open and out of epoll. Clones
/// share the socket and its queue, for several accept loops.
///
/// Dropping a listener does not close the socket, which is still handed on;
/// [`remove`](Self::remove) does.
pub struct Listener<T: Transport> {
    handle: Arc<Handle>,
    backlog: i32,
    transport: PhantomData<fn() -> T>,
}

/// What the clones of one listener share; with the last of them nobody accepts any more.
struct Handle(Arc<Core>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl<T: Transport> Listener<T> {
    pub(crate) fn new(core: Arc<Core>, options: &ListenOptions) -> Self {
        let backlog = options.backlog_for_listen();
        Self { handle: Arc::new(Handle(core)), backlog, transport: PhantomData }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.handle.0
    }

    /// The name under which it is handed over.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.core().name()
    }

    /// The address that it serves, with the port that it got. A Unix listener gives its path.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] while it has no socket: a member that joins its
    /// `SO_REUSEPORT` group at commit.
    pub fn local_addr(&self) -> io::Result<T::Addr> {
        T::local(Local(self.core().address().ok_or(io::ErrorKind::NotConnected)?))
    }

    /// The next connection; pending while it is not our turn.
    ///
    /// `None` means that nothing comes any more: the service stops, the listener was removed or is
    /// not wanted by the next generation (each after its queue has been served), or this generation
    /// has handed over and drained. A pause is never an end.
    ///
    /// Connections that fail before they are accepted are skipped. When the process or the machine
    /// has run out of descriptors or memory, it waits 10 ms, doubling up to 100 ms, and goes on, with
    /// a warning in the log.
    ///
    /// It must be called in a tokio runtime with I/O and time enabled. The socket belongs to the
    /// runtime of the task that accepts, and moves with it.
    ///
    /// # Cancel safety
    /// Cancel safe: no connection is lost, and another task that waits takes the turn.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) for what does not pass: no runtime, or a socket
    /// that somebody has shut down.
    pub async fn accept(&self) -> Result<Option<Conn<T::Stream, T::Addr>>> {
        let core = self.core();
        while let Some(accepted) = core.accept().await? {
            let made = T::peer(&accepted.peer)
                .and_then(|peer| Ok((T::stream(accepted.fd, core.nodelay)?, peer)));
            match made {
                Ok((stream, peer)) => return Ok(Some(Conn::new(stream, peer, accepted.guard))),
                Err(error) => self.lost(&error),
            }
        }
        Ok(None)
    }

    /// A connection that is already ours could not be used: it is closed, the next one may be fine.
    fn lost(&self, error: &io::Error) {
        crate::log::warn!(listener = %self.name(), %error, "an accepted connection was closed");
    }

    /// Closes the listener for good: its queue is served by whoever accepts on its clones, then
    /// they get `None`, and the descriptor is closed. A Unix path of ours is unlinked first.
    ///
    /// During a handoff it takes effect when the turn comes back; a next generation that has
    /// claimed it keeps it. With no clone left nobody serves the queue: what waits is reset.
    ///
    /// # Cancel safety
    /// The listener is closing from the first poll on; only the wait is cancelled.
    pub async fn remove(self) {
        let core = Arc::clone(self.core());
        core.close();
        drop(self);
        core.ended().await;
    }
}

impl<T: Transport> Clone for Listener<T> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle), backlog: self.backlog, transport: PhantomData }
    }
}

impl<T: Transport> fmt::Debug for Listener<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("name", self.name())
            .field("state", &self.core().state())
            .finish_non_exhaustive()
    }
}
