//! Connections that come from another process, between two requests.

use std::sync::Arc;

use socket2::SockRef;

use super::connection::resumed;
use super::handshake::Handshake;
use super::ledger::Ledger;
use super::make::Make;
use super::mover::{GivenBack, Parcel};
use super::server::Server;
use crate::listener::{Listener, Transport};

/// A served listener, as the place where connections arrive that its predecessor gives.
pub(crate) trait Landing: Send + Sync {
    /// Goes on with one. It comes back if this server cannot: it shakes hands first, or the socket
    /// is not what the listener accepts.
    fn land(&self, parcel: Parcel) -> Result<(), GivenBack>;
}

/// A served listener.
pub(crate) struct Site<T: Transport, M, H> {
    pub(crate) listener: Listener<T>,
    pub(super) server: Arc<Server<M, H>>,
}

impl<T, M, H> Landing for Site<T, M, H>
where
    T: Transport,
    T::Addr: 'static,
    M: Make<T::Addr>,
    H: Handshake<T::Stream>,
{
    fn land(&self, parcel: Parcel) -> Result<(), GivenBack> {
        let Some(carriage) = H::carriage() else { return Err(GivenBack(parcel)) };
        let peer = SockRef::from(&parcel.socket).peer_addr();
        let Ok((address, peer)) = peer.and_then(|text| Ok((text.as_socket(), T::peer(&text)?)))
        else {
            return Err(GivenBack(parcel));
        };
        let Parcel { socket, read_ahead, listener, fresh } = parcel;
        // A duplicate, so that the socket can be given back if the runtime does not take it.
        let stream = match socket.try_clone().and_then(carriage.on) {
            Ok(stream) => stream,
            Err(_) => return Err(GivenBack(Parcel { socket, read_ahead, listener, fresh })),
        };
        drop(socket);
        let guard = self
            .listener
            .core()
            .drain()
            .guard(self.listener.name(), address.map(|peer| peer.to_string()));
        let ledger = Ledger::new(guard, Arc::clone(&self.server.hooks));
        if !fresh {
            ledger.note_served();
        }
        let server = Arc::clone(&self.server);
        tokio::spawn(resumed(server, (stream, read_ahead), peer, ledger, carriage));
        Ok(())
    }
}
