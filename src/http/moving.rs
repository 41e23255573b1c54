//! Idle connections as sessions: how they leave for the successor, and how they come.

use std::sync::Arc;

use bytes::Bytes;

use super::landing::Landing;
use super::mover::{GivenBack, Mover, Parcel, Taking, Turning};
use crate::name::Name;
use crate::session::{About, Key, NotMoved, Registered, Session, Sessions, Turn, handler};

/// The version of what is said of a connection: one byte, 1 if it has not had a request yet.
const VERSION: u32 = 1;

/// The way to the successor for the connections of one listener.
pub(super) struct ToSuccessor {
    sessions: Sessions,
    kind: Name,
    key: Key,
}

impl ToSuccessor {
    /// None if sessions have no such name, which is a constant.
    pub(super) fn new(sessions: &Sessions, kind: &str, listener: &Name) -> Option<Self> {
        let kind: Name = kind.parse().ok()?;
        let key = Key::new(&kind, VERSION, listener);
        Some(Self { sessions: sessions.clone(), kind, key })
    }
}

impl Mover for ToSuccessor {
    fn is_open(&self) -> bool {
        self.sessions.may_take(&self.key)
    }

    fn turn(&self) -> Turning {
        Box::pin(self.sessions.turn(&self.key))
    }

    fn take(&self, parcel: Parcel, turn: Turn) -> Taking<'_> {
        Box::pin(async move {
            let Parcel { socket, read_ahead, fresh, guard } = parcel;
            let mut about = About::new(self.kind.clone(), VERSION, guard);
            about.state = vec![u8::from(fresh)];
            about.ahead = read_ahead.into();
            match self.sessions.hand_off_socket(about, socket).await {
                Ok(()) => {
                    turn.taken();
                    Ok(())
                }
                Err(NotMoved::Declined { session, .. }) => {
                    let (stream, _, ahead) = session.into_parts();
                    Err(GivenBack { stream, read_ahead: ahead.into() })
                }
                // Nobody can go on with it here, so there is nothing to give back. Its guard knows.
                Err(NotMoved::Lost { reason }) => {
                    crate::log::warn!(reason, "an idle connection was closed on its way");
                    Ok(())
                }
            }
        })
    }
}

/// Connections of this listener that the predecessor gives go on here, for as long as the answer
/// lives.
pub(super) fn land(
    sessions: &Sessions,
    kind: &str,
    listener: &Name,
    site: Arc<dyn Landing>,
) -> Option<Serves> {
    let kind = kind.parse().ok()?;
    let lands = handler(move |session| site.land(session));
    let registered = sessions.register(kind, Some(listener.clone()), VERSION..=VERSION, lands);
    Some(Serves { sessions: sessions.clone(), registered: Some(registered) })
}

/// Connections of this listener stay with the predecessor, which is told so at once, for as long as
/// the answer lives.
pub(super) fn leave(sessions: &Sessions, kind: &str, listener: &Name) -> Option<Serves> {
    let registered = sessions.leave(kind.parse().ok()?, listener.clone());
    Some(Serves { sessions: sessions.clone(), registered: Some(registered) })
}

/// A server's word on what becomes of the predecessor's connections.
#[must_use = "dropped, it does not hold any more"]
pub(super) struct Serves {
    sessions: Sessions,
    registered: Option<Registered>,
}

impl Drop for Serves {
    fn drop(&mut self) {
        if let Some(registered) = self.registered.take() {
            self.sessions.unregister(registered);
        }
    }
}

/// What the predecessor says of a connection: what it has read, and whether it is fresh.
pub(super) fn said_of(session: &Session) -> (Bytes, bool) {
    (Bytes::copy_from_slice(session.read_ahead()), session.state() == [1])
}
