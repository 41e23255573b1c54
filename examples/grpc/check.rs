//! Upgrades under calls of both kinds: none fails, and no number is missing or comes twice.

use tokio::sync::watch;
use tonic::{Code, Status};

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
        .map(|_| Ok(tokio::spawn(count(Client::new(url.clone())?, done.clone()))))
        .collect::<Result<_, Failure>>()?;
    for _ in 0..UPGRADES {
        server.upgrade().await?;
    }
    last.send_replace(true);
    let mut numbers = 0;
    for counter in counters {
        numbers += counter.await??;
    }
    let mut calls = 0;
    for asker in askers {
        calls += asker.await??;
    }
    let mut last = Client::new(url)?.count(u64::MAX).await?;
    match last.message().await {
        Err(status) if status.code() == Code::OutOfRange => {}
        other => return Err(format!("after the last number came {other:?}").into()),
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

/// Counts through every stream that an upgrade has ended; how far it came.
async fn count(mut client: Client, done: watch::Receiver<bool>) -> Result<u64, Failure> {
    let (mut next, mut ended) = (0, 0);
    while !*done.borrow() || ended == 0 {
        let mut numbers = client.count(next).await?;
        while let Some(number) = numbers.message().await? {
            if number != next {
                return Err(format!("{number} came instead of {next}").into());
            }
            next += 1;
            if *done.borrow() && ended > 0 {
                return Ok(next);
            }
        }
        ended += 1;
    }
    Ok(next)
}
