//! The accept gate: connections that wait in a backlog are accepted, and an accept loop under load,
//! each beside plain tokio.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};

use crate::allocations;
use crate::cost::{median, spent};
use crate::table::Table;
use crate::{Failure, Options, service};

/// So many connections wait when they are accepted.
const QUEUED: usize = 512;
/// How long one round of load takes.
const ROUND: Duration = Duration::from_millis(250);
const CLIENTS: usize = 16;

pub(crate) fn measure(options: &Options, table: &mut Table) -> Result<(), Failure> {
    queue(options, table)?;
    load(options, table)
}

/// What accepting a whole queue took.
#[derive(Clone, Copy)]
struct Took {
    nanos: f64,
    allocations: f64,
}

fn queue(options: &Options, table: &mut Table) -> Result<(), Failure> {
    table.part("accept", "Accept, of connections that wait in the backlog");
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (plain, ours) = runtime.block_on(async {
        // `TcpListener::bind` would queue 128.
        let socket = TcpSocket::new_v4()?;
        socket.bind("127.0.0.1:0".parse()?)?;
        let plain = socket.listen(4_096)?;
        let start = service().await?;
        let ours = start.tcp("bench", "127.0.0.1:0").await?;
        let _running = start.ready().await?;
        Ok::<_, Failure>((plain, ours))
    })?;
    let (mut plain_took, mut our_took) = (Vec::new(), Vec::new());
    for round in 0..=options.rounds {
        let took = runtime.block_on(accept_all(plain.local_addr()?, async || {
            // As a server does that answers in small pieces.
            plain.accept().await.and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                Ok(stream)
            })
        }))?;
        let own = runtime.block_on(accept_all(ours.local_addr()?, async || ours.accept().await))?;
        // The first round warms up.
        if round > 0 {
            plain_took.push(took);
            our_took.push(own);
        }
    }
    let of = |took: &[Took], what: fn(&Took) -> f64| {
        median(&mut took.iter().map(what).collect::<Vec<_>>())
    };
    let (nanos, plain_nanos) = (of(&our_took, |t| t.nanos), of(&plain_took, |t| t.nanos));
    let count: fn(&Took) -> f64 = |took| took.allocations;
    let (counted, plain_counted) = (of(&our_took, count), of(&plain_took, count));
    table.line("heirloom", nanos, "ns");
    table.line("tokio, with TCP_NODELAY as well", plain_nanos, "ns");
    table.line("heirloom over tokio", nanos / plain_nanos, "x");
    table.line("allocations, heirloom", counted, "");
    table.line("allocations, tokio", plain_counted, "");
    Ok(())
}

/// Lets a backlog fill, then accepts and drops everything; the figures are for one connection.
async fn accept_all<T, E>(
    address: SocketAddr,
    accept: impl AsyncFn() -> Result<T, E>,
) -> Result<Took, Failure>
where
    Failure: From<E>,
{
    let clients: Result<Vec<_>, _> = (0..QUEUED).map(|_| TcpStream::connect(address)).collect();
    let clients = clients?;
    let mut accepted = Vec::with_capacity(QUEUED);
    let (before, counted) = (spent()?, allocations::here());
    for _ in 0..QUEUED {
        accepted.push(accept().await?);
    }
    let counted = allocations::here() - counted;
    let nanos = (spent()? - before).as_nanos() as f64;
    drop((accepted, clients));
    Ok(Took { nanos: nanos / QUEUED as f64, allocations: counted as f64 / QUEUED as f64 })
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

fn load(options: &Options, table: &mut Table) -> Result<(), Failure> {
    table.part("accept_loop", "Accept loop: connect, read to the end, connect again");
    let (servers, clients) = (runtime()?, runtime()?);
    let (plain, ours) = servers.block_on(async {
        let plain = TcpListener::bind("127.0.0.1:0").await?;
        let address = plain.local_addr()?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = plain.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(async move { drop(stream) });
            }
        });
        let start = service().await?;
        let listener = start.tcp("bench", "127.0.0.1:0").await?;
        let own = listener.local_addr()?;
        start.ready().await?.accept_loop(listener, async |conn| {
            drop(conn);
            Ok::<(), std::io::Error>(())
        });
        Ok::<_, Failure>((address, own))
    })?;
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for round in 0..=options.rounds {
        let rate = clients.block_on(connect(ours))?;
        let beside = clients.block_on(connect(plain))?;
        if round > 0 {
            ratios.push(rate / beside);
            rates.push(rate);
        }
    }
    table.line("heirloom", median(&mut rates), "connections/s");
    table.line("heirloom over tokio", median(&mut ratios), "x");
    Ok(())
}

/// Connections a second of one round.
async fn connect(address: SocketAddr) -> Result<f64, Failure> {
    let ended = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (ended, stop) = (Arc::clone(&ended), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let mut stream = tokio::net::TcpStream::connect(address).await?;
                    // The server closes without a word.
                    stream.read_to_end(&mut Vec::new()).await?;
                    ended.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), std::io::Error>(())
            })
        })
        .collect();
    let began = Instant::now();
    tokio::time::sleep(ROUND).await;
    let rate = ended.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await??;
    }
    Ok(rate)
}
