//! What came of the trials, for people.

use std::time::Duration;

use crate::serve::{Fault, INTERVAL, TIMEOUT};
use crate::trial::{Handoff, Trial};

pub(crate) const HEAD: &str = "\
| the new release … | handoff          | requests | failed  | the old one answers again after      |
| ----------------- | ---------------- | -------- | ------- | ------------------------------------ |";

pub(crate) const LEGEND: &str = "
Failed: not answered with 200 within half a second, per trial (median). Every millisecond a client
comes, connects, asks once and never retries. The time counts from the moment in which
the release began to misbehave to the first good answer of the old one (p50, p99).";

pub(crate) fn row(fault: Fault, handoff: Handoff, trials: &[Trial]) -> String {
    let middle = |of: fn(&Trial) -> usize| {
        let mut all: Vec<usize> = trials.iter().map(of).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    };
    let how = match handoff {
        Handoff::Probation => "probation",
        Handoff::ReadyIsTheEnd => "ready is the end",
    };
    format!(
        "| {:<17} | {how:<16} | {:>8} | {:>7} | {:<36} |",
        fault.name(),
        middle(|trial| trial.asked),
        middle(|trial| trial.failed),
        back(fault, trials),
    )
}

fn back(fault: Fault, trials: &[Trial]) -> String {
    let mut times: Vec<Duration> = trials.iter().filter_map(|trial| trial.back_after).collect();
    times.sort_unstable();
    let never = trials.len() - times.len();
    let millis = |time: &Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    let (Some(middle), Some(slowest)) = (times.get(times.len() / 2), percentile(&times)) else {
        return String::from("never");
    };
    let bound = match fault {
        Fault::Crash | Fault::Errors => String::new(),
        Fault::Health => format!(" (check: {} ms)", INTERVAL.as_millis()),
        Fault::Hang => format!(" (check: {} ms)", (INTERVAL + TIMEOUT).as_millis()),
    };
    let never = if never > 0 { format!(", {never} never") } else { String::new() };
    format!("{} ms, {} ms{bound}{never}", millis(middle), millis(slowest))
}

fn percentile(sorted: &[Duration]) -> Option<&Duration> {
    sorted.get((sorted.len() * 99).div_ceil(100).checked_sub(1)?)
}
