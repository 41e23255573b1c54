//! Accept loops, streams of connections, threads, datagrams.
//!
//! [`Running::accept_loop`](crate::Running::accept_loop) is the shortest way, and
//! [`accept_loop_with`](crate::Running::accept_loop_with) the one for handlers that need state: a
//! task for each connection, and a connection that has outlived the drain's deadline is dropped.
//! When that is not enough, write the loop:
//!
//! ```no_run
//! use std::sync::Arc;
//! use tokio::sync::Semaphore;
//!
//! # async fn serve(_: heirloom::Conn<tokio::net::TcpStream>) {}
//! async fn accept(listener: heirloom::TcpListener, limit: usize) -> heirloom::Result<()> {
//!     let places = Arc::new(Semaphore::new(limit));
//!     loop {
//!         let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
//!         // Pending while it is another generation's turn; `None` when nothing comes any more.
//!         let Some(connection) = listener.accept().await? else { return Ok(()) };
//!         tokio::spawn(async move {
//!             serve(connection).await;
//!             drop(place);
//!         });
//!     }
//! }
//! # let _ = accept;
//! ```
//!
//! - **A pause is not an end.** While another generation accepts, `accept` is pending, and it goes
//!   on by itself after a roll back. `None` comes when the service stops, the listener was removed
//!   or is not wanted by the next generation, or the drain is over.
//! - **Do not hold a loop's task back for long.** A connection is either in the kernel's queue,
//!   where the next generation finds it, or accepted, and then it is yours to finish.
//! - Errors that pass (too many descriptors, a client that went away) are waited out inside.
//! - `accept` is cancel safe: use it in `select!`.
//!
//! A handler that has a name takes `Conn<tokio::net::TcpStream>`, or for a Unix listener
//! `Conn<tokio::net::UnixStream, std::os::unix::net::SocketAddr>` (the address is std's, not
//! tokio's). One for both is generic: `Conn<S, A>` with `S: AsyncRead + AsyncWrite`.
//!
//! # A stream of connections
//!
//! [`Listener::incoming`](crate::Listener::incoming) is a `futures_core::Stream`, for what takes
//! one. It ends where `accept` gives `None`.
//!
//! # Threads
//!
//! [`Listener::accept_blocking`](crate::Listener::accept_blocking) does the same for plain threads
//! and gives blocking streams:
//!
//! ```no_run
//! use std::io::Write;
//!
//! fn greet(listener: heirloom::TcpListener) -> std::thread::JoinHandle<heirloom::Result<()>> {
//!     std::thread::spawn(move || {
//!         while let Some(mut connection) = listener.accept_blocking()? {
//!             // The guard in it keeps the drain waiting until it is dropped.
//!             let _ = connection.write_all(b"hello\n");
//!         }
//!         Ok(())
//!     })
//! }
//! # let _ = greet;
//! ```
//!
//! Threads are to be started by your function, not before [`run`](crate::run): a thread keeps the
//! signal mask that it was born with.
//!
//! # Datagrams
//!
//! One generation reads at a time: [`UdpSocket::recv_from`](crate::UdpSocket::recv_from) is pending
//! while it is another one's turn, and what arrives meanwhile waits in the socket. Sending works
//! all the time. A UDP socket that no earlier generation had is bound at commit, because it would
//! draw traffic from `bind(2)` on.
