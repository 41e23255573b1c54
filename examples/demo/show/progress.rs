//! The line that follows the run: rewritten in place on a terminal, one after another elsewhere.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::time::Duration;

use super::summary::Spread;
use super::{count, ms};
use crate::fleet::Fleet;
use crate::ledger::Ledger;
use crate::options::Options;

/// How far back the rate and the latency look.
const WINDOW: Duration = Duration::from_secs(1);

/// Tells how it goes until it is dropped.
pub(crate) async fn follow(options: &Options, ledger: &Ledger, fleet: &Fleet) {
    let terminal = stdout().is_terminal();
    let every = if terminal { Duration::from_millis(200) } else { Duration::from_secs(2) };
    let mut tick = tokio::time::interval(every);
    tick.tick().await;
    loop {
        tick.tick().await;
        let line = line(options, ledger, fleet);
        if terminal {
            print!("\r\x1b[2K{line}");
            let _ = stdout().flush();
        } else {
            println!("{line}");
        }
    }
}

/// Leaves the line as it is and goes to the next.
pub(crate) fn end() {
    if stdout().is_terminal() {
        println!();
    }
}

/// How it goes.
fn line(options: &Options, ledger: &Ledger, fleet: &Fleet) -> String {
    let now = ledger.now();
    let (total, recent) = ledger.answers_since(now.saturating_sub(WINDOW));
    let rate = recent.len() as f64 / WINDOW.as_secs_f64().min(now.as_secs_f64());
    let Spread { p50, p99, .. } = Spread::of(recent.iter().map(|answer| answer.latency));
    let (seen, ended) = (ledger.seen(), fleet.ended());
    let newest = seen.keys().next_back().copied().unwrap_or(0);
    let alive = seen.values().filter(|sighting| !ended.contains_key(&sighting.pid)).count();
    format!(
        "{:5.1} s  generation {newest} of {}  {alive} alive  {} answers  {rate:.0}/s  \
         {} failed  p50 {}  p99 {}",
        now.as_secs_f64(),
        options.upgrades,
        count(total),
        count(ledger.missed()),
        ms(p50),
        ms(p99),
    )
}
