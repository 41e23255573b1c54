//! Sessions: connections that go on in the next generation.
//!
//! By default a connection stays with the generation that accepted it, until it ends or the drain's
//! deadline does. One that lasts for hours can move instead: its client notices nothing. It takes
//! three things.
//!
//! - **A moment between two messages.** From
//!   [`DrainPhase::LameDuck`](crate::DrainPhase::LameDuck) on there is a successor that owns. Finish
//!   what you answer, flush it, and read no more.
//! - **What the next one has to know.** [`Session::set_state`](crate::Session::set_state) takes bytes
//!   in a format of yours, with a version; [`Session::unread`](crate::Session::unread) takes what was
//!   read of the stream and not used: the rest of a buffer, half a line.
//! - **Somebody who goes on.** The next release adds
//!   [`on_session`](crate::Running::on_session) for the kind and its versions. What it gets is a
//!   [`Session`](crate::Session) again, so the same function can serve connections that were
//!   accepted, sessions that come, and those that could not leave.
//!
//! Idle HTTP/1.1 connections of the wing (feature `http`) move by themselves, over the same channel;
//! this page is about everything else.
//!
//! The documentation of [`Session`](crate::Session) shows such a function, the example `chat` a whole
//! server.
//!
//! # Who has it
//!
//! One side at a time. The successor says that it takes a session before its handler may read the
//! first byte, and the predecessor keeps its copy of the connection, unread, until it has heard that.
//! [`Running::hand_off`](crate::Running::hand_off) returns when that is settled:
//!
//! | outcome | who goes on |
//! | --- | --- |
//! | `Ok` | the successor |
//! | [`NotMoved::Declined`](crate::NotMoved::Declined) | you, with the session as it was: no successor, none that takes this kind and version, it has handed over itself, it has no descriptor left, or it died before it took it |
//! | [`NotMoved::Lost`](crate::NotMoved::Lost) | perhaps the successor: it lives and has not said for [`Config::session_deadline`](crate::Config::session_deadline) whether it took it. Your copy is closed; the client may have to come back |
//!
//! What is declined drains like any other connection. A session that is being moved holds its guard,
//! so a drain waits for it; the report counts it as [`moved`](crate::DrainReport::moved).
//!
//! # What does not move
//!
//! Only plain streams over TCP and Unix sockets do: what TLS knows of a connection cannot be handed
//! to another process. Sessions move once in each upgrade, from a predecessor to its successor: what
//! has stayed with a generation that drains, because nobody took it, stays there for good.
//!
//! If the next upgrade follows at once, the generation in the middle still takes what comes and hands
//! it on, until its predecessor has given nothing for 500 ms.
//!
//! A successor that cannot open a session's descriptor (`EMFILE`) takes no more of them in this
//! upgrade, also when descriptors come free: the others stay, and drain. `RLIMIT_NOFILE` has to allow
//! for all of them.
