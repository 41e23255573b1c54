//! Results: one file for each suite, one line for each measurement. A new one takes the place of
//! an older one of the same peer in the same setup.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::Failure;
use crate::say;

pub(crate) struct Store {
    directory: PathBuf,
}

/// What tells measurements of one suite apart.
const KEYS: [&str; 4] = ["peer", "listeners", "connections", "resident_mib"];

impl Store {
    pub(crate) fn new(directory: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    pub(crate) fn add(&self, suite: &str, result: &impl Serialize) -> Result<(), Failure> {
        let result = serde_json::to_value(result)?;
        say(&format!("{suite}: {result}"));
        let mut all = read(&self.directory, suite);
        all.retain(|old| KEYS.iter().any(|key| old.get(key) != result.get(key)));
        all.push(result);
        let lines: Vec<String> = all.iter().map(Value::to_string).collect();
        let text = format!("[\n{}\n]\n", lines.join(",\n"));
        std::fs::write(self.directory.join(format!("{suite}.json")), text)?;
        Ok(())
    }
}

/// What has been measured; nothing if there is no such file.
pub(crate) fn read(directory: &Path, suite: &str) -> Vec<Value> {
    std::fs::read(directory.join(format!("{suite}.json")))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}
