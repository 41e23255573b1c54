//! Figures as text: OpenMetrics 1.0, which Prometheus reads.

use std::fmt::{Display, Write};

use super::UpgradeOutcome;
use super::journal::Tally;
use super::totals::{BOUNDS, Histogram, Totals};

/// What goes up and down.
pub(crate) struct Gauges {
    pub service: String,
    pub version: String,
    pub generation: u64,
    pub generations: u64,
    pub ready: bool,
    pub upgrading: bool,
    /// Connections of each listener.
    pub active: Vec<(String, u64)>,
}

pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

/// Takes the figures one by one: each family first, then its samples.
pub(crate) trait Sink {
    /// What comes from here on. `kind` is `gauge`, `counter`, `histogram` or `info`.
    fn family(&mut self, name: &str, kind: &'static str, help: &'static str);

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: u64);

    fn histogram(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram);
}

struct Text(String);

impl Sink for Text {
    fn family(&mut self, name: &str, kind: &'static str, help: &'static str) {
        self.line(format_args!("# TYPE {name} {kind}"));
        self.line(format_args!("# HELP {name} {help}"));
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: u64) {
        self.value(name, labels, value);
    }

    fn histogram(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram) {
        let mut count = 0;
        let bounds = BOUNDS.iter().map(|bound| format!("{bound:?}")).chain(["+Inf".to_owned()]);
        for (bound, bucket) in bounds.zip(histogram.buckets) {
            count += bucket;
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.sample(&format!("{name}_bucket"), &labels, count);
        }
        self.value(&format!("{name}_sum"), labels, histogram.sum);
        self.sample(&format!("{name}_count"), labels, count);
    }
}

impl Text {
    fn value(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        let mut set = String::new();
        for (label, text) in labels {
            let comma = if set.is_empty() { "" } else { "," };
            // Writing to a string does not fail.
            let _ = write!(set, "{comma}{label}=\"{}\"", escaped(text));
        }
        if set.is_empty() {
            self.line(format_args!("{name} {value}"));
        } else {
            self.line(format_args!("{name}{{{set}}} {value}"));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.0, "{line}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

fn label(outcome: UpgradeOutcome) -> &'static str {
    match outcome {
        UpgradeOutcome::Committed => "committed",
        UpgradeOutcome::RolledBack => "rolled_back",
        UpgradeOutcome::Failed => "failed",
    }
}

/// The whole exposition.
pub(crate) fn render(gauges: &Gauges, totals: &Totals, tally: &Tally) -> String {
    let mut text = Text(String::new());
    tell(gauges, totals, tally, &mut text);
    text.line(format_args!("# EOF"));
    text.0
}

/// All figures, in their order.
pub(crate) fn tell(gauges: &Gauges, totals: &Totals, tally: &Tally, text: &mut impl Sink) {
    text.family("heirloom_service", "info", "The service and the owner's release.");
    let release = [("service", gauges.service.as_str()), ("version", gauges.version.as_str())];
    text.sample("heirloom_service_info", &release, 1);
    for (name, value, help) in [
        ("heirloom_generation", gauges.generation, "The generation that owns the service."),
        ("heirloom_generations_live", gauges.generations, "Generations whose processes live."),
        ("heirloom_ready", u64::from(gauges.ready), "Whether new connections are welcome."),
        ("heirloom_upgrade_running", u64::from(gauges.upgrading), "Whether an upgrade runs."),
    ] {
        text.family(name, "gauge", help);
        text.sample(name, &[], value);
    }
    let name = "heirloom_connections_active";
    // A family without a sample is none.
    if !gauges.active.is_empty() {
        text.family(name, "gauge", "Open connections, over all live generations.");
    }
    for (listener, count) in &gauges.active {
        text.sample(name, &[("listener", listener)], *count);
    }
    upgrades(text, totals);
    connections(text, tally);
}

fn upgrades(text: &mut impl Sink, totals: &Totals) {
    if !totals.upgrades.is_empty() {
        text.family("heirloom_upgrades", "counter", "Upgrades by outcome and last phase.");
    }
    for (outcome, phase, count) in &totals.upgrades {
        let labels = [("outcome", label(*outcome)), ("phase", phase.as_str())];
        text.sample("heirloom_upgrades_total", &labels, *count);
    }
    if !totals.causes.is_empty() {
        let help = "Upgrades whose successor served and was taken back, by cause.";
        text.family("heirloom_rollbacks", "counter", help);
    }
    for (cause, count) in &totals.causes {
        text.sample("heirloom_rollbacks_total", &[("cause", cause.as_str())], *count);
    }
    let name = "heirloom_rollback_duration_seconds";
    let help = "From the cause, or the wish to go back, until the older release serves.";
    text.family(name, "histogram", help);
    text.histogram(name, &[], &totals.back);
    let name = "heirloom_upgrade_duration_seconds";
    if !totals.phases.is_empty() {
        text.family(name, "histogram", "Time in each phase of an upgrade.");
    }
    for (phase, histogram) in &totals.phases {
        text.histogram(name, &[("phase", phase.as_str())], histogram);
    }
    let name = "heirloom_upgrade_elapsed_seconds";
    text.family(name, "histogram", "From the wish for an upgrade to its outcome.");
    text.histogram(name, &[], &totals.whole);
    let name = "heirloom_accept_gap_seconds";
    let help = "Longest time of an upgrade in which nobody accepted on a listener.";
    text.family(name, "histogram", help);
    text.histogram(name, &[], &totals.gap);
    windows(text, totals);
}

/// What clients may have noticed of upgrades.
fn windows(text: &mut impl Sink, totals: &Totals) {
    for (name, count, help) in [
        (
            "heirloom_upgrades_interrupted",
            totals.interrupted,
            "Committed upgrades that clients may have noticed.",
        ),
        ("heirloom_window_requests", totals.window.requests, "Requests while upgrades ran."),
        ("heirloom_window_errors", totals.window.failed, "Requests failed while upgrades ran."),
        (
            "heirloom_window_before_requests",
            totals.before.requests,
            "Requests in as much time right before upgrades.",
        ),
        (
            "heirloom_window_before_errors",
            totals.before.failed,
            "Requests failed in as much time right before upgrades.",
        ),
    ] {
        text.family(name, "counter", help);
        text.sample(&format!("{name}_total"), &[], count);
    }
}

fn connections(text: &mut impl Sink, tally: &Tally) {
    let name = "heirloom_connections_accepted";
    text.family(name, "counter", "Connections accepted, over all generations.");
    text.sample("heirloom_connections_accepted_total", &[], tally.accepted);
    let name = "heirloom_connections_drained";
    text.family(name, "counter", "Connections that a drain after a hand-over has ended.");
    for (outcome, count) in [("drained", tally.drained), ("moved", tally.moved), ("cut", tally.cut)]
    {
        text.sample("heirloom_connections_drained_total", &[("outcome", outcome)], count);
    }
    let name = "heirloom_connections_cut";
    text.family(name, "counter", "Connections that a drain after a hand-over has cut, and why.");
    for (cause, count) in tally.cuts.all() {
        text.sample("heirloom_connections_cut_total", &[("cause", cause.as_str())], count);
    }
    let name = "heirloom_requests";
    text.family(name, "counter", "Requests that the application has counted.");
    for (outcome, count) in [("succeeded", tally.succeeded), ("failed", tally.failed)] {
        text.sample("heirloom_requests_total", &[("outcome", outcome)], count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_buckets_add_up() {
        let mut totals = Totals::default();
        totals.whole.buckets[0] = 2;
        totals.whole.buckets[BOUNDS.len()] = 1;
        let gauges = Gauges {
            service: "a \"b\" \\".into(),
            version: "1".into(),
            generation: 7,
            generations: 1,
            ready: true,
            upgrading: false,
            active: vec![("http".into(), 3)],
        };
        let text = render(&gauges, &totals, &Tally::default());
        for line in [
            r#"heirloom_service_info{service="a \"b\" \\",version="1"} 1"#,
            r#"heirloom_connections_active{listener="http"} 3"#,
            r#"heirloom_upgrade_elapsed_seconds_bucket{le="0.001"} 2"#,
            r#"heirloom_upgrade_elapsed_seconds_bucket{le="1.0"} 2"#,
            r#"heirloom_upgrade_elapsed_seconds_bucket{le="+Inf"} 3"#,
            "heirloom_upgrade_elapsed_seconds_count 3",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
