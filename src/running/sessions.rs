//! Sessions that go on in the next generation.

use std::ops::RangeInclusive;

use super::Running;
use crate::error::Result;
#[cfg(feature = "http")]
use crate::session::Sessions;
use crate::session::{NotMoved, Session, handler};

impl Running {
    /// For a wing, which moves what it serves.
    #[cfg(feature = "http")]
    pub(crate) fn sessions(&self) -> Sessions {
        self.shared.sessions.clone()
    }

    /// Whether a successor may take sessions now: from the commit of an upgrade on, until it hands
    /// over itself, stops or dies.
    #[must_use]
    pub fn can_hand_off(&self) -> bool {
        self.shared.sessions.can_move()
    }

    /// Hands a session over to the successor, which goes on with it: the client notices nothing.
    /// Returns when that is settled. There is a successor once an upgrade has committed, that is,
    /// from [`DrainPhase::LameDuck`](crate::DrainPhase::LameDuck) on; [`Session`] shows how a
    /// connection waits for that.
    ///
    /// All that was written must have been flushed, and all that was read ahead be
    /// [put back](Session::unread). From here on this side reads nothing of it, and the successor's
    /// handler begins only when its acknowledgement is on its way; the connection counts as
    /// [moved](crate::DrainReport::moved) then. State and read-ahead may be 16 MiB together.
    ///
    /// Thousands may be handed over at once: they travel in batches, at most 1 008 in doubt.
    ///
    /// # Errors
    ///
    /// [`NotMoved::Declined`] with the session as it was: there is no successor, nothing there
    /// takes this kind, version and listener, it has died before it took it, or it takes no more.
    /// [`NotMoved::Lost`] if it has not said within
    /// [`Config::session_deadline`](crate::Config::session_deadline) whether it takes it: the
    /// connection is closed on this side.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropped, the session moves all the same, or its connection is closed if
    /// the successor does not take it.
    pub async fn hand_off(&self, session: Session) -> Result<(), NotMoved> {
        self.shared.sessions.hand_off(session).await
    }

    /// Takes sessions of this kind, in these versions, from the predecessor: `serve` goes on with
    /// each in a task of its own, as for a connection that was accepted. The last closure that fits
    /// is asked.
    ///
    /// Sessions come from the commit on. One for which there is no closure within 1 s of it is
    /// declined, and so are all others like it until there is one. What `serve` returns is dropped; like a handler of
    /// [`accept_loop`](Self::accept_loop) it is cut at the end of a drain.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the kind is not a valid
    /// [`Name`](crate::Name).
    pub fn on_session<F, Fut>(
        &self,
        kind: &str,
        versions: RangeInclusive<u32>,
        serve: F,
    ) -> Result<()>
    where
        F: Fn(Session) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Send> + Send + 'static,
    {
        let _for_good =
            self.shared.sessions.register(kind.parse()?, None, versions, handler(serve));
        Ok(())
    }
}
