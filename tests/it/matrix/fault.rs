//! What can be done to a process at a step, and what may come of it.

use std::time::Duration;

use crate::support::Release;
use crate::support::release::{Action, Side};
use crate::support::shortage;
use crate::support::states::Stateful;

/// The steps as the library logs them: each is logged before it is done.
pub(crate) const OF_PREDECESSOR: [&str; 11] = [
    "requested",
    "spawn",
    "hello",
    "offer",
    "start",
    "ready",
    "park",
    "yield",
    "probation",
    "permit",
    "commit",
];
pub(crate) const OF_SUCCESSOR: [&str; 7] =
    ["hello", "welcome", "adopted", "ready", "serving", "committed", "owner"];

/// Before the successor's process exists.
pub(crate) const UNBORN: [&str; 2] = ["requested", "spawn"];

/// Too short for the other side to lose patience.
const BRIEF: Duration = Duration::from_millis(100);

/// Longer than the gap, probation and silence together, so that the other side decides.
const LONG: Duration = Duration::from_millis(1_500);

/// How long a process lacks something.
pub(crate) const LACKING: Duration = Duration::from_millis(300);

/// Where the table has a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub side: Side,
    pub step: &'static str,
    pub fault: Fault,
    /// The successor is another user's: it cannot be signalled.
    pub foreign: bool,
}

/// A row's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill,
    /// Stopped, and woken before the other side has decided.
    StopBriefly,
    /// Stopped, and woken when the other side has decided.
    StopLong,
    /// Both are stopped; this one is woken first, and decides.
    StopBoth {
        first: Side,
    },
    /// The thread that drives the handoff, for longer than any deadline of the handoff.
    BlockDriver,
    BlockWorkersBriefly,
    BlockWorkers,
    CutLink,
    Garbage,
    NoDescriptors,
    NoMemory,
    NoThread,
    NoProcess,
    /// What the predecessor is asked for does not fit: `RLIMIT_FSIZE` holds for memory files too.
    NoRoom,
    FullDisk,
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::StopBriefly => "SIGSTOP, woken before the other decides",
            Self::StopLong => "SIGSTOP, woken after the other has decided",
            Self::StopBoth { first: Side::Predecessor } => "both stopped, predecessor woken first",
            Self::StopBoth { first: Side::Successor } => "both stopped, successor woken first",
            Self::BlockDriver => "driver's thread blocked 1.5 s",
            Self::BlockWorkersBriefly => "runtime blocked 0.1 s",
            Self::BlockWorkers => "runtime blocked 1.5 s",
            Self::CutLink => "link shut down",
            Self::Garbage => "garbage on the link",
            Self::NoDescriptors => "EMFILE for 0.3 s",
            Self::NoMemory => "ENOMEM (RLIMIT_AS)",
            Self::NoThread => "EAGAIN for a thread",
            Self::NoProcess => "EAGAIN for a process",
            Self::NoRoom => "no room for the state",
            Self::FullDisk => "disk of the PID file full",
        }
    }

    pub(crate) fn action(self) -> Action {
        match self {
            Self::Kill => Action::Kill,
            Self::StopBriefly | Self::StopLong => Action::Stop,
            Self::StopBoth { .. } => Action::StopBoth,
            Self::BlockDriver => Action::Block(LONG),
            Self::BlockWorkersBriefly => Action::BlockWorkers(BRIEF),
            Self::BlockWorkers => Action::BlockWorkers(LONG),
            Self::CutLink => Action::CutLink,
            Self::Garbage => Action::Garbage(64),
            Self::NoDescriptors => Action::NoDescriptors,
            Self::NoMemory => Action::NoMemory,
            Self::NoThread => Action::FewProcesses(0, LACKING),
            Self::NoProcess => Action::FewProcesses(1, LACKING),
            Self::NoRoom => Action::NoRoom,
            Self::FullDisk => Action::FullDisk,
        }
    }

    /// So short that nobody may notice: the upgrade has to commit.
    pub(crate) fn is_brief(self) -> bool {
        matches!(self, Self::StopBriefly | Self::BlockWorkersBriefly)
    }

    /// The process lacks something until it is given back.
    pub(crate) fn is_shortage(self) -> bool {
        matches!(
            self,
            Self::NoDescriptors | Self::NoMemory | Self::NoThread | Self::NoProcess | Self::NoRoom
        )
    }

    /// The process lacks what it needs to start another.
    pub(crate) fn hinders_the_start(self) -> bool {
        matches!(self, Self::NoThread | Self::NoProcess)
    }

    /// A limit that the kernel applies to no process of root's.
    pub(crate) fn needs_another_user(self) -> bool {
        matches!(self, Self::NoThread | Self::NoProcess)
    }

    /// Whether there is at no time a process that accepts without having learned yet that the other
    /// side has taken the turn: it then shares the queue with the other for a moment.
    pub(crate) fn leaves_nobody_ignorant(self) -> bool {
        self.is_brief() || self.is_shortage() || matches!(self, Self::Kill | Self::FullDisk)
    }

    /// The steps at which it can happen.
    pub(crate) fn steps(self, side: Side) -> Vec<&'static str> {
        let all: &[&str] = match side {
            Side::Predecessor => &OF_PREDECESSOR,
            Side::Successor => &OF_SUCCESSOR,
        };
        let possible = |step: &&str| match self {
            Self::StopBoth { .. } | Self::CutLink | Self::Garbage => !UNBORN.contains(step),
            Self::NoMemory | Self::NoThread | Self::NoProcess => UNBORN.contains(step),
            _ => true,
        };
        all.iter().copied().filter(possible).collect()
    }

    /// What the upgrade must come to, if that is certain.
    pub(crate) fn must_commit(self, side: Side, step: &str) -> Option<bool> {
        // What is written before ready: when 'start' is logged here, it may have been written there.
        let before_it_writes = ["requested", "spawn", "hello", "offer", "welcome", "adopted"];
        match (self, side, step) {
            // There is no room for a thread's stack, and a start in place needs none.
            (Self::NoMemory, Side::Predecessor, "requested" | "spawn") => None,
            (Self::Kill, Side::Successor, _)
            | (Self::NoMemory | Self::NoThread | Self::NoProcess, ..) => Some(false),
            (Self::Kill, Side::Predecessor, _)
            | (Self::StopBriefly | Self::BlockWorkersBriefly, ..) => Some(true),
            // Its successor asks once it starts. A successor itself writes no state yet.
            (Self::NoRoom, Side::Predecessor, "start") => Some(false),
            (Self::NoRoom, Side::Successor, _) => Some(true),
            // The PID file's temporary is written while the successor waits for its descriptors.
            (Self::FullDisk, _, "hello" | "offer" | "welcome" | "adopted" | "start") => None,
            (Self::FullDisk | Self::NoRoom, ..) => Some(!before_it_writes.contains(&step)),
            _ => None,
        }
    }

    /// Deadlines that a brief fault does not reach, or such that a long one passes soon.
    pub(crate) fn release(self, usual: Release) -> Release {
        let millis = Duration::from_millis;
        if self.is_brief() {
            return Release { probation: millis(200), ..usual };
        }
        if self == Self::NoRoom {
            let state = Stateful { length: 4 * shortage::SMALL_FILE, ..Stateful::default() };
            return Release { state: Some(state), ..usual };
        }
        Release {
            gap: millis(500),
            silence: millis(800),
            probation: millis(300),
            hello: millis(2_000),
            adopt: millis(2_000),
            ready: millis(2_000),
            commit: millis(500),
            ..usual
        }
    }
}
