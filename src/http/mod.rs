//! HTTP on our listeners: HTTP/1.1, HTTP/2 and upgrades, with a drain that loses nothing.
//!
//! [`Running::serve`](crate::Running::serve) takes a listener and a server, and a server is made
//! from what you have: an axum router by [`axum`](fn@crate::axum), tonic's routes by
//! [`tonic`](fn@crate::tonic), a hyper service by [`http`](fn@http), a tower service by [`tower`].
//! The defaults are for the open internet; [`Http`] has the settings, and hyper's own builders.
//!
//! ```no_run
//! use std::convert::Infallible;
//! use std::process::ExitCode;
//! use heirloom::{Config, http::Body};
//! use hyper::{Request, Response, service::service_fn};
//!
//! fn main() -> ExitCode {
//!     heirloom::run(Config::new("hello"), async |start| {
//!         let listener = start.tcp("http", "[::]:8080").await?;
//!         let running = start.ready().await?;
//!         let hello = service_fn(async |_: Request<Body>| {
//!             Ok::<_, Infallible>(Response::new(String::from("hello\n")))
//!         });
//!         running.serve(listener, heirloom::http(hello));
//!         running.finished().await
//!     })
//! }
//! ```
//!
//! A handler finds the connection's [`Guard`](crate::Guard) in the extensions of its request: what
//! lasts longer than a request (an upgraded stream, a stream of events) waits for
//! [`Graceful`](crate::DrainPhase::Graceful) with it, and ends. [The guide](crate::guide::http)
//! tells how each kind of connection goes in a drain.

mod body;
mod connection;
mod drive;
mod farewell;
mod handshake;
mod http1;
mod http2;
mod io;
mod label;
mod landing;
mod ledger;
mod make;
mod mover;
mod moving;
mod pong;
#[cfg(feature = "axum")]
mod readiness;
mod serve;
mod server;
mod service;
#[cfg(test)]
mod tests;
mod timer;
#[cfg(feature = "axum")]
mod with_axum;
#[cfg(feature = "tonic")]
mod with_tonic;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::server::conn::{http1 as hyper1, http2 as hyper2};
use hyper_util::rt::TokioExecutor;
use hyper_util::service::TowerToHyperService;

pub use self::body::{Body, RequestBody};
pub use self::handshake::{Handshake, Plain};
pub use self::make::{Make, Shared};
#[cfg(feature = "axum")]
pub use self::readiness::readiness_route;
use self::server::Settings;
#[cfg(feature = "axum")]
pub use self::with_axum::{App, Routes, axum};
#[cfg(feature = "tonic")]
pub use self::with_tonic::tonic;

/// An HTTP server: what it serves and how. [`Running::serve`](crate::Running::serve) gives it a
/// listener.
///
/// | time | setting | default |
/// | --- | --- | --- |
/// | a handshake | [`handshake_timeout`](Self::handshake_timeout) | 10 s |
/// | the head of a request, from its first byte; of the first one from the accept | [`header_timeout`](Self::header_timeout) | 30 s |
/// | an HTTP/1.1 connection between two requests | [`idle_timeout`](Self::idle_timeout) | no limit |
/// | the same, in a drain | [`Config::lame_duck`](crate::Config::lame_duck) | 500 ms |
/// | a first request, in a drain | [`first_request`](Self::first_request) | 5 s |
/// | the answer to a client that has closed its side, or has gone | [`half_close_timeout`](Self::half_close_timeout) | 5 s |
/// | the client's close, after ours | [`linger`](Self::linger) | 2 s |
#[derive(Clone)]
#[must_use = "a server does nothing until it gets a listener"]
pub struct Http<M, H = Plain> {
    make: M,
    handshake: H,
    settings: Settings,
}

/// Serves a hyper service, cloned for each connection. It takes `Request<Body>` with
/// [`Body`], or `Request<hyper::body::Incoming>`.
pub fn http<S, B>(service: S) -> Http<Shared<S, B>> {
    Http::new(Shared::new(service))
}

/// Serves a tower service, cloned for each request, as [`http`](fn@http) serves hyper's.
pub fn tower<S, B>(service: S) -> Http<Shared<TowerToHyperService<S>, B>> {
    http(TowerToHyperService::new(service))
}

impl<M> Http<M> {
    fn new(make: M) -> Self {
        Self { make, handshake: Plain, settings: Settings::default() }
    }

    /// Shakes hands first, with any acceptor: a closure from the accepted stream to the one that
    /// HTTP is spoken on. Whether that is HTTP/1.1 or HTTP/2 shows in what the client says first,
    /// so offer the protocols by ALPN that you want (`h2`, `http/1.1`).
    ///
    /// A handshake is in-flight work: it goes on through a drain, until
    /// [`handshake_timeout`](Self::handshake_timeout) or the drain's deadline.
    ///
    /// ```no_run
    /// # fn serve(
    /// #     running: &heirloom::Running,
    /// #     listener: heirloom::TcpListener,
    /// #     app: axum::Router,
    /// #     tls: std::sync::Arc<tokio_rustls::rustls::ServerConfig>,
    /// # ) {
    /// let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    /// # #[cfg(feature = "axum")]
    /// running.serve(listener, heirloom::axum(app).tls(move |stream| acceptor.accept(stream)));
    /// # }
    /// ```
    pub fn tls<H>(self, handshake: H) -> Http<M, H> {
        Http { make: self.make, handshake, settings: self.settings }
    }
}

impl<M, H> Http<M, H> {
    /// How long a handshake may take. Default 10 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handshake_timeout = timeout;
        self
    }

    /// How long the head of a request may take, from its first byte, and for the first request of
    /// a connection from the accept (or the handshake's end). Default 30 s.
    ///
    /// It also holds in a drain, where the drain's deadline may come first.
    pub fn header_timeout(mut self, timeout: Duration) -> Self {
        self.settings.header_timeout = timeout;
        self
    }

    /// How long an HTTP/1.1 connection may be idle between two requests. No limit by default.
    ///
    /// A client may send its next request at the moment of the close, and not know whether it was
    /// seen (RFC 9112, section 9.5): choose it longer than your clients keep idle connections.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = Some(timeout);
        self
    }

    /// How long a connection that has not sent anything may still take for its first request once
    /// the drain is [graceful](crate::DrainPhase::Graceful). Default 5 s; never longer than
    /// [`header_timeout`](Self::header_timeout).
    pub fn first_request(mut self, time: Duration) -> Self {
        self.settings.first_request = time;
        self
    }

    /// How long an HTTP/1.1 client that has closed its side still waits for the answer to what it
    /// has asked, counted from its close and anew from each part of the answer that can be sent.
    /// Default 5 s.
    ///
    /// A client may close its side right behind its last request and read on (RFC 9112, section
    /// 9.6), as `nc -N` does. One that has gone looks the same until something is sent to it. So
    /// within this time the request goes on; then its handler, or its answer's body, is dropped.
    /// With zero that happens at once. A connection that is reset or breaks ends its request at
    /// once in any case.
    pub fn half_close_timeout(mut self, timeout: Duration) -> Self {
        self.settings.half_close_timeout = timeout;
        self
    }

    /// How long a client gets to close its side after we have closed ours. Default 2 s.
    ///
    /// Whatever it sends meanwhile is read and dropped, so that no reset takes the end of the last
    /// answer with it.
    pub fn linger(mut self, time: Duration) -> Self {
        self.settings.linger = time;
        self
    }

    /// Idle connections stay with this generation when it drains, and are closed; none are taken
    /// from its predecessor. By default plaintext HTTP/1.1 connections move to the successor between
    /// two requests, if it serves the listener of the same name: the client notices nothing.
    /// [The guide](crate::guide::http#idle-connections-move) tells how.
    pub fn stay(mut self) -> Self {
        self.settings.stay = true;
        self
    }

    /// Calls `observe` with the status of each answer to a client as it begins, and with 500 for a
    /// service that fails without one. Error budgets need nothing of this: the wing counts each 5xx
    /// as a failed [request](crate::Requests), and any other answer as one that succeeded. It is
    /// called on the connection's task and must not block.
    pub fn on_answer(mut self, observe: impl Fn(StatusCode) + Send + Sync + 'static) -> Self {
        self.settings.on_answer = Some(Arc::new(observe));
        self
    }

    /// Everything else that hyper lets one set for HTTP/1. It has a timer.
    ///
    /// hyper's own `header_read_timeout` is off, see [`header_timeout`](Self::header_timeout);
    /// `pipeline_flush` stays off whatever is set here.
    pub fn configure_http1(mut self, configure: impl FnOnce(&mut hyper1::Builder)) -> Self {
        configure(&mut self.settings.http1);
        self
    }

    /// Everything that hyper lets one set for HTTP/2: windows, the number of streams, pings that
    /// keep a connection alive. It has a timer.
    pub fn configure_http2(
        mut self,
        configure: impl FnOnce(&mut hyper2::Builder<TokioExecutor>),
    ) -> Self {
        configure(&mut self.settings.http2);
        self
    }
}

impl<M, H> fmt::Debug for Http<M, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("Http")
            .field("handshake_timeout", &settings.handshake_timeout)
            .field("header_timeout", &settings.header_timeout)
            .field("idle_timeout", &settings.idle_timeout)
            .field("first_request", &settings.first_request)
            .field("half_close_timeout", &settings.half_close_timeout)
            .field("linger", &settings.linger)
            .finish_non_exhaustive()
    }
}
