//! Connections that come from another process, between two requests.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use super::connection::resumed;
use super::handshake::Handshake;
use super::ledger::Ledger;
use super::make::Make;
use super::moving::said_of;
use super::server::Server;
use crate::listener::{Listener, Transport};
use crate::session::Session;

/// The life of a connection that has come.
pub(crate) type Landed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A served listener, as the place where connections arrive that its predecessor gives.
pub(crate) trait Landing: Send + Sync {
    /// Goes on with one.
    fn land(&self, session: Session) -> Landed;
}

/// A served listener.
pub(crate) struct Site<T: Transport, M, H> {
    server: Arc<Server<M, H>>,
    accepts: PhantomData<fn() -> T>,
}

impl<T: Transport, M, H> Site<T, M, H> {
    /// For connections like those that the listener accepts.
    pub(super) fn new(_accepts: &Listener<T>, server: &Arc<Server<M, H>>) -> Self {
        Self { server: Arc::clone(server), accepts: PhantomData }
    }
}

impl<T, M, H> Landing for Site<T, M, H>
where
    T: Transport,
    T::Addr: 'static,
    M: Make<T::Addr>,
    H: Handshake<T::Stream>,
{
    fn land(&self, session: Session) -> Landed {
        let (ahead, fresh) = said_of(&session);
        let (stream, guard, _) = session.into_parts();
        // Where hands are shaken nothing is registered, and every kind of stream has its own name.
        let carriage = H::carriage();
        let Some((stream, carriage)) =
            carriage.and_then(|carriage| Some(((carriage.on)(stream)?, carriage)))
        else {
            crate::log::error!("a connection that cannot be served here was closed");
            return Box::pin(std::future::ready(()));
        };
        // Without a peer it has been reset: there is nobody to answer.
        let peer = (carriage.peer)(&stream).and_then(|address| T::peer(&address));
        let Ok(peer) = peer else { return Box::pin(std::future::ready(())) };
        let ledger = Ledger::new(guard, Arc::clone(&self.server.hooks));
        if !fresh {
            ledger.note_served();
        }
        let server = Arc::clone(&self.server);
        Box::pin(resumed(server, (stream, ahead), peer, ledger, carriage))
    }
}
