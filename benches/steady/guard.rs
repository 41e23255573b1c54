//! Guards: alone, on many threads, among many others.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use heirloom::{DrainPhase, Guard, Guards};
use tokio::runtime::Builder;

use crate::cost::{compare, median, spent};
use crate::exponent::exponent;
use crate::table::Table;
use crate::{Failure, Options, service};

const THREADS: [usize; 4] = [1, 2, 4, 8];
const AMONG: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];
const TIMES: usize = 100_000;
const BULK: usize = 10_000;

pub(crate) fn measure(options: &Options, table: &mut Table) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let running = runtime.block_on(async { Ok::<_, Failure>(service().await?.ready().await?) })?;
    let guards = running.guards("bench")?;
    alone(options, table, &guards)?;
    among(options, table, &guards)?;
    elsewhere(options, table, &guards)
}

fn alone(options: &Options, table: &mut Table, guards: &Guards) -> Result<(), Failure> {
    table.part("guard", "Guard, nanoseconds of processor time on each of N threads");
    let (shared, count) = (Arc::new(0_u8), AtomicUsize::new(0));
    let held = guards.take();
    let names = [
        "guard, taken and dropped",
        "guard of its own, cloned and dropped",
        "guard, phase looked at",
        "one Arc for all, cloned and dropped",
        "one AtomicUsize for all, up and down",
    ];
    for threads in THREADS {
        let costs = compare(
            threads,
            options.rounds,
            TIMES,
            &[
                &|times| (0..times).for_each(|_| drop(black_box(guards.take()))),
                &|times| {
                    let own = guards.take();
                    (0..times).for_each(|_| drop(black_box(own.clone())));
                },
                &|times| {
                    let serving = |_: &usize| black_box(&held).phase() == DrainPhase::Serving;
                    assert_eq!((0..times).filter(serving).count(), times);
                },
                &|times| (0..times).for_each(|_| drop(black_box(Arc::clone(&shared)))),
                &|times| {
                    (0..times).for_each(|_| {
                        count.fetch_add(1, Ordering::Relaxed);
                        count.fetch_sub(1, Ordering::Relaxed);
                    });
                },
            ],
        )?;
        for (name, cost) in names.iter().zip(&costs) {
            table.line(format!("{threads} x {name}"), *cost, "ns");
        }
        table.line(format!("{threads} x guard over one Arc for all"), costs[0] / costs[3], "x");
    }
    Ok(())
}

/// One guard comes and goes while others are held.
fn among(options: &Options, table: &mut Table, guards: &Guards) -> Result<(), Failure> {
    table.part("guard_among", "Guard, taken and dropped while N others are held");
    let mut points = Vec::new();
    let mut held: Vec<Guard> = Vec::new();
    for others in AMONG {
        held.resize_with(others, || guards.take());
        let costs = compare(
            1,
            options.rounds,
            TIMES,
            &[&|times| (0..times).for_each(|_| drop(black_box(guards.take())))],
        )?;
        table.line(format!("among {others}"), costs[0], "ns");
        points.push((others as f64, costs[0]));
    }
    table.line("exponent", exponent(&points), "");
    Ok(())
}

/// Guards are taken by one thread and dropped by another, as many at once.
fn elsewhere(options: &Options, table: &mut Table, guards: &Guards) -> Result<(), Failure> {
    table.part("guard_elsewhere", "Guards, 10 000 held at once");
    let (mut taken, mut dropped) = (Vec::new(), Vec::new());
    for _ in 0..=options.rounds {
        let before = spent()?;
        let held: Vec<Guard> = (0..BULK).map(|_| guards.take()).collect();
        taken.push((spent()? - before).as_nanos() as f64 / BULK as f64);
        let there = thread::spawn(move || -> Result<f64, Failure> {
            let before = spent()?;
            drop(held);
            Ok((spent()? - before).as_nanos() as f64 / BULK as f64)
        });
        dropped.push(there.join().map_err(|_| "a thread panicked")??);
    }
    table.line("taken by one thread", median(&mut taken), "ns");
    table.line("dropped by another, which ends after it", median(&mut dropped), "ns");
    Ok(())
}
