//! What upgrades lose, under a load whose every request is accounted for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Failure;
use crate::load::mix::{Clients, Mix};
use crate::load::tally::{Counts, Run};
use crate::peer::processes::reap;
use crate::peer::{Peer, Server, Setup};
use crate::say;

/// How long the old generation is waited for before the next upgrade is asked for. pingora waits
/// for five seconds itself before it drains, and nginx ignores USR2 as long as the old master lives.
fn patience(peer: Peer) -> Duration {
    Duration::from_secs(match peer {
        Peer::Pingora | Peer::NginxBinary => 30,
        _ => 3,
    })
}

/// The load goes on for so long after each upgrade.
const REST: Duration = Duration::from_millis(200);

/// What became of one server's clients.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Loss {
    pub(crate) peer: String,
    pub(crate) upgrades: usize,
    /// Why there were no more of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gave_up: Option<String>,
    /// Upgrades after which the old generation had not ended within three seconds.
    pub(crate) stayed: usize,
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    /// HTTP/2 requests that the server has said it has not looked at.
    pub(crate) unprocessed: u64,
    pub(crate) idle_connections: u64,
    pub(crate) idle_closed: u64,
    pub(crate) clients: Vec<Client>,
}

/// What became of one kind of client.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Client {
    pub(crate) kind: &'static str,
    pub(crate) answered: u64,
    pub(crate) connections: u64,
    pub(crate) asked_to_leave: u64,
    pub(crate) closed_while_idle: u64,
    pub(crate) failed: BTreeMap<&'static str, u64>,
}

/// Upgrades under mixed load, or under `short` clients alone.
pub(crate) async fn loss(
    peer: Peer,
    upgrades: usize,
    short: Option<usize>,
) -> Result<Loss, Failure> {
    let mut server = Server::start(peer, Setup::default())?;
    let mix = match short {
        Some(short) => Mix { short, ..Mix::default() },
        None => Mix::of(&server),
    };
    let began = Instant::now();
    let clients = Clients::start(&server, mix).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (mut made, mut stayed, mut gave_up) = (0, 0, None);
    while made < upgrades {
        let asked = match tokio::task::block_in_place(|| server.upgrade()) {
            Ok(asked) => asked,
            Err(error) if made == 0 => return Err(format!("{error}; {}", server.log()).into()),
            Err(error) => {
                say(&format!("{}: after {made} upgrades: {error}; {}", peer.title(), server.log()));
                gave_up = Some(error.to_string());
                break;
            }
        };
        made += 1;
        let ended = tokio::task::block_in_place(|| asked.ends.ended(patience(peer)))?;
        if ended.is_none() {
            stayed += 1;
        }
        reap();
        tokio::time::sleep(REST).await;
    }
    let run = clients.finish().await;
    let seconds = began.elapsed().as_secs_f64();
    Ok(Loss { upgrades: made, gave_up, stayed, seconds, ..summary(peer, &run) })
}

fn summary(peer: Peer, run: &Run) -> Loss {
    let counts = run.counts();
    let mut total = Counts::default();
    counts.values().for_each(|counts| total.add(counts));
    let idle = counts.get(&crate::load::tally::Kind::Idle).cloned().unwrap_or_default();
    Loss {
        peer: peer.id().to_owned(),
        requests: total.answered + total.failed(),
        failed: total.failed(),
        unprocessed: total.unprocessed,
        idle_connections: idle.connections,
        idle_closed: idle.connections - idle.answered,
        clients: counts
            .iter()
            .filter(|(_, counts)| counts.connections + counts.failed() > 0)
            .map(|(kind, counts)| Client {
                kind: kind.name(),
                answered: counts.answered,
                connections: counts.connections,
                asked_to_leave: counts.told,
                closed_while_idle: counts.closed_idle,
                failed: counts.faults.iter().map(|(fault, count)| (fault.name(), *count)).collect(),
            })
            .collect(),
        ..Loss::default()
    }
}
