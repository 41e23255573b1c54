//! Which signals are used, and the limits of a runtime of your own.
//!
//! | signal | by default | |
//! | --- | --- | --- |
//! | `SIGHUP` | starts an upgrade | [`Config::upgrade_signal`](crate::Config::upgrade_signal) |
//! | `SIGTERM`, `SIGINT` | stop: drain, then end; a second one cuts what is left | [`Config::stop_signals`](crate::Config::stop_signals) |
//!
//! Handlers are chained: those that the application or tokio installs for the same signals run as
//! well. A storm of one signal is one request. An upgrade signal that reaches a successor or a
//! draining generation is passed on to the owner, so `pkill -HUP` does no harm.
//!
//! The upgrade signal is blocked in a successor until its handler is there, because its default
//! action would end the process. A thread inherits its mask from the thread that starts it, and so
//! does a subprocess. [`run`](crate::run) settles this before any thread exists.
//!
//! # `#[tokio::main]`
//!
//! With [`Config::start`](crate::Config::start) under a runtime of your own, the runtime's worker
//! threads are older than that. In a successor they keep the upgrade signal blocked, and so does
//! every helper that is started from a task: a child that relies on `SIGHUP` does not hear it. The
//! server itself does, through the thread that called `start`, so call it first thing from the task
//! that `block_on` runs. And a blocking task that never ends keeps the process alive, unless you
//! shut the runtime down with a deadline.
//!
//! ```no_run
//! #[tokio::main]
//! async fn main() -> Result<(), heirloom::Error> {
//!     let start = heirloom::Config::new("shop").start().await?;
//!     let http = start.tcp("http", "[::]:8080").await?;
//!     let running = start.ready().await?;
//!     running.accept_loop(http, async |_connection| {});
//!     running.finished().await?;
//!     Ok(())
//! }
//! ```
