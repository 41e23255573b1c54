//! How this process came to be: the only reader of inherited environment.
//!
//! Found out once, before the async runtime starts: no other thread exists yet that could open a
//! descriptor under an inherited number, and signal masks are still settled for all. The
//! environment is read and never changed: what is in it is recognised as stale by whoever it does
//! not concern.

mod signals;
mod supervisor;

use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

pub(crate) use self::signals::{Asked, STOP, Signals, UPGRADE};
pub(crate) use self::supervisor::{Supervisor, WATCHDOG_USEC, supervisor};
use crate::error::{Error, ErrorKind, Result};
use crate::name::Name;
use crate::sys::origin::{self, Origin, decimal};
use crate::sys::{pidfd, socket};

/// The first descriptor of a service manager (`SD_LISTEN_FDS_START`, `sd_listen_fds(3)`).
const FIRST_PASSED: RawFd = 3;

/// The most descriptors that a service manager may pass; its own limit is far lower.
const MAX_PASSED: u64 = 4096;

/// The three ways to be born that a process is told about; the fourth, taking over by a control
/// socket, it asks for.
#[derive(Debug)]
pub(crate) enum Birth {
    /// A predecessor has started us and left its link.
    Inherited {
        /// Our end of the link.
        link: OwnedFd,
    },
    /// A service manager has passed descriptors: sockets it holds, or its fd store.
    Activated {
        /// In the order passed, each with its name if it has one.
        descriptors: Vec<(Option<Name>, OwnedFd)>,
    },
    /// Nobody has left us anything.
    Fresh,
}

/// What to make of descriptors that were passed without the pid of the process they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unnamed {
    /// They are for nobody, as `sd_listen_fds(3)` has it.
    Ignored,
    /// They are ours.
    Taken,
}

/// Finds out how this process was born, and takes over what was left for it.
///
/// Each inherited descriptor becomes owned and `CLOEXEC`. That happens once in a process: the same
/// numbers mean other descriptors later, or ones that have an owner.
pub(crate) fn birth(unnamed: Unnamed) -> Result<Birth> {
    static TAKEN: Mutex<bool> = Mutex::new(false);
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if *taken {
        let text = "what this process was born with has been taken over: run or start one service";
        return Err(wrong(text));
    }
    take_name_back();
    let pid = std::process::id().cast_signed();
    let parent = std::os::unix::process::parent_id().cast_signed();
    let birth = birth_of(&Process { pid, parent }, |name| {
        let value = std::env::var_os(name);
        let ours = name == "LISTEN_PID" && unnamed == Unnamed::Taken;
        value.or_else(|| ours.then(|| pid.to_string().into()))
    })?;
    *taken = !matches!(birth, Birth::Fresh);
    Ok(birth)
}

/// Gives a program that was executed by a descriptor the name that it has by its path: the kernel
/// has called it by the descriptor's number, and so would `ps` and `pgrep`.
fn take_name_back() {
    let path = origin::executed(std::env::var_os(origin::EXECUTED).as_deref());
    // proc_pid_comm(5): the name of the first thread, which is the process's, from any thread.
    if let Some(name) = path.as_deref().and_then(Path::file_name)
        && let Err(error) = std::fs::write("/proc/self/comm", name.as_bytes())
    {
        crate::log::debug!(%error, ?name, "the process keeps a number as its name");
    }
}

/// Who we are, as far as birth is concerned.
#[derive(Clone, Copy, Debug)]
struct Process {
    pid: i32,
    parent: i32,
}

/// In order of precedence: a link, then activation. A server that systemd once activated still
/// has `LISTEN_PID` in its own environment, but a successor never gets it.
fn birth_of(process: &Process, lookup: impl Fn(&str) -> Option<OsString>) -> Result<Birth> {
    if let Some(link) = inherited_link(process, &lookup)? {
        return Ok(Birth::Inherited { link });
    }
    let descriptors = passed_descriptors(process, &lookup)?;
    Ok(if descriptors.is_empty() { Birth::Fresh } else { Birth::Activated { descriptors } })
}

/// Takes the link over that `HEIRLOOM_LINK` describes, if it was left for this process.
fn inherited_link(
    process: &Process,
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<OwnedFd>> {
    let inode = |number| socket::unix_stream_inode(number).ok().flatten();
    let Some(origin) = left_for(process, lookup, inode)? else {
        return Ok(None);
    };
    let taken = socket::inherited(origin.descriptor);
    taken.map(Some).map_err(|error| {
        let text = format!("descriptor {}, the link: take it over", origin.descriptor);
        wrong(text).with_source(error)
    })
}

/// What `HEIRLOOM_LINK` says of a link that was left for this process, or nothing if the variable
/// is absent or stale. `inode` is that of a descriptor if it is a Unix stream socket.
///
/// A descriptor that is the very socket described is our link, whoever our parent is: the spawner
/// may have died since, or a wrapper stands between. If it is not that socket, the parent decides.
/// If the spawner is our parent, the link was meant for us and something closed it on the way; to
/// go on 'fresh' beside a living predecessor would be split brain. If not, the variable was meant
/// for an ancestor: a process that starts helpers leaves it in their environment, but not the
/// descriptor, which it made `CLOEXEC` at its own birth.
fn left_for(
    process: &Process,
    lookup: impl Fn(&str) -> Option<OsString>,
    inode: impl Fn(RawFd) -> Option<u64>,
) -> Result<Option<Origin>> {
    let Some(value) = lookup(origin::VARIABLE) else {
        return Ok(None);
    };
    let origin: Origin = value.to_str().unwrap_or_default().parse().map_err(|error| {
        wrong(format!("{}={value:?}: unset it, only heirloom may set it", origin::VARIABLE))
            .with_source(error)
    })?;
    // Never a standard stream, whatever the variable says.
    if origin.descriptor >= FIRST_PASSED && inode(origin.descriptor) == Some(origin.inode) {
        return Ok(Some(origin));
    }
    if !is_parent(process, &origin) {
        crate::log::debug!(%origin, "{} is stale and ignored", origin::VARIABLE);
        return Ok(None);
    }
    Err(wrong(format!(
        "descriptor {} is not the link that our predecessor (pid {}) gave us: something between \
         closed or replaced it; let the wrapper pass descriptor {0} on, or start the server \
         without the wrapper",
        origin.descriptor, origin.pid
    )))
}

/// Whether the spawner is our parent, and no later process with its pid.
fn is_parent(process: &Process, origin: &Origin) -> bool {
    // Where the start time cannot be read (no /proc) the pid decides: an error is better than two
    // owners.
    process.parent == origin.pid
        && (origin.start == 0
            || origin::start_time(process.parent).map_or(true, |start| start == origin.start))
}

/// The descriptors of `sd_listen_fds_with_names(3)`, if they are for this process.
///
/// All are checked before the first is taken over, so that an error closes nothing.
fn passed_descriptors(
    process: &Process,
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<(Option<Name>, OwnedFd)>> {
    let names = passed_to(process, lookup)?;
    let count = names.len();
    let numbers = || FIRST_PASSED..;
    for (number, name) in numbers().zip(&names) {
        if !socket::is_open(number) {
            let name = name.as_ref().map_or("without a name", Name::as_str);
            let text = format!("descriptor {number} ({name}) of LISTEN_FDS={count} is not open");
            return Err(wrong(format!("{text}: something between closed it")));
        }
    }
    let owned = numbers().zip(names).map(|(number, name)| {
        let taken = socket::inherited(number).map_err(|error| {
            wrong(format!("descriptor {number} of LISTEN_FDS: take it over")).with_source(error)
        });
        Ok((name, taken?))
    });
    owned.collect()
}

/// The names of the descriptors that the environment says were passed to this process, from the
/// [first](FIRST_PASSED) on; empty if it speaks of none, or to another process.
fn passed_to(
    process: &Process,
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<Option<Name>>> {
    let Some(pid) = number("LISTEN_PID", &lookup)? else {
        return Ok(Vec::new());
    };
    if u64::try_from(process.pid) != Ok(pid) {
        crate::log::debug!(pid, "LISTEN_PID names another process and is ignored");
        return Ok(Vec::new());
    }
    // The pid could have been given to us after the process it meant.
    if let Some(meant) = number("LISTEN_PIDFDID", &lookup)?
        && let Some(own) = pidfd::unique_id(process.pid)
        && own != meant
    {
        crate::log::debug!(meant, own, "LISTEN_PIDFDID names another process and is ignored");
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS", &lookup)?.unwrap_or(0);
    if count > MAX_PASSED {
        return Err(wrong(format!("LISTEN_FDS={count}: at most {MAX_PASSED} can be passed")));
    }
    passed_names(usize::try_from(count).unwrap_or(0), &lookup)
}

/// The names in `LISTEN_FDNAMES`, one for each descriptor. `unknown` stands for none.
fn passed_names(
    count: usize,
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<Option<Name>>> {
    let Some(value) = lookup("LISTEN_FDNAMES").filter(|_| count > 0) else {
        return Ok(vec![None; count]);
    };
    let text = value
        .to_str()
        .ok_or_else(|| wrong(format!("LISTEN_FDNAMES={value:?}: names are printable ASCII")))?;
    let named = text.split(':').count();
    if named != count {
        let text = format!("LISTEN_FDNAMES has {named} names for the {count} of LISTEN_FDS");
        return Err(wrong(format!("{text}: they must be as many")));
    }
    let names = text.split(':').map(|name| match name {
        "" | "unknown" => Ok(None),
        name => name
            .parse()
            .map(Some)
            .map_err(|error: Error| wrong("LISTEN_FDNAMES: unusable name").with_source(error)),
    });
    names.collect()
}

/// A variable that must be a decimal number if it is set.
fn number(name: &str, lookup: impl Fn(&str) -> Option<OsString>) -> Result<Option<u64>> {
    let Some(value) = lookup(name) else {
        return Ok(None);
    };
    let number = value.to_str().filter(|text| !text.is_empty()).and_then(decimal);
    number.map(Some).ok_or_else(|| {
        wrong(format!("{name}={value:?} is not a decimal number: correct or unset it"))
    })
}

/// What was inherited is not what it says.
fn wrong(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Birth, text)
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
