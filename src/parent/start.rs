//! How the server is started, and becomes itself.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::BECOME;
use super::household::Member;
use super::store::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::origin::{self, decimal};
use crate::sys::spawn::{Group, Image, Order, posix_spawn};

/// The first descriptor that is passed, `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;

/// Variables that an outer manager meant for us, not for the server.
const OUTER: [&str; 10] = [
    origin::VARIABLE,
    origin::EXECUTED,
    "NOTIFY_SOCKET",
    "FDSTORE",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Our own program, also when its file has been replaced since: a new version of this command must
/// not end the service of an old one.
const OURSELVES: &CStr = c"/proc/self/exe";

/// Starts the server with all that is kept. Gives its process.
pub(super) fn start(
    server: &[OsString],
    notify: &str,
    store: &Store,
    files: &Files,
) -> Result<Member> {
    let wrong = |what: &str, error: io::Error| {
        let text = format!("server {:?}: {what}", server.first());
        Error::new(ErrorKind::Spawn, text).with_source(error)
    };
    let words = |text: &OsStr| {
        CString::new(text.as_bytes()).map_err(|error| wrong("a NUL byte", error.into()))
    };
    let limit = files.inherited.to_string();
    let ours = [OsStr::new("heirloom"), OsStr::new("run"), OsStr::new(BECOME), OsStr::new(&limit)];
    let arguments = ours.into_iter().chain(server.iter().map(OsString::as_os_str)).map(words);
    let names: Vec<&str> = store.kept().iter().map(|(name, _)| name.as_str()).collect();
    let told = [
        ("NOTIFY_SOCKET", notify.to_owned()),
        ("FDSTORE", store.most().to_string()),
        ("LISTEN_FDS", names.len().to_string()),
        ("LISTEN_FDNAMES", names.join(":")),
    ];
    let told = told.iter().map(|(name, value)| OsString::from(format!("{name}={value}")));
    let others = std::env::vars_os().filter(|(name, _)| OUTER.iter().all(|outer| name != outer));
    let others = others.map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    let env = others.chain(told).map(|text| words(&text)).collect::<Result<Vec<_>>>()?;
    let fds: Vec<(BorrowedFd<'_>, RawFd)> =
        store.kept().iter().map(|(_, fd)| fd.as_fd()).zip(FIRST..).collect();
    let pid = posix_spawn(&Order {
        image: Image::Path(OURSELVES),
        args: &arguments.collect::<Result<Vec<_>>>()?,
        env: &env,
        cwd: None,
        fds: &fds,
        blocked: &[],
        group: Group::Ours,
        close_from: fds.iter().map(|(_, number)| number + 1).max().unwrap_or(FIRST),
    })
    .map_err(|error| wrong("it could not be started", error))?;
    // It is our child, and not reaped yet: the number is its own.
    Member::of(pid).map_err(|error| {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        wrong("it could not be watched", error)
    })
}

/// Names itself as the process that the descriptors are for, and becomes the server. Returns only
/// if it cannot.
pub(super) fn become_server(arguments: &[OsString]) -> io::Error {
    let Some((limit, [program, arguments @ ..])) = arguments.split_first() else {
        return io::ErrorKind::InvalidInput.into();
    };
    if let Some(limit) = limit.to_str().and_then(decimal) {
        // Lowering it is always allowed; a server under a higher limit than meant can serve.
        let _ = getrlimit(Resource::RLIMIT_NOFILE)
            .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, limit.min(hard), hard));
    }
    let mut command = Command::new(program);
    command.args(arguments);
    if std::env::var_os("LISTEN_FDS").is_some_and(|count| count == "0") {
        command.env_remove("LISTEN_FDS").env_remove("LISTEN_FDNAMES");
    } else {
        command.env("LISTEN_PID", std::process::id().to_string());
    }
    let error = command.exec();
    io::Error::new(error.kind(), format!("server {program:?}: {error}"))
}

/// How many files may be open: here, for everything that may be stored, and in the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files {
    /// As it was when we were started, and is in the server.
    inherited: u64,
    /// As it is here.
    pub(super) ours: u64,
}

impl Files {
    /// Raises our own limit to what the store needs, as far as that is allowed (`setrlimit(2)`).
    pub(super) fn allow(wanted: u64) -> Self {
        let Ok((inherited, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
            return Self { inherited: wanted, ours: wanted };
        };
        let ours = wanted.min(hard).max(inherited);
        match setrlimit(Resource::RLIMIT_NOFILE, ours, hard) {
            Ok(()) => Self { inherited, ours },
            Err(_) => Self { inherited, ours: inherited },
        }
    }
}
