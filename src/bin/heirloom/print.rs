//! Output: text for people, JSON for programs, colours for terminals.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::ColorChoice;
use heirloom::control::{GenerationView, News, Overview};
use heirloom::{DrainReport, Error, ErrorKind, Report, Summary, UpgradeOutcome};
use serde::Serialize;
use serde_json::json;

use super::args::Args;

pub(crate) struct Printer {
    json: bool,
    colour: bool,
    terminal: bool,
    lost: Cell<bool>,
}

#[derive(Clone, Copy)]
enum Colour {
    Green = 32,
    Yellow = 33,
    Red = 31,
    Bold = 1,
}

impl Printer {
    pub(crate) fn new(args: &Args) -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let colour = match args.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            // https://no-color.org
            ColorChoice::Auto => terminal && std::env::var_os("NO_COLOR").is_none(),
        };
        Self { json: args.json, colour, terminal, lost: Cell::new(false) }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    pub(crate) fn text(&self, text: &str) {
        let mut output = std::io::stdout().lock();
        // A reader that has gone is no reason to fail: it has what it wanted.
        if let Err(error) = output.write_all(text.as_bytes()).and_then(|()| output.flush())
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            self.lost.set(true);
        }
    }

    /// Whether something could not be written, to a full disk, say.
    pub(crate) fn has_lost_text(&self) -> bool {
        self.lost.get()
    }

    pub(crate) fn complain(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "heirloom: {text}");
    }

    pub(crate) fn error(&self, error: &Error) {
        self.refuse(error.kind(), &error.chain());
    }

    pub(crate) fn refuse(&self, kind: ErrorKind, text: &str) {
        if self.json {
            self.document(&json!({ "error": { "kind": format!("{kind:?}"), "text": text } }));
        } else {
            self.complain(&plain(text));
        }
    }

    pub(crate) fn done(&self, word: &str) {
        if self.json {
            self.document(&json!({ "done": word }));
        } else {
            self.text(&format!("{word}\n"));
        }
    }

    /// A step, with the time since the beginning.
    pub(crate) fn step(&self, at: Duration, text: &str) {
        self.text(&format!("{:>9}  {}\n", time(at), plain(text)));
    }

    /// True if it was written as JSON.
    pub(crate) fn news_as_json(&self, news: &News) -> bool {
        if self.json {
            self.document(news);
        }
        self.json
    }

    pub(crate) fn overview(&self, overview: &Overview) {
        if self.json {
            self.document(overview);
        } else {
            self.text(&self.table(overview));
        }
    }

    pub(crate) fn report(&self, report: &Report) {
        if self.json {
            return self.document(&json!({ "report": report }));
        }
        let colour = match report.outcome {
            UpgradeOutcome::Committed => Colour::Green,
            _ => Colour::Red,
        };
        let text = report.to_string();
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        self.text(&format!("{}\n{rest}\n", self.paint(colour, first)));
    }

    pub(crate) fn history(&self, reports: &[Report], summary: &Summary) {
        if self.json {
            return self.document(&json!({ "history": reports, "summary": summary }));
        }
        if reports.is_empty() {
            return self.text("no upgrade yet\n");
        }
        reports.iter().for_each(|report| self.report(report));
        self.text(&format!("\n{summary}\n"));
    }

    pub(crate) fn metrics(&self, text: &str) {
        if self.json {
            return self.document(&json!({ "metrics": text }));
        }
        self.text(text);
    }

    pub(crate) fn drained(&self, what: &str, report: &DrainReport) {
        if self.json {
            return self.document(&json!({ "drained": report }));
        }
        let (drained, cut) = (report.drained, report.cut_count);
        let why =
            if report.cuts.is_empty() { String::new() } else { format!(" ({})", report.cuts) };
        let mut text =
            format!("{what} after {}: {drained} drained, {cut} cut{why}\n", time(report.elapsed));
        for held in &report.cut {
            let _ = writeln!(text, "  cut: {}", plain(&held.to_string()));
        }
        self.text(&text);
    }

    fn document(&self, value: &impl Serialize) {
        let text = serde_json::to_string(value).unwrap_or_default();
        self.text(&format!("{text}\n"));
    }

    fn paint(&self, colour: Colour, text: &str) -> String {
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", colour as u8) } else { text.to_owned() }
    }

    pub(crate) fn table(&self, overview: &Overview) -> String {
        let ready = if overview.ready {
            self.paint(Colour::Green, "ready")
        } else {
            self.paint(Colour::Yellow, "not ready")
        };
        let mut text = format!(
            "{}: {}, {ready}\n",
            self.paint(Colour::Bold, overview.service.as_str()),
            overview.accepting
        );
        if let Some(upgrade) = &overview.upgrade {
            let _ = write!(
                text,
                "upgrade to generation {}: {} for {}, {} in all",
                upgrade.to,
                upgrade.phase,
                time(upgrade.in_phase),
                time(upgrade.elapsed)
            );
            if let Some(reason) = &upgrade.not_yet {
                let _ = write!(text, "; not ready yet: {}", plain(reason));
            }
            text.push('\n');
        }
        if overview.queued {
            text.push_str("another upgrade is queued\n");
        }
        let _ = writeln!(
            text,
            "{:>4} {:>8} {:10} {:16} {:>9} {:>9} {:>6}  LISTENERS",
            "GEN", "PID", "ROLE", "VERSION", "AGE", "MEMORY", "CONNS"
        );
        for view in &overview.generations {
            text.push_str(&self.row(view));
        }
        text
    }

    fn row(&self, view: &GenerationView) -> String {
        let unknown = || String::from("?");
        let role = serde_json::to_value(view.role).ok();
        let role = role.as_ref().and_then(|role| role.as_str()).unwrap_or("?").to_owned();
        let listeners: Vec<String> =
            view.by_listener.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let mut notes = listeners.join(", ");
        if let Some(oldest) = view.oldest {
            let _ = write!(notes, " (oldest {})", time(oldest));
        }
        if view.hurried {
            notes.push_str(" hurried");
        }
        let row = format!(
            "{:>4} {:>8} {:10} {:16} {:>9} {:>9} {:>6}  {notes}",
            view.generation.to_string(),
            view.pid.map_or_else(unknown, |pid| pid.to_string()),
            role,
            view.version.as_deref().map_or_else(unknown, plain),
            view.age.map_or_else(unknown, time),
            view.resident_bytes.map_or_else(unknown, memory),
            view.connections.map_or_else(unknown, |count| count.to_string()),
        );
        let row = row.trim_end();
        let owner = view.role == heirloom::Role::Owner;
        format!("{}\n", if owner { self.paint(Colour::Green, row) } else { row.to_owned() })
    }
}

/// Text from elsewhere on one line, without anything that a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// As few digits as tell something: `413 µs`, `58 ms`, `12.3 s`, `5 min`, `3 h`, `12 d`.
pub(crate) fn time(length: Duration) -> String {
    match length.as_secs() {
        0 if length.as_millis() == 0 => format!("{} µs", length.as_micros()),
        0..10 => format!("{} ms", length.as_millis()),
        10..120 => format!("{:.1} s", length.as_secs_f64()),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[allow(clippy::cast_precision_loss, reason = "one digit is shown")]
fn memory(bytes: u64) -> String {
    let mebibytes = bytes as f64 / (1024.0 * 1024.0);
    if mebibytes < 1024.0 {
        format!("{mebibytes:.1} MiB")
    } else {
        format!("{:.1} GiB", mebibytes / 1024.0)
    }
}
