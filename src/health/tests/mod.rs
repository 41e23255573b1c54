//! Checks through real sockets: a service in this process, asked as its predecessor would.

mod answers;
mod doors;
mod watching;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::candidate::Subject;
use super::herald::{Announcement, answer_here};
use super::round::{Round, Rounds};
use super::saturation::{Cause, Failure, Reached};
use super::*;
use crate::drain::Drain;
use crate::generation::Generation;
use crate::inventory::{Inherited, Inventory};
use crate::listener::{ListenOptions, TcpListener};

/// Far beyond what any of these takes; reaching it is a failure.
const LONG: Duration = Duration::from_secs(20);
/// For checks that are meant to get no answer.
const SHORT: Duration = Duration::from_millis(300);

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// A generation under check: its sockets, its counters, and the tasks that serve.
struct Service {
    inventory: Inventory,
    drain: Drain,
    announce: mpsc::Sender<Announcement>,
    tasks: JoinSet<()>,
}

impl Service {
    fn new() -> Self {
        let drain = Drain::new();
        let inventory = Inventory::new(drain.clone(), Inherited::Fresh).unwrap();
        let (announce, announcements) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        let here = inventory.clone();
        tasks.spawn(async move { answer_here(&here, announcements).await });
        Self { inventory, drain, announce, tasks }
    }

    fn tcp(&self, name: &str) -> TcpListener {
        self.inventory.tcp(name, "127.0.0.1:0", &ListenOptions::new()).unwrap()
    }

    /// Everything listens from now on.
    fn open(&self) {
        self.inventory.open().unwrap();
    }

    /// Reads something from each connection, then answers and closes.
    fn answer(&mut self, listener: TcpListener, answer: &'static str) {
        self.tasks.spawn(async move {
            while let Some(mut conn) = listener.accept().await.unwrap() {
                let mut question = [0; 1024];
                if conn.read(&mut question).await.unwrap() > 0 {
                    conn.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
    }

    /// A service with one TCP listener "main", which answers so.
    fn answering(answer: &'static str) -> Self {
        let mut service = Self::new();
        let listener = service.tcp("main");
        service.open();
        service.answer(listener, answer);
        service
    }

    fn subject(&self) -> Subject {
        let generation = Generation::FIRST.next();
        Subject { generation, pid: std::process::id(), doors: self.inventory.doors() }
    }

    fn rounds(&self, check: HealthCheck) -> Rounds {
        check.validate().unwrap();
        Rounds::new(check, Arc::new(self.subject()), self.announce.clone())
    }

    async fn round(&self, check: HealthCheck) -> Round {
        tokio::time::timeout(LONG, self.rounds(check).next()).await.expect("a round has an end")
    }

    /// The reason of a round that fails.
    async fn failure(&self, check: HealthCheck) -> Failure {
        match self.round(check).await {
            Round::Failed(failure) => failure,
            round => panic!("{round:?}"),
        }
    }
}

fn passed() -> Round {
    Round::Passed { unobserved: Default::default() }
}

fn http() -> HealthCheck {
    HealthCheck::http("main", "/healthz").timeout(LONG)
}
