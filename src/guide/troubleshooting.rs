//! Messages, their causes and their remedies.
//!
//! Look at the predecessor's report first: its cause is where the successor's own words are. Then
//! at the log of both, target `heirloom::handoff`, where each step is one line.
//!
//! **"the successor closed the link"**, soon after the spawn. The new program ended before it said
//! anything; if its exit status is known, it is added. Start it by hand. It may print why.
//!
//! **"hello came from pid … not from pid …"**. A wrapper script started the server as a child of its
//! own. A wrapper has to end with `exec server "$@"`: the process that was started has to be the
//! server.
//!
//! **"descriptor 3 is not the link that our predecessor (pid …) gave us"**. Something between the
//! predecessor and the server closed or used descriptor 3. Such a start is refused, because going on
//! would mean two owners.
//!
//! **"the successor was too late with its first word"**. The program does not call
//! [`run`](crate::run) (is it the right one?), or starts slowly; see
//! [`hello_deadline`](crate::Config::hello_deadline). **"… with its readiness"**: your code before
//! `ready` takes longer than [`ready_deadline`](crate::Config::ready_deadline).
//!
//! **"descriptors were lost"**. The successor's `RLIMIT_NOFILE` is lower than the number of sockets
//! handed over, or the program lowers it. Raise it (`LimitNOFILE=` in a unit); nothing has moved.
//!
//! **"listener … was asked for before in this generation"**. Names are unique. Clone the listener.
//!
//! **Address already in use**, in a new generation only. The name *and* the address of that listener
//! are new to the predecessor, and somebody else has the address. Or your code asks for it after
//! `ready`, when nothing can be claimed any more. For a Unix path the text is **"a socket that a
//! process has open is there"**: that process is the predecessor.
//!
//! **The drain never ends before its deadline.** [`DrainReport::cut`](crate::DrainReport::cut) names
//! who was left. A connection whose task does not look at its guard holds the drain; so does a guard
//! that was cloned into something that lives for ever.
//!
//! **The new version started, and the old program runs on.** It drains; the report of the commit says
//! so. [`Running::drain_progress`](crate::Running::drain_progress) tells how many connections are
//! left, [`Status::elders`](crate::Status::elders) of the owner which generations. A second `SIGTERM`
//! to the old process cuts them.
//!
//! **The shell's prompt comes back after an upgrade**, or a supervisor (runit, s6, supervisord)
//! starts a second server. The process that they started has exited, as it must. Under such a
//! supervisor, and as process 1 of a container, let `heirloom run` be what they start
//! ([supervisors](super::supervisors)); systemd follows the main process by itself.
//!
//! **"failed printing to stderr"**, a panic of your own tasks. `tracing_subscriber::fmt()` tells of
//! lines that it could not write on standard error, and panics if that is what failed (a pipe whose
//! reader has gone). Build it with `log_internal_errors(false)`. The lines of this crate harm nobody.
