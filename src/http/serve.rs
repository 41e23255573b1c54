//! Serving a listener.

use std::sync::Arc;

use tokio::net::{TcpStream, UnixStream};

use super::Http;
use super::body::RequestBody;
use super::connection::accepted;
use super::handshake::Handshake;
use super::landing::Site;
use super::make::Make;
use super::mover::{Mover, Plaintext};
use super::moving::{self, ToSuccessor};
use super::server::{Hooks, Server};
use crate::drain::{DrainPhase, DrainSettings};
use crate::listener::{Listener, Transport};
use crate::requests::Requests;
use crate::running::Running;

impl Running {
    /// Serves HTTP on `listener` for as long as there is something to accept: HTTP/1.1, HTTP/2 and
    /// upgrades, told apart by what the client says first.
    ///
    /// Any number of listeners may be served, also with clones of one service. Like
    /// [`accept_loop`](Self::accept_loop) it pauses and goes on by itself when the turn changes
    /// hands, and returns at once: the connections live in tasks of their own.
    ///
    /// How its connections go in a drain is told in [the guide](crate::guide::http).
    ///
    /// ```no_run
    /// use axum::{Router, routing::get};
    ///
    /// # async fn serve(start: heirloom::Starting) -> heirloom::Result<()> {
    /// let app = Router::new().route("/", get(async || "hello\n"));
    /// let listener = start.tcp("http", "[::]:8080").await?;
    /// let running = start.ready().await?;
    /// # #[cfg(feature = "axum")]
    /// running.serve(listener, heirloom::axum(app));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn serve<T, M, H>(&self, listener: Listener<T>, server: Http<M, H>)
    where
        T: Transport,
        T::Addr: 'static,
        M: Make<T::Addr>,
        H: Handshake<T::Stream>,
    {
        let (sessions, name) = (self.sessions(), listener.name());
        let kind = H::carriage().map(|carriage| carriage.kind).filter(|_| !server.settings.stay);
        let mover = kind.and_then(|kind| ToSuccessor::new(&sessions, kind, name));
        let mover = mover.map(|mover| Arc::new(mover) as Arc<dyn Mover>);
        let server =
            Arc::new(server.into_server(&self.config().drain, Some(self.requests()), mover));
        let serves: Vec<_> = match kind {
            Some(kind) => {
                let site = Arc::new(Site::new(&listener, &server));
                moving::land(&sessions, kind, name, site).into_iter().collect()
            }
            // Whatever the predecessor accepts there, plaintext over TCP or over a Unix socket.
            None => [TcpStream::KIND, UnixStream::KIND]
                .iter()
                .filter_map(|kind| moving::leave(&sessions, kind, name))
                .collect(),
        };
        tokio::spawn(async move {
            run(listener, server).await;
            drop(serves);
        });
    }
}

impl<M, H> Http<M, H> {
    /// What the connections of this server have in common.
    pub(super) fn into_server<A>(
        self,
        drain: &DrainSettings,
        requests: Option<Requests>,
        mover: Option<Arc<dyn Mover>>,
    ) -> Server<M, H>
    where
        M: Make<A>,
    {
        let Self { make, handshake, mut settings } = self;
        if !M::RequestBody::TELLS {
            // Nobody but hyper knows when the head of the next request begins.
            settings.http1.header_read_timeout(settings.header_timeout);
        }
        // With answers held back while requests wait, a flushed stream would not mean that hyper
        // holds nothing.
        settings.http1.pipeline_flush(false);
        let hooks = Arc::new(Hooks { on_answer: settings.on_answer.clone(), requests, mover });
        // Those who are told to go come back, elsewhere and at once.
        let goaway =
            if drain.spread.is_zero() { DrainPhase::LameDuck } else { DrainPhase::Graceful };
        Server { make, handshake, settings, hooks, lame_duck: drain.lame_duck, goaway }
    }
}

/// Accepts until there is nothing to accept any more.
pub(super) async fn run<T, M, H>(listener: Listener<T>, server: Arc<Server<M, H>>)
where
    T: Transport,
    T::Addr: 'static,
    M: Make<T::Addr>,
    H: Handshake<T::Stream>,
{
    loop {
        match listener.accept().await {
            Ok(Some(connection)) => {
                let peer = connection.peer_addr().clone();
                let (stream, guard) = connection.into_parts();
                tokio::spawn(accepted(Arc::clone(&server), stream, peer, guard));
            }
            Ok(None) => return,
            Err(error) => {
                crate::log::error!(listener = %listener.name(), error = %error.chain(), "the listener cannot accept any more");
                return;
            }
        }
    }
}
