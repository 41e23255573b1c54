//! Guards, and what a connection does in each phase of a drain.
//!
//! A [`Guard`](crate::Guard) comes with every connection ([`Conn::guard`](crate::Conn::guard)); the
//! drain is over when the last one is dropped, or at its deadline. Clone it for other tasks that
//! work for the connection, and let one go along when the stream leaves your hands
//! ([`Conn::into_parts`](crate::Conn::into_parts)). Work that is no connection takes its own guard
//! from [`Running::guard`](crate::Running::guard).
//!
//! A drain has three phases, and [`Guard::reached`](crate::Guard::reached) tells a connection when
//! it is in one:
//!
//! | phase | what a connection does | until |
//! | --- | --- | --- |
//! | [`LameDuck`](crate::DrainPhase::LameDuck) | answers what comes and asks the peer to come back elsewhere: `Connection: close`, a GOAWAY. Closes nothing that is idle: its next request may be on the way | [`lame_duck`](crate::Config::lame_duck) |
//! | [`Graceful`](crate::DrainPhase::Graceful) | finishes what is in flight, then closes | [`drain_deadline`](crate::Config::drain_deadline), counted from the drain's beginning |
//! | [`Force`](crate::DrainPhase::Force) | ends now | [`force_grace`](crate::Config::force_grace) |
//!
//! ```no_run
//! use heirloom::{Conn, DrainPhase};
//! use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
//! use tokio::net::TcpStream;
//!
//! /// Answers lines, and says goodbye when it is time to go.
//! async fn lines(connection: Conn<TcpStream>) -> std::io::Result<()> {
//!     let guard = connection.guard().clone();
//!     let mut stream = BufReader::new(connection);
//!     let mut line = String::new();
//!     loop {
//!         tokio::select! {
//!             // Between two lines nothing is in flight.
//!             () = guard.reached(DrainPhase::Graceful) => {
//!                 return stream.write_all(b"goodbye\n").await;
//!             }
//!             begun = stream.fill_buf() => if begun?.is_empty() { return Ok(()) },
//!         }
//!         // A line that has begun is read to its end.
//!         line.clear();
//!         stream.read_line(&mut line).await?;
//!         guard.set_reason("answers a line");
//!         stream.write_all(line.as_bytes()).await?;
//!         if guard.phase() >= DrainPhase::LameDuck {
//!             stream.write_all(b"please connect again\n").await?;
//!         }
//!         guard.set_reason("waits for a line");
//!     }
//! }
//! # let _ = lines;
//! ```
//!
//! [`Guard::set_name`](crate::Guard::set_name) and [`Guard::set_reason`](crate::Guard::set_reason) are what the
//! [`DrainReport`](crate::DrainReport) says of a connection that had to be cut.
//!
//! Nobody ends a connection's task from outside, except that `accept_loop` drops what is left in
//! the force phase, and that the process exits. A connection whose task never looks at its guard is
//! therefore served until the deadline. A handler under `accept_loop` does not need to look for
//! [`Force`](crate::DrainPhase::Force), and should not: it may be dropped before it has said its
//! last word. One that has something to say then belongs in an accept loop of your own.
//!
//! The report is part of what [`Running::finished`](crate::Running::finished) returns. Nothing else
//! tells you of it, so log it there if you want to know who was cut:
//!
//! ```no_run
//! use heirloom::Outcome;
//!
//! # async fn end(running: heirloom::Running) -> heirloom::Result<Outcome> {
//! let outcome = running.finished().await?;
//! if let Outcome::HandedOver(drain) | Outcome::Stopped(drain) = &outcome {
//!     for connection in &drain.cut {
//!         tracing::warn!("cut: {connection}"); // listener, name, peer, age, reason and cause
//!     }
//! }
//! Ok(outcome)
//! # }
//! ```
//!
//! Each was cut for a [cause](crate::CutCause), by which [`cuts`](crate::DrainReport::cuts) counts
//! them: it was there at the deadline, its generation was one too many, a stop was forced, or it was
//! lost on its way to the successor. The log tells all of them in one line, by listener, protocol,
//! cause and reason.
//!
//! A plain thread cannot wait for a phase. It reads with a timeout and asks
//! [`Guard::phase`](crate::Guard::phase) in between, as `examples/threads.rs` does.
//!
//! A drain begins at the commit for the generation that has handed over, after a roll back for the
//! successor that was rejected, and at a stop. When all clients would come back at once,
//! [`drain_spread`](crate::Config::drain_spread) spreads the graceful closings. Generations drain
//! side by side, at most [`max_draining`](crate::Config::max_draining) of them; beyond that the
//! oldest is hurried: what it still has is cut, requests in flight included, as soon as it has
//! drained for 1 s and no connection of it waits for its turn to move. Whoever upgrades more often
//! than requests take allows for more generations. A forced stop cuts at once.
