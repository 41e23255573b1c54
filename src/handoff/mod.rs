//! One handoff, seen from both sides.
//!
//! ```text
//!  predecessor (owner)                         successor
//!  Preflight   its program is tried
//!  Spawning ── posix_spawn ──────────────────▶ Greeting
//!  Greeting ◀───────────────────────── hello ─ Greeting
//!  Offering ── welcome, offer ───────────────▶ Receiving
//!  Starting ◀─────────────────────── adopted ─ Starting     application starts, claims, binds
//!  Checking ◀───────────────────────── ready ─ Waiting
//!     ── ping ▶ ◀ pong ──
//!  Parking     every claimed listener parks
//!  Yielding ── yield ────────────────────────▶ Serving      listens on what is new, accepts
//!  Probation ◀─────────────────────── serving
//!     ── ping ▶ ◀ pong, health checks ──
//!  Permitting ─ may commit ──────────────────▶ Deciding     seals the verdict
//!  Elder    ◀────────────────────── committed ─ Committed
//!           ── owner ────────────────────────▶ Owner
//! ```
//!
//! Each side is a pure machine ([`predecessor`], [`successor`]); the drivers do what the machines
//! say. The verdict, a register that the kernel lets be written once, is looked at before every
//! event, so a side that was stopped, or whose peer died, learns first and acts second.

pub(crate) mod adoption;
pub(crate) mod clock;
pub(crate) mod leaving;
pub(crate) mod life;
pub(crate) mod offer;
pub(crate) mod predecessor;
pub(crate) mod successor;
pub(crate) mod upgrade;

#[cfg(test)]
mod model;
#[cfg(test)]
mod table;

/// What a side waits for at most so long. The durations are the driver's; the machines only arm,
/// disarm and hear of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Until the new program has passed its preflight.
    Preflight,
    /// Until the successor's program runs.
    Spawn,
    /// Until the other side's first word.
    Hello,
    /// Until the whole offer has arrived.
    Adopt,
    /// Until the application is ready.
    Ready,
    /// From the successor's 'ready' to its 'serving'.
    Gap,
    /// How long the successor is watched.
    Probation,
    /// Until every health check says that it is well.
    Progress,
    /// Until the permission to commit was used.
    Commit,
    /// Until the next ping is sent.
    Ping,
    /// The longest silence of the other side.
    Silence,
    /// How long a successor that nobody can end serves without having heard its predecessor.
    Lease,
    /// How long a committed successor waits for the predecessor's last act as owner.
    Handover,
}

impl std::fmt::Display for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Preflight => "its preflight",
            Self::Spawn => "the start of its program",
            Self::Hello => "its first word",
            Self::Adopt => "its acknowledgement of the offer",
            Self::Ready => "its readiness",
            Self::Gap => "the gap from ready to serving",
            Self::Probation => "the end of probation",
            Self::Progress => "its health",
            Self::Commit => "its commit",
            Self::Ping => "the next ping",
            Self::Silence => "a sign of life",
            Self::Lease => "a sign of life from the predecessor",
            Self::Handover => "the predecessor's last act",
        })
    }
}
