//! Probation: who judges a new release, and by what.
//!
//! When a successor says that it is ready it gets the turn, but not yet the service. For a while
//! (5 s, [`Config::probation`](crate::Config::probation)) it serves, and its predecessor keeps every
//! listener open and watches. The first of these that happens takes the turn back:
//!
//! | what | known after | setting |
//! | --- | --- | --- |
//! | its process ends, however | about a millisecond | none |
//! | it is silent: stopped, or its runtime is blocked | the deadline | [`silence_deadline`](crate::Config::silence_deadline), 2 s |
//! | a health check fails too often in a row | its interval, and its timeout | [`health_check`](crate::Config::health_check) |
//! | it does not become healthy | the deadline | [`progress_deadline`](crate::Config::progress_deadline), 30 s |
//! | too many of its requests fail | the failure that is too much | [`error_budget`](crate::Config::error_budget) |
//! | it says so itself | at once | [`Running::unhealthy`](crate::Running::unhealthy) |
//! | an operator says so | at once | [`Running::abort`](crate::Running::abort) |
//!
//! It commits when probation is over and every health check is content, or when an operator says
//! so ([`Running::commit`](crate::Running::commit)).
//!
//! ```no_run
//! use std::time::Duration;
//! use heirloom::{Config, ErrorBudget, HealthCheck};
//!
//! let config = Config::new("shop")
//!     .probation(Duration::from_secs(30))
//!     .health_check(HealthCheck::http("http", "/health"))
//!     .error_budget(ErrorBudget::new(0.01)); // one request in a hundred
//! # let _ = config;
//! ```
//!
//! **The settings of the old release count.** The predecessor watches with its own configuration: a
//! bad release cannot make itself good by asking for less.
//!
//! **Requests are counted by you**, where they end: [`Running::requests`](crate::Running::requests)
//! gives the counter, `succeeded()` and `failed()` are all there is to say. Leave out what a client
//! did wrong (4xx), and [health checks](crate::Guard::is_health_check), which are no clients.
//!
//! **Health checks go through the front door**: see [`HealthCheck`](crate::HealthCheck) and
//! [their page](crate::guide::health).
//!
//! **Before ready** there is nothing to take back. What has to be there first, a database that
//! answers say, is for [`Starting::ready_when`](crate::Starting::ready_when); why it is not there
//! yet stands in the predecessor's [`Status::not_yet`](crate::Status::not_yet).
//!
//! # What your code hears of it
//!
//! ```no_run
//! # struct Journal;
//! # impl Journal { async fn pause(&self) -> std::io::Result<()> { Ok(()) } async fn go_on(&self) {} }
//! # fn hooks(running: &heirloom::Running, journal: std::sync::Arc<Journal>) {
//! let paused = journal.clone();
//! running.on_yield(move || {
//!     let journal = paused.clone();
//!     async move { journal.pause().await } // an error: no upgrade
//! });
//! running.on_roll_back(move || {
//!     let journal = journal.clone();
//!     async move { journal.go_on().await }
//! });
//! # }
//! ```
//!
//! | | predecessor | successor |
//! | --- | --- | --- |
//! | [`on_yield`](crate::Running::on_yield) | before it gives the turn; clients wait meanwhile | |
//! | [`on_roll_back`](crate::Running::on_roll_back) | the turn is back | the turn was taken |
//! | [`on_commit`](crate::Running::on_commit) | it drains | it owns |
//!
//! [`Starting`](crate::Starting) takes hooks as well, and what must miss nothing adds them there:
//! without a probation the commit may come before `ready` has returned.
//!
//! What only one generation may do at a time, like a scheduler, follows
//! [`Running::watch_owner`](crate::Running::watch_owner): in probation that is still the
//! predecessor.
//!
//! # What is lost
//!
//! What a rejected successor has accepted, it finishes, if it lives; the report counts it
//! ([`Report::accepted`](crate::Report::accepted)). A request in flight in a process that was killed
//! is gone. Everybody else, those who wait in the backlog included, is served by the predecessor.
//!
//! Try it: `cargo run --release --example probation`.
