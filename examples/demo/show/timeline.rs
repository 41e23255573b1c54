//! The timeline as text: one column for each slice of the run.

use std::time::Duration;

use super::summary::{Spread, Summary};

/// How many columns it has.
const COLUMNS: usize = 72;

/// The steps of a column, from nothing to full.
const STEPS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Throughput, latency, upgrades and failures, column by column.
pub(crate) fn timeline(summary: &Summary) -> String {
    let (first, last) = summary.span();
    let slice = (last - first) / COLUMNS as u32;
    let column = |at: Duration| {
        let slices = at.saturating_sub(first).as_secs_f64() / slice.as_secs_f64().max(1e-9);
        (slices as usize).min(COLUMNS - 1)
    };
    let mut latencies: Vec<Vec<Duration>> = vec![Vec::new(); COLUMNS];
    for answer in summary.in_span() {
        push(&mut latencies, column(answer.at), answer.latency);
    }
    let rates: Vec<f64> = latencies.iter().map(|it| it.len() as f64).collect();
    let most = rates.iter().copied().fold(1.0, f64::max);
    let worst: Vec<f64> =
        latencies.into_iter().map(|it| Spread::of(it).p99.as_secs_f64() * 1e3).collect();
    let commits = summary.upgrades.iter().filter_map(|it| it.committed);
    let per_second = most / slice.as_secs_f64().max(1e-9);
    let rows = [
        ("answers", bars(&rates, |rate| rate / most), format!("to {per_second:.0}/s")),
        ("p99", bars(&worst, |ms| (ms.max(0.1).log10() + 1.0) / 4.0), "0.1 ms to 1 s".to_owned()),
        ("commits", marks(commits.map(column)), String::new()),
        ("failures", marks(summary.misses.iter().map(|it| column(it.at))), String::new()),
    ];
    let rows = rows.map(|(name, columns, note)| format!("{name:<9}│{columns}│ {note}\n"));
    let length = format!("{:.1} s", (last - first).as_secs_f64());
    format!("{}{:<10}0 s{length:>69}\n", rows.concat(), "")
}

/// Adds a value to a column.
fn push(columns: &mut [Vec<Duration>], column: usize, value: Duration) {
    if let Some(values) = columns.get_mut(column) {
        values.push(value);
    }
}

/// A row of bars, each as high as `height` says, from 0 to 1.
fn bars(values: &[f64], height: impl Fn(f64) -> f64) -> String {
    let top = STEPS.len() - 1;
    let step = |value: &f64| match (height(*value) * top as f64).ceil() {
        _ if *value == 0.0 => 0,
        step => (step as usize).clamp(1, top),
    };
    values.iter().map(|value| STEPS.get(step(value)).copied().unwrap_or(' ')).collect()
}

/// A row of counts, a dot where there is none.
fn marks(columns: impl Iterator<Item = usize>) -> String {
    let mut counts = [0_u32; COLUMNS];
    for column in columns {
        if let Some(count) = counts.get_mut(column) {
            *count += 1;
        }
    }
    let mark = |count: u32| match count {
        0 => '·',
        1..=9 => char::from_digit(count, 10).unwrap_or('+'),
        _ => '+',
    };
    counts.into_iter().map(mark).collect()
}
