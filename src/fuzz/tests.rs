//! The fuzzer's corpus, and bytes that nobody chose, as ordinary tests.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::{TARGETS, Target};

mod seeds;

/// Larger than this the corpus is no longer something to read.
const MOST_FILES: usize = 360;
const MOST_BYTES: u64 = 1 << 20;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The files of a target's corpus, in order.
fn corpus(target: &str) -> Vec<PathBuf> {
    let directory = fuzz().join("corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{directory:?}: {e}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Runs a target. What it panics with is printed by then, so only the input is said.
fn run(name: &str, target: Target, origin: &str, bytes: &[u8]) -> Option<String> {
    let failed = catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err();
    failed.then(|| format!("target {name:?} fails on {origin}: \"{}\"", bytes.escape_ascii()))
}

/// Fails with all that was found, not only the first.
fn assert_none(failed: &[String]) {
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn p9_what_the_fuzzer_has_kept_holds() {
    let (mut files, mut length, mut failed) = (0, 0, Vec::new());
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        assert!(corpus.len() >= 5, "the corpus of {name:?} is gone");
        for path in &corpus {
            let bytes = fs::read(path).unwrap();
            files += 1;
            length += bytes.len() as u64;
            failed.extend(run(name, target, &path.display().to_string(), &bytes));
        }
    }
    assert_none(&failed);
    assert!(files <= MOST_FILES && length <= MOST_BYTES, "{files} files, {length} bytes");
}

#[test]
fn p9_no_bytes_can_do_harm() {
    let config = ProptestConfig {
        failure_persistence: None,
        cases: 256,
        // A target that waits for what has leaked is slow to fail.
        max_shrink_time: 10_000,
        ..Default::default()
    };
    let mut failed = Vec::new();
    for (name, target) in TARGETS {
        let mut runner = TestRunner::new(config.clone());
        // Small numbers are instructions, so most of the bytes are small.
        let byte = prop_oneof![3 => 0_u8..20, 1 => Just(0x80_u8), 2 => any::<u8>()];
        let outcome = runner.run(&vec(byte, 0..200), |bytes| {
            target(&bytes);
            Ok(())
        });
        failed.extend(outcome.err().map(|error| format!("target {name:?}: {error}")));
    }
    assert_none(&failed);
}

#[test]
fn each_target_has_its_program_and_each_program_its_target() {
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let programs = fs::read_dir(fuzz().join("fuzz_targets")).unwrap();
    let mut stems: Vec<String> = programs
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    stems.sort();
    assert_eq!(stems, names);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in names {
        let program = fs::read_to_string(fuzz().join("fuzz_targets").join(format!("{name}.rs")));
        assert!(program.unwrap().contains(&format!("heirloom::fuzz::{name}(")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
