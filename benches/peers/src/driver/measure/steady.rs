//! What each server does when nothing happens: requests a second, and processor time a request.

use std::time::Duration;

use serde::Serialize;

use super::numbers::{Times, median};
use crate::Failure;
use crate::load::mix::{Clients, Mix};
use crate::load::tally::Sample;
use crate::peer::processes::processor_time;
use crate::peer::{Peer, Server, Setup};

const ROUND: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Steady {
    pub(crate) peer: String,
    pub(crate) requests_per_second: f64,
    /// The server's own, in microseconds.
    pub(crate) processor_per_request_us: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Requests a second over those of plain hyper in the same round: the median.
    pub(crate) over_hyper: f64,
}

struct Round {
    rate: f64,
    used: f64,
}

/// All of them run at once and are asked in turn, in so many rounds.
pub(crate) async fn steady(peers: &[Peer], rounds: usize) -> Result<Vec<Steady>, Failure> {
    let mut servers = Vec::new();
    for peer in peers {
        let server = Server::start(*peer, Setup::default())?;
        let processes = server.processes()?;
        servers.push((server, processes, Vec::new(), Vec::new()));
    }
    for round in 0..=rounds {
        for (server, processes, results, samples) in &mut servers {
            let (result, some) = one(server, processes).await?;
            // The first round warms up.
            if round > 0 {
                results.push(result);
                samples.extend(some.into_iter().map(|sample: Sample| sample.took));
            }
        }
    }
    let plain = |round: usize| {
        let (.., results, _) = servers.iter().find(|(server, ..)| server.peer == Peer::Hyper)?;
        results.get(round).map(|round: &Round| round.rate)
    };
    let steady = servers.iter().map(|(server, _, results, samples)| {
        let over = results.iter().enumerate();
        let over = over.filter_map(|(number, round)| Some(round.rate / plain(number)?)).collect();
        let times = Times::new(samples.clone());
        Steady {
            peer: server.peer.id().to_owned(),
            requests_per_second: median(results.iter().map(|round| round.rate).collect()),
            processor_per_request_us: median(results.iter().map(|round| round.used).collect()),
            p50: times.p50(),
            p99: times.p99(),
            over_hyper: median(over),
        }
    });
    Ok(steady.collect())
}

async fn one(server: &Server, processes: &[i32]) -> Result<(Round, Vec<Sample>), Failure> {
    let before = processor_time(processes);
    // Without a thought: what `busy` does when a quarter of it thinks is another measurement.
    let mix = Mix { eager: 32, ..Mix::default() };
    let clients = Clients::start(server, mix).await?;
    tokio::time::sleep(ROUND).await;
    let elapsed = clients.run.began.elapsed().as_secs_f64();
    let answered = clients.run.answered() as f64;
    let run = clients.finish().await;
    let used = processor_time(processes).saturating_sub(before).as_secs_f64();
    let round = Round { rate: answered / elapsed, used: used * 1e6 / answered };
    Ok((round, run.samples()))
}
