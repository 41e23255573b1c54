//! Arrivals at a fixed rate, and a little chance.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::Client;

/// How often arrivals are let in.
const TICK: Duration = Duration::from_millis(2);

/// The most arrivals in one tick: after a stall of the demo itself they are dropped, not bunched.
const BUNCH: usize = 40;

/// The most that are under way at once; beyond it arrivals wait, as at any real door.
const CROWD: usize = 1500;

/// Starts one `client` after another, `rate` a second, until the load ends; then waits for those
/// that are under way.
pub(crate) async fn arrivals<F>(rate: f64, mut client: Client, one: impl Fn(Client, u64) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut last, mut due, mut number) = (Instant::now(), 0.0, 0);
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            _ = client.stop.wait_for(|stop| *stop) => break,
            _ = tick.tick() => {}
        }
        let passed = last.elapsed();
        client.ledger.counts().stalled(passed.saturating_sub(TICK));
        due = (due + passed.as_secs_f64() * rate).min(BUNCH as f64);
        last = Instant::now();
        while due >= 1.0 && under_way.len() < CROWD {
            under_way.spawn(one(client.clone(), number));
            number += 1;
            due -= 1.0;
        }
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
}

/// A small generator of numbers that look random (SplitMix64); chance here needs no more.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice that fall in their own way for each seed.
    pub(crate) fn new(seed: usize) -> Self {
        Self((seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    /// A time from `low` up to `high`, in milliseconds.
    pub(crate) fn millis(&mut self, low: u64, high: u64) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Duration::from_millis(low + (z ^ (z >> 31)) % (high - low))
    }
}
