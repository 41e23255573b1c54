//! A process that somebody else started and that asks for the turn, as the owner sees it.
//!
//! **Contract:** who it is the kernel says, as of its connect; and until it is
//! [welcomed](Taker::welcome) nothing of the service has gone to it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;

use super::access::Peer;
use super::frame::{self, ANSWER, NEWS};
use super::message::{Answer, Last, News};
use crate::error::{Error, ErrorKind, Result};
use crate::generation::Generation;
use crate::report::AskedBy;
use crate::spawn::Child;
use crate::sys::{pidfd, scm};
use crate::wire::Identity;

/// A connection that would become a link, with the process at its other end.
pub(crate) struct Taker {
    stream: UnixStream,
    peer: Peer,
    process: OwnedFd,
    program: Option<Identity>,
    /// It counts among the clients until it has its answer.
    _place: OwnedSemaphorePermit,
}

impl Taker {
    /// Whoever has connected, with what it says of its program.
    pub(super) fn new(
        stream: UnixStream,
        peer: Peer,
        process: OwnedFd,
        program: Option<Identity>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { stream, peer, process, program, _place: place }
    }

    /// Who that is, as the kernel says.
    pub(crate) fn asked_by(&self) -> AskedBy {
        AskedBy::Operator { uid: self.peer.uid, pid: self.peer.pid }
    }

    /// What it runs, if it said so.
    pub(crate) fn program(&self) -> Option<&Identity> {
        self.program.as_ref()
    }

    /// Whether this process could end it. Not if it is another user's, nor from a pid namespace
    /// that does not see it.
    pub(crate) fn may_be_ended(&self) -> bool {
        pidfd::signal(self.process.as_fd(), None).is_ok()
    }

    /// Whether it waits no more, or says more than it may.
    pub(crate) fn has_gone(&self) -> bool {
        // The end of the other side can be read, too.
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        // What cannot be looked at is found out when it is answered.
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// It has to wait for the upgrade that this generation runs.
    pub(crate) fn wait(&self, owner: Generation) {
        frame::send_at_once(&self.stream, NEWS, &News::Queued { owner });
    }

    /// It does not get the turn.
    pub(crate) fn refuse(self, error: Error) {
        crate::log::warn!(target: "heirloom::control", taker = %self, error = %error.chain(), "a takeover was refused");
        frame::send_at_once(&self.stream, ANSWER, &Last::from(Err(error)));
    }

    /// The handoff begins: its connection is a link from here on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Link`] if it has gone.
    pub(crate) fn welcome(self) -> Result<(Child, OwnedFd)> {
        let failed = |error: io::Error| {
            let text = "takeover: its connection cannot become a link";
            Error::new(ErrorKind::Link, text).with_source(error)
        };
        if self.has_gone() {
            let text = "takeover: it went away before its turn began";
            return Err(Error::new(ErrorKind::Link, text));
        }
        // Before its first word over the link: the kernel then says whose it is.
        scm::pass_credentials(self.stream.as_fd()).map_err(failed)?;
        let child = Child::from_elsewhere(self.process, self.peer.pid)?;
        frame::send_at_once(&self.stream, ANSWER, &Last::from(Ok(Answer::Turn)));
        Ok((child, self.stream.into_std().map_err(failed)?.into()))
    }
}

impl std::fmt::Display for Taker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Peer { pid, uid } = self.peer;
        match pid {
            0 => write!(f, "a process of another pid namespace (user {uid})"),
            pid => write!(f, "process {pid} (user {uid})"),
        }
    }
}

/// The process at the other end of a connection.
///
/// # Errors
///
/// [`ErrorKind::Credentials`] if it has ended, or the kernel is too old to name it here.
pub(super) fn process(socket: BorrowedFd<'_>, pid: i32) -> Result<OwnedFd> {
    let unknown = |why: &str, error: io::Error| {
        let text = format!("takeover: the process that connects cannot be held: {why}");
        Error::new(ErrorKind::Credentials, text).with_source(error)
    };
    match pidfd::of_peer(socket) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => match pid {
            0 => Err(unknown("from another pid namespace that takes Linux 6.5", error)),
            // The pid may be another's by now: its first word over the link, with the pid that it
            // has then, is compared with this.
            pid => pidfd::open(pid).map_err(|error| unknown("it has ended", error)),
        },
        found => found.map_err(|error| unknown("it has ended", error)),
    }
}
