//! What was measured, line by line: printed as it comes, and as JSON in the end.

use serde_json::{Map, Value, json};

use crate::Failure;

/// Parts, each with its lines.
#[derive(Default)]
pub(crate) struct Table {
    parts: Vec<(String, Map<String, Value>)>,
}

impl Table {
    /// A part begins.
    pub(crate) fn part(&mut self, name: &str, what: &str) {
        println!("\n{what}");
        self.parts.push((name.to_owned(), Map::new()));
    }

    /// One figure.
    pub(crate) fn line(&mut self, what: impl Into<String>, value: f64, unit: &str) {
        let what = what.into();
        println!("  {what:<58} {value:>10.2} {unit}");
        if let Some((_, lines)) = self.parts.last_mut() {
            lines.insert(what, json!({ "value": round(value), "unit": unit }));
        }
    }

    /// What could not be measured, and why.
    pub(crate) fn skipped(&mut self, why: &str) {
        println!("  skipped: {why}");
        if let Some((_, lines)) = self.parts.last_mut() {
            lines.insert("skipped".into(), why.into());
        }
    }

    pub(crate) fn to_json(&self) -> Result<String, Failure> {
        let parts: Map<String, Value> =
            self.parts.iter().map(|(name, lines)| (name.clone(), lines.clone().into())).collect();
        Ok(serde_json::to_string_pretty(&parts)? + "\n")
    }
}

/// Three digits behind the point are more than is known.
fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
