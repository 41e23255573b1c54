//! Clients that never stop asking, and what becomes of their requests.

mod grpc;
mod http;
mod websocket;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::{Failure, Protocol};

/// Clients at once.
const CLIENTS: u64 = 40;

/// What happened, counted.
#[derive(Debug, Default)]
pub struct Tally {
    pub answered: AtomicU64,
    /// Connections that the server closed while nothing was asked on them: no loss.
    pub closed: AtomicU64,
    /// Connections that could not be made.
    pub refused: AtomicU64,
    /// Requests on a connection that had been answered before, which ended without a word. The
    /// client cannot know whether they were seen.
    pub lost_kept: AtomicU64,
    /// The first requests of connections that ended without a word.
    pub lost_fresh: AtomicU64,
    /// Answers that are not whole, not what was asked for, or errors.
    pub broken: AtomicU64,
    /// Calls that no server has seen, by the word of the protocol: the client makes them again. No
    /// loss.
    pub unseen: AtomicU64,
    /// The words of the last error, where the client's library has any.
    pub last_error: Mutex<String>,
}

/// Counts one.
fn one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Tally {
    /// Everything that a client had a right to and did not get.
    #[must_use]
    pub fn lost(&self) -> u64 {
        [&self.refused, &self.lost_kept, &self.lost_fresh, &self.broken]
            .map(|counter| counter.load(Ordering::Relaxed))
            .iter()
            .sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write!(
            f,
            "{:>9} {:>7} {:>8} {:>10} {:>7} {:>7} {:>6}",
            of(&self.answered),
            of(&self.refused),
            of(&self.lost_kept),
            of(&self.lost_fresh),
            of(&self.broken),
            of(&self.closed),
            of(&self.unseen),
        )
    }
}

/// The clients of one server.
pub struct Load {
    tally: Arc<Tally>,
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts them. It has to be called in a runtime.
    #[must_use]
    pub fn start(address: SocketAddr, protocol: Protocol) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (tally, mut clients) = (Arc::<Tally>::default(), JoinSet::new());
        for number in 0..CLIENTS {
            let client =
                Client { address, number, tally: Arc::clone(&tally), stopped: stopped.clone() };
            match protocol {
                Protocol::Http => clients.spawn(http::run(client)),
                Protocol::Grpc => clients.spawn(grpc::run(client)),
                Protocol::WebSocket => clients.spawn(websocket::run(client)),
            };
        }
        Self { tally, stop, clients }
    }

    /// Resolves when so many more requests have been answered.
    ///
    /// # Errors
    ///
    /// If that takes longer than a minute.
    pub async fn answers(&self, more: u64) -> Result<(), Failure> {
        let target = self.tally.answered.load(Ordering::Relaxed) + more;
        let reached = async {
            while self.tally.answered.load(Ordering::Relaxed) < target {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        Ok(tokio::time::timeout(Duration::from_secs(60), reached).await?)
    }

    /// Stops them, each after its last answer.
    ///
    /// # Errors
    ///
    /// If a client has panicked.
    pub async fn finish(mut self) -> Result<Arc<Tally>, Failure> {
        self.stop.send_replace(true);
        while let Some(ended) = self.clients.join_next().await {
            ended?;
        }
        Ok(self.tally)
    }
}

/// What one client knows.
struct Client {
    address: SocketAddr,
    number: u64,
    tally: Arc<Tally>,
    stopped: watch::Receiver<bool>,
}

impl Client {
    fn goes_on(&self) -> bool {
        !*self.stopped.borrow()
    }

    /// Between two requests: 0, 1, 2 or 5 ms, a quarter of the clients each.
    fn thought(&self) -> Duration {
        Duration::from_millis([0, 1, 2, 5][(self.number % 4) as usize])
    }

    /// After a connection that could not be made: no client tries again at once.
    async fn calm_down(&self) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
