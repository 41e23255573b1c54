//! What came of it: percentiles, ratios, and how it grows.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::Failure;
use super::exponent::exponent;

/// Many times of one kind, in order.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    pub(crate) fn of<T>(rounds: &[T], time: fn(&T) -> Duration) -> Self {
        Self::new(rounds.iter().map(time).collect())
    }

    /// The time that so many percent do not exceed, in milliseconds.
    fn percentile(&self, percent: usize) -> f64 {
        let index = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }

    fn print(&self, title: &str, floor: &Self) {
        let (p50, p99) = (self.percentile(50), self.percentile(99));
        let (ratio, high) = (p50 / floor.percentile(50), p99 / floor.percentile(99));
        println!("{title:<44}{p50:>9.3}{p99:>9.3}{ratio:>8.2}{high:>8.2}");
    }

    fn json(&self) -> Value {
        json!({ "p50_ms": self.percentile(50), "p99_ms": self.percentile(99) })
    }
}

/// A server's times with one load.
pub(crate) struct Result {
    pub(crate) size: usize,
    pub(crate) answer: Times,
    pub(crate) closed: Times,
    pub(crate) commit: Times,
    pub(crate) exit: Times,
    /// From the commit to the predecessor's exit.
    pub(crate) after: Times,
}

/// One load that grows, and the floor of the same run.
pub(crate) struct Series {
    pub(crate) what: &'static str,
    /// The floor without a runtime.
    pub(crate) bare: Times,
    pub(crate) floor: Times,
    pub(crate) results: Vec<Result>,
}

impl Series {
    pub(crate) fn print(&self) {
        println!("\n{:<44}{:>9}{:>9}{:>8}{:>8}", self.what, "p50", "p99", "ratio", "p99");
        self.bare.print("bare posix_spawn to first answer", &self.floor);
        self.floor.print("floor: the same, answering from a runtime", &self.floor);
        for result in &self.results {
            if self.results.len() > 1 {
                println!("{} {}", result.size, self.what);
            }
            result.answer.print("  SIGHUP to first answer", &self.floor);
            result.closed.print("  SIGHUP to 'old accepts no longer'", &self.floor);
            result.commit.print("  SIGHUP to commit", &self.floor);
            result.exit.print("  SIGHUP to the predecessor's exit", &self.floor);
            result.after.print("  commit to that exit", &self.floor);
        }
        if let Some((answer, exit)) = self.exponents() {
            println!("grows with the power {answer:.3} (first answer), {exit:.3} (exit)");
        }
    }

    /// By which power first answer and exit grow: the slope of a line through the medians, both
    /// axes logarithmic.
    fn exponents(&self) -> Option<(f64, f64)> {
        // Nothing of it has no logarithm.
        let some: Vec<&Result> = self.results.iter().filter(|result| result.size > 0).collect();
        let of = |times: fn(&Result) -> &Times| {
            let point = |result: &&Result| (result.size as f64, times(result).percentile(50));
            exponent(&some.iter().map(point).collect::<Vec<_>>())
        };
        let several = some.len() > 1;
        several.then(|| (of(|result| &result.answer), of(|result| &result.exit)))
    }

    fn json(&self) -> Value {
        let results: Vec<Value> = self
            .results
            .iter()
            .map(|result| {
                json!({
                    "size": result.size,
                    "upgrades": result.answer.0.len(),
                    "first_answer": result.answer.json(),
                    "old_accepts_no_longer": result.closed.json(),
                    "commit": result.commit.json(),
                    "exit": result.exit.json(),
                    "commit_to_exit": result.after.json(),
                })
            })
            .collect();
        let (answer, exit) = self.exponents().unzip();
        json!({
            "grows": self.what,
            "floor_without_runtime": self.bare.json(),
            "floor": self.floor.json(),
            "results": results,
            "exponent_first_answer": answer,
            "exponent_exit": exit,
        })
    }
}

/// Writes all series into a file.
pub(crate) fn write(path: &Path, series: &[Series]) -> std::result::Result<(), Failure> {
    let all: Vec<Value> = series.iter().map(Series::json).collect();
    std::fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
    Ok(())
}
