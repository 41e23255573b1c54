//! The panels of the drawing. Each is given its top and gives back its bottom.

use std::collections::BTreeMap;
use std::time::Duration;

use super::chart::Clock;
use super::ms;
use super::summary::{Life, Spread, Summary};
use super::svg::Svg;

/// The height of throughput and latency.
const HEIGHT: f64 = 120.0;

/// What the lanes may take together.
const LANES: f64 = 330.0;

/// The latencies between which the panel shows, as powers of ten of a millisecond.
const DECADES: (i32, i32) = (-1, 3);

/// One lane for each generation: on probation, owning, draining.
pub(crate) fn lanes(svg: &mut Svg, clock: &Clock, summary: &Summary, top: f64) -> f64 {
    svg.text("head", (clock.left(), top - 10.0), "generations");
    legend(svg, clock.left() + 96.0, top - 10.0);
    let pitch = (LANES / summary.lives.len().max(1) as f64).clamp(3.2, 16.0);
    let every = (11.0 / pitch).ceil() as usize;
    for (number, life) in summary.lives.iter().enumerate() {
        let y = top + pitch * number as f64;
        lane(svg, clock, life, y, pitch * 0.72);
        if number % every.max(1) == 0 {
            let label = format!("{}", life.generation);
            svg.text("small end", (clock.left() - 8.0, y + pitch * 0.36 + 3.5), label);
        }
    }
    top + pitch * summary.lives.len() as f64
}

/// What the shades of a lane mean.
fn legend(svg: &mut Svg, x: f64, y: f64) {
    let shades = [
        ("any trial", "on probation", 116.0),
        ("any", "owner", 72.0),
        ("any drain", "draining", 86.0),
    ];
    let mut x = x;
    for (class, words, width) in shades {
        svg.rect(class, (x, y - 9.0), (18.0, 9.0), "");
        svg.text("", (x + 24.0, y), words);
        x += width;
    }
    svg.line("mark", (x + 4.0, y - 11.0), (x + 4.0, y + 2.0));
    svg.text("", (x + 12.0, y), "SIGHUP");
}

/// One lane.
fn lane(svg: &mut Svg, clock: &Clock, life: &Life, y: f64, height: f64) {
    let end = life.end.as_ref().map_or(clock.begin(usize::MAX), |end| end.at);
    let owned = life.committed.unwrap_or(end).min(end);
    let left = life.succeeded.unwrap_or(end).min(end);
    let hue = hue(life.generation);
    let parts = [
        ("trial", life.born, owned, "on probation"),
        ("", owned, left, "owner"),
        ("drain", left, end, "draining"),
    ];
    for (shade, from, to, words) in parts {
        if to > from {
            let (x, to_x) = (clock.x(from), clock.x(to));
            let hint = format!(
                "generation {} (process {}): {words} for {}, first answer after {}",
                life.generation,
                life.pid,
                ms(to - from),
                ms(life.answered.saturating_sub(life.born)),
            );
            svg.rect(&format!("{hue} {shade}"), (x, y), (to_x - x, height), &hint);
        }
    }
    if let Some(end) = life.end.as_ref().filter(|end| end.failed()) {
        svg.dot("bad", (clock.x(end.at), y + height / 2.0), 4.0, &end.to_string());
    }
}

/// Answers a second, in the colours of who gave them.
pub(crate) fn throughput(svg: &mut Svg, clock: &Clock, summary: &Summary, top: f64) -> f64 {
    svg.text("head", (clock.left(), top - 10.0), "answers a second, by generation");
    let mut slices: BTreeMap<usize, BTreeMap<u64, u32>> = BTreeMap::new();
    for answer in summary.in_span() {
        let slice = slices.entry(clock.slice_of(answer.at)).or_default();
        *slice.entry(answer.generation).or_default() += 1;
    }
    let most = slices.values().map(|slice| slice.values().sum::<u32>()).max().unwrap_or(1);
    let per_second = 1.0 / clock.slice.as_secs_f64();
    let (step, ceiling) = round_scale(f64::from(most) * per_second);
    let mut level = 0.0;
    while level <= ceiling {
        let y = top + HEIGHT * (1.0 - level / ceiling);
        gridline(svg, clock, y, &format!("{level:.0}"));
        level += step;
    }
    for (slice, answers) in slices {
        let (x, to_x) = (clock.x(clock.begin(slice)), clock.x(clock.begin(slice + 1)));
        let mut y = top + HEIGHT;
        for (generation, number) in answers {
            let height = f64::from(number) * per_second / ceiling * HEIGHT;
            y -= height;
            svg.rect(hue(generation), (x, y), (to_x - x + 0.15, height), "");
        }
    }
    top + HEIGHT
}

/// Median, 99th percentile and maximum of each slice, on a logarithmic scale.
pub(crate) fn latency(svg: &mut Svg, clock: &Clock, summary: &Summary, top: f64) -> f64 {
    let words = format!("latency in slices of {} ms", clock.slice.as_millis());
    svg.text("head", (clock.left(), top - 10.0), words);
    let x = clock.left() + 210.0;
    for (class, words, x) in
        [("max", "max", x), ("p99", "p99", x + 66.0), ("p50 any", "p50", x + 132.0)]
    {
        match class {
            "max" => svg.rect(class, (x, top - 19.0), (14.0, 9.0), ""),
            "p99" => svg.rect(class, (x, top - 16.0), (14.0, 3.0), ""),
            _ => svg.line("p50", (x, top - 14.5), (x + 14.0, top - 14.5)),
        }
        svg.text("", (x + 20.0, top - 10.0), words);
    }
    for decade in DECADES.0..=DECADES.1 {
        let level = 10_f64.powi(decade);
        gridline(svg, clock, top + height_of(level), &format!("{level} ms"));
    }
    let mut slices: BTreeMap<usize, Vec<Duration>> = BTreeMap::new();
    for answer in summary.in_span() {
        slices.entry(clock.slice_of(answer.at)).or_default().push(answer.latency);
    }
    let mut medians = Vec::new();
    for (slice, latencies) in slices {
        let (x, to_x) = (clock.x(clock.begin(slice)), clock.x(clock.begin(slice + 1)));
        let Spread { p50, p99, max } = Spread::of(latencies);
        let y = |time: Duration| top + height_of(time.as_secs_f64() * 1e3);
        let width = (to_x - x) * 0.8;
        svg.rect("max", (x, y(max)), (width, top + HEIGHT - y(max)), &format!("max {}", ms(max)));
        svg.rect("p99", (x, y(p99) - 1.0), (width, 2.0), &format!("p99 {}", ms(p99)));
        medians.push((x + width / 2.0, y(p50)));
    }
    svg.polyline("p50", &medians);
    top + HEIGHT
}

/// How far below the top of the panel a latency in milliseconds stands.
fn height_of(ms: f64) -> f64 {
    let (low, high) = (f64::from(DECADES.0), f64::from(DECADES.1));
    HEIGHT * (1.0 - ((ms.max(1e-6).log10() - low) / (high - low)).clamp(0.0, 1.0))
}

/// A red dot for each failure, or the word that there was none.
pub(crate) fn failures(svg: &mut Svg, clock: &Clock, summary: &Summary, top: f64) -> f64 {
    let middle = top + 14.0;
    svg.text("end", (clock.left() - 8.0, middle + 4.0), "failures");
    svg.line("grid", (clock.left(), middle), (clock.right(), middle));
    for miss in &summary.misses {
        let hint =
            format!("{:.3} s: {}, {}", miss.at.as_secs_f64(), miss.kind.label(), miss.trouble);
        svg.dot("bad", (clock.x(miss.at), middle), 4.5, &hint);
    }
    if summary.misses.is_empty() {
        svg.rect("paper", (clock.left() - 1.0, middle - 8.0), (48.0, 16.0), "");
        svg.text("good", (clock.left(), middle + 4.0), "none");
    }
    top + 28.0
}

/// The clock's seconds along the bottom.
pub(crate) fn seconds(svg: &mut Svg, clock: &Clock, y: f64) {
    let (step, _) = round_scale(clock.length().as_secs_f64() / 3.0);
    let whole = |decimals: &usize| (step * 10_f64.powi(*decimals as i32)).fract().abs() < 1e-6;
    let decimals = (0..3).find(whole).unwrap_or(3);
    for tick in 0..=(clock.length().as_secs_f64() / step) as u32 {
        let at = step * f64::from(tick);
        let x = clock.x(clock.begin(0) + Duration::from_secs_f64(at));
        svg.text("mid", (x, y), format!("{at:.decimals$} s"));
    }
}

/// A line across the panel with its label.
fn gridline(svg: &mut Svg, clock: &Clock, y: f64, label: &str) {
    svg.line("grid", (clock.left(), y), (clock.right(), y));
    svg.text("end", (clock.left() - 8.0, y + 4.0), label);
}

/// A round step and a round ceiling for values up to `most`: three to five steps.
fn round_scale(most: f64) -> (f64, f64) {
    let rough = most.max(1e-3) / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let rounds = [1.0, 2.0, 2.5, 5.0, 10.0];
    let step = rounds.iter().map(|round| round * power).find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    (step, (most / step).ceil().max(1.0) * step)
}

/// The colour of a generation: four take turns, so neighbours differ.
fn hue(generation: u64) -> &'static str {
    match generation % 4 {
        0 => "g0",
        1 => "g1",
        2 => "g2",
        _ => "g3",
    }
}
