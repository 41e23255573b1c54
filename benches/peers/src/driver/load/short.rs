//! Clients that connect, ask once and close, without a pause: the backlog is never empty.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::tally::{Counts, Kind, Run, Sample};
use super::wire::{After, Line, Method, connect};

/// Asks on new connections until the run ends.
pub(crate) async fn short(to: SocketAddr, from: Ipv4Addr, run: Arc<Run>) {
    let mut counts = Counts::default();
    let mut samples = Vec::new();
    while run.goes_on() {
        let began = Instant::now();
        match once(to, from, run.number()).await {
            Ok(()) => {
                counts.answered += 1;
                counts.connections += 1;
                run.answer();
                samples.push(Sample { at: began.duration_since(run.began), took: began.elapsed() });
            }
            Err(fault) => {
                counts.fault(fault);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    run.ended(Kind::Short, &counts, samples);
}

async fn once(to: SocketAddr, from: Ipv4Addr, number: u64) -> Result<(), Fault> {
    let mut line = Line::new(connect(to, Some(from)).await?);
    line.ask(Method::Get, number, After::Ends).await?;
    line.rest().await
}
