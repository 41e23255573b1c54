//! What the application asks the service's task for.

use std::path::PathBuf;

use tokio::sync::oneshot;

use super::{Hold, ended};
use crate::control::{Started, Taker};
use crate::error::{Error, ErrorKind, Result};
use crate::generation::Generation;
use crate::handoff::adoption::Wanted;
use crate::pid_file::Prepared;
use crate::report::{AskedBy, Report};

/// Where the answer to a wish for an upgrade goes.
pub(crate) type Reply = oneshot::Sender<Result<Report>>;

/// What the application asks for.
pub(crate) enum Command {
    /// It is ready; the PID file's temporary has been written.
    Ready(Option<Prepared>),
    /// It failed before its end, with this text.
    Failed(String),
    /// The next generation is to be started.
    Upgrade(Wish),
    /// Whether new connections are taken.
    Hold(Hold),
    /// The successor that is watched has proven itself.
    Approve(Reply),
    /// The program before this one is to run again: an upgrade that runs is ended, else the
    /// previous program is started. If `of` is given, only if that is the newest release.
    RollBack { of: Option<Generation>, by: AskedBy, reply: Reply },
    /// The upgrade that runs is not wanted, and why.
    Reject { reason: String, reply: Reply },
    /// It starts, and waits for this.
    NotYet(String),
    /// It is not well, and why: a predecessor shall take the turn back.
    Unhealthy { reason: String, reply: oneshot::Sender<Result<()>> },
    /// It wants a state of the predecessor.
    Take(Wanted),
    /// A process that somebody else has started would be the next generation.
    TakeOver(Box<Taker>),
    /// Drain and end.
    Stop(Urgency),
}

/// What a wish to stop means if there was one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// The same.
    Once,
    /// What is left is cut, as by a second signal.
    Counted,
    /// What is left is cut, whether there was one or not.
    Force,
}

impl Urgency {
    /// Whether this cuts what is left.
    pub(super) fn hurries(self, asked_before: bool) -> bool {
        match self {
            Self::Once => false,
            Self::Counted => asked_before,
            Self::Force => true,
        }
    }
}

/// A wish for an upgrade.
pub(crate) struct Wish {
    /// Is told how it ends.
    pub reply: Reply,
    /// Is told when it has begun, or is remembered.
    pub taken: Option<oneshot::Sender<Started>>,
    /// Whether it is remembered while another upgrade runs.
    pub queue: bool,
    /// Instead of the program that would be started.
    pub executable: Option<PathBuf>,
    /// Whose wish it is.
    pub by: AskedBy,
}

impl Wish {
    /// Whether a generation that owns no more sends it on. A client of the control socket asks the
    /// owner itself then, and what may not wait, or names a program, means this generation.
    pub(super) fn travels(&self) -> bool {
        self.taken.is_none() && self.queue && self.executable.is_none()
    }
}

/// A command that means nothing to a generation which does not own, or stops.
pub(super) fn refuse(command: Command, why: &str) {
    // Whoever asked may have stopped waiting.
    let error = || Error::new(ErrorKind::NotNow, why);
    match command {
        Command::Upgrade(wish) => _ = wish.reply.send(Err(ended())),
        Command::Hold(hold) => hold.refuse(error()),
        Command::Approve(reply)
        | Command::RollBack { reply, .. }
        | Command::Reject { reply, .. } => {
            let _ = reply.send(Err(error()));
        }
        Command::Unhealthy { reply, .. } => _ = reply.send(Err(error())),
        Command::Take(wanted) => _ = wanted.reply.send(Err(error())),
        Command::TakeOver(taker) => taker.refuse(passed_on()),
        Command::Ready(_) | Command::Failed(_) | Command::NotYet(_) | Command::Stop(_) => {}
    }
}

/// Everyone who waits for the same is told.
pub(super) fn answer(replies: Vec<Reply>, result: impl Fn() -> Result<Report>) {
    for reply in replies {
        // Whoever asked may have stopped waiting.
        let _ = reply.send(result());
    }
}

/// What somebody who wants the turn is told who came too late for it.
pub(super) fn passed_on() -> Error {
    Error::new(ErrorKind::PassedOn, "another generation owns now: ask again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wish_that_nobody_repeats_is_sent_on() {
        let wish = |taken, queue, executable| {
            let reply = oneshot::channel().0;
            Wish { reply, taken, queue, executable, by: AskedBy::Application }.travels()
        };
        assert!(wish(None, true, None));
        assert!(!wish(Some(oneshot::channel().0), true, None), "its client asks again");
        assert!(!wish(None, false, None), "it would be queued there");
        assert!(!wish(None, true, Some(PathBuf::from("/bin/other"))), "another program would run");
    }
}
