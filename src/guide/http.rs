//! HTTP connections in a drain.
//!
//! [`Running::serve`](crate::Running::serve) serves a listener with what you have: an axum router,
//! tonic's routes, a tower or a hyper service. It needs no shutdown future, no tracker and no
//! signal: its connections know the drain by their guards.
//!
//! ```no_run
//! use std::process::ExitCode;
//! # #[cfg(feature = "axum")]
//! use axum::{Router, routing::get};
//!
//! # #[cfg(feature = "axum")]
//! fn main() -> ExitCode {
//!     heirloom::run(heirloom::Config::new("shop"), async |start| {
//!         let listener = start.tcp("http", "[::]:8080").await?;
//!         let running = start.ready().await?;
//!         let app = Router::new().route("/", get(async || "hello\n"));
//!         running.serve(listener, heirloom::axum(app));
//!         running.finished().await
//!     })
//! }
//! # #[cfg(not(feature = "axum"))]
//! # fn main() {}
//! ```
//!
//! # What each connection does
//!
//! | connection | lame duck | graceful | named as |
//! | --- | --- | --- | --- |
//! | HTTP/1.1, idle, plaintext, after an upgrade | moves to the successor: its client notices nothing | the same | `moves to the successor` |
//! | HTTP/1.1, busy, plaintext, after an upgrade | is answered, and moves then | the same | `streams a response`, … |
//! | HTTP/1.1, busy, where nobody takes it | the answer says `Connection: close`, and the connection ends with it | the same | `streams a response`, `waits for the application's answer`, … |
//! | HTTP/1.1, idle, where nobody takes it | stays open: its next request may be under way, and is answered | is closed once it has been silent for [`lame_duck`](crate::Config::lame_duck) | `idle between requests` |
//! | part of a head has arrived | moves with that part, where the successor takes it; else it is waited for, as long as [`header_timeout`](crate::http::Http::header_timeout) says | the same, and answered | `waits for the rest of a request's head` |
//! | nothing has arrived yet | moves, where the successor takes it; else it is waited for | the same, where nobody takes it as long as [`first_request`](crate::http::Http::first_request) says, and answered | `waits for a first request` |
//! | HTTP/2 | GOAWAY, ping, and once the client has answered and then been quiet, GOAWAY (RFC 9113, section 6.8): streams that are open or on the way finish, no more are opened. With [`drain_spread`](crate::Config::drain_spread) nothing yet | the same, one connection after the other | `2 streams open`, `has not acknowledged the GOAWAY` |
//! | TLS handshake | goes on | goes on | `TLS handshake` |
//! | upgraded (WebSocket) | nothing | your handler says goodbye | `upgraded: websocket` |
//!
//! At the drain's deadline whatever is left is dropped, and the
//! [`DrainReport`](crate::DrainReport) names it: `http "HTTP/1.1 GET /events" from 192.0.2.1:5000,
//! 34 s: streams a response`.
//!
//! A connection is never reset by us: our half is closed first, what the client still sends is read
//! and dropped, and the socket is closed when the client has closed its half, or after
//! [`linger`](crate::http::Http::linger).
//!
//! An idle connection that does not move can be lost to no answer only in one way: it was silent all
//! through the lame duck phase, and its client sends a request at the very moment of the close.
//! HTTP/1.1 has no word for that (RFC 9112, section 9.5); a longer lame duck makes it rarer.
//!
//! # Idle connections move
//!
//! From the commit of an upgrade on, a plaintext HTTP/1.1 connection on which nothing is in flight
//! goes on in the successor: the open socket is handed over, with the bytes that were read of it and
//! not used, a part of the next request's head for example. No connection is closed and none is
//! made. A busy one is answered first and moves then; its answers do not say `Connection: close`.
//! The drain's report counts it as [`moved`](crate::DrainReport::moved).
//!
//! It happens by itself if both releases serve the listener of that name by
//! [`Running::serve`](crate::Running::serve), over TCP or over a Unix socket. Where it does not,
//! connections drain as the table says:
//!
//! - TLS, HTTP/2 and upgraded streams never move: what only this process knows of them cannot be
//!   handed on. They end in order.
//! - A service that takes `Request<hyper::body::Incoming>` does not tell when it has read a body, so
//!   after such a request the connection ends with its answer.
//! - What a successor takes none of is logged once per listener, with its reason (`sessions stay`).
//! - [`Http::stay`](crate::http::Http::stay), in either release, keeps them where they are. So does
//!   a successor that shakes hands on that listener.
//! - A successor that serves the listener later than 1 s after the commit gets those that are still
//!   there by then.
//! - There is no successor at a stop.
//! - A successor that hands over itself, because the next upgrade follows at once, passes on what
//!   still comes, until its predecessor has given nothing for 500 ms, or for
//!   [`session_deadline`](crate::Config::session_deadline) if it has said that others wait. A
//!   connection that becomes idle in the predecessor later than that ends there, as the table says.
//! - Beyond [`max_draining`](crate::Config::max_draining) generations the oldest is hurried: what is
//!   in flight there is cut, but not before its drain is 1 s old, nor before all that wait for their
//!   turn have moved, however many they are.
//! - At the drain's deadline whoever still waits is cut.
//!
//! **A request that arrives meanwhile is answered by one side, once.** This side reads nothing of a
//! connection that is on its way, so what arrives lies in the kernel for whoever goes on with it.
//! The successor reads only after its acknowledgement is on its way. Until then the predecessor keeps
//! the connection, and goes on with it if the successor declines or is known to have died. Only if
//! the successor lives and leaves it open for [`session_deadline`](crate::Config::session_deadline)
//! whether it took it does this side close its copy for good. A connection whose predecessor is
//! killed on the way is served by the successor if it got there.
//!
//! **In bulk.** Connections wait for their turn while they are served. One of each listener goes
//! ahead, to see whether the successor takes such connections at all; then at most 1 008 are on
//! their way at once, in batches of up to 252. So thousands of idle connections do not delay the
//! answers on those that are in use. Each connection needs a descriptor in both processes while it
//! is on its way, and one in the successor afterwards: `RLIMIT_NOFILE` has to allow for that; what
//! the successor cannot open stays.
//!
//! A half of a request's head that moves gets [`header_timeout`](crate::http::Http::header_timeout)
//! anew from the moment it arrives: who sends a head slowly may take longer across upgrades.
//!
//! What the application remembers of a connection, in a service made for it or in extensions of its
//! own, does not move: the successor makes its own, as for a connection that was just accepted.
//!
//! # Streams that do not end
//!
//! A WebSocket, a stream of server-sent events or a long poll ends by itself or at the deadline. To
//! end it well, take the connection's [`Guard`](crate::Guard) from the request's extensions, and
//! wait for [`Graceful`](crate::DrainPhase::Graceful). With
//! [`drain_spread`](crate::Config::drain_spread) not all are told at once, so not all come back at
//! once.
//!
//! ```no_run
//! # #[cfg(feature = "axum")] {
//! use axum::Extension;
//! use axum::extract::ws::{CloseFrame, Message, WebSocketUpgrade, close_code};
//! use axum::response::Response;
//! use heirloom::{DrainPhase, Guard};
//!
//! async fn echo(upgrade: WebSocketUpgrade, Extension(guard): Extension<Guard>) -> Response {
//!     upgrade.on_upgrade(async move |mut socket| {
//!         loop {
//!             tokio::select! {
//!                 () = guard.reached(DrainPhase::Graceful) => {
//!                     let reason = "the service restarts".into();
//!                     let frame = CloseFrame { code: close_code::RESTART, reason };
//!                     let _ = socket.send(Message::Close(Some(frame))).await;
//!                     return;
//!                 }
//!                 message = socket.recv() => match message {
//!                     Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
//!                         if socket.send(message).await.is_err() {
//!                             return;
//!                         }
//!                     }
//!                     Some(Ok(_)) => {}
//!                     Some(Err(_)) | None => return,
//!                 },
//!             }
//!         }
//!     })
//! }
//! # let _ = axum::routing::get::<_, _, ()>(echo);
//! # }
//! ```
//!
//! The drain waits for an upgraded stream for as long as the stream itself lives; the handler need
//! not hold the guard for that. At the deadline its reads and writes fail.
//!
//! # Clients that close their side, and clients that have gone
//!
//! A client may close its side right behind its last request and wait for the answer (RFC 9112,
//! section 9.6): `nc -N` does, and old tools for HTTP/1.0. It gets its answer, in a drain and after
//! a move as ever. But a client that has gone away looks the same until something is sent to it. So
//! the request goes on for [`half_close_timeout`](crate::http::Http::half_close_timeout) (5 s), and
//! anew from each part of the answer that can be sent; then its handler is dropped, and that ends a
//! long poll, or a query that nobody waits for any more. An upload that breaks off in its middle
//! fails for its handler after the same time. Zero drops a request at once, as hyper does by itself.
//! `half_close(true)` by [`configure_http1`](crate::http::Http::configure_http1) never drops it: then
//! a client that has gone is noticed when its answer is written, and no earlier.
//!
//! # TLS
//!
//! [`Http::tls`](crate::http::Http::tls) takes any acceptor. A handshake that is half done when the
//! drain begins is finished, and its first request answered.
//!
//! # Answers that count
//!
//! [`Http::on_answer`](crate::http::Http::on_answer) sees the status of each answer, for metrics.
