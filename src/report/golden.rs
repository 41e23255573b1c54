//! Golden files: what a release has written, every later one writes and reads.

use std::fmt::Debug;
use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Each value is written as its file in `tests/golden` says, and what is read of the file is the
/// same again. `HEIRLOOM_GOLDEN=write` writes the files that are not there yet; those of a release
/// are never edited.
pub(crate) fn is_as_released<T: Serialize + DeserializeOwned + Debug>(
    directory: &str,
    values: Vec<(&str, T)>,
) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(directory);
    for (name, value) in values {
        let path = directory.join(format!("{name}.json"));
        let written = serde_json::to_value(&value).unwrap();
        if !path.exists() && std::env::var_os("HEIRLOOM_GOLDEN").is_some_and(|to| to == "write") {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&path, serde_json::to_string_pretty(&written).unwrap() + "\n").unwrap();
        }
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let released: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(written, released, "{path:?}");
        let read: T = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), released, "{path:?}");
    }
}
