//! Everybody is told 1012, not all at once, and comes back to the next generation.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::checking::{Failure, Server};
use crate::client::{Client, Heard};

const CLIENTS: usize = 60;
const SPREAD: Duration = Duration::from_secs(2);

pub(crate) async fn check() -> Result<(), Failure> {
    let server =
        Server::start(|_| vec![String::from("--spread"), SPREAD.as_millis().to_string()]).await?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect(server.address()).await?);
    }
    let address = server.address();
    let clients: Vec<_> =
        clients.into_iter().map(|client| tokio::spawn(until_back(client, address))).collect();
    server.upgrade().await?;
    let mut told = Vec::new();
    for client in clients {
        told.push(client.await??);
    }
    told.sort();
    let (first, last) = (told[0], told[CLIENTS - 1]);
    let median = told[CLIENTS / 2] - first;
    let window = last - first;
    tracing::info!(?window, ?median, "everybody was told 1012 and has come back");
    // Evenly spread, the last is told at the window's end and the median in its middle.
    if window < SPREAD / 2 || median < SPREAD / 8 || median > SPREAD * 7 / 8 {
        return Err("they were told all at once".into());
    }
    Ok(())
}

/// Talks to generation 0 until told to go, and then with generation 1. When it was told.
async fn until_back(mut client: Client, address: SocketAddr) -> Result<Instant, Failure> {
    let mut number = 0_u64;
    while let Heard::Answer { generation } = client.say(&number.to_string()).await? {
        if generation != 0 {
            return Err(format!("a connection went from generation 0 to {generation}").into());
        }
        number += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told = Instant::now();
    let mut client = Client::connect(address).await?;
    match client.say(&number.to_string()).await? {
        Heard::Answer { generation: 1 } => Ok(told),
        Heard::Answer { generation } => Err(format!("generation {generation} answers").into()),
        Heard::Restart => Err("told to go again, at once".into()),
    }
}
