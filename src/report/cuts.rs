//! Who was cut by a drain, in one line of the log.

use std::collections::BTreeMap;

use super::parts::protocol;
use super::text::Plain;
use crate::drain::DrainReport;

/// So many groups are told; the others are only counted.
const GROUPS: usize = 16;
/// So many characters of a reason.
const REASON: usize = 80;

/// `3 HTTP/1.1 of http at the deadline: idle between requests; 2 others`. Nothing if none was cut.
pub(crate) fn told(report: &DrainReport) -> Option<String> {
    if report.cut_count == 0 {
        return None;
    }
    let mut groups: BTreeMap<_, u64> = BTreeMap::new();
    for held in &report.cut {
        let kind = (&held.listener, protocol(held), held.reason.as_deref(), held.cut);
        *groups.entry(kind).or_default() += 1;
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut left = report.cut_count;
    let mut told = Vec::new();
    for ((listener, protocol, reason, cause), count) in groups.into_iter().take(GROUPS) {
        left = left.saturating_sub(count);
        let kind = protocol.as_deref().unwrap_or("connections");
        let mut text = format!("{count} {} of {listener}", Plain(kind));
        if let Some(cause) = cause {
            text.push_str(&format!(" {cause}"));
        }
        if let Some(reason) = reason {
            let reason: String = reason.chars().take(REASON).collect();
            text.push_str(&format!(": {}", Plain(&reason)));
        }
        told.push(text);
    }
    if left > 0 {
        told.push(format!("{left} others"));
    }
    Some(told.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::{CutCause, Held};
    use crate::report::parts::tests::{held, report};

    #[test]
    fn a_line_names_each_kind_with_reason_and_cause_and_counts_the_rest() {
        let because = |held: Held, reason: &str| Held { reason: Some(reason.into()), ..held };
        let mut cut: Vec<_> = (0..3)
            .map(|age| because(held("http", Some("HTTP/1.1 GET /"), age), "idle between requests"))
            .collect();
        cut.push(Held { cut: Some(CutCause::Lost), ..held("feed", None, 1) });
        let mut report = report(cut);
        report.cut_count += 2;
        assert_eq!(
            told(&report).unwrap(),
            "3 HTTP/1.1 of http at the deadline: idle between requests; \
             1 connections of feed on the way to a newer generation; 2 others"
        );
        report.cut_count = 0;
        assert_eq!(told(&report), None);
    }

    #[test]
    fn names_and_reasons_cannot_make_the_line_long() {
        let many = (0..900).map(|at| {
            let reason = Some(format!("{at} {}\n", "x".repeat(999)));
            Held { reason, ..held("http", Some("y"), 1) }
        });
        let line = told(&report(many.collect())).unwrap();
        assert!(line.len() < 3_000 && !line.contains('\n'), "{line}");
        assert!(line.ends_with("; 884 others"), "{line}");
    }
}
