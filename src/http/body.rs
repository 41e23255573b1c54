//! The body of a request, and who notices when it has been read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::ledger::Ledger;

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Body {}
    impl Sealed for hyper::body::Incoming {}
}

/// The body of a request.
///
/// It is hyper's [`Incoming`] and behaves like it. It also tells the connection when it has been
/// read to its end, so that the connection is known to be idle afterwards; a service that takes
/// `Request<Incoming>` works as well, but the connection of a request with a body then counts as
/// idle only after its next request without one.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    open: Option<Open>,
}

/// A body that has not been read to its end.
struct Open {
    ledger: Arc<Ledger>,
    number: usize,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Open").field(&self.number).finish()
    }
}

/// What a service may take as a request's body: [`Body`], or hyper's own [`Incoming`]. Sealed.
pub trait RequestBody: sealed::Sealed + Send + 'static {
    /// Whether it tells when it has been read.
    #[doc(hidden)]
    const TELLS: bool;
    #[doc(hidden)]
    fn of(incoming: Incoming, noted: &Noted<'_>) -> Self;
}

/// Where a body says that it has been read.
#[doc(hidden)]
pub struct Noted<'a>(pub(super) &'a Arc<Ledger>);

impl RequestBody for Body {
    const TELLS: bool = true;

    fn of(incoming: Incoming, Noted(ledger): &Noted<'_>) -> Self {
        let open = (!incoming.is_end_stream())
            .then(|| Open { number: ledger.open_body(), ledger: Arc::clone(ledger) });
        Self { incoming, open }
    }
}

impl RequestBody for Incoming {
    const TELLS: bool = false;

    fn of(incoming: Incoming, Noted(ledger): &Noted<'_>) -> Self {
        if !incoming.is_end_stream() {
            ledger.open_untold_body();
        }
        incoming
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        // After an error hyper reads no further, and closes the connection.
        let ended = frame.is_none() || self.incoming.is_end_stream();
        if ended && let Some(open) = self.open.take() {
            open.ledger.close_body(open.number);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            open.ledger.abandon_body(open.number);
        }
    }
}
