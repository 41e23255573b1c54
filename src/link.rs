//! Frames and descriptors over a Unix stream socket, both directions at once.
//!
//! Writing: one queue owns the frames and the offset in the first of them ([`outgoing`]), so
//! nothing that a caller does can tear a frame. Descriptors leave with the frame's first byte,
//! once; a short `sendmsg` has already sent them. The first error of the socket poisons the link.
//!
//! Reading: the header is looked at before anything is taken, and no byte behind a frame is ever
//! taken with it. Between two frames the socket can therefore be handed on to another process. A
//! frame of up to [`WHOLE_FRAME`](crate::wire::limits::WHOLE_FRAME) bytes is not touched before it is there to its last byte, so for
//! these there is no moment at which a part of the link lives in this process.
//!
//! Every call carries `MSG_DONTWAIT`, so the flags of the socket, which other processes may share,
//! stay as they are.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result, chain};
use crate::sys::scm::{self, Credentials};
use crate::sys::watch::Watched;
use crate::task::Work;
use crate::wire::Message;
use crate::wire::limits::MAX_FDS;

mod incoming;
mod outgoing;

use incoming::{Fault, Incoming, More};
use outgoing::{Outgoing, Pipe, QUEUE, Refused};

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
pub(crate) mod tests;

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
    let watched = Watched::new(Arc::clone(&socket), Interest::READABLE)
        .map_err(|error| Error::new(ErrorKind::Io, "link: watch the socket").with_source(error))?;
    let pipe = Pipe::open(runtime, Arc::clone(&socket));
    let sender = LinkSender { pipe, socket };
    let incoming = Incoming::default();
    Ok((sender, LinkReceiver { socket: watched, incoming, broken: None }))
}

/// The sending half. Clones share one queue.
///
/// When the last clone is dropped, what is queued is still sent.
#[derive(Clone, Debug)]
pub(crate) struct LinkSender {
    pipe: Pipe,
    socket: Arc<OwnedFd>,
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
    pub(crate) fn send(
        &self,
        message: Message,
        descriptors: Vec<Arc<OwnedFd>>,
    ) -> Work<'_, Result<()>> {
        Box::pin(async move {
            let (written, done) = oneshot::channel();
            let mut frame = Outgoing::new(&message, descriptors, Some(written))?;
            loop {
                let room = self.pipe.room();
                match self.pipe.push(frame) {
                    Ok(()) => break,
                    Err(Refused::Broken) => return Err(self.refusal(&message)),
                    Err(Refused::Full(back)) => frame = *back,
                }
                room.await;
            }
            done.await.map_err(|_| self.refusal(&message))
        })
    }

    /// Queues a message without descriptors and does not wait.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send); and the queue is full, because the other side does not read.
    pub(crate) fn post(&self, message: Message) -> Result<()> {
        let frame = Outgoing::new(&message, Vec::new(), None)?;
        self.pipe.push(frame).map_err(|refused| match refused {
            Refused::Broken => self.refusal(&message),
            Refused::Full(_) => Error::new(
                ErrorKind::Link,
                format!(
                    "link: {QUEUE} messages wait for the other side, which does not read; \
                     {:?} is not sent",
                    message.name()
                ),
            ),
        })
    }

    /// Whether nothing could be sent because the other side has closed its end of the socket.
    pub(crate) fn is_deserted(&self) -> bool {
        self.pipe.broken().is_some_and(|reason| {
            matches!(reason.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
        })
    }

    /// The socket, to hand the link itself on.
    pub(crate) fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket)
    }

    fn refusal(&self, message: &Message) -> Error {
        let error = Error::new(ErrorKind::Link, format!("link: send {:?}", message.name()));
        match self.pipe.broken() {
            Some(reason) => error.with_source(reason),
            None => error.with_source("the runtime that the link lives in has ended"),
        }
    }
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct LinkReceiver {
    socket: Watched,
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
        let Self { socket, incoming, .. } = self;
        poll_fn(|cx| {
            socket.poll_read(cx, |fd, closed| {
                // Known before the bytes are looked at: then those that are there are the last.
                let more = if closed { More::Never } else { More::MayCome };
                match incoming.step(fd.as_fd(), more) {
                    Err(Fault::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                        Err(error)
                    }
                    step => Ok(step),
                }
            })
        })
        .await?
    }
}
