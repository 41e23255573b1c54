//! The application: it claims what the release lists, becomes ready, serves, and writes down what
//! it learns.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use heirloom::{Event, Outcome, Role, Running, Starting};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use serde_json::{Map, Value, json};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::fixture::Fixture;
use super::release::{Ailment, Habit, OnYield, Start};
use super::{faults, nonsense, process, services, sessions, states, wait};

/// What every session of the server can use.
pub(crate) struct App {
    pub fixture: Arc<Fixture>,
    pub running: Running,
    /// Connections accepted so far.
    pub accepted: AtomicU64,
    /// How the application ends by itself, once it was told to.
    pub end: watch::Sender<Option<End>>,
}

/// How an application ends that does not wait for its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fail,
    Panic,
}

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

pub(crate) async fn main(
    fixture: Arc<Fixture>,
    mut starting: Starting,
) -> Result<Outcome, Failure> {
    fixture.generation.set(starting.generation().get()).unwrap();
    fixture.write("starting", json!({ "version": fixture.release.version }));
    begin(&fixture).await?;
    states::carry(&fixture, &starting).await?;
    let taken = sessions::take(&starting, fixture.release.moving.as_ref())?;
    let mut services = Vec::new();
    let mut addresses = Map::new();
    for socket in &fixture.release.sockets {
        for service in services::claim(&fixture, &starting, socket).await? {
            addresses.insert(socket.name.clone(), json!(service.address()));
            services.push((service, socket.clone()));
        }
    }
    fixture.write("bound", Value::Object(addresses));
    if fixture.release.habits.contains(&Habit::KeepsNote) {
        keep_note(&fixture, &starting)?;
    }
    if let Some(user) = fixture.release.user {
        become_user(user)?;
    }
    wait_for_database(&fixture, &mut starting);
    let hooked = add_hooks(&fixture, &starting);
    let running = starting.ready().await?;
    hooked.send_replace(Some(running.clone()));
    fixture.write("turn", Value::Null);
    let app = Arc::new(App {
        fixture: Arc::clone(&fixture),
        running: running.clone(),
        accepted: AtomicU64::new(0),
        end: watch::Sender::new(None),
    });
    let watchers = watch(&app);
    taken.send_replace(Some(Arc::clone(&app)));
    start_habits(&fixture);
    if let Some((delay, ailment)) = fixture.release.ailment {
        let (app, runtime) = (Arc::clone(&app), Handle::current());
        drop(std::thread::spawn(move || {
            wait::pause(delay);
            let _in = runtime.enter();
            fall_ill(&app, ailment);
        }));
    }
    let neglected = usize::from(fixture.release.habits.contains(&Habit::NeglectsOneMember));
    for (service, socket) in services.drain(..).skip(neglected) {
        service.serve(&app, &socket);
    }
    let mut end = app.end.subscribe();
    let outcome = tokio::select! {
        outcome = running.finished() => outcome,
        Ok(end) = end.wait_for(Option::is_some) => match *end {
            Some(End::Panic) => panic!("it was told to"),
            _ => return Err("it was told to fail".into()),
        },
    };
    for watcher in watchers {
        let _ = tokio::time::timeout(wait::PATIENCE, watcher).await;
    }
    fixture.write("outcome", json!(outcome.as_ref().map_err(heirloom::Error::chain)));
    Ok(outcome?)
}

/// Something that is there only after a few tries.
fn wait_for_database(fixture: &Fixture, starting: &mut Starting) {
    let failing = fixture.release.not_yet;
    let tries = AtomicU64::new(0);
    if failing > 0 {
        starting.ready_when("database", move || {
            let tried = tries.fetch_add(1, Ordering::Relaxed);
            async move { if tried < failing { Err("connection refused") } else { Ok(()) } }
        });
    }
}

/// Hooks that write down when they are called, and whether this generation owned then. They are
/// there before the turn is; what they are asked by comes with it.
fn add_hooks(fixture: &Arc<Fixture>, starting: &Starting) -> watch::Sender<Option<Running>> {
    let running = watch::Sender::new(None);
    let on_yield = fixture.release.on_yield;
    if on_yield == OnYield::NotAsked {
        return running;
    }
    let note = |moment: &'static str| {
        let (fixture, running) = (Arc::clone(fixture), running.subscribe());
        move || note_hook(Arc::clone(&fixture), running.clone(), moment)
    };
    if on_yield != OnYield::Told {
        let yields = note("yield");
        starting.on_yield(move || {
            let noted = yields();
            async move {
                noted.await;
                match on_yield {
                    OnYield::Refuses => Err("the journal cannot be flushed"),
                    OnYield::NeverAnswers => std::future::pending().await,
                    OnYield::Panics => {
                        // A backtrace takes longer than the gap.
                        std::panic::set_hook(Box::new(|_| {}));
                        panic!("the journal is gone")
                    }
                    OnYield::Blocks(time) => {
                        wait::pause(time);
                        Ok(())
                    }
                    OnYield::Yields | OnYield::NotAsked | OnYield::Told => Ok(()),
                }
            }
        });
    }
    starting.on_roll_back(note("roll back"));
    starting.on_commit(note("commit"));
    running
}

async fn note_hook(
    fixture: Arc<Fixture>,
    mut running: watch::Receiver<Option<Running>>,
    moment: &'static str,
) {
    let Ok(running) = running.wait_for(Option::is_some).await else { return };
    let owns = running.as_ref().is_some_and(Running::is_owner);
    fixture.write("hook", json!({ "moment": moment, "owns": owns }));
}

/// What may go wrong before ready.
async fn begin(fixture: &Fixture) -> Result<(), Failure> {
    tokio::time::sleep(fixture.release.start_delay).await;
    if let Some(directory) = &fixture.release.directory {
        std::env::set_current_dir(directory)?;
    }
    match &fixture.release.start {
        Start::Fail(text) => Err(text.as_str().into()),
        Start::Panic(text) => panic!("{text}"),
        #[allow(clippy::exit, reason = "that is how this release fails")]
        Start::Exit(status) => std::process::exit(*status),
        Start::NeverReady => std::future::pending().await,
        _ => Ok(()),
    }
}

/// A file that goes from generation to generation as a named descriptor; each adds its number.
fn keep_note(fixture: &Fixture, starting: &Starting) -> Result<(), Failure> {
    let mut file = match starting.descriptor("note")? {
        Some(descriptor) => File::from(descriptor),
        None => tempfile::tempfile()?,
    };
    write!(file, "{} ", starting.generation())?;
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    fixture.write("note", json!(text));
    starting.provide_descriptor("note", OwnedFd::from(file))?;
    Ok(())
}

/// Gives up root's rights, as a server does that has bound its ports.
pub(crate) fn become_user(user: u32) -> Result<(), Failure> {
    if Uid::effective().is_root() {
        setgroups(&[])?;
        setgid(Gid::from_raw(user))?;
        setuid(Uid::from_raw(user))?;
    }
    Ok(())
}

/// Writes down every status and every event, to the last.
fn watch(app: &Arc<App>) -> [tokio::task::JoinHandle<()>; 2] {
    let mut statuses = app.running.watch_status();
    let fixture = Arc::clone(&app.fixture);
    let watch_statuses = tokio::spawn(async move {
        loop {
            let status = statuses.borrow_and_update().clone();
            fixture.write("status", json!(status));
            if status.role == Role::Ended || statuses.changed().await.is_err() {
                return;
            }
        }
    });
    let mut events = app.running.events();
    let mut statuses = app.running.watch_status();
    let fixture = Arc::clone(&app.fixture);
    let watch_events = tokio::spawn(async move {
        let write = |event| match event {
            Event::UpgradeEnded(report) => fixture.write("report", json!(report)),
            other => fixture.write("event", json!(other)),
        };
        loop {
            // The last event may have been before this task was there to hear it.
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Ok(event) => write(event),
                    Err(_) => return,
                },
                _ = statuses.wait_for(|status| status.role == Role::Ended) => break,
            }
        }
        while let Ok(event) = events.try_recv() {
            write(event);
        }
    });
    [watch_statuses, watch_events]
}

fn start_habits(fixture: &Arc<Fixture>) {
    for habit in &fixture.release.habits {
        match habit {
            Habit::WaitsForAnyChild => drop(std::thread::spawn(wait_for_any_child)),
            Habit::StartsHelpers => {
                let fixture = Arc::clone(fixture);
                drop(std::thread::spawn(move || start_helpers(&fixture)));
            }
            Habit::TellsNonsense => {
                let fixture = Arc::clone(fixture);
                drop(std::thread::spawn(move || nonsense::tell(&fixture)));
            }
            _ => {}
        }
    }
}

/// Once it owns it is well: nobody would be left to serve.
fn fall_ill(app: &App, ailment: Ailment) {
    if app.running.status().role != Role::Successor {
        return;
    }
    app.fixture.write("ill", json!(ailment));
    match ailment {
        Ailment::Abort => std::process::abort(),
        #[allow(clippy::exit, reason = "that is the ailment")]
        Ailment::Exit(status) => std::process::exit(status),
        Ailment::Panic => {
            // A backtrace takes longer than probation.
            std::panic::set_hook(Box::new(|_| {}));
            app.end.send_replace(Some(End::Panic));
        }
        Ailment::Fail => _ = app.end.send_replace(Some(End::Fail)),
        Ailment::Hang(time) => faults::block_workers(time),
    }
}

fn wait_for_any_child() {
    loop {
        if waitpid(None, Some(WaitPidFlag::empty())).is_err() {
            wait::pause(Duration::from_millis(1));
        }
    }
}

/// A helper has standard streams and nothing else, whenever it was started.
fn start_helpers(fixture: &Fixture) {
    loop {
        let descriptors = process::descriptors_of_a_helper();
        fixture.write("helper", json!(descriptors));
    }
}
