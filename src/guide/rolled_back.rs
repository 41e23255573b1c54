//! What a roll back means for an application.
//!
//! A successor can be rejected at any moment before the commit, also after it has served for a
//! while. Then the predecessor accepts again, at once and on the very same sockets. The successor
//! stops accepting, finishes the connections that it has accepted (they drain like any other), and
//! ends: [`Starting::ready`](crate::Starting::ready) returns an error if its turn had not come,
//! [`Running::finished`](crate::Running::finished) returns
//! [`Outcome::RolledBack`](crate::Outcome::RolledBack) if it had, and [`run`](crate::run) exits with
//! 1.
//!
//! **It hands nothing back.** No connection and no state goes from the successor to the
//! predecessor. What it wrote elsewhere, in a database, in a file, in a queue, stays written; so as
//! long as probation lasts, write what the old release can read, and leave migrations that it cannot
//! live with for the time after [`Event::Owns`](crate::Event::Owns), or for the next release.
//!
//! **The predecessor has forgotten nothing.** It kept its caches, its timers and its connections.
//! What it did at the beginning of the handoff in expectation of its end, it has to take back.
//!
//! **After the commit** the turn is not taken back any more:
//! [`Running::roll_back`](crate::Running::roll_back) starts the previous program as a new generation.
//! If the successor dies while the predecessor still drains, though, the predecessor owns and accepts
//! again; for it,
//! [`Event::Owns`](crate::Event::Owns) comes a second time. Its number is lower than that of the
//! successor which died, so a store that fences by generation would refuse it.
