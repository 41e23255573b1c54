//! Frames and descriptors over a Unix stream socket, both directions at once.
//!
//! Writing: one task owns the frame and the offset in it, so nothing that a caller does can tear a
//! frame. Descriptors leave with the frame's first byte, once; a short `sendmsg` has already sent
//! them. The first error of the socket poisons the link.
//!
//! Reading: the header is looked at before anything is taken, and no byte behind a frame is ever
//! taken with it. Between two frames the socket can therefore be handed on to another process. A
//! frame of up to [`WHOLE_FRAME`] bytes is not touched before it is there to its last byte, so for
//! these there is no moment at which a part of the link lives in this process.
//!
//! Every call carries `MSG_DONTWAIT`, so the flags of the socket, which other processes may share,
//! stay as they are.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::error::{Error, ErrorKind, Result, chain};
use crate::sys::scm::{self, Credentials};
use crate::wire::limits::{MAX_FDS, WHOLE_FRAME};
use crate::wire::{FrameKind, HEADER, Header, Message, WireError};

#[cfg(test)]
mod tests;

/// Frames that wait for the writer; a link carries a few messages a second.
const QUEUE: usize = 64;

const _: () = assert!(
    MAX_FDS == scm::MAX_FDS,
    "a frame holds what one sendmsg carries"
);

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
    let registered = AsyncFd::with_interest(Arc::clone(&socket), both)
        .map_err(|error| failed("watch the socket").with_source(error))?;
    let registered = Arc::new(registered);
    let (queue, frames) = mpsc::channel(QUEUE);
    let broken = Arc::new(OnceLock::new());
    let writer = Writer {
        socket: Arc::clone(&registered),
        frames,
        broken: Arc::clone(&broken),
    };
    let writer = runtime.spawn(writer.run()).abort_handle();
    let sender = LinkSender {
        queue,
        socket,
        broken,
        writer,
    };
    let incoming = Incoming::default();
    Ok((
        sender,
        LinkReceiver {
            socket: registered,
            incoming,
            broken: None,
        },
    ))
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
    writer: AbortHandle,
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

    /// Gives up on what is queued, even in the middle of a frame, so that nothing of the writer
    /// outlives a handoff whose other side neither reads nor ends.
    pub(crate) fn sever(&self) {
        let reason = io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "the link was severed here",
        );
        // Whatever broke it first stays the reason.
        let _ = self.broken.set(Arc::new(reason));
        self.writer.abort();
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
        Ok(Self {
            bytes,
            descriptors,
            written,
        })
    }
}

/// The only one that writes to the socket.
struct Writer {
    socket: Arc<AsyncFd<Arc<OwnedFd>>>,
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
async fn write(socket: &AsyncFd<Arc<OwnedFd>>, frame: &Outgoing) -> io::Result<()> {
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
    socket: Arc<AsyncFd<Arc<OwnedFd>>>,
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
            let last = if ready.ready().is_read_closed() {
                More::Never
            } else {
                More::MayCome
            };
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

/// Whether bytes may follow those that are in the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    MayCome,
    Never,
}

/// The frame that is being received. It is empty between two frames.
#[derive(Debug, Default)]
struct Incoming {
    header: Option<Header>,
    bytes: Vec<u8>,
    /// How much of `bytes` has come.
    filled: usize,
    descriptors: VecDeque<OwnedFd>,
    credentials: Option<Credentials>,
}

impl Incoming {
    /// Goes on with the frame: to its end, to the end of the link (`None`), or until there is
    /// nothing to read, which is the error `WouldBlock`.
    fn step(&mut self, socket: BorrowedFd<'_>, more: More) -> Result<Option<Envelope>, Fault> {
        if self.bytes.is_empty() && !self.begin(socket, more)? {
            return Ok(None);
        }
        while self.filled < self.bytes.len() {
            let rest = self.bytes.get_mut(self.filled..).unwrap_or_default();
            let received = match scm::recv(socket, rest, &mut self.descriptors) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
                received => Some(received?).filter(|received| received.bytes > 0),
            };
            let Some(received) = received else {
                return Err(Fault::Torn {
                    header: self.header,
                    got: self.filled,
                });
            };
            if self.filled == 0 {
                self.credentials = received.credentials;
            }
            self.filled += received.bytes;
            self.read_header()?;
            self.not_too_many()?;
        }
        self.finish().map(Some)
    }

    /// Looks at the header without taking it. `false`: the other side has closed.
    fn begin(&mut self, socket: BorrowedFd<'_>, more: More) -> Result<bool, Fault> {
        let mut bytes = [0; HEADER];
        let seen = match scm::peek(socket, &mut bytes) {
            // It closed with something of ours unread: the end, like any other.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            seen => seen?,
        };
        if seen == 0 {
            return Ok(false);
        }
        let header = if seen == HEADER {
            Some(Header::parse(&bytes)?)
        } else {
            None
        };
        let frame = header.map_or(HEADER, |header| header.frame());
        if frame <= WHOLE_FRAME {
            // A look ends where other descriptors or credentials begin, this count does not. So
            // a header that can be counted but not seen is read piece by piece.
            let queued = scm::queued(socket)?;
            if queued < frame {
                return Err(match more {
                    More::Never => Fault::Torn {
                        header,
                        got: queued,
                    },
                    More::MayCome => io::Error::from(io::ErrorKind::WouldBlock).into(),
                });
            }
        }
        self.header = header;
        self.bytes = vec![0; frame];
        Ok(true)
    }

    /// Takes the header from what was read, if it could not be seen before.
    fn read_header(&mut self) -> Result<(), WireError> {
        if self.header.is_none() && self.filled == HEADER {
            if let Some(bytes) = self.bytes.first_chunk::<HEADER>() {
                let header = Header::parse(bytes)?;
                self.bytes.resize(header.frame(), 0);
                self.header = Some(header);
            }
        }
        Ok(())
    }

    /// Holds what came along to the header's count, before more is accepted.
    fn not_too_many(&self) -> Result<(), WireError> {
        let expected = self.header.map_or(MAX_FDS, |header| header.descriptors);
        let carried = self.descriptors.len();
        if carried > expected {
            return Err(WireError::Descriptors {
                kind: self.kind(),
                expected,
                carried,
            });
        }
        Ok(())
    }

    /// The message of a complete frame.
    fn finish(&mut self) -> Result<Envelope, Fault> {
        let Self {
            header,
            bytes,
            descriptors,
            credentials,
            ..
        } = std::mem::take(self);
        let header = header.ok_or(Fault::Torn {
            header,
            got: bytes.len(),
        })?;
        let kind = FrameKind(header.kind);
        let (expected, carried) = (header.descriptors, descriptors.len());
        if expected != carried {
            return Err(WireError::Descriptors {
                kind,
                expected,
                carried,
            }
            .into());
        }
        let payload = bytes.get(HEADER..).unwrap_or_default();
        let message = Message::decode(header.kind, payload)?;
        message.carries(carried)?;
        let descriptors = match message {
            Message::Unknown(_) => Vec::new(),
            _ => descriptors.into(),
        };
        Ok(Envelope {
            message,
            descriptors,
            credentials,
        })
    }

    fn kind(&self) -> FrameKind {
        FrameKind(self.header.map_or(0, |header| header.kind))
    }
}

/// Why nothing can be received any more.
enum Fault {
    Io(io::Error),
    Wire(WireError),
    Torn { header: Option<Header>, got: usize },
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let closed = "link: the other side closed in the middle of a";
        match fault {
            Fault::Io(error) => Self::new(ErrorKind::Link, "link: receive").with_source(error),
            Fault::Wire(error) => error.into(),
            Fault::Torn { header: None, got } => Self::new(
                ErrorKind::Link,
                format!("{closed} header, after {got} of {HEADER} bytes"),
            ),
            Fault::Torn {
                header: Some(header),
                got,
            } => {
                let (kind, all) = (FrameKind(header.kind), header.frame());
                Self::new(
                    ErrorKind::Link,
                    format!("{closed} {kind}, after {got} of {all} bytes"),
                )
            }
        }
    }
}
