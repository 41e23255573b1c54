//! The life of one generation, from birth to its end.
//!
//! **Contract:** one task per process decides everything: it is a successor first (if it was born
//! over a link), then the owner, then an elder, and it may own again. What the application holds
//! ([`Starting`](crate::Starting), [`Running`](crate::Running)) only asks it.

mod candidate;
mod command;
mod control;
mod elder;
mod elders;
mod events;
mod manager;
mod owner;
mod pause;
mod programs;
mod shared;
mod stop;
mod store;
mod successor;
mod survey;
mod takeover;
mod wishes;

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tracing::Instrument;

use self::command::refuse;
pub(crate) use self::command::{Command, Reply, Urgency, Wish};
use self::elders::Elders;
use self::manager::{Beats, Manager};
use self::pause::Draining;
pub(crate) use self::pause::Hold;
pub(crate) use self::programs::{Inherited, Programs};
pub(crate) use self::shared::Shared;
use self::store::Store;
use crate::birth::{Asked, Signals, Supervisor, WATCHDOG_USEC};
use crate::config::{Config, ProgramOverrides};
use crate::control::{Answering, Taker};
use crate::drain::Drain;
use crate::error::{Error, ErrorKind, Result};
use crate::generation::Generation;
use crate::handoff::adoption::Adoption;
use crate::handoff::upgrade::Relation;
use crate::inventory::Inventory;
use crate::link::LinkSender;
use crate::pid_file::{PidFile, Prepared, Published};
use crate::report::journal::Journal;
use crate::spawn::{Extra, Program};
use crate::status::{Event, Outcome, Role};
use crate::wire::Figures;

/// How many questions of the application may wait.
const COMMANDS: usize = 64;

/// What is known before the runtime exists.
pub(crate) struct Captured {
    pub signals: Signals,
    pub program: Program,
    pub supervisor: Supervisor,
    /// Whether this process was started by somebody else than its predecessor.
    pub taker: bool,
}

/// What a generation has from its birth.
pub(crate) struct Holdings {
    pub sockets: Inventory,
    pub drain: Drain,
    pub programs: Programs,
    pub journal: Journal,
}

/// The task's own things.
pub(crate) struct Service {
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    signals: Ears,
    extra: Extra,
    elders: Elders,
    /// Rejected successors on their way out.
    leaving: JoinSet<Gone>,
    /// The links of those of them that can be told more.
    rejected: Vec<LinkSender>,
    /// The highest number that a generation of this service has had.
    highest: Generation,
    pid_file: Option<PidFileState>,
    /// Wishes for an upgrade that wait for the one that runs.
    waiting: Vec<Reply>,
    /// Processes that wait for their turn.
    takers: VecDeque<Taker>,
    hurry: Arc<Notify>,
    /// The owner finds that too many generations drain, this one too long.
    crowded: Arc<Notify>,
    /// The owner has said that the service stops.
    stops: bool,
    /// A newer owner has put its number into the PID file, and has said so.
    heir_is_known: bool,
    stop_asked: bool,
    /// Somebody asked twice: nothing is waited for.
    forced: bool,
    /// A drain that leaves the process alive.
    draining: Option<Draining>,
    /// Whoever gives commands over the control socket; accepted while this generation answers.
    answering: Option<Answering>,
    beats: Beats,
    store: Store,
    /// Somebody else than its predecessor has started this process, if it has one.
    taker: bool,
}

/// A rejected successor that has gone.
struct Gone {
    generation: Generation,
    /// What it has served, if it said so.
    served: Option<Figures>,
}

enum PidFileState {
    Prepared(Prepared),
    Published(Published),
}

pub(crate) fn ended() -> Error {
    Error::new(ErrorKind::Stopping, "this generation has ended")
}

/// Brings the service's task to life; it ends with an outcome in [`Shared::outcome`].
pub(crate) fn begin(
    config: Config,
    generation: Generation,
    holdings: Holdings,
    captured: Captured,
    adoption: Option<Adoption>,
) -> Result<Arc<Shared>> {
    let (commands, received) = mpsc::channel(COMMANDS);
    let supervisor = captured.supervisor;
    let manager = Manager::of(&supervisor);
    let program = program(captured.program, &supervisor, &config.program);
    let shared = Arc::new(Shared::new(config, generation, holdings, (commands, manager, program))?);
    let task = Service {
        shared: Arc::clone(&shared),
        commands: received,
        signals: Ears(Some(captured.signals)),
        extra: extra(&shared.config),
        elders: Elders::new(),
        leaving: JoinSet::new(),
        rejected: Vec::new(),
        highest: generation,
        pid_file: None,
        waiting: Vec::new(),
        takers: VecDeque::new(),
        hurry: Arc::new(Notify::new()),
        crowded: Arc::new(Notify::new()),
        stops: false,
        heir_is_known: false,
        stop_asked: false,
        forced: false,
        draining: None,
        answering: None,
        beats: Beats::new(&shared.manager, &supervisor),
        taker: captured.taker,
        store: Store::new(&shared.manager, &supervisor, &shared.sockets),
    };
    crate::task::spawn(task.live(adoption));
    Ok(shared)
}

/// What the next generation gets besides its link.
fn extra(config: &Config) -> Extra {
    Extra { descriptors: config.pass.clone(), blocked: config.upgrade_signal }
}

/// The program of the next generation: ours, but for what the configuration says.
fn program(mut ours: Program, supervisor: &Supervisor, overrides: &ProgramOverrides) -> Program {
    if supervisor.watchdog.is_none() {
        // It is another process's.
        ours.env.retain(|(name, _)| name != WATCHDOG_USEC);
    }
    if let Some(executable) = &overrides.executable {
        ours.exe.clone_from(executable);
    }
    if let Some(arguments) = &overrides.arguments {
        ours.args.clone_from(arguments);
    }
    if let Some(directory) = &overrides.directory {
        ours.cwd = Some(directory.clone());
    }
    for (name, value) in &overrides.environment {
        ours.env.retain(|(other, _)| other != name);
        ours.env.extend(value.clone().map(|value| (name.clone(), value)));
    }
    ours
}

/// Why a reign ended.
enum Reign {
    /// A successor owns.
    HandedOver(Box<Relation>),
    /// The service stops.
    Stopped,
}

/// The signals that mean something to the service.
struct Ears(Option<Signals>);

impl Ears {
    /// The next wish that a signal brought. Signals that cannot be watched are as good as none:
    /// that is said once, and the service serves on. Cancel safe.
    async fn next(&mut self) -> Asked {
        let Some(signals) = &mut self.0 else {
            return std::future::pending().await;
        };
        match signals.next().await {
            Ok(asked) => asked,
            Err(error) => {
                crate::log::error!(error = %error.chain(), "signals are not heard any more");
                self.0 = None;
                std::future::pending().await
            }
        }
    }

    /// When the first signal came of the wish that was heard last, in nanoseconds since the epoch.
    fn came(&self) -> Option<u64> {
        self.0.as_ref().and_then(Signals::came)
    }
}

impl Service {
    async fn live(mut self, adoption: Option<Adoption>) {
        let outcome = self.run(adoption).await;
        self.say_farewell(&outcome).await;
        self.shared.written_down().await;
        self.shared.sockets.finish();
        self.shared.sessions.end();
        self.shared.hooks.settled(self.shared.config.deadlines.commit).await;
        self.shared.set_role(Role::Ended);
        self.shared.event(Event::Ended(outcome.clone()));
        self.shared.outcome.send_replace(Some(outcome));
    }

    async fn run(&mut self, adoption: Option<Adoption>) -> Outcome {
        let begun = match adoption {
            Some(adoption) => self.succeed(adoption).await,
            None => self.first().await,
        };
        if let Err(outcome) = begun {
            return outcome;
        }
        loop {
            match self.own().await {
                Reign::Stopped => return self.stop().await,
                Reign::HandedOver(relation) => match self.hand_over_to(*relation).await {
                    elder::End::Drained(report) => return Outcome::HandedOver(report),
                    elder::End::OwnsAgain => self.own_again().await,
                },
            }
        }
    }

    /// What is logged from here to the end of the drain belongs to that upgrade.
    async fn hand_over_to(&mut self, relation: Relation) -> elder::End {
        let span = relation.span.clone();
        self.be_elder(relation).instrument(span).await
    }

    /// The file names the owner, whoever that is: this is called once this generation is.
    async fn publish_pid_file(&mut self) {
        let prepared = match self.pid_file.take() {
            Some(PidFileState::Prepared(prepared)) => Some(Ok(prepared)),
            // Somebody else's pid was in it meanwhile.
            Some(PidFileState::Published(_)) | None => {
                self.shared.config.pid_file.clone().map(PidFile::prepare)
            }
        };
        let published = match prepared {
            Some(prepared) => prepared.and_then(Prepared::publish),
            None => return,
        };
        match published {
            Ok(published) => self.pid_file = Some(PidFileState::Published(published)),
            Err(error) => {
                crate::log::error!(error = %error.chain(), "the PID file could not be published");
            }
        }
    }

    fn remove_pid_file(&mut self) {
        if let Some(PidFileState::Published(published)) = self.pid_file.take()
            && let Err(error) = published.remove_if_ours()
        {
            crate::log::warn!(error = %error.chain(), "the PID file could not be removed");
        }
    }
}
