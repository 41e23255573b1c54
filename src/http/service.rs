//! The service of one connection, as hyper gets it: the application's, with an eye on it.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::service::Service;
use hyper::{Request, Response, StatusCode};
use pin_project_lite::pin_project;

use super::body::{Noted, RequestBody};
use super::label;
use super::ledger::{Ledger, Pending};

/// A service that notes in the [`Ledger`] which requests are under way, and that says
/// `Connection: close` when it is time.
pub(super) struct Tracked<S, B> {
    service: S,
    ledger: Arc<Ledger>,
    body: PhantomData<fn() -> B>,
}

impl<S, B> Tracked<S, B> {
    pub(super) fn new(service: S, ledger: Arc<Ledger>) -> Self {
        Self { service, ledger, body: PhantomData }
    }
}

impl<S, B, R> Service<Request<Incoming>> for Tracked<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: RequestBody,
    R: Body,
{
    type Response = Response<Answer<R>>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let pending = self.ledger.begin(&request);
        let mut request = request.map(|incoming| B::of(incoming, &Noted(&self.ledger)));
        request.extensions_mut().insert(self.ledger.guard.clone());
        Answering { future: self.service.call(request), pending: Some(pending) }
    }
}

pin_project! {
    /// The answer to one request, until it begins.
    pub(super) struct Answering<F> {
        #[pin]
        future: F,
        pending: Option<Pending>,
    }
}

impl<F, R, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<Answer<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match ready!(this.future.poll(cx)) {
            Ok(response) => response,
            Err(error) => {
                if let Some(pending) = this.pending {
                    pending.responded(StatusCode::INTERNAL_SERVER_ERROR);
                }
                return Poll::Ready(Err(error));
            }
        };
        if let Some(pending) = this.pending {
            pending.responded(response.status());
            prepare(&mut response, pending);
        }
        let pending = this.pending.take();
        Poll::Ready(Ok(response.map(|body| Answer { body, pending })))
    }
}

/// HTTP/1: the last word about the connection is said when the answer is ready, not when the
/// request came, since a drain may have begun meanwhile.
fn prepare<R>(response: &mut Response<R>, pending: &Pending) {
    let ledger = pending.ledger();
    if ledger.speaks_http2() {
        return;
    }
    let tunnel = pending.is_connect() && response.status().is_success();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS || tunnel {
        ledger.note_upgrading();
        label::upgraded(ledger, response.headers().get(UPGRADE));
    } else if ledger.says_close() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

pin_project! {
    /// The body of an answer; the request is over when it is dropped.
    pub(super) struct Answer<R> {
        #[pin]
        body: R,
        pending: Option<Pending>,
    }
}

impl<R: Body> Body for Answer<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
