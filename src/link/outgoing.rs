//! Frames on their way out.
//!
//! Whoever adds a frame sends as much as the socket takes, under the queue's lock; for what is left
//! a task is started that sends it when the socket takes more. On a link that is read, which is the
//! rule, there is none: a message is in the kernel before the call that sends it returns, a step of
//! a handoff costs one wake-up, the other side's, and nobody is woken by being read.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::runtime::Handle;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use crate::error::Result;
use crate::sys::scm;
use crate::sys::watch::Watched;
use crate::wire::Message;

/// The pause where nothing says when there is room again: after `ETOOMANYREFS`, since too many
/// descriptors of this user are on their way to processes that have not received them yet
/// (`unix(7)`), and while the socket cannot be watched, as without a free descriptor.
const PAUSE: Duration = Duration::from_millis(5);

/// Frames that wait for the socket; a link carries a few messages a second.
pub(super) const QUEUE: usize = 64;

/// One frame.
#[derive(Debug)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    descriptors: Vec<Arc<OwnedFd>>,
    written: Option<oneshot::Sender<()>>,
}

impl Outgoing {
    pub(super) fn new(
        message: &Message,
        descriptors: Vec<Arc<OwnedFd>>,
        written: Option<oneshot::Sender<()>>,
    ) -> Result<Self> {
        let bytes = message.frame(descriptors.len())?;
        Ok(Self { bytes, descriptors, written })
    }
}

/// Why a frame was not taken.
pub(super) enum Refused {
    /// Too many wait already; the frame comes back.
    Full(Box<Outgoing>),
    /// The link is broken.
    Broken,
}

/// The queue as its users hold it. When the last clone is dropped, what is left is still sent.
#[derive(Clone, Debug)]
pub(super) struct Pipe(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: Arc<OwnedFd>,
    /// Where the task runs.
    runtime: Handle,
    queue: Mutex<Queue>,
    /// There may be room in the queue, or the link is broken.
    room: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Outgoing>,
    /// How much of the first frame has been sent.
    sent: usize,
    /// The first error of the socket.
    broken: Option<Arc<io::Error>>,
    /// The runtime has ended, and what waited then has been given up: nothing is sent any more.
    closed: bool,
}

impl Pipe {
    pub(super) fn open(runtime: Handle, socket: Arc<OwnedFd>) -> Self {
        Self(Arc::new(Shared { socket, runtime, queue: Mutex::default(), room: Notify::new() }))
    }

    /// Adds a frame and sends what the socket takes.
    pub(super) fn push(&self, frame: Outgoing) -> Result<(), Refused> {
        let shared = &self.0;
        let mut queue = shared.lock();
        if queue.closed || queue.broken.is_some() {
            return Err(Refused::Broken);
        }
        if queue.frames.len() >= QUEUE {
            return Err(Refused::Full(Box::new(frame)));
        }
        // Otherwise the task sends it in its turn.
        let alone = queue.frames.is_empty();
        queue.frames.push_back(frame);
        let sent = if alone { queue.send(shared.socket.as_fd()) } else { Ok(()) };
        drop(queue);
        match sent {
            Ok(()) => Ok(()),
            Err(error) if passes(&error) => {
                let task = Task { shared: Arc::clone(shared), over: false };
                crate::task::spawn_on(&shared.runtime, task.run(error));
                // A runtime that has ended drops it in that call.
                if shared.lock().closed { Err(Refused::Broken) } else { Ok(()) }
            }
            Err(_) => Err(Refused::Broken),
        }
    }

    /// Resolves when a frame has left since this was called.
    pub(super) fn room(&self) -> Notified<'_> {
        self.0.room.notified()
    }

    /// Why nothing can be sent any more.
    pub(super) fn broken(&self) -> Option<Arc<io::Error>> {
        self.0.lock().broken.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Sends until the queue is empty; an error that [passes] if it takes no more for now. Any
    /// other error is kept, and everything that waits is given up.
    fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        match self.try_send(socket) {
            Err(error) if !passes(&error) => {
                let kind = error.kind();
                self.broken.get_or_insert(Arc::new(error));
                self.frames.clear();
                Err(kind.into())
            }
            result => result,
        }
    }

    fn try_send(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        while let Some(frame) = self.frames.front_mut() {
            let rest = frame.bytes.get(self.sent..).unwrap_or_default();
            let along: Vec<BorrowedFd<'_>> = if self.sent == 0 {
                frame.descriptors.iter().map(|fd| fd.as_fd()).collect()
            } else {
                Vec::new()
            };
            match scm::send(socket, rest, &along)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                sent => self.sent += sent,
            }
            if self.sent >= frame.bytes.len() {
                // Nobody waits for a message that was posted or whose sender was cancelled.
                let _ = frame.written.take().map(|written| written.send(()));
                self.frames.pop_front();
                self.sent = 0;
            }
        }
        Ok(())
    }
}

/// Whether the socket will take more later: nothing of the frame has been sent then.
fn passes(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ETOOMANYREFS)
}

/// Sends what the socket did not take at once. There is one as long as frames wait.
struct Task {
    shared: Arc<Shared>,
    /// Nothing waits, or nothing can be sent.
    over: bool,
}

impl Task {
    /// `error` is why something waits.
    async fn run(mut self, mut error: io::Error) {
        let shared = Arc::clone(&self.shared);
        let mut watched = None;
        loop {
            let full = error.kind() == io::ErrorKind::WouldBlock;
            if full && watched.is_none() {
                watched = watch(&shared.socket);
            }
            match &watched {
                Some(watched) if full => {
                    let Ok(mut writable) = watched.writable().await else { return };
                    writable.clear_ready();
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
            let sent = shared.lock().send(shared.socket.as_fd());
            shared.room.notify_waiters();
            match sent {
                Err(again) if passes(&again) => error = again,
                Ok(()) | Err(_) => {
                    self.over = true;
                    return;
                }
            }
        }
    }
}

/// Watches a socket for room, by a number of its own: epoll(7) has the socket's for reading already.
fn watch(socket: &OwnedFd) -> Option<Watched> {
    socket
        .try_clone()
        .and_then(|socket| Watched::new(Arc::new(socket), Interest::WRITABLE))
        .inspect_err(|error| crate::log::debug!(%error, "a link is not watched for room yet"))
        .ok()
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // The runtime ends: nothing would send the rest, and nobody would be told.
        let left = {
            let mut queue = self.shared.lock();
            queue.closed = true;
            std::mem::take(&mut queue.frames)
        };
        drop(left);
        self.shared.room.notify_waiters();
    }
}
