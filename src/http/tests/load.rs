//! Busy clients across many handoffs.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use super::app::soon;
use super::client::{Answer, Client};
use super::generation::{Generation, ms, server, settings};
use crate::drain::{DrainOutcome, DrainReport, DrainSettings};

/// Four times the default: a client that is slow to ask on a busy machine has to ask within it.
const LAME_DUCK: Duration = Duration::from_secs(2);

/// What the clients of one run have seen.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) requests: AtomicU64,
    /// Idle connections that the server closed.
    pub(super) closed: AtomicU64,
    stop: AtomicBool,
    failures: Mutex<BTreeMap<String, u64>>,
}

impl Ledger {
    fn fail(&self, what: &str, error: &io::Error) {
        let kind = format!("{what}: {:?} {error}", error.kind());
        *self.failures.lock().unwrap().entry(kind).or_default() += 1;
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn failures(&self) -> BTreeMap<String, u64> {
        self.failures.lock().unwrap().clone()
    }
}

/// Asks again and again on one connection, with `thought` between, and never asks twice.
pub(super) async fn stay(address: SocketAddr, thought: Duration, posts: u64, ledger: Arc<Ledger>) {
    let mut open: Option<Client> = None;
    let mut number = 0_u64;
    while !ledger.stop.load(Ordering::Relaxed) {
        number += 1;
        let mut client = match open.take() {
            Some(client) => client,
            None => match Client::connect(address).await {
                Ok(client) => client,
                Err(error) => {
                    ledger.fail("connect", &error);
                    continue;
                }
            },
        };
        ledger.requests.fetch_add(1, Ordering::Relaxed);
        match ask(&mut client, number, posts).await {
            Ok(answer) if answer.says_close() => {}
            Ok(_) => open = think(client, thought, &ledger).await,
            Err(error) => ledger.fail(if number % 2 == posts { "POST" } else { "GET" }, &error),
        }
    }
}

async fn ask(client: &mut Client, number: u64, posts: u64) -> io::Result<Answer> {
    if number % 2 != posts {
        return soon(client.get("/")).await;
    }
    let text = format!("order {number}");
    let answer = soon(client.post("/echo", text.as_bytes())).await?;
    assert_eq!(String::from_utf8_lossy(&answer.body), text);
    Ok(answer)
}

/// A client that looks at its connection sees the close before it asks again.
async fn think(mut client: Client, thought: Duration, ledger: &Ledger) -> Option<Client> {
    if thought.is_zero() {
        return Some(client);
    }
    let mut byte = [0];
    tokio::select! {
        biased;
        read = client.stream.read(&mut byte) => {
            match read {
                Ok(0) => _ = ledger.closed.fetch_add(1, Ordering::Relaxed),
                Ok(_) => ledger.fail("idle", &io::Error::other("an answer nobody asked for")),
                Err(error) => ledger.fail("idle", &error),
            }
            None
        }
        () = tokio::time::sleep(thought) => Some(client),
    }
}

/// Connects, asks once, closes, without a pause.
async fn come_and_go(address: SocketAddr, ledger: Arc<Ledger>) {
    while !ledger.stop.load(Ordering::Relaxed) {
        ledger.requests.fetch_add(1, Ordering::Relaxed);
        let asked = async {
            let mut client = Client::connect(address).await?;
            client.get("/").await
        };
        if let Err(error) = soon(asked).await {
            ledger.fail("short", &error);
        }
    }
}

/// Hands over `times` times, and gives the reports of the drains.
async fn hand_over(mut generation: Generation, times: usize, pause: Duration) -> Vec<DrainReport> {
    let mut drains = Vec::new();
    for _ in 0..times {
        tokio::time::sleep(pause).await;
        let next = generation.hand_over().await;
        next.serve(server(&next.app), LAME_DUCK, None);
        drains.push(generation.drain(DrainSettings { lame_duck: LAME_DUCK, ..settings() }));
        generation = next;
    }
    let mut reports = Vec::new();
    for drain in drains {
        reports.push(soon(drain).await.unwrap());
    }
    reports
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_a_hundred_busy_clients_lose_nothing_across_ten_drains() {
    let generation = Generation::first();
    let ledger = Arc::new(Ledger::default());
    let mut clients = JoinSet::new();
    for client in 0..100_u64 {
        let thought = ms([0, 1, 5, 20][client as usize % 4]);
        clients.spawn(stay(generation.address, thought, client % 2, Arc::clone(&ledger)));
    }
    let reports = hand_over(generation, 10, ms(300)).await;
    ledger.stop();
    clients.join_all().await;
    assert_eq!(ledger.failures(), BTreeMap::new());
    assert!(reports.iter().all(|report| report.outcome == DrainOutcome::Drained), "{reports:?}");
    assert!(ledger.requests.load(Ordering::Relaxed) > 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_a_backlog_that_is_never_empty_loses_nothing() {
    let generation = Generation::first();
    let ledger = Arc::new(Ledger::default());
    let mut clients = JoinSet::new();
    for _ in 0..64 {
        clients.spawn(come_and_go(generation.address, Arc::clone(&ledger)));
    }
    let reports = hand_over(generation, 10, ms(150)).await;
    ledger.stop();
    clients.join_all().await;
    assert_eq!(ledger.failures(), BTreeMap::new());
    assert!(reports.iter().all(|report| report.outcome == DrainOutcome::Drained), "{reports:?}");
}
