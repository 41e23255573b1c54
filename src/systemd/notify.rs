//! Notifications on their way out.
//!
//! Whoever posts a message sends it, under the queue's lock, if the manager takes it at once. That
//! is the rule, and so the messages of two generations arrive in the order in which they were
//! posted. What the manager does not take yet waits in a short queue, and a task sends it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::{SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::{Address, Message};
use crate::sys::scm;
use crate::sys::watch::Watched;

/// Messages that wait for the manager; an upgrade sends a dozen.
const QUEUE: usize = 64;

/// How long a status waits for a manager that takes none, and any message for a connection to one
/// of another machine, as in `sd_notify_barrier(3)`. A manager of this machine that reads nothing
/// for a while, because it is stopped or starts itself anew, has to learn of the rest all the same:
/// one that has missed `MAINPID=` ends the service. That costs a message that waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// The way to a service manager. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Notifier(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    address: Address,
    runtime: Handle,
    queue: Mutex<Queue>,
    /// Nothing waits any more.
    idle: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Message>,
    /// Connected to the manager, non-blocking. None before the first message and after an error.
    socket: Option<Arc<OwnedFd>>,
    /// A task sends what waits.
    running: bool,
}

impl Notifier {
    /// The way to this address. Nothing is opened yet. To be called in a runtime.
    pub(crate) fn new(address: Address) -> Self {
        let runtime = Handle::current();
        let (queue, idle) = (Mutex::default(), Notify::new());
        Self(Arc::new(Shared { address, runtime, queue, idle }))
    }

    /// Sends a message, at once if the manager takes it. Never blocks; what cannot be sent is said
    /// in the log.
    pub(crate) fn post(&self, message: Message) {
        let mut queue = self.0.lock();
        let mut message = message;
        if queue.waiting.is_empty() && self.0.address.is_local() {
            match self.0.send(&mut queue, &message) {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return given_up(&message, &error),
            }
        }
        if queue.waiting.len() >= QUEUE {
            // What only people read makes room for the rest.
            // The first is being sent.
            let mut others = queue.waiting.iter().enumerate().skip(1);
            match others.find(|(_, waiting)| waiting.is_status_only()).map(|(at, _)| at) {
                Some(at) if !message.is_status_only() => _ = queue.waiting.remove(at),
                _ => return given_up(&message, &io::ErrorKind::WouldBlock.into()),
            }
        }
        if !self.0.address.is_local() {
            // Only a Unix socket carries descriptors.
            message.descriptors.clear();
        }
        queue.waiting.push_back(message);
        if !std::mem::replace(&mut queue.running, true) {
            crate::task::spawn_on(&self.0.runtime, run(Arc::clone(&self.0)));
        }
    }

    /// Waits until the manager has read everything that was posted, at most so long. True if it
    /// has, as far as can be known.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the manager answers into a closed pipe.
    pub(crate) async fn barrier(&self, patience: Duration) -> bool {
        if !self.0.address.is_local() {
            return self.flushed(patience).await;
        }
        let Ok((reader, writer)) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK)
        else {
            return false;
        };
        self.post(Message::barrier(writer));
        let Ok(reader) = pipe::Receiver::from_owned_fd(reader) else { return false };
        // Nothing is ever written: it becomes readable when the last writer has closed it.
        tokio::time::timeout(patience, reader.readable()).await.is_ok_and(|ended| ended.is_ok())
    }

    /// Waits until nothing waits here any more.
    async fn flushed(&self, patience: Duration) -> bool {
        let empty = async {
            loop {
                let mut idle = std::pin::pin!(self.0.idle.notified());
                idle.as_mut().enable();
                if !self.0.lock().running {
                    return;
                }
                idle.await;
            }
        };
        tokio::time::timeout(patience, empty).await.is_ok()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One try to send a datagram over a Unix socket.
    fn send(&self, queue: &mut Queue, message: &Message) -> io::Result<()> {
        let known = queue.socket.is_some();
        match self.try_send(queue, message) {
            // The manager has bound its socket anew since.
            Err(error) if known && error.kind() == io::ErrorKind::ConnectionRefused => {
                queue.socket = None;
                self.try_send(queue, message)
            }
            result => result,
        }
    }

    fn try_send(&self, queue: &mut Queue, message: &Message) -> io::Result<()> {
        let socket = match &queue.socket {
            Some(socket) => Arc::clone(socket),
            None => Arc::new(self.connect(Type::DGRAM)?),
        };
        queue.socket = Some(Arc::clone(&socket));
        transmit(socket.as_fd(), message)
    }

    /// A non-blocking socket on its way to the manager.
    fn connect(&self, kind: Type) -> io::Result<OwnedFd> {
        let socket = Socket::new(self.address.domain, kind.nonblocking().cloexec(), None)?;
        match socket.connect(&self.address.socket) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(socket.into()),
        }
    }
}

/// A whole datagram, or nothing.
fn transmit(socket: BorrowedFd<'_>, message: &Message) -> io::Result<()> {
    let descriptors: Vec<BorrowedFd<'_>> =
        message.descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    scm::send(socket, message.text.as_bytes(), &descriptors).map(drop)
}

fn given_up(message: &Message, error: &io::Error) {
    let text = message.text.replace('\n', " ");
    crate::log::warn!(%error, message = text, "the service manager was not told");
}

/// Sends what waits, and ends.
async fn run(shared: Arc<Shared>) {
    loop {
        let next = {
            let mut queue = shared.lock();
            match queue.waiting.front() {
                Some(message) => message.clone(),
                None => {
                    queue.running = false;
                    shared.idle.notify_waiters();
                    return;
                }
            }
        };
        let delivery = deliver(&shared, &next);
        let sent = if shared.address.is_local() && !next.is_status_only() {
            delivery.await
        } else {
            let sent = tokio::time::timeout(PATIENCE, delivery).await;
            sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        };
        if let Err(error) = sent {
            given_up(&next, &error);
        }
        // It stayed in front meanwhile, so that nothing overtook it.
        shared.lock().waiting.pop_front();
    }
}

async fn deliver(shared: &Shared, message: &Message) -> io::Result<()> {
    if !shared.address.is_local() {
        return over_vsock(shared, message).await;
    }
    let socket = shared.lock().socket.clone();
    let socket = match socket {
        Some(socket) => socket,
        None => Arc::new(shared.connect(Type::DGRAM)?),
    };
    let watched = Watched::new(Arc::clone(&socket), Interest::WRITABLE)?;
    when_writable(&watched, |socket| transmit(socket.as_fd(), message)).await
}

/// A connection for each message, as the manager of a virtual machine expects it.
async fn over_vsock(shared: &Shared, message: &Message) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::Unsupported);
    for kind in shared.address.types {
        let socket = match shared.connect(*kind) {
            Ok(socket) => Arc::new(socket),
            Err(error) => {
                last = error;
                continue;
            }
        };
        let watched = Watched::new(Arc::clone(&socket), Interest::WRITABLE)?;
        let mut rest = message.text.as_bytes();
        while !rest.is_empty() {
            let sent = when_writable(&watched, |socket| {
                match SockRef::from(socket.as_ref()).take_error()? {
                    Some(error) => Err(error),
                    None => scm::send(socket.as_fd(), rest, &[]),
                }
            });
            rest = rest.get(sent.await?..).unwrap_or_default();
        }
        return Ok(());
    }
    Err(last)
}

async fn when_writable<R>(
    watched: &AsyncFd<Arc<OwnedFd>>,
    mut op: impl FnMut(&Arc<OwnedFd>) -> io::Result<R>,
) -> io::Result<R> {
    loop {
        let mut ready = watched.writable().await?;
        if let Ok(result) = ready.try_io(|socket| op(socket.get_ref())) {
            return result;
        }
    }
}
