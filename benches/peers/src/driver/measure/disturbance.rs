//! How much clients notice of an upgrade: the latency of requests in the second after one was
//! asked for, beside that of other seconds.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::numbers::{Times, median};
use crate::Failure;
use crate::load::mix::{Clients, Mix};
use crate::load::tally::Sample;
use crate::peer::processes::{consumed, memory};
use crate::peer::{Peer, Server, Setup};

/// The window that counts as 'around an upgrade'.
const WINDOW: Duration = Duration::from_secs(1);

/// From one upgrade to the next, at least: a window, and as much of quiet.
const PERIOD: Duration = Duration::from_millis(2200);

/// Latencies in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Disturbance {
    pub(crate) peer: String,
    pub(crate) upgrades: usize,
    pub(crate) requests_per_second: f64,
    pub(crate) steady: Percentiles,
    pub(crate) around: Percentiles,
    /// Around an upgrade over steady.
    pub(crate) ratio_p99: f64,
    pub(crate) failed: u64,
    /// Proportional set size of all its processes in quiet, and the most that was seen in
    /// upgrades, in KiB.
    pub(crate) memory_kib: u64,
    pub(crate) memory_kib_most: u64,
    /// Of all its processes, from the request for an upgrade to the end of the old one and for a
    /// second at least, beyond what they use in quiet; the median.
    pub(crate) processor_ms: f64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) samples: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) longest: f64,
}

impl From<Vec<Duration>> for Percentiles {
    fn from(times: Vec<Duration>) -> Self {
        let times = Times::new(times);
        Self {
            samples: times.len(),
            p50: times.p50(),
            p99: times.p99(),
            p999: times.p999(),
            longest: times.max(),
        }
    }
}

/// So many upgrades under `clients` of 100 requests a second each.
pub(crate) async fn disturbance(
    peer: Peer,
    upgrades: usize,
    clients: usize,
) -> Result<Disturbance, Failure> {
    let mut server = Server::start(peer, Setup::default())?;
    let load = Clients::start(&server, Mix { paced: clients, ..Mix::default() }).await?;
    tokio::time::sleep(WINDOW).await;
    let mut windows = Vec::new();
    let mut used = Vec::new();
    let mut most = 0;
    let mut calm = 0;
    for _ in 0..upgrades {
        let quiet = Consumption::new()?;
        tokio::time::sleep(WINDOW).await;
        calm = memory(&server.processes()?);
        let (before, quiet) = (Consumption::new()?, quiet.since()?);
        let asked = tokio::task::block_in_place(|| server.upgrade())?;
        windows.push(asked.at.duration_since(load.run.began));
        tokio::time::sleep(Duration::from_millis(100)).await;
        most = most.max(memory(&server.processes()?));
        tokio::task::block_in_place(|| asked.ends.ended(Duration::from_secs(10)))?;
        tokio::time::sleep(WINDOW.saturating_sub(asked.at.elapsed())).await;
        let around = before.since()?;
        used.push((around.used - quiet.used / quiet.elapsed * around.elapsed) * 1e3);
        tokio::time::sleep(PERIOD.saturating_sub(asked.at.elapsed())).await;
    }
    let run = load.finish().await;
    let samples = run.samples();
    let elapsed = run.began.elapsed().as_secs_f64();
    let (around, steady) = split(&samples, &windows);
    let (around, steady) = (Percentiles::from(around), Percentiles::from(steady));
    Ok(Disturbance {
        peer: peer.id().to_owned(),
        upgrades,
        requests_per_second: samples.len() as f64 / elapsed,
        ratio_p99: around.p99 / steady.p99,
        steady,
        around,
        failed: run.counts().values().map(crate::load::tally::Counts::failed).sum(),
        memory_kib: calm,
        memory_kib_most: most,
        processor_ms: median(used),
    })
}

/// What all processes have used by a moment.
struct Consumption {
    at: Instant,
    used: Duration,
}

/// Seconds of processors, and of the clock.
struct Used {
    used: f64,
    elapsed: f64,
}

impl Consumption {
    fn new() -> Result<Self, Failure> {
        Ok(Self { at: Instant::now(), used: consumed()? })
    }

    fn since(&self) -> Result<Used, Failure> {
        let used = consumed()?.saturating_sub(self.used).as_secs_f64();
        Ok(Used { used, elapsed: self.at.elapsed().as_secs_f64() })
    }
}

/// Samples around an upgrade, and the others. The first second belongs to nobody.
fn split(samples: &[Sample], windows: &[Duration]) -> (Vec<Duration>, Vec<Duration>) {
    let (mut around, mut steady) = (Vec::new(), Vec::new());
    for sample in samples {
        let in_window = |at: &Duration| sample.at + sample.took >= *at && sample.at < *at + WINDOW;
        if windows.iter().any(in_window) {
            around.push(sample.took);
        } else if sample.at >= WINDOW {
            steady.push(sample.took);
        }
    }
    (around, steady)
}
