//! The application: it claims what the release lists, becomes ready, serves, and writes down what
//! it learns.

use std::error::Error;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use heirloom::{
    Event, ListenOptions, Listener, Outcome, Role, Running, Starting, TcpListener, Transport,
    UdpSocket, UnixListener,
};
use nix::sys::wait::{WaitPidFlag, waitpid};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::client::Address;
use super::fixture::Fixture;
use super::release::{Habit, Kind, Socket, Start};
use super::{commands, process, wait};

/// What every session of the server can use.
pub(crate) struct App {
    pub fixture: Arc<Fixture>,
    pub running: Running,
    /// Connections accepted so far.
    pub accepted: AtomicU64,
    /// The application's main function shall fail.
    pub fails: Notify,
}

enum Service {
    Tcp(TcpListener),
    Unix(UnixListener),
    Udp(UdpSocket),
}

type Failure = Box<dyn Error + Send + Sync>;

pub(crate) async fn main(fixture: Arc<Fixture>, starting: Starting) -> Result<Outcome, Failure> {
    fixture.generation.set(starting.generation().get()).unwrap();
    fixture.write("starting", json!({ "version": fixture.release.version }));
    begin(&fixture).await?;
    let mut services = Vec::new();
    let mut addresses = Map::new();
    for socket in &fixture.release.sockets {
        for service in claim(&fixture, &starting, socket).await? {
            addresses.insert(socket.name.clone(), json!(address(&service)));
            services.push((service, socket.clone()));
        }
    }
    fixture.write("bound", Value::Object(addresses));
    let running = starting.ready().await?;
    fixture.write("turn", Value::Null);
    let app = Arc::new(App {
        fixture: Arc::clone(&fixture),
        running: running.clone(),
        accepted: AtomicU64::new(0),
        fails: Notify::new(),
    });
    let watchers = watch(&app);
    start_habits(&fixture);
    for (service, socket) in services {
        serve(&app, service, &socket);
    }
    let outcome = tokio::select! {
        outcome = running.finished() => outcome,
        () = app.fails.notified() => return Err("told to fail".into()),
    };
    for watcher in watchers {
        let _ = tokio::time::timeout(wait::PATIENCE, watcher).await;
    }
    fixture.write("outcome", json!(outcome.as_ref().map_err(heirloom::Error::chain)));
    Ok(outcome?)
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

async fn claim(
    fixture: &Fixture,
    starting: &Starting,
    socket: &Socket,
) -> Result<Vec<Service>, Failure> {
    let (name, address) = (socket.name.as_str(), socket.address.as_str());
    let mut options = ListenOptions::new();
    if let Some(backlog) = socket.backlog.and_then(NonZeroU32::new) {
        options = options.backlog(backlog);
    }
    Ok(match socket.kind {
        Kind::Tcp => {
            let listener = starting.tcp_with(name, address, options).await?;
            vec![Service::Tcp(listener)]
        }
        Kind::Group(members) => {
            let members = NonZeroUsize::new(members).ok_or("a group of none")?;
            let listeners = starting.tcp_group(name, address, members, options).await?;
            listeners.into_iter().map(Service::Tcp).collect()
        }
        Kind::Unix => {
            let place = match address.strip_prefix('@') {
                Some(rest) => format!("@{}", abstract_name(fixture, rest)).into(),
                None => fixture.directory.join(address),
            };
            vec![Service::Unix(starting.unix_with(name, place, options).await?)]
        }
        Kind::Udp => vec![Service::Udp(starting.udp(name, address).await?)],
    })
}

/// Abstract names are the machine's: the test's directory keeps them apart.
fn abstract_name(fixture: &Fixture, name: &str) -> String {
    let directory = fixture.directory.file_name().unwrap_or_default();
    format!("{}-{name}", directory.display())
}

fn address(service: &Service) -> Option<Address> {
    match service {
        Service::Tcp(listener) => listener.local_addr().ok().map(Address::Inet),
        Service::Udp(socket) => socket.local_addr().ok().map(Address::Inet),
        Service::Unix(listener) => {
            use std::os::linux::net::SocketAddrExt;
            let address = listener.local_addr().ok()?;
            let name = address.as_abstract_name();
            match (address.as_pathname(), name) {
                (Some(path), _) => Some(Address::Path(path.to_owned())),
                (_, Some(name)) => Some(Address::Abstract(String::from_utf8_lossy(name).into())),
                _ => None,
            }
        }
    }
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
    let fixture = Arc::clone(&app.fixture);
    let watch_events = tokio::spawn(async move {
        while let Ok(event) = events.recv().await {
            match &event {
                Event::UpgradeEnded(report) => fixture.write("report", json!(report)),
                other => fixture.write("event", json!(other)),
            }
            if matches!(event, Event::Ended(_)) {
                return;
            }
        }
    });
    [watch_statuses, watch_events]
}

fn serve(app: &Arc<App>, service: Service, socket: &Socket) {
    if !socket.accepts {
        return;
    }
    let (app, pace) = (Arc::clone(app), socket.pace);
    let name = socket.name.clone();
    tokio::spawn(async move {
        let fixture = Arc::clone(&app.fixture);
        let end = match service {
            Service::Tcp(listener) => accept(app, listener, pace).await,
            Service::Unix(listener) => accept(app, listener, pace).await,
            Service::Udp(socket) => answer_datagrams(app, socket).await,
        };
        let error = end.err().map(|error| error.chain());
        fixture.write("accept ended", json!({ "name": name, "error": error }));
    });
}

async fn accept<T>(app: Arc<App>, listener: Listener<T>, pace: Duration) -> heirloom::Result<()>
where
    T: Transport,
    T::Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T::Addr: Unpin + Send + 'static,
{
    while let Some(conn) = listener.accept().await? {
        tokio::spawn(commands::session(conn, Arc::clone(&app)));
        if !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
    }
    Ok(())
}

/// Each datagram goes back with the generation behind it.
async fn answer_datagrams(app: Arc<App>, socket: UdpSocket) -> heirloom::Result<()> {
    let generation = app.fixture.generation.get().copied().unwrap_or(0);
    let mut buffer = [0; 256];
    while let Some((length, peer)) = socket.recv_from(&mut buffer).await? {
        let text = String::from_utf8_lossy(&buffer[..length]);
        let answer = format!("{text} {generation}");
        if let Err(error) = socket.send_to(answer.as_bytes(), peer).await {
            app.fixture.write("send failed", json!(error.to_string()));
        }
    }
    Ok(())
}

fn start_habits(fixture: &Arc<Fixture>) {
    for habit in &fixture.release.habits {
        match habit {
            Habit::WaitsForAnyChild => drop(std::thread::spawn(wait_for_any_child)),
            Habit::StartsHelpers => {
                let fixture = Arc::clone(fixture);
                drop(std::thread::spawn(move || start_helpers(&fixture)));
            }
            Habit::StrayDescriptor => {}
        }
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
