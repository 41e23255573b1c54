//! The table at the end.

use std::fmt::Write as _;

use super::summary::{Life, Row, Spread, Summary};
use super::{count, many, ms};
use crate::fleet::Status;
use crate::ledger::Kind;
use crate::trouble::Class;

/// How many failures are told one by one.
const EXAMPLES: usize = 12;

/// Requests by kind, failures by kind and class, and the figures of the upgrades.
pub(crate) fn table(summary: &Summary) -> String {
    let mut text = String::new();
    requests(&mut text, summary);
    failures(&mut text, summary);
    upgrades(&mut text, summary);
    text.push_str(&verdict(summary));
    text
}

/// One row for each kind of client.
fn requests(text: &mut String, summary: &Summary) {
    let columns = ["answers", "failed", "p50", "p99", "max", "longest gap"];
    let [answers, failed, p50, p99, max, gap] = columns;
    let rule = "─".repeat(92);
    let _ = writeln!(
        text,
        "\n{:<28}{answers:>10}{failed:>8}{p50:>11}{p99:>11}{max:>11}{gap:>13}\n{rule}",
        "latency seen by clients"
    );
    for row in &summary.rows {
        line(text, row);
    }
    let _ = writeln!(text, "{rule}");
    line(text, &summary.total);
}

/// One row.
fn line(text: &mut String, row: &Row) {
    let Spread { p50, p99, max } = row.latency;
    let _ = writeln!(
        text,
        "{:<28}{:>10}{:>8}{:>11}{:>11}{:>11}{:>13}",
        row.label,
        count(row.answers),
        count(row.missed),
        ms(p50),
        ms(p99),
        ms(max),
        ms(row.gap)
    );
}

/// Failures by kind and class, and the first of them in full; nothing if there were none.
fn failures(text: &mut String, summary: &Summary) {
    if summary.misses.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nfailures\n{}", "─".repeat(92));
    for kind in Kind::ALL {
        for class in Class::ALL {
            let same = summary.misses.iter().filter(|it| it.kind == kind && it.class() == class);
            match same.count() {
                0 => {}
                number => {
                    let (kind, class) = (kind.label(), class.label());
                    let _ = writeln!(text, "{kind:<28}{:>10}  {class}", count(number));
                }
            }
        }
    }
    for miss in summary.misses.iter().take(EXAMPLES) {
        let (at, kind) = (miss.at.as_secs_f64(), miss.kind.label());
        let _ = writeln!(text, "  at {at:.3} s, {kind}: {}", miss.trouble);
    }
    match summary.misses.len().saturating_sub(EXAMPLES) {
        0 => {}
        more => text.push_str(&format!("  and {} more\n", count(more))),
    }
}

/// What the upgrades did.
fn upgrades(text: &mut String, summary: &Summary) {
    let spread = |Spread { p50, p99, max }: Spread| {
        format!("p50 {}, p99 {}, max {}", ms(p50), ms(p99), ms(max))
    };
    let (asked, committed) = (summary.upgrades.len(), summary.committed());
    let ends = || summary.lives.iter().filter_map(|life| life.end.as_ref());
    let orderly = ends().filter(|end| matches!(end.status, Some(Status::Code(0))));
    let elsewhere = match ends().filter(|end| end.status.is_none()).count() {
        0 => String::new(),
        number => format!(", {number} left their status to their parent"),
    };
    let facts = [
        ("upgrades", format!("{asked} asked for, {committed} committed")),
        ("signal to first answer", spread(summary.first_answers)),
        ("signal to commit", spread(summary.commits)),
        ("longest gap in the answers", ms(summary.total.gap)),
        ("longest stall of the demo", ms(summary.stall)),
        ("echo sessions", format!("{} drained, {} cut", summary.drained, summary.cut)),
        (
            "keep-alive connections",
            format!("{} told to close, {} closed while idle", summary.told, summary.idle_closed),
        ),
        (
            "generations",
            format!("{}, {} exited with status 0{elsewhere}", summary.lives.len(), orderly.count()),
        ),
    ];
    text.push('\n');
    for (name, value) in facts {
        let _ = writeln!(text, "{name:<28}{value}");
    }
    for (number, upgrade) in summary.upgrades.iter().enumerate() {
        if let Some(why) = &upgrade.trouble {
            let _ = writeln!(text, "  upgrade {}: {why}", number + 1);
        }
    }
    for life in &summary.lives {
        let Life { generation, pid, end, .. } = life;
        let end = match end {
            Some(end) if !end.failed() => continue,
            Some(end) => end.to_string(),
            None => "is still there".to_owned(),
        };
        let _ = writeln!(text, "  generation {generation} (process {pid}) {end}");
    }
    for (pid, end) in &summary.strangers {
        let _ = writeln!(text, "  process {pid} never answered: {end}");
    }
}

/// The last line: what it all comes to.
fn verdict(summary: &Summary) -> String {
    let upgrades = many(summary.committed(), "upgrade");
    let answers = many(summary.total.answers, "answer");
    if summary.flawless() {
        format!("\n✓ {upgrades}, {answers}, nothing lost\n")
    } else {
        let lost = many(summary.total.missed, "failure");
        let mark = if summary.interrupted { "interrupted:" } else { "✗" };
        format!("\n{mark} {upgrades}, {answers}, {lost}\n")
    }
}
