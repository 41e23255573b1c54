//! What goes wrong in one round, by the dice.

use std::fmt;
use std::time::Duration;

use crate::matrix::fault::{Case, Fault};
use crate::support::dice::Dice;
use crate::support::release::{Ailment, Release, Side, Start};

const FAULTS: [Fault; 13] = [
    Fault::Kill,
    Fault::Kill,
    Fault::StopBriefly,
    Fault::StopLong,
    Fault::StopBoth { first: Side::Predecessor },
    Fault::StopBoth { first: Side::Successor },
    Fault::BlockDriver,
    Fault::BlockWorkersBriefly,
    Fault::BlockWorkers,
    Fault::CutLink,
    Fault::Garbage,
    Fault::NoDescriptors,
    Fault::NoMemory,
];

/// The predecessor's death at these leaves nobody who could serve.
const NOTHING_MOVED: [&str; 4] = ["requested", "spawn", "hello", "offer"];

/// An ailment that comes later might meet an owner, after whom there is nobody.
const LATEST_MILLIS: usize = 150;

#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// Nothing.
    Well,
    /// A process suffers a fault at a step.
    Fault(Case),
    /// The release fails before it is ready.
    Start(Start),
    /// The release fails once it serves.
    Ailment(Duration, Ailment),
}

impl Plan {
    pub(crate) fn of_round(seed: u64, round: u64, disk: bool) -> Self {
        let mut dice = Dice::of_round(seed, round);
        match dice.below(10) {
            0 => Self::Well,
            1 => Self::Start(dice.one_of(&[
                Start::Fail("no luck".into()),
                Start::Panic("no luck".into()),
                Start::Exit(3),
                Start::ExitBeforeHello(4),
                Start::SilentForever,
                Start::NeverReady,
                Start::Misconfigured,
            ])),
            2 | 3 => {
                let delay = Duration::from_millis(dice.below(LATEST_MILLIS) as u64);
                Self::Ailment(
                    delay,
                    dice.one_of(&[
                        Ailment::Abort,
                        Ailment::Exit(3),
                        Ailment::Panic,
                        Ailment::Fail,
                        Ailment::Hang(Duration::from_millis(1_500)),
                    ]),
                )
            }
            _ => Self::Fault(fault(&mut dice, disk)),
        }
    }

    /// Makes the next release that of the plan.
    pub(crate) fn release(&self, release: &mut Release) {
        release.start = Start::Well;
        release.ailment = None;
        match self {
            Self::Start(start) => release.start = start.clone(),
            Self::Ailment(delay, ailment) => release.ailment = Some((*delay, *ailment)),
            Self::Well | Self::Fault(_) => {}
        }
    }
}

fn fault(dice: &mut Dice, disk: bool) -> Case {
    let mut faults = FAULTS.to_vec();
    if disk {
        faults.push(Fault::FullDisk);
    }
    loop {
        let fault = dice.one_of(&faults);
        let side = dice.one_of(&[Side::Predecessor, Side::Successor]);
        let mut steps = fault.steps(side);
        if fault == Fault::Kill && side == Side::Predecessor {
            steps.retain(|step| !NOTHING_MOVED.contains(step));
        }
        if fault == Fault::Kill && side == Side::Successor {
            // By then its predecessor may have drained, and gone in this very moment. The matrix
            // kills it there while a request keeps the predecessor.
            steps.retain(|step| *step != "owner");
        }
        if !steps.is_empty() {
            return Case { side, step: dice.one_of(&steps), fault, foreign: false };
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Well => f.write_str("nothing"),
            Self::Fault(Case { side, step, fault, .. }) => {
                write!(f, "{}: {side:?} at {step}", fault.name())
            }
            Self::Start(start) => write!(f, "release: {start:?}"),
            Self::Ailment(delay, ailment) => write!(f, "release: {ailment:?} after {delay:?}"),
        }
    }
}
