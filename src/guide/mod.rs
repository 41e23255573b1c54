//! The guide: how an upgrade goes, and what an application does in it.
//!
//! The pages, in the order in which one needs them:
//!
//! 1. [`upgrade`]: one upgrade step by step, and where your code runs in it.
//! 2. [`starting`]: what to do before `ready`, and what only an owner may do.
//! 3. [`accepting`]: accept loops, streams of connections, threads, datagrams.
//! 4. [`draining`]: guards, and what a connection does in each phase of a drain.
//! 5. [`frameworks`]: servers that want the listener, or only its connections.
//! 6. [`probation`]: who judges a new release, and by what; hooks.
//! 7. [`health`]: what a successor has to show before it is committed.
//! 8. [`rolled_back`]: what a roll back means for an application.
//! 9. [`state`]: what a generation knows, for the next one.
//! 10. [`sessions`]: connections that go on in the next generation.
//! 11. [`releases`]: how to put one in place, check it before it starts, and go back.
//! 12. [`signals`]: which ones are used, and the limits of a runtime of your own.
//! 13. [`supervisors`]: under systemd, in a container, under any supervisor.
//! 14. [`operating`]: the control socket, the command, and what to look at when.
//! 15. [`takeover`]: the next release is started by somebody else: another container, another unit.
//! 16. [`troubleshooting`]: messages, their causes and their remedies.
//!
//! With the feature `http` there is one more, `http`: what each kind of HTTP connection does in a
//! drain.
//!
//! Every deadline is a setting of [`Config`](crate::Config), with its default and its reason; the
//! table there is the one place where all of them stand.

pub mod accepting;
pub mod draining;
pub mod frameworks;
pub mod health;
#[cfg(feature = "http")]
pub mod http;
pub mod operating;
pub mod probation;
pub mod releases;
pub mod rolled_back;
pub mod sessions;
pub mod signals;
pub mod starting;
pub mod state;
pub mod supervisors;
pub mod takeover;
pub mod troubleshooting;
pub mod upgrade;
