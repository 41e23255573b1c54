//! A drain of many guards: what dropping one costs while a drain waits, and how long the end of the
//! last one takes to be known.

use std::thread::sleep;
use std::time::{Duration, Instant};

use heirloom::{DrainPhase, Guard};
use tokio::runtime::Builder;

use crate::cost::{median, spent};
use crate::exponent::exponent;
use crate::table::Table;
use crate::{Failure, Options, service};

const GUARDS: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];

/// What one drain took.
struct Took {
    /// A drop of a guard that a drain waits for.
    drop: Duration,
    /// From the last drop until the service has finished.
    end: Duration,
}

pub(crate) fn measure(options: &Options, table: &mut Table) -> Result<(), Failure> {
    table.part("drain", "Drain of N guards that go one right after the other");
    let (mut drops, mut ends) = (Vec::new(), Vec::new());
    for guards in GUARDS {
        let (mut drop_nanos, mut end_micros) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds.min(10) {
            let took = drain(guards)?;
            drop_nanos.push(took.drop.as_nanos() as f64 / guards as f64);
            end_micros.push(took.end.as_nanos() as f64 / 1_000.0);
        }
        let (drop, end) = (median(&mut drop_nanos), median(&mut end_micros));
        table.line(format!("of {guards}, each drop"), drop, "ns");
        table.line(format!("of {guards}, last drop to finished"), end, "us");
        drops.push((guards as f64, drop));
        ends.push((guards as f64, end));
    }
    // A few drops are mostly the clock's own time.
    table.line("exponent of a drop", exponent(&drops[1..]), "");
    table.line("exponent of the end", exponent(&ends), "");
    Ok(())
}

fn drain(count: usize) -> Result<Took, Failure> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let running = runtime.block_on(async { Ok::<_, Failure>(service().await?.ready().await?) })?;
    let guards = running.guards("bench")?;
    let held: Vec<Guard> = (0..count).map(|_| guards.take()).collect();
    let finished = runtime.spawn({
        let running = running.clone();
        async move {
            let outcome = running.finished().await;
            (outcome, Instant::now())
        }
    });
    runtime.spawn(async move { running.stop().await });
    // The drain waits for nothing but these once it has told them all.
    for guard in &held {
        runtime.block_on(guard.reached(DrainPhase::LameDuck));
    }
    sleep(Duration::from_millis(20));
    let mut held = held;
    let last = held.pop();
    let before = spent()?;
    drop(held);
    let took = spent()? - before;
    let began = Instant::now();
    drop(last);
    let (outcome, at) = runtime.block_on(finished)?;
    outcome?;
    Ok(Took { drop: took, end: at.saturating_duration_since(began) })
}
