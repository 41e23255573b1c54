//! The life of one generation, from birth to its end.
//!
//! **Contract:** one task per process decides everything: it is a successor first (if it was born
//! over a link), then the owner, then an elder, and it may own again. What the application holds
//! ([`Starting`](crate::Starting), [`Running`](crate::Running)) only asks it.

mod command;
mod elder;
mod elders;
mod manager;
mod owner;
mod programs;
mod status;
mod stop;
mod store;
mod successor;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::JoinSet;

pub(crate) use self::programs::{Inherited, Programs};
pub use self::status::{Event, Outcome, Previous, Role, Status};

use self::command::refuse;
pub(crate) use self::command::{Command, Reply};
use self::elders::Elders;
use self::manager::{Beats, Manager};
use self::store::Store;
use crate::birth::{Asked, Signals, Supervisor, WATCHDOG_USEC};
use crate::config::{Config, ProgramOverrides};
use crate::drain::Drain;
use crate::error::{Error, ErrorKind, Result};
use crate::generation::Generation;
use crate::handoff::adoption::{Adoption, Turn};
use crate::handoff::upgrade::News;
use crate::hooks::Hooks;
use crate::inventory::Inventory;
use crate::link::LinkSender;
use crate::name::Name;
use crate::pid_file::{PidFile, Prepared, Published};
use crate::report::history::History;
use crate::report::{Report, UpgradePhase};
use crate::requests::Requests;
use crate::session::Sessions;
use crate::spawn::{Extra, Program};
use crate::state::States;
use crate::verdict::{Decision, Verdict};

/// How many events a slow subscriber may fall behind.
const EVENTS: usize = 256;
/// How many questions of the application may wait.
const COMMANDS: usize = 64;

/// What the application and the service's task share.
pub(crate) struct Shared {
    pub config: Config,
    pub service: Name,
    pub generation: Generation,
    pub sockets: Inventory,
    pub drain: Drain,
    pub requests: Requests,
    pub hooks: Hooks,
    pub states: States,
    pub sessions: Sessions,
    pub manager: Manager,
    pub programs: Programs,
    /// What the next upgrade starts.
    pub program: Program,
    pub commands: mpsc::Sender<Command>,
    pub status: watch::Sender<Status>,
    pub owner: watch::Sender<bool>,
    pub events: broadcast::Sender<Event>,
    pub turn: watch::Sender<Turn>,
    pub outcome: watch::Sender<Option<Outcome>>,
    pub history: Mutex<History>,
    /// An upgrade is to be run by whoever owns afterwards.
    pub queued: Arc<AtomicBool>,
    /// The application has said that it is ready.
    pub asked_ready: AtomicBool,
    /// Of the handoff that runs, or ran last.
    pub verdict: Mutex<Option<Arc<Verdict>>>,
}

/// What is known before the runtime exists.
pub(crate) struct Captured {
    pub signals: Signals,
    pub program: Program,
    pub own_process: Arc<OwnedFd>,
    pub supervisor: Supervisor,
}

/// What a generation has from its birth.
pub(crate) struct Holdings {
    pub sockets: Inventory,
    pub drain: Drain,
    pub programs: Programs,
}

/// The task's own things.
pub(crate) struct Service {
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    signals: Ears,
    extra: Extra,
    own_process: Arc<OwnedFd>,
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
    hurry: Arc<Notify>,
    stop_asked: bool,
    beats: Beats,
    store: Store,
}

/// A rejected successor that has gone.
struct Gone {
    generation: Generation,
    /// Connections that it accepted, if it said so.
    accepted: Option<u64>,
}

enum PidFileState {
    Prepared(Prepared),
    Published(Published),
}

impl Shared {
    pub(crate) fn event(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    /// An upgrade was asked for that cannot begin now: whoever owns afterwards runs it.
    pub(crate) fn remember_upgrade(&self) {
        self.queued.store(true, Ordering::Relaxed);
        self.status.send_modify(|status| status.queued = true);
        self.event(Event::UpgradeQueued);
    }

    /// An upgrade has ended: it is remembered and told.
    pub(crate) fn upgrade_ended(&self, report: &Report) {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).push(report.clone());
        self.event(Event::UpgradeEnded(report.clone()));
    }

    /// Whether this generation owns the service, as far as can be known now: the verdict is read,
    /// so a process that slept through it learns of it before it acts.
    pub(crate) fn owns(&self) -> bool {
        if self.status.borrow().role != Role::Owner {
            return false;
        }
        let verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        let decided = verdict.as_ref().map(|verdict| verdict.read());
        !matches!(decided, Some(Ok(Some(Decision::Committed))))
    }

    pub(crate) fn in_probation(&self) -> bool {
        self.status.borrow().phase == Some(UpgradePhase::Probation)
    }

    /// What becomes known while an upgrade runs.
    fn heard(&self, news: News) {
        match news {
            News::Verdict(verdict) => self.set_verdict(Some(verdict)),
            News::Phase(phase) => self.status.send_modify(|status| {
                status.phase = Some(phase);
                status.not_yet = None;
            }),
            News::Asked => self.remember_upgrade(),
            News::NotYet(why) => self.set_not_yet(why),
            News::Health(ailing) => self.status.send_modify(|status| status.ailing = ailing),
        }
    }

    fn set_verdict(&self, verdict: Option<Arc<Verdict>>) {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = verdict;
    }

    pub(crate) fn set_not_yet(&self, why: String) {
        self.status.send_modify(|status| status.not_yet = Some(why));
    }

    pub(crate) fn set_role(&self, role: Role) {
        self.status.send_if_modified(|status| {
            let changed = status.role != role;
            status.role = role;
            changed
        });
        let owns = role == Role::Owner;
        self.owner.send_if_modified(|owner| std::mem::replace(owner, owns) != owns);
    }

    /// Waits for a value that the service's task sets. The senders live here and not in the task,
    /// so its end (of its runtime, say) shows elsewhere.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stopping`] if the task has ended without it.
    pub(crate) async fn until<T: Clone>(
        &self,
        value: &mut watch::Receiver<T>,
        meets: impl FnMut(&T) -> bool,
    ) -> Result<T> {
        tokio::select! {
            biased;
            value = value.wait_for(meets) => value.map(|value| value.clone()).map_err(|_| ended()),
            () = self.commands.closed() => Err(ended()),
        }
    }

    /// Asks the service's task.
    pub(crate) async fn ask(&self, command: Command) -> Result<()> {
        self.commands.send(command).await.map_err(|_| ended())
    }
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
    let Holdings { sockets, drain, programs } = holdings;
    let (commands, received) = mpsc::channel(COMMANDS);
    let service = config.service_name()?;
    let supervisor = captured.supervisor;
    let manager = Manager::of(&supervisor);
    let shared = Arc::new(Shared {
        status: watch::Sender::new(Status {
            previous: programs.previous_release(),
            ..Status::new(&service, &config.version, generation)
        }),
        owner: watch::Sender::new(false),
        service,
        generation,
        sockets,
        sessions: Sessions::new(drain.clone(), config.sessions()),
        drain,
        requests: Requests::new(),
        hooks: Hooks::default(),
        states: States::new(config.states),
        manager,
        programs,
        program: program(captured.program, &supervisor, &config.program),
        commands,
        events: broadcast::Sender::new(EVENTS),
        turn: watch::Sender::new(Turn::Waiting),
        outcome: watch::Sender::new(None),
        history: Mutex::new(History::default()),
        queued: Arc::new(AtomicBool::new(false)),
        asked_ready: AtomicBool::new(false),
        verdict: Mutex::new(None),
        config,
    });
    let task = Service {
        shared: Arc::clone(&shared),
        commands: received,
        signals: Ears(Some(captured.signals)),
        extra: extra(&shared.config),
        own_process: captured.own_process,
        elders: Elders::new(),
        leaving: JoinSet::new(),
        rejected: Vec::new(),
        highest: generation,
        pid_file: None,
        waiting: Vec::new(),
        hurry: Arc::new(Notify::new()),
        stop_asked: false,
        beats: Beats::new(&shared.manager, &supervisor),
        store: Store::new(&shared.manager, &supervisor, &shared.sockets),
    };
    tokio::spawn(task.live(adoption));
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
    HandedOver(Box<crate::handoff::upgrade::Relation>),
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
                tracing::error!(error = %error.chain(), "signals are not heard any more");
                self.0 = None;
                std::future::pending().await
            }
        }
    }
}

impl Service {
    async fn live(mut self, adoption: Option<Adoption>) {
        let outcome = self.run(adoption).await;
        self.shared.sockets.finish();
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
                Reign::HandedOver(relation) => match self.be_elder(*relation).await {
                    elder::End::Drained(report) => return Outcome::HandedOver(report),
                    elder::End::OwnsAgain => self.own_again().await,
                },
            }
        }
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
                tracing::error!(error = %error.chain(), "the PID file could not be published");
            }
        }
    }

    fn remove_pid_file(&mut self) {
        if let Some(PidFileState::Published(published)) = self.pid_file.take()
            && let Err(error) = published.remove_if_ours()
        {
            tracing::warn!(error = %error.chain(), "the PID file could not be removed");
        }
    }
}
