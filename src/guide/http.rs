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
//! | HTTP/1.1, busy | the answer says `Connection: close`, and the connection ends with it | the same | `streams a response`, `waits for the application's answer`, … |
//! | HTTP/1.1, idle | stays open: its next request may be under way, and is answered | is closed once it has been silent for [`lame_duck`](crate::Config::lame_duck) | `idle between requests` |
//! | part of a head has arrived | is waited for | is waited for, and answered | `waits for the rest of a request's head` |
//! | nothing has arrived yet | is waited for | is waited for as long as [`first_request`](crate::http::Http::first_request) says, and answered | `waits for a first request` |
//! | HTTP/2 | GOAWAY, ping, GOAWAY (RFC 9113, section 6.8): streams that are open finish, none is opened | the same | `2 streams open`, `has not acknowledged the GOAWAY` |
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
//! An idle connection can be lost to no answer only in one way: it was silent all through the lame
//! duck phase, and its client sends a request at the very moment of the close. HTTP/1.1 has no word
//! for that (RFC 9112, section 9.5); a longer lame duck makes it rarer.
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
//! # TLS
//!
//! [`Http::tls`](crate::http::Http::tls) takes any acceptor. A handshake that is half done when the
//! drain begins is finished, and its first request answered.
//!
//! # Answers that count
//!
//! [`Http::on_answer`](crate::http::Http::on_answer) sees the status of each answer, for metrics.
