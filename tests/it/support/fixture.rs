//! The server under test, from `main` to its exit code.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::faults::Faults;
use super::journal::Journal;
use super::release::{Habit, Health, Release, Start, TakeOver};
use super::{app, process, wait};

/// The environment variable that makes the test binary a server; its value is the directory.
pub(crate) const VARIABLE: &str = "HEIRLOOM_FIXTURE";

/// The variable that makes the test binary one that asks for the turn and does not behave: how.
pub(crate) const TAKER: &str = "HEIRLOOM_TAKER";

/// A server that a test has lost ends by itself after so many seconds.
const LONGEST_LIFE: u32 = 900;

/// The threads that run its tasks.
pub(crate) const WORKERS: usize = 2;

/// What the whole process knows.
pub(crate) struct Fixture {
    pub directory: PathBuf,
    pub release: Release,
    pub generation: OnceLock<u64>,
    journal: Journal,
}

impl Fixture {
    /// One line in the journal.
    pub(crate) fn write(&self, event: &str, data: Value) {
        self.journal.write(self.generation.get().copied(), event, data);
    }
}

/// A generation. Runs on the main thread before there is any other.
pub(crate) fn main(directory: PathBuf) -> ExitCode {
    nix::unistd::alarm::set(LONGEST_LIFE);
    let fixture = Arc::new(Fixture {
        release: Release::read(&directory),
        generation: OnceLock::new(),
        journal: Journal::open(&directory),
        directory,
    });
    if std::env::args_os().any(|argument| argument == "--check") {
        return check_release(&fixture);
    }
    let start = born(&fixture);
    log(&fixture);
    if let Some(user) = fixture.release.born_as {
        app::become_user(user).unwrap();
    }
    match fixture.release.start {
        Start::ExitBeforeHello(status) => {
            return ExitCode::from(u8::try_from(status).unwrap());
        }
        Start::SilentForever => loop {
            wait::pause(wait::PATIENCE);
        },
        _ => {}
    }
    let _stray = stray(&fixture.release);
    let has = |habit| fixture.release.habits.contains(&habit);
    let exit = if has(Habit::OwnRuntime) {
        run_in(tokio::runtime::Runtime::new().unwrap(), &fixture)
    } else if has(Habit::OneThread) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        run_in(builder.enable_all().build().unwrap(), &fixture)
    } else {
        let fixture = Arc::clone(&fixture);
        heirloom::run(config(&fixture), async |starting| app::main(fixture, starting).await)
    };
    let lived_us = super::journal::now_us() - start;
    fixture.write("end", json!({ "exit": format!("{exit:?}"), "lived_us": lived_us }));
    exit
}

/// The expert's path.
fn run_in(runtime: tokio::runtime::Runtime, fixture: &Arc<Fixture>) -> ExitCode {
    let outcome = runtime.block_on(async {
        let starting = config(fixture).start().await?;
        app::main(Arc::clone(fixture), starting).await
    });
    runtime.shutdown_timeout(fixture.release.shutdown);
    outcome.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// What the process was given at birth, before it has opened anything but the journal.
fn born(fixture: &Fixture) -> u64 {
    let descriptors = given(fixture);
    let arguments: Vec<Vec<u8>> =
        std::env::args_os().map(|argument| argument.as_bytes().to_vec()).collect();
    fixture.write(
        "born",
        json!({
            "version": fixture.release.version,
            "descriptors": descriptors,
            "arguments": arguments,
            "directory": std::env::current_dir().ok(),
            "parent": nix::unistd::getppid().as_raw(),
        }),
    );
    super::journal::now_us()
}

/// The descriptors that this process was started with.
fn given(fixture: &Fixture) -> BTreeMap<i32, String> {
    let journal = Journal::path(&fixture.directory);
    let mut descriptors = process::descriptors(std::process::id().cast_signed());
    descriptors.retain(|_, target| target.as_str() != journal.as_os_str());
    descriptors
}

fn log(fixture: &Arc<Fixture>) {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(fixture.directory.join("trace.log"))
        .unwrap();
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Arc::new(file));
    tracing_subscriber::registry()
        .with(Faults { fixture: Arc::clone(fixture) })
        .with(lines)
        .with(fixture.release.habits.contains(&Habit::LogPanics).then_some(Unwritable))
        .with(tracing_subscriber::filter::LevelFilter::DEBUG)
        .init();
}

/// As a subscriber that tells on standard error of what it could not write, and cannot tell.
struct Unwritable;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Unwritable {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        assert!(!event.metadata().target().starts_with("heirloom"), "failed printing to stderr");
    }
}

/// A descriptor without `CLOEXEC`, if the release has the habit.
fn stray(release: &Release) -> Option<std::os::fd::OwnedFd> {
    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
    let wanted = release.habits.contains(&Habit::StrayDescriptor);
    wanted.then(|| {
        let stray = open("/dev/null", OFlag::O_RDONLY, nix::sys::stat::Mode::empty()).unwrap();
        fcntl(&stray, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        stray
    })
}

fn config(fixture: &Fixture) -> heirloom::Config {
    let release = &fixture.release;
    let name = if release.start == Start::Misconfigured { "a:b" } else { "fixture" };
    let mut config = heirloom::Config::new(name)
        .version(&release.version)
        .probation(release.probation)
        .gap_deadline(release.gap)
        .hello_deadline(release.hello)
        .adopt_deadline(release.adopt)
        .ready_deadline(release.ready)
        .silence_deadline(release.silence)
        .commit_deadline(release.commit)
        .drain_deadline(release.drain)
        .lame_duck(release.lame_duck)
        .drain_spread(release.web.unwrap_or_default().spread)
        .shutdown_deadline(release.shutdown)
        .max_draining(release.max_draining)
        .worker_threads(if release.habits.contains(&Habit::OneWorker) { 1 } else { WORKERS });
    if release.habits.contains(&Habit::PassesDescriptor) {
        let file = std::fs::File::open("/dev/zero").unwrap();
        config = config.pass_descriptor(file, 7).unwrap();
    }
    if let Some((rate, minimum)) = release.error_budget {
        config = config.error_budget(heirloom::ErrorBudget::new(rate).minimum(minimum));
    }
    if release.preflight {
        config = config.preflight(heirloom::Preflight::arguments(["--check"]));
    }
    for health in &release.health {
        config = config.health_check(check(health));
    }
    config = config.min_healthy_time(release.min_healthy_time).progress_deadline(release.progress);
    if release.control {
        config = match std::env::var_os("RUNTIME_DIRECTORY") {
            Some(_) => config.control_socket(),
            None => config.control_socket_at(fixture.directory.join("control.sock")),
        };
        config = config.control_users(release.control_users.iter().copied());
    }
    config = config
        .take_over(match release.take_over {
            TakeOver::Never => heirloom::TakeOver::Never,
            TakeOver::IfSomeoneAnswers => heirloom::TakeOver::IfSomeoneAnswers,
            TakeOver::Require => heirloom::TakeOver::Require,
        })
        .take_over_deadline(release.take_over_deadline);
    if let Some(length) = release.hold_off {
        config = config.hold_off(length, length);
    }
    config = config.stop_notice(release.stop_notice);
    if let Some(path) = &release.journal {
        let file = heirloom::JournalFile::new(fixture.directory.join(path));
        config = config.journal_file(file.longest_bytes(release.journal_bytes));
    }
    config = config.session_deadline(release.session);
    if let Some(state) = &release.state {
        config = state.configure(config);
    }
    if release.pid_file {
        config = config.pid_file(release.pid_path(&fixture.directory));
    }
    if release.habits.contains(&Habit::TakesUnnamed) {
        config = config.take_unnamed_sockets();
    }
    if release.habits.contains(&Habit::MayVeto) {
        let ill = fixture.directory.join("ill");
        config = config.watchdog_when(move || match std::fs::read_to_string(&ill) {
            Ok(why) => Err(why),
            Err(_) => Ok(()),
        });
    }
    if release.habits.contains(&Habit::AcceptsUnenforceable) {
        config = config.accept_unenforceable();
    }
    if release.habits.contains(&Habit::HasNoStopSignal) {
        config = config.stop_signals([]);
    }
    config
}

/// What a server does that is only asked whether it could run.
fn check_release(fixture: &Fixture) -> ExitCode {
    fixture.write("checked", json!(given(fixture).keys().collect::<Vec<_>>()));
    if fixture.release.start == Start::Misconfigured {
        let _ = writeln!(std::io::stderr(), "the configuration has no name");
        return ExitCode::from(3);
    }
    if fixture.release.start == Start::ReplacedWhileTried {
        let (untried, program) = (fixture.directory.join(".untried"), "server");
        std::os::unix::fs::symlink("/bin/false", &untried).unwrap();
        std::fs::rename(untried, fixture.directory.join(program)).unwrap();
    }
    ExitCode::SUCCESS
}

fn check(health: &Health) -> heirloom::HealthCheck {
    let many = |rounds: u32| std::num::NonZeroU32::new(rounds).unwrap();
    heirloom::HealthCheck::tcp(health.listener.as_str(), "echo well\n", "well\n")
        .interval(health.interval)
        .timeout(health.timeout)
        .healthy_threshold(many(health.healthy))
        .unhealthy_threshold(many(health.unhealthy))
}
