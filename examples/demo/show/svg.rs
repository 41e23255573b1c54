//! The few shapes that the drawing needs, and its colours for light and dark.

use std::fmt::{Display, Write as _};

/// The colours: the light ones, and what dark changes. Classes instead of variables, since not
/// every viewer of SVG knows those.
const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#667085}\
.title{font-size:22px;font-weight:650;fill:#101828}.head{font-size:13px;font-weight:600;fill:#344054}\
.big{font-size:20px;font-weight:600;fill:#101828}.small{font-size:10px}\
.end{text-anchor:end}.mid{text-anchor:middle}\
.paper{fill:#fff}.grid{stroke:#e4e7ec}.mark{stroke:#98a2b3;stroke-dasharray:2 3}\
.faint{opacity:.4}.g0{fill:#3f74d8}.g1{fill:#1f9e8c}.g2{fill:#8a5fd0}.g3{fill:#d0921d}.any{fill:#667085}\
.trial{opacity:.45}.drain{opacity:.28}.max{fill:#98a2b3;opacity:.55}.p99{fill:#3f74d8}\
.p50{fill:none;stroke:#101828;stroke-width:1.5}\
.bad{fill:#d92d20}.good{fill:#067647}\
@media(prefers-color-scheme:dark){text{fill:#98a2b3}.title,.big{fill:#f2f4f7}.head{fill:#d0d5dd}\
.paper{fill:#0f141b}.grid{stroke:#27303c}.mark{stroke:#5d6b7e}\
.g0{fill:#6f9cf2}.g1{fill:#3fc2ae}.g2{fill:#b08df0}.g3{fill:#e5b24d}.any{fill:#98a2b3}\
.max{fill:#667085;opacity:.6}.p99{fill:#6f9cf2}.p50{stroke:#f2f4f7}\
.bad{fill:#ff6b5e}.good{fill:#47cd89}}";

/// A drawing in the making.
#[derive(Debug, Default)]
pub(crate) struct Svg {
    body: String,
}

impl Svg {
    /// A filled rectangle, with a hint that shows when the pointer rests on it.
    pub(crate) fn rect(&mut self, class: &str, at: (f64, f64), size: (f64, f64), hint: &str) {
        let (x, y) = at;
        let (width, height) = (size.0.max(0.0), size.1.max(0.0));
        let _ = write!(
            self.body,
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}""#
        );
        let _ = match hint {
            "" => writeln!(self.body, "/>"),
            _ => writeln!(self.body, "><title>{}</title></rect>", escaped(hint)),
        };
    }

    /// A line.
    pub(crate) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.body,
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        );
    }

    /// A line through points.
    pub(crate) fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(self.body, r#"<polyline class="{class}" points="{}"/>"#, points.join(" "));
    }

    /// A dot with a hint.
    pub(crate) fn dot(&mut self, class: &str, at: (f64, f64), radius: f64, hint: &str) {
        let ((x, y), hint) = (at, escaped(hint));
        let _ = writeln!(
            self.body,
            r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{radius:.1}"><title>{hint}</title></circle>"#
        );
    }

    /// Text, its left end (or what the class says) at this point of the base line.
    pub(crate) fn text(&mut self, class: &str, at: (f64, f64), text: impl Display) {
        let ((x, y), text) = (at, escaped(&text.to_string()));
        let _ = writeln!(self.body, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{text}</text>"#);
    }

    /// The whole file, with a title for those who do not see it.
    pub(crate) fn finish(self, width: f64, height: f64, title: &str) -> String {
        let (title, body) = (escaped(title), self.body);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\">\n<title>{title}</title>\n\
             <style>{STYLE}</style>\n\
             <rect class=\"paper\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n{body}</svg>\n"
        )
    }
}

/// Text that cannot be taken for markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
