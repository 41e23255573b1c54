//! Which plots there are.

use serde_json::Value;

use super::store::read;
use super::svg::{Bar, Scale, bars};
use super::{number, title};
use crate::Failure;
use std::path::Path;

/// One plot: of which suite, which value of each measurement, and how it is told.
struct Plot {
    file: &'static str,
    suite: &'static str,
    title: &'static str,
    subtitle: &'static str,
    /// Value and text of a bar; `None` for measurements that do not belong.
    of: fn(&Value) -> Option<(f64, String)>,
    scale: Scale,
    mark: Option<f64>,
}

const PLOTS: [Plot; 7] = [
    Plot {
        file: "loss.svg",
        suite: "loss",
        title: "Requests lost per 100 upgrades",
        subtitle: "mixed load: keep-alive with thought, half POST, TLS, HTTP/2, WebSockets as far as spoken; no retries",
        of: |value| Some(whole(per_hundred(value, "failed"))),
        scale: Scale::Linear,
        mark: None,
    },
    Plot {
        file: "short.svg",
        suite: "short",
        title: "Requests lost per 100 upgrades, backlog never empty",
        subtitle: "64 clients that connect, ask once and close, without a pause; no retries",
        of: |value| Some(whole(per_hundred(value, "failed"))),
        scale: Scale::Linear,
        mark: None,
    },
    Plot {
        file: "idle.svg",
        suite: "loss",
        title: "Idle keep-alive connections closed, of 100",
        subtitle: "plaintext HTTP/1.1, open before the first upgrade and asked after the last one",
        of: |value| {
            Some(whole(number(value, "idle_closed") / number(value, "idle_connections") * 100.0))
        },
        scale: Scale::Linear,
        mark: None,
    },
    Plot {
        file: "first-answer.svg",
        suite: "latency",
        title: "Request for an upgrade to first answer of the new generation",
        subtitle: "median, milliseconds, logarithmic; one listener, no connections",
        of: |value| {
            plain(value).then(|| millis(number(value.get("first_answer")?, "p50"))).flatten()
        },
        scale: Scale::Logarithmic,
        mark: None,
    },
    Plot {
        file: "exit.svg",
        suite: "latency",
        title: "Request for an upgrade to the old generation's exit",
        subtitle: "median, milliseconds, logarithmic; nothing to drain",
        of: |value| plain(value).then(|| millis(number(value.get("exit")?, "p50"))).flatten(),
        scale: Scale::Logarithmic,
        mark: None,
    },
    Plot {
        file: "disturbance.svg",
        suite: "disturbance",
        title: "p99 in the second of an upgrade over p99 in quiet",
        subtitle: "20 clients, 100 requests a second each, latency from when a request was due; the line is 1.5",
        of: |value| {
            let ratio = number(value, "ratio_p99");
            Some((ratio, format!("{ratio:.2}")))
        },
        scale: Scale::Linear,
        mark: Some(1.5),
    },
    Plot {
        file: "steady.svg",
        suite: "steady",
        title: "Requests a second in quiet, over plain hyper",
        subtitle: "32 keep-alive connections, rounds in turn, median of the ratios",
        of: |value| {
            let over = number(value, "over_hyper");
            Some((over, format!("{over:.2}")))
        },
        scale: Scale::Linear,
        mark: Some(1.0),
    },
];

fn per_hundred(value: &Value, key: &str) -> f64 {
    number(value, key) / number(value, "upgrades") * 100.0
}

fn whole(value: f64) -> (f64, String) {
    (value, format!("{value:.0}"))
}

/// `None` if it never happened.
fn millis(value: f64) -> Option<(f64, String)> {
    (value > 0.0).then(|| (value, format!("{value:.1} ms")))
}

/// Whether nothing but one listener was there.
fn plain(value: &Value) -> bool {
    number(value, "listeners") == 1.0
        && number(value, "connections") == 0.0
        && number(value, "resident_mib") == 0.0
}

/// Draws all plots for which there are measurements.
pub(super) fn draw(directory: &Path) -> Result<(), Failure> {
    for plot in &PLOTS {
        let drawn: Vec<Bar> = read(directory, plot.suite)
            .iter()
            .filter_map(|result| {
                let (value, text) = (plot.of)(result)?;
                let name = title(result);
                Some(Bar { ours: name == "heirloom", name, value, text })
            })
            .collect();
        if !drawn.is_empty() {
            let svg = bars(plot.title, plot.subtitle, &drawn, plot.scale, plot.mark);
            std::fs::write(directory.join(plot.file), svg)?;
        }
    }
    Ok(())
}
