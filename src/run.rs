//! From `main` to an exit code.

use std::error::Error as StdError;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use crate::birth::{self, Birth, Signals};
use crate::config::Config;
use crate::drain::Drain;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::generation::Generation;
use crate::handoff::adoption;
use crate::inventory::{Inherited, Inventory};
use crate::service::{self, Captured, Command, Outcome, Shared};
use crate::spawn::Program;
use crate::starting::Starting;
use crate::sys::pidfd;

/// Runs a server from `main` to its exit code.
///
/// Finds out how this process was born and settles signals before any thread exists, builds a
/// multi-threaded tokio runtime, runs `app` in it, and ends the runtime within
/// [`Config::shutdown_deadline`].
///
/// An error that `app` returns before it is ready reaches the predecessor's report in full; any
/// error is written to standard error as one line. The exit code is 0 after an orderly end, 1
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

type Failure = Box<dyn StdError + Send + Sync>;

fn try_run<F, E>(config: Config, app: F) -> Result<Outcome, Failure>
where
    F: AsyncFnOnce(Starting) -> Result<Outcome, E>,
    E: Into<Failure>,
{
    let prepared = Prepared::now(&config)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = config.worker_threads {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build().map_err(|error| {
        Error::new(ErrorKind::Io, "the runtime could not be built").with_source(error)
    })?;
    let shutdown = config.shutdown;
    let result = runtime.block_on(async {
        // On a worker, where what the predecessor says arrives without waking this thread.
        let start = tokio::spawn(prepared.start(config)).await??;
        let shared = start.shared();
        let result = app(start).await.map_err(Into::into);
        if let Err(error) = &result {
            give_up(&shared, chain(error.as_ref())).await;
        }
        result
    });
    runtime.shutdown_timeout(shutdown);
    result
}

/// A predecessor hears the error before this process is gone.
async fn give_up(shared: &Shared, text: String) {
    let mut outcome = shared.outcome.subscribe();
    let said = async {
        shared.ask(Command::Failed(text)).await?;
        let ended = outcome.wait_for(Option::is_some).await;
        ended.map(|_| ()).map_err(|_| service::ended())
    };
    if shared.may_fail() {
        // The predecessor ends this process anyway; it only hears less then.
        let _ = tokio::time::timeout(shared.config.deadlines.commit, said).await;
    }
}

fn complain(service: &str, text: &str) {
    // If standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{service}: {text}");
}

/// What has to be found out before a runtime exists.
pub(crate) struct Prepared {
    birth: Birth,
    captured: Captured,
}

impl Prepared {
    pub(crate) fn now(config: &Config) -> Result<Self> {
        config.service_name()?;
        let birth = birth::birth()?;
        if let Birth::Inherited { link } = &birth {
            adoption::greet(link.as_fd(), &config.version)?;
        }
        let program = Program::of_this_process()?;
        let own_process = own_process()?;
        let signals = Signals::install(config.upgrade_signal, &config.stop_signals)?;
        Ok(Self { birth, captured: Captured { signals, program, own_process } })
    }

    pub(crate) async fn start(self, config: Config) -> Result<Starting> {
        let drain = Drain::new();
        let lengths = service::lengths(&config);
        let (sockets, generation, adoption) = match self.birth {
            Birth::Inherited { link } => {
                let (adoption, inheritance) = adoption::adopt(link, lengths).await?;
                match Inventory::new(drain.clone(), Inherited::Link(inheritance.sockets)) {
                    Ok(sockets) => (sockets, inheritance.generation, Some(adoption)),
                    Err(error) => {
                        adoption.give_up(error.chain()).await;
                        return Err(error);
                    }
                }
            }
            Birth::Activated { descriptors } => {
                let sockets = Inventory::new(drain.clone(), Inherited::Activated(descriptors))?;
                (sockets, Generation::FIRST, None)
            }
            Birth::Fresh => {
                (Inventory::new(drain.clone(), Inherited::Fresh)?, Generation::FIRST, None)
            }
        };
        let shared = service::begin(config, generation, sockets, drain, self.captured, adoption)?;
        Ok(Starting::new(shared))
    }
}

fn own_process() -> Result<Arc<OwnedFd>> {
    let pid = nix::unistd::getpid().as_raw();
    let pidfd = pidfd::open(pid).map_err(|error| {
        Error::new(ErrorKind::Io, "a pidfd of this process (Linux 5.10 or later is needed)")
            .with_source(error)
    })?;
    Ok(Arc::new(pidfd))
}

impl Config {
    /// Starts in a runtime that exists already: the expert's path, for a `main` under
    /// `#[tokio::main]`.
    ///
    /// Its limits, which [`run`](crate::run) does not have: the runtime's threads existed before
    /// the upgrade signal was settled, so in a successor they, and every subprocess started from
    /// them, keep it blocked; and a blocking task that never ends keeps the process alive unless
    /// the caller shuts the runtime down with a deadline. Call it once, first thing, from the
    /// task that `block_on` runs.
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
