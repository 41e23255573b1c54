//! An axum router as a server.

use std::convert::Infallible;
use std::fmt;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use hyper::Request;
use hyper::service::Service;
use tower_service::Service as _;

use super::{Body, Http, Make};

/// Serves an axum [`Router`], with [`ConnectInfo`] of the peer's address:
/// [`SocketAddr`](std::net::SocketAddr) on TCP,
/// [`unix::net::SocketAddr`](std::os::unix::net::SocketAddr) on Unix listeners.
///
/// ```no_run
/// use std::net::SocketAddr;
/// use axum::extract::ConnectInfo;
/// use axum::{Router, routing::get};
///
/// # fn serve(running: &heirloom::Running, listener: heirloom::TcpListener) {
/// let app = Router::new()
///     .route("/", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()));
/// running.serve(listener, heirloom::axum(app));
/// # }
/// ```
pub fn axum(router: Router) -> Http<App> {
    // The routes are put in order once and not for each connection.
    Http::new(App(router.with_state(())))
}

/// An axum router.
#[derive(Clone)]
pub struct App(Router);

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("App").finish()
    }
}

impl<A: Clone + Send + Sync + 'static> Make<A> for App {
    type RequestBody = Body;
    type ResponseBody = axum::body::Body;
    type Error = Infallible;
    type Service = Routes<A>;

    fn make(&self, peer: &A) -> Routes<A> {
        Routes { router: self.0.clone(), peer: peer.clone() }
    }
}

/// A router for one peer.
pub struct Routes<A> {
    router: Router,
    peer: A,
}

impl<A> fmt::Debug for Routes<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").finish_non_exhaustive()
    }
}

impl<A: Clone + Send + Sync + 'static> Service<Request<Body>> for Routes<A> {
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn call(&self, mut request: Request<Body>) -> Self::Future {
        request.extensions_mut().insert(ConnectInfo(self.peer.clone()));
        self.router.clone().call(request)
    }
}
