//! One upgrade, step by step.
//!
//! ```text
//!  predecessor                                   successor
//!  ───────────                                   ─────────
//!  SIGHUP, or Running::upgrade
//!  starts the program ────────────────────────▶  main: run() finds the link
//!  ◀───────────────────────────────────── hello  versions; the kernel says who speaks
//!  offers every socket ───────────────────────▶  your function is called: it claims, loads,
//!                                                checks
//!  ◀───────────────────────────────────── ready  your function awaits ready()
//!  parks its listeners
//!  gives the turn ────────────────────────────▶  ready() returns; listeners accept
//!  watches: probation                            serves
//!  may commit ────────────────────────────────▶  seals the verdict
//!  drains ◀─────────────────────────── committed  owns: PID file, Event::Owns
//!  exits                                         alone: Event::AloneAtLast
//! ```
//!
//! The predecessor's `main` runs on all the while: its accept loops pause by themselves when the
//! turn changes hands, [`Running::finished`](crate::Running::finished) returns when the drain is
//! over, and `main` returns. Nothing in an application has to know whether it is the first
//! generation or the hundredth.
//!
//! **Which program is started?** The file that the server's own path leads to at that moment, so
//! replace the file (write the new one beside it and rename), or switch the symbolic link that the
//! path goes through. Arguments, environment and working directory are those with which this
//! generation was started. [`Config::executable`](crate::Config::executable) and its neighbours
//! change that.
//!
//! **What does it inherit?** Standard streams, the link as descriptor 3, and what
//! [`Config::pass_descriptor`](crate::Config::pass_descriptor) lists. Everything else comes over
//! the link, or not at all.
//!
//! **How do I know how it went?** [`Running::upgrade`](crate::Running::upgrade) returns the
//! [`Report`](crate::Report), or an error with the cause. After a signal the report comes with
//! [`Event::UpgradeEnded`](crate::Event::UpgradeEnded) and in the log.
//!
//! **Two at once?** While one upgrade runs, one more is remembered and run by whoever owns
//! afterwards.
