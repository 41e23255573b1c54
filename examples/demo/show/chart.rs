//! The drawing: figures on top, then lanes, throughput, latency and failures over one clock.

use std::time::Duration;

use super::panels;
use super::summary::Summary;
use super::svg::Svg;
use super::{count, many, ms};

/// The width of the drawing.
const WIDTH: f64 = 1200.0;

/// The margins left and right of the clock.
const MARGIN: (f64, f64) = (92.0, 28.0);

/// How many slices of time a panel shows at most.
const SLICES: u128 = 400;

/// The clock that all panels share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    first: Duration,
    last: Duration,
    /// How long one slice is.
    pub(crate) slice: Duration,
}

impl Clock {
    /// A clock for this run, with slices of a round length.
    fn new(summary: &Summary) -> Self {
        let (first, last) = summary.span();
        let rounds = [50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000];
        let fits = |ms: &&u64| (last - first).as_millis() / u128::from(**ms) <= SLICES;
        let slice = rounds.iter().find(fits).copied().unwrap_or(60_000);
        Self { first, last, slice: Duration::from_millis(slice) }
    }

    /// Where a time stands.
    pub(crate) fn x(&self, at: Duration) -> f64 {
        let part = at.saturating_sub(self.first).as_secs_f64() / self.length().as_secs_f64();
        MARGIN.0 + part.min(1.0) * (self.right() - MARGIN.0)
    }

    /// The right end.
    pub(crate) fn right(&self) -> f64 {
        WIDTH - MARGIN.1
    }

    /// The left end.
    pub(crate) fn left(&self) -> f64 {
        MARGIN.0
    }

    /// How long the run was.
    pub(crate) fn length(&self) -> Duration {
        self.last - self.first
    }

    /// The slice that a time falls into.
    pub(crate) fn slice_of(&self, at: Duration) -> usize {
        let slice = at.saturating_sub(self.first).as_micros() / self.slice.as_micros().max(1);
        usize::try_from(slice).unwrap_or(usize::MAX)
    }

    /// When a slice begins.
    pub(crate) fn begin(&self, slice: usize) -> Duration {
        self.first + self.slice * u32::try_from(slice).unwrap_or(u32::MAX)
    }
}

/// Draws the whole.
pub(crate) fn draw(summary: &Summary) -> String {
    let clock = Clock::new(summary);
    let mut svg = Svg::default();
    let title = headline(summary);
    figures(&mut svg, summary, &title);
    let top = 148.0;
    let lanes = panels::lanes(&mut Svg::default(), &clock, summary, top);
    let bottom = lanes + 2.0 * 166.0 + 76.0;
    // The marks first, so that everything else lies above them.
    let class = if summary.upgrades.len() > 40 { "mark faint" } else { "mark" };
    for upgrade in &summary.upgrades {
        let x = clock.x(upgrade.signalled);
        svg.line(class, (x, top), (x, bottom - 34.0));
    }
    let y = panels::lanes(&mut svg, &clock, summary, top);
    let y = panels::throughput(&mut svg, &clock, summary, y + 46.0);
    let y = panels::latency(&mut svg, &clock, summary, y + 46.0);
    let y = panels::failures(&mut svg, &clock, summary, y + 14.0);
    panels::seconds(&mut svg, &clock, y + 18.0);
    svg.finish(WIDTH, y + 40.0, &title)
}

/// What it all comes to.
fn headline(summary: &Summary) -> String {
    let upgrades = many(summary.committed(), "upgrade");
    let answers = count(summary.total.answers);
    let lost = match summary.total.missed {
        0 => "nothing lost".to_owned(),
        missed => format!("{} lost", count(missed)),
    };
    format!("{upgrades} under load: {answers} answers, {lost}")
}

/// The headline, and the figures that matter in a row.
fn figures(svg: &mut Svg, summary: &Summary, title: &str) {
    svg.text("title", (28.0, 44.0), title);
    let (first, longest) = (summary.first_answers, summary.total.gap);
    let facts = [
        ("signal to first answer, p50", ms(first.p50)),
        ("p99", ms(first.p99)),
        ("longest gap in the answers", ms(longest)),
        ("latency of all answers, p50", ms(summary.total.latency.p50)),
        ("p99", ms(summary.total.latency.p99)),
        ("echo sessions drained, cut", format!("{}, {}", summary.drained, summary.cut)),
    ];
    let places = [28.0, 222.0, 346.0, 560.0, 760.0, 884.0];
    for ((name, value), x) in facts.into_iter().zip(places) {
        svg.text("big", (x, 82.0), value);
        svg.text("", (x, 100.0), name);
    }
}
