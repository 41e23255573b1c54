//! Results as JSON, tables and plots.

mod plots;
pub(crate) mod store;
mod svg;
mod tables;

use std::path::Path;

use serde_json::Value;

use crate::Failure;
use crate::peer::PEERS;

/// Draws and writes what the results say.
pub(crate) fn write(directory: &Path) -> Result<(), Failure> {
    plots::draw(directory)?;
    std::fs::write(directory.join("results.md"), tables::tables(directory))?;
    Ok(())
}

/// A number of a result, or zero.
fn number(value: &Value, key: &str) -> f64 {
    value.get(key).and_then(Value::as_f64).unwrap_or_default()
}

/// The name of the peer that a result is about.
fn title(value: &Value) -> String {
    let id = value.get("peer").and_then(Value::as_str).unwrap_or_default();
    let peer = PEERS.iter().find(|peer| peer.id() == id);
    peer.map_or_else(|| id.to_owned(), |peer| peer.title().to_owned())
}
