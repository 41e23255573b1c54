//! Clients at a fixed rate. A request's latency counts from when it should have been sent, so that
//! a server that stands still is not asked less.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::fault::Fault;
use super::tally::{Counts, Kind, Run, Sample};
use super::wire::{After, Line, Method, connect};

/// Asks at every tick; the first of them comes after `offset`.
pub(crate) async fn paced(to: SocketAddr, every: Duration, offset: Duration, run: Arc<Run>) {
    let mut counts = Counts::default();
    let mut samples = Vec::new();
    let mut line = None;
    let mut ticks = interval_at(Instant::from_std(run.began) + offset, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while run.goes_on() {
        let due = ticks.tick().await;
        let asked = once(to, &mut line, &run, &mut counts).await;
        match asked {
            Ok(()) => {
                run.answer();
                counts.answered += 1;
                let at = due.duration_since(Instant::from_std(run.began));
                samples.push(Sample { at, took: due.elapsed() });
            }
            Err(fault) => {
                line = None;
                counts.fault(fault);
            }
        }
    }
    run.ended(Kind::Paced, &counts, samples);
}

async fn once(
    to: SocketAddr,
    line: &mut Option<Line<TcpStream>>,
    run: &Run,
    counts: &mut Counts,
) -> Result<(), Fault> {
    if line.as_mut().is_some_and(Line::is_over) {
        counts.closed_idle += 1;
        *line = None;
    }
    if line.is_none() {
        *line = Some(Line::new(connect(to, None).await?));
        counts.connections += 1;
    }
    if let Some(open) = line {
        let answer = open.ask(Method::Get, run.number(), After::Open).await?;
        if answer.after == After::Ends {
            counts.told += 1;
            *line = None;
        }
    }
    Ok(())
}
