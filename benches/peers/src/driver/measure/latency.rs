//! How long an upgrade takes, when nothing else happens.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use heirloom_peers::arguments::OCCUPIES_AFTER;
use serde::Serialize;

use super::numbers::Times;
use super::probe::{Seen, ask, watch};
use crate::Failure;
use crate::load::idle::Idle;
use crate::load::tally::Run;
use crate::peer::processes::reap;
use crate::peer::server::Asked;
use crate::peer::{Peer, Server, Setup};

/// No upgrade takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The machine's rest before each upgrade.
const REST: Duration = Duration::from_millis(50);

/// Times in milliseconds after the request for an upgrade.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Latency {
    pub(crate) peer: String,
    pub(crate) upgrades: usize,
    pub(crate) listeners: u16,
    pub(crate) connections: usize,
    pub(crate) resident_mib: usize,
    pub(crate) first_answer: Spread,
    pub(crate) last_accept_of_the_old: Spread,
    pub(crate) exit: Spread,
    pub(crate) probe_failed: u64,
    pub(crate) connections_closed: u64,
    pub(crate) stayed: usize,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Spread {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl From<Vec<Duration>> for Spread {
    fn from(times: Vec<Duration>) -> Self {
        let times = Times::new(times);
        Self { p50: times.p50(), p99: times.p99(), max: times.max() }
    }
}

/// So many upgrades of a server with this setup and so many idle connections.
pub(crate) async fn latency(
    peer: Peer,
    upgrades: usize,
    setup: Setup,
    connections: usize,
) -> Result<Latency, Failure> {
    let mut server = Server::start(peer, setup)?;
    let (mut first, mut last, mut exit) = (Vec::new(), Vec::new(), Vec::new());
    let mut latency = Latency {
        peer: peer.id().to_owned(),
        upgrades,
        listeners: setup.more + 1,
        connections,
        resident_mib: setup.resident,
        ..Latency::default()
    };
    for _ in 0..upgrades {
        let run = Run::new();
        let idle = Idle::open(server.arguments.http()[0], connections, &run).await?;
        // A millisecond for each MiB that it takes into use.
        let occupied = match setup.resident {
            0 => Duration::ZERO,
            resident => OCCUPIES_AFTER + Duration::from_millis(resident as u64),
        };
        tokio::time::sleep(REST + occupied).await;
        let (asked, seen, ended) = tokio::task::block_in_place(|| once(&mut server))?;
        idle.close(&run).await;
        for counts in run.counts().values() {
            latency.connections_closed += counts.closed_idle + counts.failed();
        }
        let after = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(asked.at));
        first.extend(after(seen.first_new(&asked.old)));
        last.extend(after(seen.last_old(&asked.old)));
        exit.extend(after(ended));
        latency.probe_failed += seen.failed;
        latency.stayed += usize::from(ended.is_none());
    }
    latency.first_answer = first.into();
    latency.last_accept_of_the_old = last.into();
    latency.exit = exit.into();
    Ok(latency)
}

/// One upgrade, under the eyes of the probe.
fn once(server: &mut Server) -> Result<(Asked, Seen, Option<Instant>), Failure> {
    let stop = AtomicBool::new(false);
    let address = server.arguments.http()[0];
    std::thread::scope(|scope| {
        let probe = scope.spawn(|| watch(address, &stop));
        std::thread::sleep(Duration::from_millis(5));
        let asked = server.upgrade();
        let ended = asked.as_ref().map(|asked| asked.ends.ended(PATIENCE));
        let ended = match ended {
            Ok(Ok(ended)) => Ok(ended),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(None),
        };
        std::thread::sleep(Duration::from_millis(20));
        stop.store(true, Ordering::Relaxed);
        let seen = probe.join().map_err(|_| "the probe panicked")?;
        reap();
        Ok((asked?, seen, ended?))
    })
}

/// The floor: this program again, started with a listener as its standard input, which it answers
/// at once and without a runtime. What is above it is what a handoff costs.
pub(crate) fn floor(count: usize) -> Result<Spread, Failure> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut times = Vec::new();
    for _ in 0..count {
        std::thread::sleep(REST);
        let began = Instant::now();
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--floor")
            .stdin(std::process::Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone()?)))
            .spawn()?;
        ask(address, 0)?;
        times.push(began.elapsed());
        child.wait()?;
    }
    Ok(times.into())
}

/// Answers one connection on standard input.
pub(crate) fn answer_once() -> Result<(), Failure> {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    let listener = std::net::TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let (mut stream, _) = listener.accept()?;
    let mut request = [0; 1024];
    let _ = stream.read(&mut request)?;
    let pid = std::process::id();
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-pid: {pid}\r\n\r\n")?;
    Ok(())
}
