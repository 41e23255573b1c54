//! Frames on their way out.
//!
//! Whoever adds a frame sends as much as the socket takes, under the queue's lock; what is left is
//! sent by a task when the socket takes more. On a link that is read, which is the rule, the task
//! sleeps and a message is in the kernel before the call that sends it returns: a step of a
//! handoff costs one wake-up, the other side's.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use crate::error::Result;
use crate::sys::scm;
use crate::sys::watch::Watched;
use crate::wire::Message;

/// The pause after `ETOOMANYREFS`: too many descriptors of this user are on their way to processes
/// that have not received them yet (`unix(7)`). Nothing says when there are fewer.
const TOO_MANY: Duration = Duration::from_millis(5);

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

/// The queue as its users hold it. When the last clone is dropped, the task sends what is left and
/// ends.
#[derive(Clone, Debug)]
pub(super) struct Pipe {
    shared: Arc<Shared>,
    _last: Arc<Last>,
}

#[derive(Debug)]
struct Shared {
    socket: Arc<Watched>,
    queue: Mutex<Queue>,
    /// The task has something to do.
    work: Notify,
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
    /// Nothing is added any more: no sender is left, or no task.
    closed: bool,
}

/// Dropped with the last sender.
#[derive(Debug)]
struct Last(Arc<Shared>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.work.notify_one();
    }
}

impl Pipe {
    pub(super) fn open(runtime: &Handle, socket: Arc<Watched>) -> Self {
        let shared = Arc::new(Shared {
            socket,
            queue: Mutex::default(),
            work: Notify::new(),
            room: Notify::new(),
        });
        crate::task::spawn_on(runtime, Task(Arc::clone(&shared)).run());
        Self { _last: Arc::new(Last(Arc::clone(&shared))), shared }
    }

    /// Adds a frame and sends what the socket takes.
    pub(super) fn push(&self, frame: Outgoing) -> Result<(), Refused> {
        let mut queue = self.shared.lock();
        if queue.closed || queue.broken.is_some() {
            return Err(Refused::Broken);
        }
        if queue.frames.len() >= QUEUE {
            return Err(Refused::Full(Box::new(frame)));
        }
        let alone = queue.frames.is_empty();
        queue.frames.push_back(frame);
        if alone {
            match queue.send(self.shared.socket.get_ref().as_fd()) {
                Ok(()) => {}
                Err(error) if passes(&error) => {
                    self.shared.work.notify_one();
                }
                Err(_) => return Err(Refused::Broken),
            }
        }
        Ok(())
    }

    /// Resolves when a frame has left since this was called.
    pub(super) fn room(&self) -> Notified<'_> {
        self.shared.room.notified()
    }

    /// Why nothing can be sent any more.
    pub(super) fn broken(&self) -> Option<Arc<io::Error>> {
        self.shared.lock().broken.clone()
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

/// Sends what the socket did not take at once.
struct Task(Arc<Shared>);

impl Task {
    async fn run(self) {
        let shared = &self.0;
        loop {
            shared.work.notified().await;
            while !shared.lock().frames.is_empty() {
                let Ok(mut ready) = shared.socket.writable().await else { return };
                let sent = ready.try_io(|socket| shared.lock().send(socket.as_fd()));
                drop(ready);
                shared.room.notify_waiters();
                match sent {
                    Ok(Err(error)) if passes(&error) => tokio::time::sleep(TOO_MANY).await,
                    Ok(Err(_)) => return,
                    Ok(Ok(())) | Err(_) => {}
                }
            }
            if shared.lock().closed {
                return;
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // Without it nothing would send the rest, and nobody would be told.
        let left = {
            let mut queue = self.0.lock();
            queue.closed = true;
            std::mem::take(&mut queue.frames)
        };
        drop(left);
        self.0.room.notify_waiters();
    }
}
