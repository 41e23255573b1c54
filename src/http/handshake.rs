//! What comes between accepting a connection and its first request: nothing, or TLS.

use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::mover::{Carriage, Plaintext};

/// Makes of an accepted stream the one that HTTP is spoken on.
///
/// Any `async` closure or function from a stream to an [`io::Result`] of another is one; for TLS it
/// is the acceptor of the library of your choice ([`Http::tls`](super::Http::tls)).
pub trait Handshake<S>: Send + Sync + 'static {
    /// What HTTP is spoken on.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Shakes hands. The future is dropped when the time for it is over.
    fn shake(&self, stream: S) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    #[doc(hidden)]
    fn carriage() -> Option<Carriage<Self::Stream>> {
        None
    }
}

impl<S, F, Fut, T> Handshake<S> for F
where
    F: Fn(S) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<T>> + Send,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = T;

    fn shake(&self, stream: S) -> impl Future<Output = io::Result<T>> + Send {
        self(stream)
    }
}

/// No handshake: HTTP is spoken on the stream as it was accepted.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Plain;

impl<S> Handshake<S> for Plain
where
    S: Plaintext + AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = S;

    async fn shake(&self, stream: S) -> io::Result<S> {
        Ok(stream)
    }

    fn carriage() -> Option<Carriage<S>> {
        Some(Carriage::new())
    }
}
