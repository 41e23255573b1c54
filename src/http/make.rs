//! What serves one connection.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;

use hyper::service::Service;
use hyper::{Request, Response};

use super::body::RequestBody;

/// Any error, as hyper takes it.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// Makes the service of each connection, and knows its peer. Made by [`http`](fn@super::http) and
/// its siblings.
pub trait Make<A>: Send + Sync + 'static {
    #[doc(hidden)]
    type RequestBody: RequestBody;
    #[doc(hidden)]
    type ResponseBody: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
    #[doc(hidden)]
    type Error: Into<BoxError>;
    #[doc(hidden)]
    type Service: Service<
            Request<Self::RequestBody>,
            Response = Response<Self::ResponseBody>,
            Error = Self::Error,
            Future: Send + 'static,
        > + Send
        + 'static;

    #[doc(hidden)]
    fn make(&self, peer: &A) -> Self::Service;
}

/// One service, cloned for each connection.
pub struct Shared<S, B> {
    service: S,
    body: PhantomData<fn() -> B>,
}

impl<S, B> Shared<S, B> {
    pub(super) fn new(service: S) -> Self {
        Self { service, body: PhantomData }
    }
}

impl<S, B> fmt::Debug for Shared<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl<S, B, R, A> Make<A> for Shared<S, B>
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static,
    B: RequestBody,
    R: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type RequestBody = B;
    type ResponseBody = R;
    type Error = S::Error;
    type Service = S;

    fn make(&self, _: &A) -> S {
        self.service.clone()
    }
}
