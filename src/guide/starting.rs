//! Before `ready`, and what only an owner may do.
//!
//! Between the start and [`Starting::ready`](crate::Starting::ready) the predecessor serves, and
//! a failure costs nothing: return an error, and its whole text stands in the predecessor's
//! report. So everything that can fail belongs here: read the configuration, open the database,
//! claim every listener, fill caches, ask yourself a question and check the answer.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use std::sync::Arc;
//!
//! # struct Pool;
//! # impl Pool {
//! #     async fn connect(_: &str) -> Result<Self, std::io::Error> { Ok(Self) }
//! #     async fn ping(&self) -> Result<(), std::io::Error> { Ok(()) }
//! # }
//! # async fn serve(_: Arc<Pool>, _: heirloom::Conn<tokio::net::TcpStream>) {}
//! type Failure = Box<dyn std::error::Error + Send + Sync>;
//!
//! fn main() -> ExitCode {
//!     heirloom::run(heirloom::Config::new("shop"), async |start| -> Result<_, Failure> {
//!         let http = start.tcp("http", "[::]:8080").await?;
//!         let pool = Pool::connect("postgres://…").await?;
//!         pool.ping().await?;
//!         let running = start.ready().await?;
//!         running.accept_loop_with(http, Arc::new(pool), serve);
//!         Ok(running.finished().await?)
//!     })
//! }
//! ```
//!
//! **Claim every listener that you want.** What a successor has not claimed when it is ready, the
//! predecessor serves to the end of probation and closes after the commit. A claim is by name and
//! address; the same address under another name is found too, and a new address is bound. A new
//! listener takes no traffic before the turn. After `ready` nothing can be claimed any more; this
//! holds also for a listener that an earlier generation added late, by
//! [`Running::sockets`](crate::Running::sockets).
//!
//! **Name things for good.** The names of listeners are what two releases agree on.
//!
//! **Do nothing here that disturbs the predecessor**: it still serves. No migration that it cannot
//! live with, no lock file that it holds, no message to a cluster that it has left.
//!
//! **Owner is not the same as running.** `ready` returns in probation, when this generation serves
//! but does not own yet. Work of which there may be only one, like a job that runs every hour,
//! belongs to the owner. Ask [`Running::is_owner`](crate::Running::is_owner) before each run, or
//! follow [`Running::watch_owner`](crate::Running::watch_owner), which tells the present as well;
//! [`Running::events`](crate::Running::events) tells only what happens from then on, and the
//! first generation owns before its `ready` returns.
//!
//! ```no_run
//! # use std::time::Duration;
//! # async fn clean_up() {}
//! use heirloom::Running;
//!
//! async fn every_hour(running: Running) {
//!     let mut owner = running.watch_owner();
//!     let mut clock = tokio::time::interval(Duration::from_secs(3600));
//!     while owner.wait_for(|owner| *owner).await.is_ok() {
//!         clock.tick().await;
//!         if running.is_owner() {
//!             clean_up().await;
//!         }
//!     }
//! }
//! # let _ = every_hour;
//! ```
