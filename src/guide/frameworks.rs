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
