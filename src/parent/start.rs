//! How the server is started, and becomes itself.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::BECOME;
use super::store::{MOST, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::origin;
use crate::sys::pidfd;
use crate::sys::spawn::{Group, Image, Order, posix_spawn};

/// The first descriptor that is passed, `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;

/// Variables that an outer manager meant for us, not for the server.
const OUTER: [&str; 8] = [
    origin::VARIABLE,
    "NOTIFY_SOCKET",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Starts the server with all that is kept. Gives its process.
pub(super) fn start(server: &[OsString], notify: &str, store: &Store) -> Result<(i32, OwnedFd)> {
    let wrong = |what: &str, error: io::Error| {
        let text = format!("server {:?}: {what}", server.first());
        Error::new(ErrorKind::Spawn, text).with_source(error)
    };
    let own = std::env::current_exe().map_err(|error| wrong("our own program", error))?;
    let words = |text: &OsStr| {
        CString::new(text.as_bytes()).map_err(|error| wrong("a NUL byte", error.into()))
    };
    let ours = [OsStr::new("heirloom"), OsStr::new("run"), OsStr::new(BECOME)];
    let arguments = ours.into_iter().chain(server.iter().map(OsString::as_os_str)).map(words);
    let names: Vec<&str> = store.kept().iter().map(|(name, _)| name.as_str()).collect();
    let told = [
        ("NOTIFY_SOCKET", notify.to_owned()),
        ("FDSTORE", MOST.to_string()),
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
        image: Image::Path(&words(own.as_os_str())?),
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
    let pidfd = pidfd::open(pid).map_err(|error| wrong("its pidfd", error))?;
    Ok((pid, pidfd))
}

/// Names itself as the process that the descriptors are for, and becomes the server. Returns only
/// if it cannot.
pub(super) fn become_server(server: &[OsString]) -> io::Error {
    let Some((program, arguments)) = server.split_first() else {
        return io::ErrorKind::InvalidInput.into();
    };
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
