//! Upgrades under calls of both kinds: none fails, and no number is missing or comes twice.

use tokio::sync::watch;
use tonic::Status;

use crate::checking::{Failure, Server};
use crate::client::Client;

const UPGRADES: u64 = 3;
const CLIENTS: usize = 8;

pub(crate) async fn check() -> Result<(), Failure> {
    let server = Server::start(|_| Vec::new()).await?;
    let url = format!("http://{}", server.address());
    let (last, done) = watch::channel(false);
    let askers: Vec<_> = (0..CLIENTS)
        .map(|_| Ok(tokio::spawn(ask(Client::new(url.clone())?, done.clone()))))
        .collect::<Result<_, Failure>>()?;
    let counters: Vec<_> = (0..CLIENTS)
        .map(|_| Ok(tokio::spawn(count(Client::new(url.clone())?, UPGRADES))))
        .collect::<Result<_, Failure>>()?;
    for _ in 0..UPGRADES {
        server.upgrade().await?;
    }
    let mut numbers = 0;
    for counter in counters {
        numbers += counter.await??;
    }
    last.send_replace(true);
    let mut calls = 0;
    for asker in askers {
        calls += asker.await??;
    }
    tracing::info!(UPGRADES, calls, numbers, "no call has failed, and no number was missed");
    Ok(())
}

/// Asks one thing after the other; how often.
async fn ask(mut client: Client, done: watch::Receiver<bool>) -> Result<u64, Status> {
    let mut calls = 0;
    while !*done.borrow() {
        client.generation().await?;
        calls += 1;
    }
    Ok(calls)
}

/// Counts until so many streams were ended by an upgrade, and one more number; how far it came.
async fn count(mut client: Client, ends: u64) -> Result<u64, Failure> {
    let mut next = 0;
    for _ in 0..ends {
        let mut numbers = client.count(next).await?;
        while let Some(number) = numbers.message().await? {
            if number != next {
                return Err(format!("{number} came instead of {next}").into());
            }
            next += 1;
        }
    }
    let mut numbers = client.count(next).await?;
    match numbers.message().await? {
        Some(number) if number == next => Ok(next),
        other => Err(format!("{other:?} came instead of {next}").into()),
    }
}
