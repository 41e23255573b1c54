//! What a spawner tells its child by the environment: which process it is and over which descriptor
//! it speaks (`HEIRLOOM_LINK`), and by which path the program was meant (`HEIRLOOM_EXECUTED`).

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::sys::stat::fstat;

/// The environment variable that carries an [`Origin`] to a successor.
pub(crate) const VARIABLE: &str = "HEIRLOOM_LINK";

/// The environment variable of a program that was executed by a descriptor: `device:inode:path`.
///
/// Such a program cannot see by which path it is called: `/proc/self/exe` has every symbolic link
/// resolved, and the path leads to another file by now. The next generation is looked for there.
pub(crate) const EXECUTED: &str = "HEIRLOOM_EXECUTED";

/// The value of [`EXECUTED`] for a file that is known by this path.
pub(crate) fn executed_as(file: BorrowedFd<'_>, path: &Path) -> io::Result<OsString> {
    let found = fstat(file)?;
    let mut value = OsString::from(format!("{}:{}:", found.st_dev, found.st_ino));
    value.push(path);
    Ok(value)
}

/// The path in a value of [`EXECUTED`], if it is about the file that this process runs: a helper
/// of such a program inherits the variable and is another file.
pub(crate) fn executed(value: Option<&OsStr>) -> Option<PathBuf> {
    let running = std::fs::metadata("/proc/self/exe").ok()?;
    executed_file(value?, running.dev(), running.ino())
}

fn executed_file(value: &OsStr, device: u64, inode: u64) -> Option<PathBuf> {
    let path = value.as_bytes().strip_prefix(format!("{device}:{inode}:").as_bytes())?;
    let path = Path::new(OsStr::from_bytes(path));
    path.is_absolute().then(|| path.to_owned())
}

/// A link that a spawner left for its child, in terms that a stranger cannot meet by accident:
/// `fd:inode:pid:starttime`, four decimal numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The descriptor's number in the child.
    pub(crate) descriptor: i32,
    /// The socket's inode (`st_ino` of `fstat(2)`).
    pub(crate) inode: u64,
    /// The spawner.
    pub(crate) pid: i32,
    /// When the spawner was started, in clock ticks after boot ([`start_time`]); 0 if the spawner
    /// could not tell.
    pub(crate) start: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.descriptor, self.inode, self.pid, self.start)
    }
}

impl FromStr for Origin {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "not fd:inode:pid:starttime");
        // Four numbers of at most 20 digits.
        if text.len() > 4 * 20 + 3 {
            return Err(wrong());
        }
        let numbers: Option<Vec<u64>> = text.split(':').map(decimal).collect();
        let Some([descriptor, inode, pid, start]) = numbers.as_deref() else {
            return Err(wrong());
        };
        Ok(Self {
            descriptor: i32::try_from(*descriptor).map_err(|_| wrong())?,
            inode: *inode,
            pid: i32::try_from(*pid).map_err(|_| wrong())?,
            start: *start,
        })
    }
}

/// A number of digits and nothing else: `parse` alone would also take a plus sign.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// When a process was started, in clock ticks after boot: field 22 of `/proc/PID/stat`, `proc(5)`.
///
/// Together with the pid it names one process for as long as the machine is up.
pub(crate) fn start_time(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat"))?;
    start_time_in(&stat).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat: no start time"))
    })
}

/// Field 22, counted from the last `)`: the name in field 2 may hold spaces and parentheses.
pub(crate) fn start_time_in(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(22 - 3).and_then(decimal)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn an_origin_survives_the_environment() {
        let origin = Origin { descriptor: 3, inode: u64::MAX, pid: 4711, start: 12345 };
        assert_eq!(origin.to_string(), "3:18446744073709551615:4711:12345");
        assert_eq!(origin.to_string().parse::<Origin>().unwrap(), origin);
        let long = format!("3:1:1:{}", "0".repeat(100));
        let wrong = [
            "",
            ":",
            "3:1:1",
            "3:1:1:1:1",
            "3:1:1:x",
            "+3:1:1:1",
            "-3:1:1:1",
            "3:1:: 1",
            "4294967296:1:1:1",
            "3:18446744073709551616:1:1",
            "3:1:4294967295:1",
            &long,
        ];
        for text in wrong {
            assert!(text.parse::<Origin>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let tail = (4..=25).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        for name in ["sleep", "a b", ") 1 2 (", "(("] {
            let stat = format!("1 ({name}) S {tail}\n");
            assert_eq!(start_time_in(stat.as_bytes()), Some(22), "{name:?}");
        }
        assert_eq!(start_time_in(b"1 (sleep) S 1 2"), None);
        assert_eq!(start_time_in(b""), None);
        let own = start_time(std::process::id().cast_signed()).unwrap();
        assert!(own > 0);
    }
    #[test]
    fn the_path_of_a_program_is_believed_of_the_running_file_only() {
        let own = std::fs::File::open("/proc/self/exe").unwrap();
        let path = Path::new(OsStr::from_bytes(b"/srv/cur\xffrent: app"));
        let value = executed_as(own.as_fd(), path).unwrap();
        assert_eq!(executed(Some(&value)).as_deref(), Some(path));
        let other = std::fs::File::open("/bin/sh").unwrap();
        assert_eq!(executed(Some(&executed_as(other.as_fd(), path).unwrap())), None);
        assert_eq!(executed(None), None);
        let value = |text: &str| executed_file(OsStr::new(text), 1, 22);
        assert_eq!(value("1:22:/x"), Some("/x".into()));
        for wrong in ["", "1:22", "1:22:", "1:22:x", "1:2:/x", "1:222:/x", "11:22:/x", "+1:22:/x"] {
            assert_eq!(value(wrong), None, "{wrong:?}");
        }
    }
}
