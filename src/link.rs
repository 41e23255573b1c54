//! Frames and descriptors over a Unix stream socket, both directions at once.
//!
//! Writing: one task owns the frame and the offset in it, so nothing that a caller does can tear a
//! frame. Descriptors leave with the frame's first byte, once; a short `sendmsg` has already sent
//! them. The first error of the socket poisons the link.
//!
//! Reading: the header is looked at before anything is taken, and no byte behind a frame is ever
//! taken with it. Between two frames the socket can therefore be handed on to another process. A
//! frame of up to [`WHOLE_FRAME`](crate::wire::limits::WHOLE_FRAME) bytes is not touched before it is there to its last byte, so for
//! these there is no moment at which a part of the link lives in this process.
//!
//! Every call carries `MSG_DONTWAIT`, so the flags of the socket, which other processes may share,
//! stay as they are.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use tokio::io::Interest;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, ErrorKind, Result, chain};
use crate::sys::scm::{self, Credentials};
use crate::sys::watch::Watched;
use crate::wire::Message;
use crate::wire::limits::MAX_FDS;

mod incoming;

use incoming::{Fault, Incoming, More};

#[cfg(test)]
mod tests;

/// Frames that wait for the writer; a link carries a few messages a second.
const QUEUE: usize = 64;

const _: () = assert!(MAX_FDS == scm::MAX_FDS, "a frame holds what one sendmsg carries");

/// A message with what came along.
#[derive(Debug)]
pub(crate) struct Envelope {
    /// What was said.
    pub message: Message,
    /// As many as the frame's header says, and for an offer as many as it has items.
    pub descriptors: Vec<OwnedFd>,
    /// Who sent the frame's first byte, if the socket has `SO_PASSCRED` of unix(7).
    pub credentials: Option<Credentials>,
}

/// Opens a link on a connected Unix stream socket.
///
/// It lives in the runtime that it is opened in, whose I/O driver must be enabled. Without a
/// runtime this is an error.
pub(crate) fn open(socket: OwnedFd) -> Result<(LinkSender, LinkReceiver)> {
    let failed = |message: &str| Error::new(ErrorKind::Link, format!("link: {message}"));
    let runtime = tokio::runtime::Handle::try_current()
        .map_err(|error| failed("it is opened outside of a runtime").with_source(error))?;
    let socket = Arc::new(socket);
    let both = Interest::READABLE | Interest::WRITABLE;
    let registered = Watched::new(Arc::clone(&socket), both)
        .map_err(|error| failed("watch the socket").with_source(error))?;
    let registered = Arc::new(registered);
    let (queue, frames) = mpsc::channel(QUEUE);
    let broken = Arc::new(OnceLock::new());
    let writer = Writer { socket: Arc::clone(&registered), frames, broken: Arc::clone(&broken) };
    runtime.spawn(writer.run());
    let sender = LinkSender { queue, socket, broken };
    let incoming = Incoming::default();
    Ok((sender, LinkReceiver { socket: registered, incoming, broken: None }))
}

/// Why nothing can be sent any more; set once.
type Broken = Arc<OnceLock<Arc<io::Error>>>;

/// The sending half. Clones share one queue and one writer.
///
/// When the last clone is dropped, the writer sends what is queued and ends.
#[derive(Clone, Debug)]
pub(crate) struct LinkSender {
    queue: mpsc::Sender<Outgoing>,
    socket: Arc<OwnedFd>,
    broken: Broken,
}

impl LinkSender {
    /// Sends a message and returns when its whole frame is in the kernel, where it outlives this
    /// process.
    ///
    /// The descriptors stay open until then; whoever needs to know that they arrived keeps them
    /// open until the other side says so.
    ///
    /// # Errors
    ///
    /// A message beyond the protocol's limits, which leaves the link as it was; or the link is
    /// broken, and then every later message meets the same error.
    ///
    /// # Cancel safety
    ///
    /// A frame is never torn. Cancelled, the message is sent whole or not at all.
    pub(crate) async fn send(
        &self,
        message: Message,
        descriptors: Vec<Arc<OwnedFd>>,
    ) -> Result<()> {
        let (written, done) = oneshot::channel();
        let frame = Outgoing::new(&message, descriptors, Some(written))?;
        if self.queue.send(frame).await.is_err() {
            return Err(self.refusal(&message));
        }
        done.await.map_err(|_| self.refusal(&message))
    }

    /// Queues a message without descriptors and does not wait.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send); and the queue is full, because the other side does not read.
    pub(crate) fn post(&self, message: Message) -> Result<()> {
        let frame = Outgoing::new(&message, Vec::new(), None)?;
        self.queue.try_send(frame).map_err(|error| match error {
            mpsc::error::TrySendError::Closed(_) => self.refusal(&message),
            mpsc::error::TrySendError::Full(_) => Error::new(
                ErrorKind::Link,
                format!(
                    "link: {QUEUE} messages wait for the other side, which does not read; \
                     {:?} is not sent",
                    message.name()
                ),
            ),
        })
    }

    /// The socket, to hand the link itself on.
    pub(crate) fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket)
    }

    fn refusal(&self, message: &Message) -> Error {
        let error = Error::new(ErrorKind::Link, format!("link: send {:?}", message.name()));
        match self.broken.get() {
            Some(reason) => error.with_source(Arc::clone(reason)),
            None => error.with_source("the runtime that the link lives in has ended"),
        }
    }
}

/// A frame on its way out.
struct Outgoing {
    bytes: Vec<u8>,
    descriptors: Vec<Arc<OwnedFd>>,
    written: Option<oneshot::Sender<()>>,
}

impl Outgoing {
    fn new(
        message: &Message,
        descriptors: Vec<Arc<OwnedFd>>,
        written: Option<oneshot::Sender<()>>,
    ) -> Result<Self> {
        let bytes = message.frame(descriptors.len())?;
        Ok(Self { bytes, descriptors, written })
    }
}

/// The only one that writes to the socket.
struct Writer {
    socket: Arc<Watched>,
    frames: mpsc::Receiver<Outgoing>,
    broken: Broken,
}

impl Writer {
    async fn run(mut self) {
        while let Some(frame) = self.frames.recv().await {
            match write(&self.socket, &frame).await {
                Ok(()) => {
                    // Nobody waits for a message that was posted or whose sender was cancelled.
                    let _ = frame.written.map(|written| written.send(()));
                }
                Err(error) => {
                    // The reason is there before anyone learns that the link is broken.
                    let _ = self.broken.set(Arc::new(error));
                    return;
                }
            }
        }
    }
}

/// Writes one frame to its end, its descriptors with the first byte only.
async fn write(socket: &Watched, frame: &Outgoing) -> io::Result<()> {
    let descriptors: Vec<BorrowedFd<'_>> = frame.descriptors.iter().map(|fd| fd.as_fd()).collect();
    let mut rest = frame.bytes.as_slice();
    let mut along = descriptors.as_slice();
    while !rest.is_empty() {
        let mut ready = socket.writable().await?;
        match ready.try_io(|socket| scm::send(socket.as_fd(), rest, along)) {
            Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(Ok(sent)) => {
                rest = rest.get(sent..).unwrap_or_default();
                along = &[];
            }
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
    Ok(())
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct LinkReceiver {
    socket: Arc<Watched>,
    incoming: Incoming,
    broken: Option<(ErrorKind, String)>,
}

impl LinkReceiver {
    /// The next message; `None` when the other side has closed between two frames.
    ///
    /// # Errors
    ///
    /// What came is no frame, exceeds a limit, ends in the middle, or its descriptors are not as
    /// many as it says. All descriptors of that frame are closed, nothing more is read, and every
    /// later call meets the same error.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: what has been read of a long frame stays in the receiver.
    pub(crate) async fn recv(&mut self) -> Result<Option<Envelope>> {
        if let Some((kind, reason)) = &self.broken {
            return Err(Error::new(*kind, reason.clone()));
        }
        self.next().await.map_err(|fault| {
            self.incoming = Incoming::default();
            let error = Error::from(fault);
            self.broken = Some((error.kind(), chain(&error)));
            error
        })
    }

    async fn next(&mut self) -> Result<Option<Envelope>, Fault> {
        loop {
            let mut ready = self.socket.readable().await?;
            // Seen before the bytes are looked at: then those that are there are the last.
            let last = if ready.ready().is_read_closed() { More::Never } else { More::MayCome };
            let step = ready.try_io(|socket| match self.incoming.step(socket.as_fd(), last) {
                Err(Fault::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
                step => Ok(step),
            });
            if let Ok(step) = step {
                return step?;
            }
        }
    }
}
