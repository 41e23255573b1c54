//! The PID file: written before ready, put in place after the verdict.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::OFlag;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::file_size;

/// The mode of a PID file: everyone may read it, only its owner may write it. The umask does not
/// change it.
const MODE: u32 = 0o644;

/// No PID file that we would write is longer; of a longer one, the rest is not read.
const MAX_LENGTH: u64 = 32;

/// A PID file: the first step of three.
///
/// Each generation writes its own number, but the file changes hands only after the verdict. What
/// can go wrong with the disk goes wrong in [`prepare`](Self::prepare), before ready; what is left
/// for [`publish`](Prepared::publish) is one rename.
pub(crate) struct PidFile;

impl PidFile {
    /// Writes this process's number to a temporary file beside `path`, which is not touched.
    ///
    /// Nothing waits for the disk: the number means nothing after the machine has gone down.
    ///
    /// A temporary file of the same name, left by a dead process that had our number, is replaced.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`], naming the file, if the directory is missing, not writable or full; or
    /// [`ErrorKind::Config`] if `path` does not end in a file name, or leads to a directory.
    pub(crate) fn prepare(path: impl Into<PathBuf>) -> Result<Prepared> {
        prepare(path.into(), std::process::id())
    }

    /// Removes the temporary of a process that ended before it could: a rejected successor that
    /// was killed.
    pub(crate) fn sweep(path: &Path, pid: i32) {
        if let Some(name) = path.file_name() {
            // Mostly there is none; and if it cannot be removed, a process with this number will
            // replace it.
            let _ = fs::remove_file(temporary(path, name, pid));
        }
    }
}

/// Where a process writes before it publishes.
fn temporary(path: &Path, name: &OsStr, pid: impl Display) -> PathBuf {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{pid}.new"));
    path.with_file_name(temporary)
}

fn prepare(path: PathBuf, pid: u32) -> Result<Prepared> {
    let Some(name) = path.file_name() else {
        return Err(config(&path, "the path does not end in a file name"));
    };
    if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
        return Err(config(&path, "this is a directory; name a file in it"));
    }
    let temporary = temporary(&path, name, pid);
    let file = create(&temporary).map_err(|error| failed(&path, "create", &temporary, error))?;
    // From here on the temporary goes away on every path that does not publish it.
    let mut prepared = Prepared { path, temporary: Some(temporary), pid, file };
    match prepared.write() {
        Ok(()) => Ok(prepared),
        Err(error) => {
            let temporary = prepared.temporary.clone().unwrap_or_default();
            Err(failed(&prepared.path, "write", &temporary, error))
        }
    }
}

/// Creates a file that was not there, and follows no symlink to it (`open(2)`, `O_EXCL`).
fn create(path: &Path) -> io::Result<File> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(MODE).custom_flags(flags);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // The name holds our number, so whoever made it is dead.
            fs::remove_file(path)?;
            options.open(path)
        }
        result => result,
    }
}

/// The number is written, under a temporary name. Dropping it removes the temporary.
#[must_use = "a PID file that is not published is removed again"]
#[derive(Debug)]
pub(crate) struct Prepared {
    path: PathBuf,
    /// None once it has been renamed.
    temporary: Option<PathBuf>,
    pid: u32,
    file: File,
}

impl Prepared {
    fn write(&mut self) -> io::Result<()> {
        self.file.set_permissions(fs::Permissions::from_mode(MODE))?;
        let line = format!("{}\n", self.pid);
        file_size::check(line.len() as u64)?;
        self.file.write_all(line.as_bytes())
    }

    /// Puts the file in place of whatever is there, in one step (`rename(2)`): a reader sees the
    /// old number or the new one. Only after the verdict.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`], naming the file; the old file is as it was and the temporary is removed.
    pub(crate) fn publish(mut self) -> Result<Published> {
        // Exact, unlike what the kernel notes: see `was_ours`. Not every file system can have it.
        let now = FileTimes::new().set_modified(SystemTime::now());
        let _ = self.file.set_times(now);
        if let Some(temporary) = self.temporary.take()
            && let Err(error) = fs::rename(&temporary, &self.path)
        {
            let error = failed(&self.path, "rename", &temporary, error);
            self.temporary = Some(temporary);
            return Err(error);
        }
        Ok(Published { path: self.path.clone(), pid: self.pid })
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nobody is left to be told; the next process with our number replaces it.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// The PID file is in place and holds this process's number.
#[derive(Debug)]
pub(crate) struct Published {
    path: PathBuf,
    pid: u32,
}

impl Published {
    /// Whether the file is still there and still holds our number.
    pub(crate) fn is_ours(&self) -> io::Result<bool> {
        let text = match read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            text => text?,
        };
        Ok(text.is_some_and(|text| text == format!("{}\n", self.pid).as_bytes()))
    }

    /// Whether a file that is not ours any more was at that time, in nanoseconds since the epoch: its
    /// mtime is when the process that it names put it there. One that a file system keeps as whole
    /// seconds looks older than it is. If two newer ones have put theirs there since, the last counts.
    pub(crate) fn was_ours(&self, at: u64) -> io::Result<bool> {
        let found = match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            found => found?,
        };
        let put = found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Duration::from_nanos(at) < put)
    }

    /// Removes the file at the final stop, but only if it still holds our number: a later
    /// generation, or another program, may have put its own there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`], naming the file, if it cannot be read or removed. A file that is gone, is
    /// no regular file or holds another number is no error.
    pub(crate) fn remove_if_ours(self) -> Result<()> {
        let wrong = |verb: &str, error| {
            Error::new(ErrorKind::Io, format!("PID file {:?}: cannot {verb} it", self.path))
                .with_source(error)
        };
        if !self.is_ours().map_err(|error| wrong("read", error))? {
            return Ok(());
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(wrong("remove", error)),
            _ => Ok(()),
        }
    }
}

/// The beginning of a regular file; none if it is something else.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(None);
    }
    // Should a FIFO or a symlink take its place right now: do not wait for it, do not follow it.
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut text = Vec::new();
    file.take(MAX_LENGTH).read_to_end(&mut text)?;
    Ok(Some(text))
}

fn config(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Config, format!("PID file {path:?}: {why}"))
}

fn failed(path: &Path, verb: &str, temporary: &Path, error: io::Error) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "; create its directory, or name another path"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; its directory must be writable for us"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on the disk",
        _ => "",
    };
    let message = format!("PID file {path:?}: cannot {verb} {temporary:?}{remedy}");
    Error::new(ErrorKind::Io, message).with_source(error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::sys::clock::wall_now;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_file_changes_hands_only_when_it_is_published() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.pid");
        fs::write(&path, "1\n").unwrap();
        let prepared = PidFile::prepare(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        let published = prepared.publish().unwrap();
        let ours = format!("{}\n", std::process::id());
        assert_eq!(fs::read_to_string(&path).unwrap(), ours);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, MODE);
        assert_eq!(names(directory.path()), ["shop.pid"]);
        published.remove_if_ours().unwrap();
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn it_tells_when_it_was_put_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.pid");
        let ours = PidFile::prepare(&path).unwrap().publish().unwrap();
        let before = wall_now();
        let theirs = prepare(path.clone(), 1).unwrap().publish().unwrap();
        let after = wall_now();
        assert!(!ours.is_ours().unwrap() && theirs.is_ours().unwrap());
        assert!(ours.was_ours(before).unwrap());
        assert!(!ours.was_ours(after).unwrap());
        theirs.remove_if_ours().unwrap();
        assert!(!ours.was_ours(before).unwrap());
    }

    #[test]
    fn a_failed_upgrade_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.pid");
        fs::write(&path, "1\n").unwrap();
        drop(PidFile::prepare(&path).unwrap());
        assert_eq!(names(directory.path()), ["shop.pid"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn two_generations_do_not_share_a_temporary() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.pid");
        let elder = prepare(path.clone(), 7).unwrap();
        let younger = prepare(path.clone(), 8).unwrap();
        let elder = elder.publish().unwrap();
        let younger = younger.publish().unwrap();
        elder.remove_if_ours().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "8\n");
        younger.remove_if_ours().unwrap();
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn what_a_dead_process_left_is_replaced_and_a_symlink_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.pid");
        let precious = directory.path().join("precious");
        fs::write(&precious, "keep me").unwrap();
        for stale in [".shop.pid.7.new", ".shop.pid.8.new"] {
            let stale = directory.path().join(stale);
            if stale.to_string_lossy().contains(".7.") {
                fs::write(stale, "a much longer text than a number\n").unwrap();
            } else {
                symlink(&precious, stale).unwrap();
            }
        }
        drop(prepare(path.clone(), 7).unwrap().publish().unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "7\n");
        drop(prepare(path.clone(), 8).unwrap().publish().unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "8\n");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "keep me");
        assert_eq!(names(directory.path()), ["precious", "shop.pid"]);
    }

    #[test]
    fn what_others_put_in_place_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.pid");
        let ours = || prepare(path.clone(), 7).unwrap().publish().unwrap();
        for other in ["77\n", "7", "7\n7\n", ""] {
            let published = ours();
            fs::write(&path, other).unwrap();
            published.remove_if_ours().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), other);
        }
        let published = ours();
        fs::rename(&path, directory.path().join("moved")).unwrap();
        symlink("moved", &path).unwrap();
        published.remove_if_ours().unwrap();
        assert_eq!(names(directory.path()), ["moved", "shop.pid"]);
        let published = ours();
        fs::remove_file(&path).unwrap();
        published.remove_if_ours().unwrap();
        let published = ours();
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        published.remove_if_ours().unwrap();
        assert_eq!(names(directory.path()), ["moved", "shop.pid"]);
    }

    #[test]
    fn a_directory_that_cannot_be_used_fails_before_ready_and_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [directory.path().join("missing/shop.pid"), file.join("shop.pid")] {
            let error = PidFile::prepare(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            let text = error.chain();
            assert!(text.contains(&format!("PID file {path:?}: cannot create ")), "{text}");
            assert!(text.contains("create its directory"), "{text}");
            assert!(text.contains("os error"), "{text}");
        }
        for path in [directory.path(), Path::new("/"), Path::new("")] {
            let error = PidFile::prepare(path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        }
    }

    #[test]
    fn a_rename_that_fails_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.pid");
        let prepared = PidFile::prepare(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let error = prepared.publish().unwrap_err();
        assert!(error.chain().contains("cannot rename"), "{error:?}");
        assert_eq!(names(directory.path()), ["shop.pid"]);
    }

    /// A file size limit stands for the full disk: the file can be made, but not written. The
    /// limit is the process's, so the test runs itself again in a child of its own.
    #[test]
    fn a_file_that_cannot_be_written_fails_before_ready_and_leaves_nothing_behind() {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};

        const CHILD: &str = "HEIRLOOM_TEST_PID_FILE_LIMIT";
        if std::env::var_os(CHILD).is_none() {
            let name = "pid_file::tests::\
                        a_file_that_cannot_be_written_fails_before_ready_and_leaves_nothing_behind";
            let output = std::process::Command::new(std::env::current_exe().unwrap())
                .args([name, "--exact"])
                .env(CHILD, "1")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{text}");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.pid");
        let (_, most) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, 0, most).unwrap();
        let error = PidFile::prepare(&path).unwrap_err();
        assert!(error.chain().contains("cannot write"), "{error:?}");
        assert!(names(directory.path()).is_empty());
    }
}
