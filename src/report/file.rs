//! The journal as a file: one JSON document a line, for whoever collects logs.
//!
//! **Contract:** writing it never delays an upgrade and never fails one. A line is written on a
//! thread of its own that lives only while there is something to write; what cannot be written is
//! said in the log and lost. Generations that write at the same time take turns by flock(2), so no
//! line is in the middle of another, and only who has the turn renames files. What a full disk has
//! left of a line is taken away; what a process has left that was killed as it wrote stays, and the
//! next line begins behind it, so a reader skips what is no document.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use tokio::sync::watch;

use super::{Drained, Report};
use crate::generation::Generation;
use crate::sys::file_size;

/// So many lines may wait for a slow disk.
const WAITING: usize = 256;
/// So often a file may be renamed away under us before a line is given up.
const TRIES: usize = 16;

/// Where the journal of upgrades is written as JSON lines, and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "hand it to Config::journal_file"]
pub struct JournalFile {
    path: PathBuf,
    longest: u64,
    kept: usize,
}

impl JournalFile {
    /// At this path, in a directory that is there. At most 1 MiB, and 4 older files beside it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), longest: 1 << 20, kept: 4 }
    }

    /// No file gets longer than so many bytes: a line that would not fit begins a new file. Default
    /// 1 MiB. A line has about 1 KiB; one that is longer than this is a file alone.
    pub fn longest_bytes(mut self, bytes: u64) -> Self {
        self.longest = bytes;
        self
    }

    /// So many older files are kept, as `PATH.1` (the newest of them), `PATH.2` and so on. Default 4.
    pub fn keep(mut self, files: NonZeroUsize) -> Self {
        self.kept = files.get();
        self
    }
}

impl From<&str> for JournalFile {
    fn from(path: &str) -> Self {
        Self::new(path)
    }
}

impl From<PathBuf> for JournalFile {
    fn from(path: PathBuf) -> Self {
        Self::new(path)
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// An upgrade has its outcome.
    Upgrade(Box<Report>),
    /// The drain after the upgrade to this generation is over.
    Drained { to: Generation, drain: Drained },
    /// The service was stopped.
    Stopped { generation: Generation, drain: Drained },
}

/// One line: one of the last three is there.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    /// When it was written, in milliseconds since 1970.
    unix_ms: u64,
    service: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    upgrade: Option<&'a Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drained: Option<After<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<End<'a>>,
}

#[derive(Serialize)]
struct After<'a> {
    to: Generation,
    drain: &'a Drained,
}

#[derive(Serialize)]
struct End<'a> {
    generation: Generation,
    drain: &'a Drained,
}

impl<'a> Line<'a> {
    pub(super) fn new(unix_ms: u64, service: &'a str, entry: &'a Entry) -> Self {
        let mut line = Self { unix_ms, service, upgrade: None, drained: None, stopped: None };
        match entry {
            Entry::Upgrade(report) => line.upgrade = Some(report),
            Entry::Drained { to, drain } => line.drained = Some(After { to: *to, drain }),
            Entry::Stopped { generation, drain } => {
                line.stopped = Some(End { generation: *generation, drain });
            }
        }
        line
    }
}

/// Writes one generation's entries.
#[derive(Clone)]
pub(crate) struct Writer {
    file: JournalFile,
    service: String,
    queue: Arc<Queue>,
}

struct Queue {
    lines: Mutex<VecDeque<Vec<u8>>>,
    /// Whether a thread is writing.
    busy: watch::Sender<bool>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    pub(crate) fn new(file: JournalFile, service: &str) -> Self {
        let queue = Queue { lines: Mutex::default(), busy: watch::Sender::new(false) };
        Self { file, service: service.to_owned(), queue: Arc::new(queue) }
    }

    /// Has it written. Returns at once.
    pub(crate) fn write(&self, entry: &Entry) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let Ok(mut line) = serde_json::to_vec(&Line::new(unix_ms, &self.service, entry)) else {
            return;
        };
        line.push(b'\n');
        let mut lines = self.queue.lock();
        if lines.len() >= WAITING {
            crate::log::warn!(path = ?self.file.path, "a line of the journal is lost: too many wait");
            return;
        }
        lines.push_back(line);
        // Under the lock: who finds no line left says so under it.
        if self.queue.busy.send_replace(true) {
            return;
        }
        drop(lines);
        let writer = self.clone();
        if let Err(error) = crate::task::in_a_thread("heirloom-journal", move || writer.run()) {
            crate::log::warn!(path = ?self.file.path, %error, "the journal cannot be written now");
            self.queue.busy.send_replace(false);
        }
    }

    /// Waits until all is written, at most so long.
    pub(crate) async fn written(&self, wait: Duration) {
        let mut busy = self.queue.busy.subscribe();
        // The sender is ours.
        let _ = tokio::time::timeout(wait, busy.wait_for(|busy| !busy)).await;
    }

    fn run(&self) {
        loop {
            let line = {
                let mut lines = self.queue.lock();
                match lines.pop_front() {
                    Some(line) => line,
                    None => {
                        self.queue.busy.send_replace(false);
                        return;
                    }
                }
            };
            if let Err(error) = append(&self.file, &line) {
                crate::log::warn!(path = ?self.file.path, %error, "a line of the journal is lost");
            }
        }
    }
}

/// Appends one line, whole.
fn append(journal: &JournalFile, line: &[u8]) -> io::Result<()> {
    for _ in 0..TRIES {
        let file = open(&journal.path)?;
        let file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
        let found = file.metadata()?;
        // Whoever had the turn before may have renamed it.
        if !is_at(&journal.path, found.ino()) {
            continue;
        }
        let length = found.len();
        if length > 0 && length.saturating_add(line.len() as u64) > journal.longest {
            rotate(journal)?;
            continue;
        }
        return write_at_end(&file, length, line);
    }
    Err(io::Error::other("it is renamed again and again"))
}

/// Without waiting for whoever might read a pipe there, and not through a symbolic link.
fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let mut options = OpenOptions::new();
    let file = options.read(true).append(true).create(true).mode(0o640).custom_flags(flags);
    let file = file.open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

fn is_at(path: &Path, inode: u64) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|there| there.ino() == inode)
}

fn rotate(journal: &JournalFile) -> io::Result<()> {
    let numbered = |number: usize| {
        let mut name = journal.path.clone().into_os_string();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..journal.kept).rev() {
        match std::fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(&journal.path, numbered(1))
}

/// What a full disk has left of a line is taken away again.
fn write_at_end(file: &File, length: u64, line: &[u8]) -> io::Result<()> {
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    // Somebody died in the middle of a line, or edited the file.
    let bytes = if last == *b"\n" { line.to_vec() } else { [b"\n", line].concat() };
    file_size::check(length.saturating_add(bytes.len() as u64))?;
    let mut end = file;
    let written = end.write_all(&bytes);
    if written.is_err() {
        file.set_len(length)?;
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(cut: u64) -> Entry {
        Entry::Drained { to: Generation::FIRST, drain: Drained { cut, ..Drained::default() } }
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn two_generations_never_tear_a_line_and_files_are_kept_as_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let file =
            JournalFile::new(&path).longest_bytes(20_000).keep(NonZeroUsize::new(99).unwrap());
        let writers = [Writer::new(file.clone(), "a"), Writer::new(file, "b")];
        for round in 0..4 {
            for number in 0..200 {
                writers.iter().for_each(|writer| writer.write(&entry(round * 200 + number)));
            }
            for writer in &writers {
                writer.written(SOON).await;
            }
        }
        let mut all = Vec::new();
        for found in std::fs::read_dir(directory.path()).unwrap() {
            let path = found.unwrap().path();
            assert!(std::fs::metadata(&path).unwrap().len() <= 20_000);
            all.extend(lines(&path));
        }
        assert_eq!(all.len(), 1_600);
        let of_a = all.iter().filter(|line| line["service"] == "a").count();
        assert_eq!(of_a, 800);
    }

    #[tokio::test]
    async fn older_files_go() {
        let directory = tempfile::tempdir().unwrap();
        let file = JournalFile::new(directory.path().join("journal"));
        let file = file.longest_bytes(10).keep(NonZeroUsize::new(2).unwrap());
        let writer = Writer::new(file, "shop");
        for cut in 0..9 {
            writer.write(&entry(cut));
        }
        writer.written(SOON).await;
        let cut =
            |name: &str| lines(&directory.path().join(name))[0]["drained"]["drain"]["cut"].clone();
        assert_eq!([cut("journal"), cut("journal.1"), cut("journal.2")], [8, 7, 6]);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_lost_and_nothing_waits_for_it() {
        let directory = tempfile::tempdir().unwrap();
        for path in ["nowhere/journal", ".", "pipe", "link"] {
            let path = directory.path().join(path);
            match path.file_name().and_then(|name| name.to_str()) {
                Some("pipe") => {
                    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
                }
                Some("link") => std::os::unix::fs::symlink("/dev/full", &path).unwrap(),
                _ => {}
            }
            let writer = Writer::new(JournalFile::from(path), "shop");
            writer.write(&entry(1));
            tokio::time::timeout(SOON, writer.written(Duration::MAX)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn after_half_a_line_a_new_one_begins() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        std::fs::write(&path, "{\"half\":").unwrap();
        let writer = Writer::new(JournalFile::from(path.clone()), "shop");
        writer.write(&entry(1));
        writer.written(SOON).await;
        let text = std::fs::read_to_string(&path).unwrap();
        let (half, line) = text.split_once('\n').unwrap();
        assert_eq!(half, "{\"half\":");
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
}
