//! The clients: six kinds, none of which ever tries again.
//!
//! Short connections arrive at a fixed rate whatever the server does (so a pause of the server
//! shows as latency, not as fewer requests); the others are loops that live as long as the load.

mod echo;
mod http;
mod keep_alive;
mod pace;
mod short;
mod slow;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ledger::{Kind, Ledger};
use crate::options::Options;
use crate::trouble::{Class, Trouble};

/// How long a client waits for anything before it calls it lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a client looks the other way after a failure, so that an outage is counted, not
/// hammered.
const SULK: Duration = Duration::from_millis(50);

/// Where the server listens.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    /// HTTP/1.1.
    pub(crate) http: SocketAddr,
    /// Lines, echoed.
    pub(crate) echo: SocketAddr,
    /// Lines, echoed, on a Unix socket.
    pub(crate) unix: PathBuf,
}

/// What every client holds.
#[derive(Clone, Debug)]
struct Client {
    ledger: Arc<Ledger>,
    addresses: Arc<Addresses>,
    stop: watch::Receiver<bool>,
}

impl Client {
    /// Whether the load is to end.
    fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Thinks for this long, or until the load is to end.
    async fn pause(&mut self, time: Duration) {
        let _ = tokio::time::timeout(time, self.stop.wait_for(|stop| *stop)).await;
    }

    /// Writes a failure down and looks the other way for a moment.
    async fn let_down(&mut self, kind: Kind, trouble: Trouble) {
        self.ledger.miss(kind, trouble);
        self.pause(SULK).await;
    }
}

/// All the clients.
pub(crate) struct Load {
    ledger: Arc<Ledger>,
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
}

/// How the rate is divided: the share of each kind, and what one client of it makes a second.
struct Mix {
    short: f64,
    unix_short: f64,
    keep_alive: usize,
    tcp_echo: usize,
    unix_echo: usize,
    slow: usize,
}

impl Mix {
    /// Divides this rate (answers a second).
    fn of(rate: f64) -> Self {
        let clients = |share: f64, each: f64| (rate * share / each).ceil().max(1.0) as usize;
        Self {
            short: rate * 0.42,
            unix_short: rate * 0.12,
            keep_alive: clients(0.30, keep_alive::RATE),
            tcp_echo: clients(0.10, echo::RATE),
            unix_echo: clients(0.05, echo::RATE),
            slow: clients(0.01, 1.0 / slow::TIME.as_secs_f64()),
        }
    }
}

impl Load {
    /// Starts every client.
    pub(crate) fn start(options: &Options, ledger: &Arc<Ledger>, addresses: &Addresses) -> Self {
        let (stop, stopped) = watch::channel(false);
        let client = Client {
            ledger: Arc::clone(ledger),
            addresses: Arc::new(addresses.clone()),
            stop: stopped,
        };
        let mix = Mix::of(options.rate);
        let mut clients = JoinSet::new();
        clients.spawn(pace::arrivals(mix.short, client.clone(), short::http));
        clients.spawn(pace::arrivals(mix.unix_short, client.clone(), short::unix));
        for seed in 0..mix.keep_alive {
            clients.spawn(keep_alive::run(client.clone(), seed));
        }
        for seed in 0..mix.slow {
            clients.spawn(slow::run(client.clone(), seed));
        }
        for seed in 0..mix.tcp_echo {
            clients.spawn(echo::run(client.clone(), Kind::TcpEcho, seed));
        }
        for seed in 0..mix.unix_echo {
            clients.spawn(echo::run(client.clone(), Kind::UnixEcho, seed));
        }
        Self { ledger: Arc::clone(ledger), stop, clients }
    }

    /// Lets every client finish what it has begun, and waits for that.
    pub(crate) async fn stop(mut self) {
        self.ledger.close();
        self.stop.send_replace(true);
        let all = async { while self.clients.join_next().await.is_some() {} };
        // Each step of a client has its own deadline; this one is for a fault in a client.
        let _ = tokio::time::timeout(3 * PATIENCE, all).await;
    }
}

/// One question and its answer, timed and written down; the caller gets what the answer says of
/// the connection.
async fn ask<T: FromServer>(
    client: &mut Client,
    kind: Kind,
    expected: Duration,
    question: impl Future<Output = Result<T, Trouble>>,
) -> Option<T> {
    let began = Instant::now();
    let result = match tokio::time::timeout(PATIENCE + expected, question).await {
        Ok(result) => result,
        Err(_) => Err(Trouble::new(Class::Timeout, format!("no answer in {PATIENCE:?}"))),
    };
    match result {
        Ok(answer) => {
            let latency = began.elapsed().saturating_sub(expected);
            client.ledger.answer(kind, latency, answer.generation(), answer.pid());
            Some(answer)
        }
        Err(trouble) => {
            client.let_down(kind, trouble).await;
            None
        }
    }
}

/// An answer that names who gave it.
trait FromServer {
    /// The generation.
    fn generation(&self) -> u64;
    /// The process.
    fn pid(&self) -> i32;
}
