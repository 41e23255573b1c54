//! Horizontal bars, readable on light and dark paper.

use std::fmt::Write as _;

/// Classes instead of variables, since not every viewer of SVG knows those.
const STYLE: &str = "\
text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#475467}\
.title{font-size:17px;font-weight:650;fill:#101828}.sub{font-size:12px}.end{text-anchor:end}\
.paper{fill:#fff}.ours{fill:#1f9e8c}.theirs{fill:#8ba4cf}.mark{stroke:#d0921d;stroke-dasharray:4 3}\
@media(prefers-color-scheme:dark){text{fill:#98a2b3}.title{fill:#f2f4f7}.paper{fill:#0f141b}\
.ours{fill:#3fc2ae}.theirs{fill:#54698f}.mark{stroke:#e5b24d}}";

const WIDTH: f64 = 760.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 110.0;
const ROW: f64 = 27.0;
const TOP: f64 = 66.0;

/// One bar.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// What stands behind the bar.
    pub(crate) text: String,
    pub(crate) ours: bool,
}

/// How long the bars are for their values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    /// Each tenfold is as long as the next. For values that differ by more than an eye can tell.
    Logarithmic,
}

/// A drawing of bars; `mark` is a value that a line shows.
pub(crate) fn bars(
    title: &str,
    subtitle: &str,
    bars: &[Bar],
    scale: Scale,
    mark: Option<f64>,
) -> String {
    let height = TOP + ROW * bars.len() as f64 + 16.0;
    let most = bars.iter().map(|bar| bar.value).chain(mark).fold(0.0, f64::max);
    let least = bars.iter().map(|bar| bar.value).chain(mark).fold(most, f64::min).max(most * 1e-6);
    let room = WIDTH - LEFT - RIGHT;
    let length = |value: f64| match scale {
        _ if most <= 0.0 || value <= 0.0 => 0.0,
        Scale::Linear => value / most * room,
        Scale::Logarithmic => {
            // The shortest bar is a third of a tenfold long.
            let base = least / 2.0;
            (value / base).ln() / (most / base).ln() * room
        }
    };
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"><title>{title}</title><style>{STYLE}</style><rect class="paper" width="{WIDTH}" height="{height}" rx="8"/><text class="title" x="16" y="27">{title}</text><text class="sub" x="16" y="47">{subtitle}</text>
"#
    );
    for (number, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * number as f64;
        let class = if bar.ours { "ours" } else { "theirs" };
        let (width, name, text) = (length(bar.value), &bar.name, &bar.text);
        let (base, end) = (y + 14.0, LEFT + length(bar.value) + 7.0);
        let left = LEFT - 9.0;
        let _ = writeln!(
            svg,
            r#"<text class="end" x="{left}" y="{base}">{name}</text><rect class="{class}" x="{LEFT}" y="{y}" width="{width:.1}" height="18" rx="2"/><text x="{end:.1}" y="{base}">{text}</text>"#
        );
    }
    if let Some(mark) = mark {
        let x = LEFT + length(mark);
        let (from, to) = (TOP - 6.0, height - 10.0);
        let _ =
            writeln!(svg, r#"<line class="mark" x1="{x:.1}" y1="{from}" x2="{x:.1}" y2="{to}"/>"#);
    }
    svg.push_str("</svg>\n");
    svg
}
