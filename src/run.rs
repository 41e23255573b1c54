//! From `main` to an exit code.

mod turn;

use std::error::Error as StdError;
use std::io::Write as _;
use std::os::fd::{AsFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use crate::birth::{self, Birth, Signals, Supervisor};
use crate::config::Config;
use crate::drain::Drain;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::generation::Generation;
use crate::handoff::adoption::{self, Inheritance};
use crate::handoff::offer;
use crate::inventory::{Inherited, Inventory};
use crate::name::Name;
use crate::pid_file::{self, PidFile};
use crate::report::journal::Journal;
use crate::service::{self, Captured, Command, Programs, Shared};
use crate::spawn::Program;
use crate::starting::Starting;
use crate::status::{Outcome, Role};
use crate::sys::table;

/// Runs a server from `main` to its exit code.
///
/// Finds out how this process was born and settles signals before any thread exists, builds a
/// multi-threaded tokio runtime, runs `app` in it, and ends the runtime within
/// [`Config::shutdown_deadline`].
///
/// An error that `app` returns before it is ready reaches the predecessor's report in full; any
/// error is written to standard error as one line. A generation that is asked to stop, or is not
/// wanted any more, before its application is ready does not wait for it: `app` is dropped at its
/// next `await`. The exit code is 0 after an orderly end, 1
/// after an error or for a successor that never came to own.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     let config = heirloom::Config::new("shop");
///     heirloom::run(config, async |start| {
///         let http = start.tcp("http", "[::]:8080").await?;
///         let running = start.ready().await?;
///         running.accept_loop(http, async |mut connection| {
///             let (mut read, mut write) = tokio::io::split(&mut connection);
///             tokio::io::copy(&mut read, &mut write).await
///         });
///         running.finished().await
///     })
/// }
/// ```
///
/// Where the error's type cannot be inferred (E0283: the last expression is an `Ok(…)`, or `?` meets
/// several types), say it: `async |start| -> Result<_, Box<dyn Error + Send + Sync>> { … }`.
pub fn run<F, E>(config: Config, app: F) -> ExitCode
where
    F: AsyncFnOnce(Starting) -> Result<Outcome, E>,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    let service = config.service.clone();
    match try_run(config, app) {
        Ok(outcome) => {
            if let Outcome::RolledBack { reason } = &outcome {
                complain(&service, reason);
            }
            outcome.into()
        }
        Err(error) => {
            complain(&service, &chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Room for so many descriptors is made at birth: 32 KiB of the kernel's memory.
const DESCRIPTORS: RawFd = 4_096;

type Failure = Box<dyn StdError + Send + Sync>;

/// The application, from its start to its end.
type App<'a> = Box<dyn FnOnce(Starting) -> Pin<Box<dyn Future<Output = Done> + 'a>> + 'a>;

/// How an application or a generation ended.
type Done = Result<Outcome, Failure>;

/// All that depends on the type of an application: the rest is compiled once, in this crate.
fn try_run<F, E>(config: Config, app: F) -> Done
where
    F: AsyncFnOnce(Starting) -> Result<Outcome, E>,
    E: Into<Failure>,
{
    in_runtime(config, Box::new(|start| Box::pin(async { app(start).await.map_err(Into::into) })))
}

fn in_runtime(config: Config, app: App<'_>) -> Done {
    let prepared = Prepared::now(&config)?.with_pid_file(&config);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = config.worker_threads {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build().map_err(|error| {
        Error::new(ErrorKind::Io, "the runtime could not be built").with_source(error)
    })?;
    let shutdown = config.shutdown;
    // On the heap, so that tokio has one kind of future to drive in whatever runtime.
    let live: Pin<Box<dyn Future<Output = Done> + '_>> = Box::pin(live(prepared, config, app));
    // The drop of a runtime, as a panic would bring it about, waits for every blocking task.
    let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(live)));
    runtime.shutdown_timeout(shutdown);
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// The life of a generation, in its runtime.
async fn live(prepared: Prepared, config: Config, app: App<'_>) -> Done {
    // In this thread, which the application needs next: what the predecessor says has mostly
    // arrived while the runtime was built, and then nobody has to be woken.
    let start = prepared.start(config).await?;
    let shared = start.shared();
    let result = tokio::select! {
        biased;
        result = app(start) => result,
        outcome = over_before_ready(&shared) => Ok(outcome),
    };
    if let Err(error) = &result {
        give_up(&shared, chain(error.as_ref())).await;
    }
    result
}

/// The end of a generation whose application still starts: it was asked to stop, or is not wanted
/// any more. The application is not waited for, since it may be waiting for something itself.
async fn over_before_ready(shared: &Shared) -> Outcome {
    let mut outcome = shared.outcome.subscribe();
    let over = outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
    match over {
        Some(outcome) if !shared.asked_ready.load(Ordering::Relaxed) => outcome,
        _ => std::future::pending().await,
    }
}

/// A predecessor hears the error before this process is gone, and what a successor had accepted is
/// finished.
async fn give_up(shared: &Shared, text: String) {
    let role = shared.status.borrow().role;
    let (commit, drain) = (shared.config.deadlines.commit, &shared.config.drain);
    let wait = match role {
        Role::Starting => commit,
        Role::Successor => commit.saturating_add(drain.deadline).saturating_add(drain.force_grace),
        _ => return,
    };
    let (mut outcome, mut status) = (shared.outcome.subscribe(), shared.status.subscribe());
    let said = async {
        shared.ask(Command::Failed(text)).await?;
        tokio::select! {
            outcome = shared.until(&mut outcome, Option::is_some) => outcome.map(drop),
            // It came too late: an owner's application that fails ends with its process.
            status = status.wait_for(|status| status.role == Role::Owner) => {
                status.map(drop).map_err(|_| service::ended())
            }
        }
    };
    // The predecessor ends this process anyway; it only hears less then.
    let _ = tokio::time::timeout(wait, said).await;
}

fn complain(service: &str, text: &str) {
    // If standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{service}: {text}");
}

/// What has to be found out before a runtime exists.
pub(crate) struct Prepared {
    birth: Birth,
    captured: Captured,
    /// Its temporary, if that is written early.
    pid_file: Option<pid_file::Prepared>,
}

impl Prepared {
    pub(crate) fn now(config: &Config) -> Result<Self> {
        let birth = birth::birth(config.unnamed)?;
        let captured = match &birth {
            Birth::Inherited { link } => {
                adoption::greet(link.as_fd(), &config.version)?;
                // There is no runtime yet; the predecessor hears of an error all the same.
                capture(config)
                    .inspect_err(|error| adoption::regret(link.as_fd(), error.chain()))?
            }
            Birth::Activated { .. } | Birth::Fresh => capture(config)?,
        };
        Ok(Self { birth, captured, pid_file: None })
    }

    /// A successor writes its PID file's temporary now, while its predecessor answers the hello.
    /// Where the application has a runtime already it may also go to another directory before it is
    /// ready, and the path would lead elsewhere.
    fn with_pid_file(mut self, config: &Config) -> Self {
        if let (Birth::Inherited { .. }, Some(path)) = (&self.birth, &config.pid_file) {
            // What goes wrong there goes wrong again before ready.
            self.pid_file = PidFile::prepare(path).ok();
        }
        self
    }

    pub(crate) async fn start(mut self, config: Config) -> Result<Starting> {
        let (passed, adopted) = match self.birth {
            Birth::Inherited { link } => {
                (Inherited::Fresh, Some(adoption::adopt(link, config.deadlines).await?))
            }
            birth => {
                let adopted = turn::taken_over(&config, &mut self.captured.signals).await?;
                self.captured.taker = adopted.is_some();
                let passed = match birth {
                    Birth::Activated { descriptors } => Inherited::Activated(descriptors),
                    _ => Inherited::Fresh,
                };
                (passed, adopted)
            }
        };
        let (born, adoption) = match adopted {
            Some((adoption, inheritance)) => {
                let useless = names_of_useless(passed);
                match Born::of(inheritance, &config) {
                    Ok(born) => {
                        born.sockets.has_no_use_for(useless);
                        (born, Some(adoption))
                    }
                    Err(error) => {
                        adoption.give_up(error.chain()).await;
                        return Err(error);
                    }
                }
            }
            None => (Born::first(passed, &config)?, None),
        };
        let Born { drain, sockets, generation, told, journal } = born;
        let programs = Programs::new(
            &self.captured.program,
            generation,
            &config.version,
            config.hold_off,
            told,
        );
        let inventory = service::Holdings { sockets, drain, programs, journal };
        let shared = service::begin(config, generation, inventory, self.captured, adoption)?;
        Ok(Starting::new(shared, self.pid_file))
    }
}

/// What a generation has before its application starts.
struct Born {
    drain: Drain,
    sockets: Inventory,
    generation: Generation,
    told: service::Inherited,
    journal: Journal,
}

impl Born {
    /// The first generation, with what a service manager has passed.
    fn first(passed: Inherited, config: &Config) -> Result<Self> {
        let drain = Drain::new();
        let sockets = with_control(config, Inventory::new(drain.clone(), passed)?)?;
        let (generation, told) = (Generation::FIRST, service::Inherited::default());
        Ok(Self { drain, sockets, generation, told, journal: Journal::default() })
    }

    /// A successor, with what its predecessor has handed over.
    fn of(inheritance: Inheritance, config: &Config) -> Result<Self> {
        let drain = Drain::new();
        let sockets = Inventory::new(drain.clone(), Inherited::Link(inheritance.sockets))?;
        if inheritance.paused {
            sockets.hold();
        }
        let sockets = with_control(config, sockets)?;
        let told = service::Inherited {
            executables: inheritance.programs,
            failures: inheritance.failures,
        };
        let journal = Journal::inherit(inheritance.journals);
        Ok(Self { drain, sockets, generation: inheritance.generation, told, journal })
    }
}

/// Closes what a service manager has passed to a process that takes over, and says so; gives the
/// names. If the manager has them from its fd store, it shall not keep them once this process owns.
fn names_of_useless(passed: Inherited) -> Vec<Name> {
    let Inherited::Activated(descriptors) = passed else { return Vec::new() };
    let closed = descriptors.len();
    crate::log::warn!(
        closed,
        "a service manager has passed sockets, and they are not used: the predecessor hands over \
         its own"
    );
    descriptors.into_iter().filter_map(|(name, _)| name).collect()
}

/// The sockets with the control socket among them, if there is to be one.
fn with_control(config: &Config, sockets: Inventory) -> Result<Inventory> {
    if let Some(path) = config.control_path()? {
        sockets.control(&path, config.control_mode())?;
    }
    Ok(sockets)
}

fn capture(config: &Config) -> Result<Captured> {
    config.check()?;
    // The first upgrade would be too late to learn that there are none.
    let process = offer::own_process()?;
    if let Err(error) = table::reserve(process.as_fd(), DESCRIPTORS) {
        crate::log::debug!(%error, "the table of descriptors grows as it is needed");
    }
    let program = Program::of_this_process()?;
    let signals = Signals::install(config.upgrade_signal, &config.stop_signals)?;
    let supervisor = if config.manager { birth::supervisor() } else { Supervisor::default() };
    Ok(Captured { signals, program, supervisor, taker: false })
}

impl Config {
    /// Starts in a runtime that exists already: the expert's path, for a `main` under
    /// `#[tokio::main]`.
    ///
    /// Its limits, which [`run`](crate::run) does not have: the runtime's threads existed before
    /// the upgrade signal was settled, so in a successor they, and every subprocess started from
    /// them, keep it blocked; the kernel enlarges the table of descriptors as it fills, under those
    /// threads; and a blocking task that never ends keeps the process alive unless the caller shuts
    /// the runtime down with a deadline. Call it once, first thing, from the task that `block_on`
    /// runs.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`], [`ErrorKind::Birth`], [`ErrorKind::Descriptor`], and for a successor
    /// all that makes the handoff impossible.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: what was inherited is closed if the future is dropped.
    pub async fn start(self) -> Result<Starting> {
        Prepared::now(&self)?.start(self).await
    }
}
