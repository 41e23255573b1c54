//! What an upgrade is given, what is said about it while it runs, and how it ends.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::Span;

use super::Pending;
use crate::drain::Drain;
use crate::error::Result;
use crate::generation::Generation;
use crate::handoff::clock::Lengths;
use crate::handoff::leaving::Left;
use crate::handoff::life::Life;
use crate::handoff::offer;
use crate::handoff::predecessor::{Action, Event, Predecessor};
use crate::health::Policy;
use crate::hooks::Hooks;
use crate::inventory::Inventory;
use crate::link::{LinkReceiver, LinkSender};
use crate::name::Name;
use crate::report::queued::Queued;
use crate::report::{AskedBy, Report, UpgradePhase};
use crate::requests::Requests;
use crate::session::Sessions;
use crate::spawn::Child;
use crate::state::States;
use crate::verdict::{Decision, Verdict};
use crate::wire::{Budget, FailureRecord, Figures};

/// Makes the files of upgrades and counts, when a successor is there to be given them: it is
/// starting meanwhile, and one that does not start needs none.
pub(crate) type Journals = Box<dyn FnOnce() -> Vec<(Generation, Arc<OwnedFd>)> + Send>;

/// What an upgrade needs to know of the service that asks for it.
pub(crate) struct Order {
    pub service: Name,
    pub version: String,
    pub generation: Generation,
    /// The number that the successor gets.
    pub successor: Generation,
    /// Tries the program before it is started for real.
    pub preflight: Option<Pending<Result<()>>>,
    /// Starts the successor, or brings one that runs already.
    pub start: Option<Pending<Result<Started>>>,
    /// Whether somebody else has started it.
    pub taken_over: bool,
    /// How many of its requests the successor may fail.
    pub budget: Option<Budget>,
    /// What has to be well before the successor may commit.
    pub health: Policy,
    /// What this generation serves.
    pub drain: Drain,
    /// How its requests end.
    pub requests: Requests,
    /// What the application does when the turn changes hands.
    pub hooks: Hooks,
    /// What this generation hands over to a successor that asks.
    pub states: States,
    /// What may go on in the successor after the commit.
    pub sessions: Sessions,
    pub lengths: Lengths,
    /// How long a rejected successor that has served may take to finish.
    pub leave: Duration,
    pub accept_unenforceable: bool,
    pub sockets: Inventory,
    /// Whether an operator wants nothing to be accepted, whoever owns.
    pub paused: bool,
    pub elders: Vec<offer::Elder>,
    /// Programs that have failed.
    pub failures: Vec<FailureRecord>,
    /// The journal that we write for the successor, and those of elders.
    pub journals: Journals,
    /// Links of rejected successors that have not gone yet.
    pub rejected: Vec<LinkSender>,
    /// An upgrade is to be run by whoever owns afterwards.
    pub queued: Arc<Queued>,
    /// What the service wants to know at once.
    pub on_news: Box<dyn Fn(News) + Send>,
}

/// A successor whose process runs.
pub(crate) struct Started {
    pub child: Child,
    pub link: OwnedFd,
    /// What it could be rolled back to.
    pub programs: Vec<offer::Program>,
}

/// What becomes known while an upgrade runs.
#[derive(Debug)]
pub(crate) enum News {
    /// The verdict of this handoff, for whoever has to know who owns.
    Verdict(Arc<Verdict>),
    /// The upgrade is in this phase.
    Phase(UpgradePhase),
    /// The successor was asked for another upgrade.
    Asked(AskedBy),
    /// What the successor waits for before it is ready.
    NotYet(String),
    /// The successor's process, in our namespace.
    Process(i32),
    /// The application's version in the successor.
    Version(String),
    /// What the successor has served.
    Served(Figures),
    /// Why the health checks are not content with it; none if they are.
    Health(Option<String>),
}

/// What somebody says about the upgrade while it runs.
#[derive(Debug)]
pub(crate) enum Word {
    /// This generation shall stop.
    Stop,
    /// The successor has proven itself.
    Approve,
    /// It has not.
    Reject(String),
}

/// How it ended.
pub(crate) enum Ended {
    /// The successor owns.
    Committed { report: Report, successor: Box<Relation> },
    /// This generation goes on, or stops.
    RolledBack {
        report: Report,
        /// Whether the successor's program is to blame.
        blamed: bool,
        /// What the successor had served, as it said last.
        served: Figures,
        /// Watches the successor until its end, when it knows what that one had served; and its
        /// link. `None` if there never was a process.
        leaving: Option<(JoinHandle<Left>, Option<LinkSender>)>,
    },
}

/// The newer generation at the other end of a link, with its process.
pub(crate) struct Relation {
    pub generation: Generation,
    pub sender: LinkSender,
    pub receiver: LinkReceiver,
    pub child: Child,
    /// Whether any newer generation lives.
    pub life: Option<Life>,
    /// Decides whether this side owns again.
    pub machine: Predecessor,
    /// The upgrade to it.
    pub span: Span,
}

impl Relation {
    /// Tells the machine; true if this generation owns again.
    pub(crate) fn tell(&mut self, event: Event) -> bool {
        let (machine, actions) = self.machine.clone().on(event, Some(Decision::Committed));
        self.machine = machine;
        actions.contains(&Action::OwnAgain)
    }
}

/// The successor's process, as long as it is this side's to end.
///
/// An upgrade is dropped in the middle only with its runtime: the application has failed or
/// panicked, and this generation is about to die. A successor that holds the whole offer then lives
/// on and owns, as after any other death; without it, nothing can be made of it.
pub(super) struct Charge {
    pub(super) child: Option<Child>,
    pub(super) verdict: Arc<Verdict>,
    /// Whether it holds the whole offer.
    pub(super) adopted: bool,
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        let lives_on = match self.verdict.read() {
            Ok(Some(decision)) => decision == Decision::Committed,
            // One that somebody else started and that holds nothing yet sees the end of its link,
            // and is not ours to end.
            Ok(None) | Err(_) => self.adopted || !child.is_ours(),
        };
        if lives_on {
            child.set_free();
        }
    }
}
