//! The results as tables in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::store::read;
use super::{number, title};

pub(super) fn tables(directory: &Path) -> String {
    let mut text = String::from(
        "# Results\n\nWritten by `benches/peers`; how to read them is in [README.md](README.md).\n",
    );
    machine(&mut text);
    for (suite, heading) in
        [("loss", "Loss under mixed load"), ("short", "Loss with a backlog that is never empty")]
    {
        let results = read(directory, suite);
        if !results.is_empty() {
            losses(&mut text, heading, &results);
        }
    }
    disturbances(&mut text, &read(directory, "disturbance"));
    steady(&mut text, &read(directory, "steady"));
    latencies(&mut text, &read(directory, "floor"), &read(directory, "latency"));
    text
}

/// Where this was measured.
fn machine(text: &mut String) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned())
        .unwrap_or_else(|| String::from("unknown processor"));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    let _ = writeln!(text, "\nMachine: {cores} processors ({model}), Linux {}.", kernel.trim());
}

fn losses(text: &mut String, heading: &str, results: &[Value]) {
    let _ = writeln!(
        text,
        "\n## {heading}\n\n| | upgrades | requests | failed | per 100 upgrades | by kind | HTTP/2: not processed, and told so | idle connections closed |\n|---|--:|--:|--:|--:|---|--:|--:|"
    );
    for result in results {
        let upgrades = match result.get("gave_up").and_then(Value::as_str) {
            Some(why) => format!("{}; then: {why}", number(result, "upgrades")),
            None => number(result, "upgrades").to_string(),
        };
        let failed = number(result, "failed");
        let idle = match number(result, "idle_connections") {
            0.0 => String::from("–"),
            all => format!("{} of {all}", number(result, "idle_closed")),
        };
        let _ = writeln!(
            text,
            "| {} | {upgrades} | {} | {failed} | {:.0} | {} | {} | {idle} |",
            title(result),
            number(result, "requests"),
            failed / number(result, "upgrades") * 100.0,
            kinds(result),
            number(result, "unprocessed"),
        );
    }
    let _ = writeln!(
        text,
        "\nBy client, of answered requests:\n\n| | client | answered | connections | asked to leave | closed while idle | failed |\n|---|---|--:|--:|--:|--:|--:|"
    );
    for result in results {
        for client in result.get("clients").and_then(Value::as_array).into_iter().flatten() {
            let failed = faults(client).values().fold(0.0_f64, |sum, count| sum + *count);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {failed} |",
                title(result),
                client.get("kind").and_then(Value::as_str).unwrap_or_default(),
                number(client, "answered"),
                number(client, "connections"),
                number(client, "asked_to_leave"),
                number(client, "closed_while_idle"),
            );
        }
    }
}

fn faults(client: &Value) -> BTreeMap<String, f64> {
    let failed = client.get("failed").and_then(Value::as_object).into_iter().flatten();
    failed.map(|(kind, count)| (kind.clone(), count.as_f64().unwrap_or_default())).collect()
}

/// All faults of a run, by their kinds.
fn kinds(result: &Value) -> String {
    let mut all: BTreeMap<String, f64> = BTreeMap::new();
    for client in result.get("clients").and_then(Value::as_array).into_iter().flatten() {
        for (kind, count) in faults(client) {
            *all.entry(kind).or_default() += count;
        }
    }
    match all.is_empty() {
        true => String::from("–"),
        false => {
            let told: Vec<String> =
                all.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            told.join(", ")
        }
    }
}

fn disturbances(text: &mut String, results: &[Value]) {
    if results.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n## Disturbance\n\nMilliseconds from when a request was due: in the second after the request for an upgrade, and in quiet.\n\n| | upgrades | p50 quiet | p50 around | p99 quiet | p99 around | ratio | p99.9 quiet | p99.9 around | longest quiet | longest around | failed | memory in quiet, most | processor time an upgrade |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    );
    let none = Value::Null;
    for result in results {
        let quiet = result.get("steady").unwrap_or(&none);
        let around = result.get("around").unwrap_or(&none);
        let pair = |key| format!("{:.2} | {:.2}", number(quiet, key), number(around, key));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.2} | {} | {} | {} | {:.0}, {:.0} MiB | {:.0} ms |",
            title(result),
            number(result, "upgrades"),
            pair("p50"),
            pair("p99"),
            number(result, "ratio_p99"),
            pair("p999"),
            pair("longest"),
            number(result, "failed"),
            number(result, "memory_kib") / 1024.0,
            number(result, "memory_kib_most") / 1024.0,
            number(result, "processor_ms"),
        );
    }
}

fn steady(text: &mut String, results: &[Value]) {
    if results.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n## Steady state\n\n| | requests/s | over plain hyper | processor time a request | p50 | p99 |\n|---|--:|--:|--:|--:|--:|"
    );
    for result in results {
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.3} | {:.1} µs | {:.2} ms | {:.2} ms |",
            title(result),
            number(result, "requests_per_second"),
            number(result, "over_hyper"),
            number(result, "processor_per_request_us"),
            number(result, "p50"),
            number(result, "p99"),
        );
    }
}

fn latencies(text: &mut String, floor: &[Value], results: &[Value]) {
    if results.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n## Latency\n\nMilliseconds after the request for an upgrade, p50 and p99."
    );
    if let Some(floor) = floor.first() {
        let _ = writeln!(
            text,
            "The floor, a program that is started with a listener and answers at once: {:.2} and {:.2}.",
            number(floor, "p50"),
            number(floor, "p99"),
        );
    }
    let _ = writeln!(
        text,
        "\n| | listeners | connections | MiB in use | upgrades | first answer of the new | last accept of the old | exit of the old | connections closed |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    );
    for result in results {
        let spread = |key| {
            let spread = result.get(key)?;
            let p50 = number(spread, "p50");
            (p50 > 0.0).then(|| format!("{p50:.1}, {:.1}", number(spread, "p99")))
        };
        let told = |key| spread(key).unwrap_or_else(|| String::from("–"));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            title(result),
            number(result, "listeners"),
            number(result, "connections"),
            number(result, "resident_mib"),
            number(result, "upgrades"),
            told("first_answer"),
            told("last_accept_of_the_old"),
            told("exit"),
            number(result, "connections_closed"),
        );
    }
}
