//! What the predecessor's machine speaks of: where it stands, what happens, what is to be done.

use crate::handoff::Timer;
use crate::report::CauseKind;
use crate::verdict::Decision;

/// Where the predecessor stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// The new program is tried before it is started for real.
    Preflight,
    /// The successor's program is being started.
    Spawning,
    /// It runs; its hello is awaited.
    Greeting,
    /// The offer is out; its acknowledgement is awaited.
    Offering,
    /// The successor holds every descriptor and its application starts up.
    Starting,
    /// The gap: it asked for the turn; a pong must show that it is awake.
    Checking,
    /// The gap: the claimed listeners are being parked.
    Parking,
    /// The gap: the turn is given; its 'serving' is awaited.
    Yielding,
    /// The successor serves and is watched.
    Probation {
        /// Probation has lasted as long as it was meant to.
        elapsed: bool,
        /// Every health check says so; always true without any.
        healthy: bool,
    },
    /// The successor may commit.
    Permitting,
    /// The verdict is being sealed as 'rolled back', which may come too late.
    Deciding(Retreat),
    /// The verdict is 'rolled back': this generation serves, or stops, as before.
    RolledBack,
    /// The verdict is 'committed': this generation drains and keeps every descriptor open.
    Elder,
    /// As `Elder`, but the whole service stops: it will not own again.
    Retired,
    /// Every newer generation died after the verdict: this one owns again.
    OwnsAgain,
}

/// Why and from where the predecessor retreats.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Retreat {
    /// What the report will say.
    pub cause: Cause,
    /// Whether listeners may be parked.
    pub parked: bool,
    /// Whether the link's other end can still be told something.
    pub reachable: bool,
}

/// What made the predecessor take the turn back, or not give it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// The new program failed its preflight.
    Preflight(String),
    /// The program could not be started.
    Spawn(String),
    /// Credentials or protocol version do not meet; nothing has moved.
    Incompatible(String),
    /// The offer could not be sent.
    Offer(String),
    /// The successor refused the offer.
    Refused(String),
    /// The successor's application reported an error.
    Failed(String),
    /// The successor's process ended.
    Died(String),
    /// The link closed while the process may still run.
    LinkClosed,
    /// What came over the link was not the protocol.
    Nonsense(String),
    /// A step took longer than its deadline.
    TooLate(Timer),
    /// A listener could not be parked, or the application would not yield.
    Park(String),
    /// A health check, its error budget, itself or an operator rejected it.
    Rejected(String),
    /// This generation was asked to stop.
    Stop,
}

impl Cause {
    /// The same in one word.
    pub(crate) fn kind(&self) -> CauseKind {
        match self {
            Self::Preflight(_) => CauseKind::Preflight,
            Self::Spawn(_) => CauseKind::Spawn,
            Self::Incompatible(_) | Self::Refused(_) => CauseKind::Refused,
            Self::Failed(_) => CauseKind::Failed,
            Self::Died(_) => CauseKind::Died,
            Self::LinkClosed | Self::Nonsense(_) => CauseKind::Protocol,
            Self::TooLate(_) => CauseKind::Late,
            Self::Offer(_) | Self::Park(_) => CauseKind::Predecessor,
            // Who rejected it is the driver's to know.
            Self::Rejected(_) => CauseKind::Other,
            Self::Stop => CauseKind::Stop,
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Preflight(why) => write!(f, "the preflight failed: {why}"),
            Self::Spawn(why) => write!(f, "the successor could not be started: {why}"),
            Self::Incompatible(why) => write!(f, "the successor was refused: {why}"),
            Self::Offer(why) => write!(f, "the offer could not be sent: {why}"),
            Self::Refused(why) => write!(f, "the successor refused the offer: {why}"),
            Self::Failed(why) => write!(f, "the successor failed: {why}"),
            Self::Died(how) => write!(f, "the successor's process ended: {how}"),
            Self::LinkClosed => f.write_str("the successor closed the link"),
            Self::Nonsense(why) => write!(f, "the successor broke the protocol: {why}"),
            Self::TooLate(timer) => write!(f, "the successor was too late with {timer}"),
            Self::Park(why) => write!(f, "the turn could not be given: {why}"),
            Self::Rejected(why) => write!(f, "the successor was rejected: {why}"),
            Self::Stop => f.write_str("this generation was asked to stop"),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// The new program passed its preflight.
    PreflightPassed,
    /// It did not.
    PreflightFailed(String),
    /// The successor's process runs.
    Spawned,
    /// It could not be started.
    SpawnFailed(String),
    /// Its hello came and is acceptable.
    Hello,
    /// Its hello came and is not: wrong process, user or version.
    Stranger(String),
    /// The offer could not be sent.
    OfferFailed(String),
    /// It holds every descriptor.
    Adopted,
    /// It asks for the turn.
    Ready,
    /// It answered a ping.
    Pong,
    /// Every claimed listener is parked.
    Parked,
    /// One could not be.
    ParkFailed(String),
    /// It accepts.
    Serving,
    /// It has sealed the verdict.
    Committed,
    /// It refused the offer, or the version.
    Refused(String),
    /// Its application failed.
    Failed(String),
    /// Garbage, or a message out of order.
    Nonsense(String),
    /// The link reached its end.
    LinkClosed,
    /// Its process ended.
    Died(String),
    /// Both, and so no newer generation lives: the successor's process ended, and nobody holds the
    /// link's other end, which it would have handed on.
    Abandoned,
    /// A timer that was armed ran out.
    Expired(Timer),
    /// Every health check says that it is well, and has been so for long enough.
    Healthy,
    /// One of them does not any more.
    Ailing,
    /// It has proven itself early, by an operator's word.
    Approved,
    /// Health check, error budget, operator, or the successor itself say no.
    Rejected(String),
    /// This generation shall stop.
    Stop,
    /// The owner says that the whole service stops.
    ServiceStops,
    /// The answer to [`Action::Seal`]: what the verdict is now.
    Sealed(Decision),
}

/// What the predecessor tells the successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Say {
    /// The chosen protocol version and the plan.
    Welcome,
    /// Nothing will move; the cause says why.
    Refuse,
    /// Every descriptor with its record.
    Offer,
    /// Are you awake?
    Ping,
    /// Your turn.
    Yield,
    /// You may seal the verdict.
    MayCommit,
    /// You own.
    Owner,
    /// Stop accepting, finish, go.
    RollBack {
        /// The whole service stops: there is nothing to take up again.
        last: bool,
    },
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Send this.
    Send(Say),
    /// Try the new program; answer `PreflightPassed` or `PreflightFailed`.
    Preflight,
    /// Start the new program; answer `Spawned` or `SpawnFailed`.
    Spawn,
    /// Check the health of what serves now; tell it by `Healthy`, `Ailing` and `Rejected`.
    Watch,
    /// Start this timer anew.
    Arm(Timer),
    /// Stop this timer.
    Disarm(Timer),
    /// Stop every timer.
    DisarmAll,
    /// Park what is claimed, let the application pause, and answer `Parked` or `ParkFailed`.
    Park,
    /// Accept again on everything that was parked, then let the application go on.
    Resume,
    /// Seal the verdict and answer `Sealed` at once.
    Seal(Decision),
    /// Let the successor finish, then end it, reap it.
    EndSuccessor,
    /// The successor is the one now: owner's acts end, `Owner` follows, unclaimed listeners close,
    /// the drain begins.
    HandOver,
    /// Stop accepting what may not have been parked yet: the successor took over on its own.
    ParkLate,
    /// Own and accept again.
    OwnAgain,
    /// The handoff has ended; the report can be written.
    Finish(Outcome),
}

/// How the handoff ended, as this side knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// The successor owns.
    Committed,
    /// This side goes on, or stops, as if nothing had been.
    RolledBack(Cause),
}

/// What does not change during one handoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Plan {
    /// Whether the new program is tried before it is started for real.
    pub preflight: bool,
    /// Whether there is a probation at all.
    pub probation: bool,
    /// Whether health checks have a say in it.
    pub checked: bool,
}
