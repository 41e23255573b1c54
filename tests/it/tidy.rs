//! The house's rules, read off the sources.

use std::fs;
use std::path::{Path, PathBuf};

trials![
    a_room_imports_only_from_below,
    a_line_of_the_log_is_one_that_harms_nobody,
    unsafe_code_lives_in_sys,
    a_file_is_one_noun,
    a_function_fits_on_a_screen,
    a_library_does_not_print_exit_or_leave_things_undone,
    no_test_sleeps,
    every_file_says_what_it_is,
];

/// The floors of ARCHITECTURE.md, the lowest first. A room imports from the floors below it, and
/// on its own floor from those to its left.
const FLOORS: [&[&str]; 6] = [
    &["sys"],
    &["wire", "link", "birth", "spawn"],
    &[
        "executable",
        "verdict",
        "drain",
        "report",
        "status",
        "pid_file",
        "systemd",
        "hooks",
        "requests",
        "readiness",
        "listener",
        "inventory",
        "health",
        "state",
        "session",
    ],
    &["handoff", "control"],
    &["config", "service", "sockets", "running", "starting", "run"],
    // Wings: nobody imports them.
    &["http", "parent", "bin"],
];

/// The vocabulary beside the stairs: everybody may import it, and it imports nothing else.
const BESIDE: [&str; 6] = ["error", "name", "generation", "log", "task", "forward"];

/// They re-export and explain, and hold no logic.
const FRONT: [&str; 2] = ["lib", "guide"];

/// Programs are users of the library like any other: they see what is public.
const PROGRAM: &str = "bin";

const LONGEST_FILE: usize = 450;
const LONGEST_FUNCTION: usize = 60;

/// One source file without its tests.
struct Source {
    path: PathBuf,
    /// Every line, with comments and the contents of literals taken out.
    code: Vec<String>,
}

impl Source {
    fn room(&self) -> String {
        let first = self.path.iter().next().unwrap();
        Path::new(first).file_stem().unwrap().to_string_lossy().into_owned()
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a directory of the project, by their paths in it.
fn files(directory: &str) -> Vec<PathBuf> {
    let base = root().join(directory);
    let mut pending = vec![base.clone()];
    let mut found = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(&base).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The library without what is compiled for tests only.
fn library() -> Vec<Source> {
    let all = files("src");
    let text = |path: &Path| fs::read_to_string(root().join("src").join(path)).unwrap();
    let of_tests: Vec<PathBuf> =
        all.iter().flat_map(|path| modules_of_tests(path, &text(path))).collect();
    let is_test = |path: &Path| of_tests.iter().any(|module| path.starts_with(module));
    all.iter()
        .filter(|path| !is_test(&path.with_extension("")))
        .map(|path| {
            let text = text(path);
            let own = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            Source { path: path.clone(), code: own.lines().map(bare).collect() }
        })
        .collect()
}

/// The paths, without extension, of the modules that a file declares for tests only. What fuzzes
/// a room is one of its tests.
fn modules_of_tests(path: &Path, text: &str) -> Vec<PathBuf> {
    let stem = path.file_stem().unwrap();
    let room = if stem == "mod" || stem == "lib" {
        path.parent().unwrap().to_owned()
    } else {
        path.with_extension("")
    };
    let mut modules = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if ["#[cfg(test)]", "#[cfg(any(test, fuzzing))]"].contains(&line)
            && let Some(rest) = lines
                .by_ref()
                .find(|line| !line.starts_with("#["))
                .and_then(|line| line.split("mod ").nth(1))
            && let Some(name) = rest.strip_suffix(';')
        {
            modules.push(room.join(name));
        }
    }
    modules
}

/// A line without its comment and without what its literals hold.
fn bare(line: &str) -> String {
    let mut bare = String::new();
    let mut chars = line.chars().peekable();
    let mut in_text = false;
    while let Some(char) = chars.next() {
        match char {
            '\\' if in_text => _ = chars.next(),
            '"' => {
                in_text = !in_text;
                bare.push('"');
            }
            _ if in_text => {}
            '/' if chars.peek() == Some(&'/') => break,
            '\'' => {
                // A character, or a lifetime, which has no second quote.
                let rest: Vec<char> = chars.clone().take(3).collect();
                let length = match rest[..] {
                    ['\\', _, '\''] => 3,
                    [_, '\'', ..] => 2,
                    _ => 0,
                };
                (0..length).for_each(|_| _ = chars.next());
            }
            _ => bare.push(char),
        }
    }
    bare
}

/// Fails with all that was found, not only the first.
fn assert_none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// Where a room stands: the further right, the more it may import.
fn place(room: &str) -> Option<usize> {
    FLOORS.iter().copied().flatten().position(|name| *name == room)
}

fn a_room_imports_only_from_below() {
    let mut found = Vec::new();
    for source in library() {
        let room = source.room();
        if FRONT.contains(&room.as_str()) || room == PROGRAM {
            continue;
        }
        let beside = BESIDE.contains(&room.as_str());
        if place(&room).is_none() && !beside {
            found.push(format!("{room} stands on no floor: give it its place in this table"));
        }
        for import in imports(&source) {
            let vocabulary = BESIDE.contains(&import.as_str());
            let below = !beside && place(&import) < place(&room) && place(&import).is_some();
            if import != room && !vocabulary && !below {
                found.push(format!("{} imports crate::{import}", source.path.display()));
            }
        }
    }
    assert_none("a room imports only from below", &found);
}

/// A subscriber that panics must not end a task that decides: the lines are those of `log`.
fn a_line_of_the_log_is_one_that_harms_nobody() {
    let direct = ["trace", "debug", "info", "warn", "error", "event"]
        .map(|level| format!("tracing::{level}!"));
    let mut found = Vec::new();
    for source in library() {
        if ["log", "guide", PROGRAM].contains(&source.room().as_str()) {
            continue;
        }
        for line in source.code.iter().filter(|line| direct.iter().any(|it| line.contains(it))) {
            found.push(format!("{}: {}", source.path.display(), line.trim()));
        }
    }
    assert_none("lines are logged by crate::log", &found);
}

/// The rooms whose names follow `crate::` in a source.
fn imports(source: &Source) -> Vec<String> {
    let of_line = |line: &String| -> Vec<String> {
        let after = line.split("crate::").skip(1);
        let name = |text: &str| -> String {
            text.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect()
        };
        after.map(name).filter(|name| name.starts_with(char::is_lowercase)).collect()
    };
    let mut imports: Vec<String> = source.code.iter().flat_map(of_line).collect();
    imports.sort();
    imports.dedup();
    imports
}

/// Every place where one of the words stands by itself.
fn uses(sources: &[Source], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for (number, line) in source.code.iter().enumerate() {
            for word in words.iter().filter(|word| stands_in(line, word)) {
                found.push(format!("{}:{}: {word}", source.path.display(), number + 1));
            }
        }
    }
    found
}

fn stands_in(line: &str, word: &str) -> bool {
    let part_of_a_name =
        |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || char == '_');
    line.match_indices(word).any(|(at, _)| {
        !part_of_a_name(line[..at].chars().next_back())
            && !part_of_a_name(line[at + word.len()..].chars().next())
    })
}

fn unsafe_code_lives_in_sys() {
    let mut sources = library();
    sources.retain(|source| source.room() != "sys");
    let found = uses(&sources, &["unsafe", "unsafe_code"]);
    assert_none("unsafe code lives in src/sys", &found);
}

fn a_file_is_one_noun() {
    let long = |source: &Source| {
        let lines = source.code.len();
        (lines > LONGEST_FILE).then(|| format!("{}: {lines} lines", source.path.display()))
    };
    let found: Vec<String> = library().iter().filter_map(long).collect();
    assert_none("a file has grown beyond one noun", &found);
}

fn a_function_fits_on_a_screen() {
    let mut found = Vec::new();
    for source in library() {
        for (start, line) in source.code.iter().enumerate() {
            if stands_in(line, "fn") && line.contains('(') {
                let lines = length(&source.code[start..]);
                if lines > LONGEST_FUNCTION {
                    let path = source.path.display();
                    found.push(format!("{path}:{}: {lines} lines", start + 1));
                }
            }
        }
    }
    assert_none("a function does not fit on a screen", &found);
}

/// The lines of the function that begins in the first, by its braces; 1 if it has no body.
fn length(code: &[String]) -> usize {
    let mut depth = 0_usize;
    for (number, line) in code.iter().enumerate() {
        let opened = line.matches('{').count();
        let closed = line.matches('}').count();
        if depth == 0 && opened == 0 && line.ends_with(';') {
            return 1;
        }
        depth = (depth + opened).saturating_sub(closed);
        if depth == 0 && opened + closed > 0 {
            return number + 1;
        }
    }
    code.len()
}

fn a_library_does_not_print_exit_or_leave_things_undone() {
    let words = [
        "println!",
        "print!",
        "eprintln!",
        "eprint!",
        "dbg!",
        "todo!",
        "unimplemented!",
        "process::exit",
        "mem::forget",
        "set_var",
        "remove_var",
    ];
    let found = uses(&library(), &words);
    assert_none("a library does not do that", &found);
}

/// They wait for events; the one pause stands in `support/`.
fn no_test_sleeps() {
    let mut sources = Vec::new();
    for path in files("tests/it") {
        if !path.starts_with("support") {
            let text = fs::read_to_string(root().join("tests/it").join(&path)).unwrap();
            sources.push(Source { path, code: text.lines().map(bare).collect() });
        }
    }
    assert_none("a test sleeps", &uses(&sources, &["sleep"]));
}

fn every_file_says_what_it_is() {
    let sources = library().into_iter().map(|source| Path::new("src").join(source.path));
    let tests = files("tests/it").into_iter().map(|path| Path::new("tests/it").join(path));
    let silent =
        |path: &PathBuf| !fs::read_to_string(root().join(path)).unwrap().starts_with("//!");
    let found = sources.chain(tests).filter(silent).map(|path| path.display().to_string());
    assert_none("a file begins with what it is for", &found.collect::<Vec<_>>());
}
