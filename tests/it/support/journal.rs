//! What every generation writes down, in one file: a line of JSON for each event.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Microseconds since the epoch.
    pub at_us: u64,
    pub pid: i32,
    /// None until the process knows it.
    pub generation: Option<u64>,
    pub event: String,
    pub data: Value,
}

impl Entry {
    /// The data as what the event carries.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> T {
        T::deserialize(&self.data)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", self.event, self.data))
    }
}

/// The file; opened anew by each process.
pub(crate) struct Journal {
    file: File,
}

impl Journal {
    pub(crate) fn path(directory: &Path) -> PathBuf {
        directory.join("events.jsonl")
    }

    pub(crate) fn open(directory: &Path) -> Self {
        let file =
            OpenOptions::new().append(true).create(true).open(Self::path(directory)).unwrap();
        Self { file }
    }

    /// One write of one line, so lines of several processes do not mix.
    pub(crate) fn write(&self, generation: Option<u64>, event: &str, data: Value) {
        let entry = Entry {
            at_us: now_us(),
            pid: std::process::id().cast_signed(),
            generation,
            event: event.to_owned(),
            data,
        };
        let mut line = serde_json::to_string(&entry).unwrap();
        line.push('\n');
        (&self.file).write_all(line.as_bytes()).unwrap();
    }

    /// All lines that are whole.
    pub(crate) fn read(directory: &Path) -> Vec<Entry> {
        let text = std::fs::read_to_string(Self::path(directory)).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Leaves of the file what these lines say; whoever writes meanwhile is not heard.
pub(crate) fn rewrite(directory: &Path, entries: &[Entry]) {
    let lines = entries.iter().map(|entry| serde_json::to_string(entry).unwrap() + "\n");
    let text: String = lines.collect();
    let mut file = OpenOptions::new().append(true).open(Journal::path(directory)).unwrap();
    // Those who write append, so they go on behind what is written here.
    file.set_len(0).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// The wall clock, which all processes share.
pub(crate) fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}
