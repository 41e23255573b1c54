//! Servers that want the listener, or only its connections.
//!
//! **A framework that takes connections** is the easy case: one task for each from
//! [`Listener::accept`](crate::Listener::accept), or the stream from
//! [`Listener::incoming`](crate::Listener::incoming). A [`Conn`](crate::Conn) reads and writes like
//! its stream and carries the guard with it; [`Conn::map`](crate::Conn::map) puts TLS around it.
//!
//! **A framework with a shutdown future** is told when the drain begins, and holds a guard so that
//! the drain waits for it:
//!
//! ```no_run
//! use heirloom::{DrainPhase, Running, TcpListener};
//!
//! # async fn framework(
//! #     incoming: heirloom::Incoming<heirloom::Tcp>,
//! #     shutdown: impl Future<Output = ()>,
//! # ) { let _ = (incoming, shutdown); }
//! async fn serve(running: Running, http: TcpListener) -> heirloom::Result<()> {
//!     let guard = running.guard("framework")?;
//!     let shutdown = guard.clone();
//!     framework(http.incoming(), async move {
//!         shutdown.reached(DrainPhase::Graceful).await;
//!     })
//!     .await;
//!     drop(guard);
//!     Ok(())
//! }
//! # let _ = serve;
//! ```
//!
//! A framework that has shut down does not accept again if this generation comes to own once more
//! (every newer one died while it drained); accept loops do.
//!
//! **A framework that must own the listener** gets a duplicate of it. If it can be paused, implement
//! [`Pause`](crate::Pause) and call [`Listener::into_raw_with`](crate::Listener::into_raw_with):
//!
//! ```no_run
//! use std::io;
//! use heirloom::{Pause, TcpListener};
//! use tokio::sync::{mpsc, oneshot};
//!
//! /// Tells an accepting thread to pause, and waits until it says that it has.
//! struct Switch(mpsc::Sender<(bool, oneshot::Sender<()>)>);
//!
//! impl Switch {
//!     async fn turn(&self, accepting: bool) -> io::Result<()> {
//!         let gone = || io::Error::other("the acceptor has ended");
//!         let (done, acknowledged) = oneshot::channel();
//!         self.0.send((accepting, done)).await.map_err(|_| gone())?;
//!         acknowledged.await.map_err(|_| gone())
//!     }
//! }
//!
//! impl Pause for Switch {
//!     async fn pause(&mut self) -> io::Result<()> {
//!         self.turn(false).await
//!     }
//!
//!     async fn resume(&mut self) -> io::Result<()> {
//!         self.turn(true).await
//!     }
//! }
//!
//! fn hand_out(listener: TcpListener, switch: Switch) -> heirloom::Result<std::net::TcpListener> {
//!     listener.into_raw_with(switch)
//! }
//! # let _ = hand_out;
//! ```
//!
//! The pause has to be acknowledged truly: when it resolves, no accept may be in flight. If the
//! framework cannot do that, [`Listener::into_raw_overlap`](crate::Listener::into_raw_overlap) hands
//! the listener out for both generations to accept on during probation. The report says so.
//!
//! Either way the framework's connections have no guard: the drain does not know of them. Hold a
//! guard for the framework as above.
//!
//! # One by one
//!
//! Each of these is a few lines. The folder `glue/` of the repository has all of them as programs,
//! and tests that upgrade each under the load of clients which keep their connections.
//!
//! **axum**, as it is, by its trait for listeners (`glue/src/with_axum.rs`):
//!
//! ```no_run
//! use std::{future::pending, io, net::SocketAddr};
//! use heirloom::{DrainPhase, Running, TcpConn, TcpListener};
//!
//! struct Accept(TcpListener);
//!
//! impl axum::serve::Listener for Accept {
//!     type Io = TcpConn;
//!     type Addr = SocketAddr;
//!
//!     async fn accept(&mut self) -> (TcpConn, SocketAddr) {
//!         match self.0.accept().await {
//!             Ok(Some(conn)) => {
//!                 let peer = *conn.peer_addr();
//!                 (conn, peer)
//!             }
//!             // Nothing comes any more; the shutdown ends the wait.
//!             Ok(None) | Err(_) => pending().await,
//!         }
//!     }
//!
//!     fn local_addr(&self) -> io::Result<SocketAddr> {
//!         self.0.local_addr()
//!     }
//! }
//!
//! # async fn serve(
//! #     running: Running, listener: TcpListener, app: axum::Router,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let guard = running.guard("axum")?;
//! axum::serve(Accept(listener), app)
//!     .with_graceful_shutdown(async move { guard.reached(DrainPhase::Graceful).await })
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! **hyper-util**, in a loop of one's own (`glue/src/with_hyper_util.rs`):
//!
//! ```no_run
//! # use std::convert::Infallible;
//! # use heirloom::{DrainPhase, Running, TcpListener};
//! # use hyper::{Response, server::conn::http1, service::service_fn};
//! # use hyper_util::rt::TokioIo;
//! use hyper_util::server::graceful::GracefulShutdown;
//!
//! # async fn serve(
//! #     running: Running, listener: TcpListener,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let guard = running.guard("hyper-util")?;
//! let graceful = GracefulShutdown::new();
//! loop {
//!     let conn = tokio::select! {
//!         conn = listener.accept() => conn?,
//!         () = guard.reached(DrainPhase::Graceful) => None,
//!     };
//!     let Some(conn) = conn else { break };
//! #   let hello = service_fn(async |_| Ok::<_, Infallible>(Response::new(String::from("hello\n"))));
//!     let connection = http1::Builder::new().serve_connection(TokioIo::new(conn), hello);
//!     tokio::spawn(graceful.watch(connection));
//! }
//! graceful.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! **tokio-tungstenite** takes a [`Conn`](crate::Conn) as it is; its guard says when to close with
//! 1012, and stays in the stream (`glue/src/with_tungstenite.rs`, and the example `websocket`).
//!
//! **tonic**'s `serve_with_incoming_shutdown` takes [`Incoming`](crate::Incoming), each connection
//! as its stream (`glue/src/with_tonic.rs`):
//!
//! ```text
//! let streams = listener.incoming().map(|conn| conn.map(|conn| conn.into_parts().0));
//! Server::builder()
//!     .add_service(shop)
//!     .serve_with_incoming_shutdown(streams, guard.reached(DrainPhase::Graceful))
//! ```
//!
//! **poem** and **salvo** have a trait `Acceptor`, to be implemented as for axum
//! (`glue/src/with_poem.rs`, `glue/src/with_salvo.rs`).
//!
//! **actix-web** gets the socket, and its handle is the [`Pause`](crate::Pause)
//! (`glue/src/with_actix.rs`). It says that it has paused before its accepting thread has seen the
//! command: a connection may be accepted in the moment between. It is served like any other, since
//! the workers end only with the drain. A roll back resumes it.
//!
//! ```text
//! impl Pause for Accepting {
//!     async fn pause(&mut self) -> io::Result<()> {
//!         Ok(self.handle().await?.pause().await)
//!     }
//!
//!     async fn resume(&mut self) -> io::Result<()> {
//!         Ok(self.handle().await?.resume().await)
//!     }
//! }
//! ```
//!
//! **warp** takes tokio's listener and no other. Its filters are a tower service, so the wing serves
//! them: `heirloom::http::tower::<_, heirloom::http::Body>(warp::service(filter))`. Its own server
//! can be paused as well, because it accepts in a future: one that is not polled does not accept
//! (`glue/src/pause.rs`, for whatever is like it).
//!
//! # What their own shutdown loses
//!
//! An HTTP/1.1 server that closes idle connections when it is told to end closes some at the very
//! moment in which the next request is under way (RFC 9112, section 9.5). The client of such a
//! request cannot know whether it was seen.
//!
//! Ten upgrades of each, under 40 clients that keep their connections, think for 0, 1, 2 or 5 ms, ask
//! nothing twice, and do not use a connection that they see closed; half of what they ask is a POST.
//! `cargo run --release -- loss` in `glue/` measures it; these are figures of a debug build on two
//! busy cores, good for comparing and no more.
//!
//! | server, and its own shutdown | answered | refused | lost | closed without loss |
//! | --- | ---: | ---: | ---: | ---: |
//! | `axum::serve`, `with_graceful_shutdown` | 53 343 | 0 | 187 | 213 |
//! | hyper-util, `GracefulShutdown` | 89 907 | 0 | 231 | 169 |
//! | actix-web, `stop(true)` | 119 264 | 0 | 281 | 119 |
//! | warp, `graceful` | 36 568 | 0 | 187 | 213 |
//! | poem, `run_with_graceful_shutdown` | 169 850 | 0 | 155 | 245 |
//! | salvo, `stop_graceful` | 101 102 | 0 | 197 | 203 |
//! | the wing, axum's routes | 128 199 | 0 | 0 | 0 |
//! | the wing, warp's filters | 123 113 | 0 | 0 | 0 |
//! | tokio-tungstenite, 1012 | 188 541 | 0 | 0 | 400 |
//!
//! Each of the 40 clients has a connection at each of the ten upgrades, which makes 400; the wing
//! closes none of them, for they go on in the next generation.
//!
//! gRPC is better off: HTTP/2 says which calls were not seen (RFC 9113, section 6.8). With tonic's
//! own server as with the wing nothing else fails. tonic's channel leaves it to its caller to make
//! such a call again; the example `grpc` shows how.
//!
//! So: serve with [the wing](crate::guide::http) what it can serve, also a framework's routes where
//! they are a tower or a hyper service, and let a framework shut itself down where its clients ask
//! again, or where nobody keeps connections.
