//! Starting the successor: the only writer of the environment that [`birth`](crate::birth) reads.
//!
//! The successor starts with standard streams, the link as descriptor 3, and what the user listed;
//! a program that only checks something ([`spawn_aside`]) with standard streams and nothing else.
//! The parent never clears `CLOEXEC`: only the child's own file actions do, so nothing reaches a
//! process that somebody else starts meanwhile.

mod child;
mod program;

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::Signal;
use nix::sys::uio::pread;
use nix::unistd::{AccessFlags, access};

pub(crate) use self::child::{Child, Process};
pub(crate) use self::program::Program;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::origin::{self, Origin};
pub(crate) use crate::sys::pidfd::Exit;
use crate::sys::spawn::{Group, Image};
use crate::sys::{scm, socket, spawn as system};

/// The number of the link in the successor: the first after the standard streams.
const LINK: RawFd = 3;

/// The standard streams.
const STREAMS: [RawFd; 3] = [0, 1, 2];

/// How a script begins.
const SCRIPT: &[u8; 2] = b"#!";

/// The highest number that a listed descriptor may get; what every process may open by default.
const LAST_NUMBER: RawFd = 1023;

/// What a successor gets besides its program and the link.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    /// Descriptors that the user lists, each with its number in the successor: 4 to 1023.
    pub(crate) descriptors: Vec<(Arc<OwnedFd>, RawFd)>,
    /// A signal that stays blocked until the successor has its handlers: the upgrade signal, whose
    /// default action would end it.
    pub(crate) blocked: Option<Signal>,
}

/// Does what starts a program, on a thread of its own: an exec may wait for the disk, or for
/// somebody who looks at the program first, and the call returns only after it. It can ask whether
/// anybody still wants what comes of it.
///
/// # Errors
///
/// [`ErrorKind::Io`] if no thread could be had or what it did panicked, and those of `start`.
///
/// # Cancel safety
///
/// Cancelled, `start` goes on. A [`Child`] that nobody takes is ended as soon as it returns, unless
/// this process has ended by then.
pub(crate) async fn beside<T: Send + 'static>(
    start: impl FnOnce(&dyn Fn() -> bool) -> Result<T> + Send + 'static,
) -> Result<T> {
    crate::task::beside("heirloom-spawn", start).await.map_err(|error| {
        Error::new(ErrorKind::Io, "the thread that starts a program").with_source(error)
    })?
}

/// Starts a program as our successor; returns it with our end of the link. Blocks until it has been
/// executed or could not be: for a thread [`beside`] the tasks of a runtime with I/O enabled.
///
/// # Errors
///
/// [`ErrorKind::Spawn`] if the program or the way it is to be started is at fault, [`ErrorKind::Io`]
/// if this process or the machine lacks what a start needs. No process is left.
pub(crate) fn spawn(program: &Program, extra: &Extra) -> Result<(Child, OwnedFd)> {
    for (_, number) in &extra.descriptors {
        if !(LINK + 1..=LAST_NUMBER).contains(number) {
            let first = LINK + 1;
            let text = format!(
                "descriptor number {number} for the successor: use {first} to {LAST_NUMBER}"
            );
            return Err(Error::new(ErrorKind::Spawn, text));
        }
    }
    Prepared::new(program)?.start_linked(extra)
}

/// Starts a program that is no successor, in a process group of its own: with these standard
/// streams and no other descriptor. Blocks as [`spawn`] does.
///
/// # Errors
///
/// Those of [`spawn`].
pub(crate) fn spawn_aside(program: &Program, streams: [BorrowedFd<'_>; 3]) -> Result<Child> {
    let fds: Vec<_> = streams.into_iter().zip(STREAMS).collect();
    Prepared::new(program)?.start(&fds, None, Group::Own)
}

/// A program in the words of C, checked before anything is opened.
struct Prepared<'a> {
    program: &'a Program,
    exe: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    cwd: Option<CString>,
}

impl<'a> Prepared<'a> {
    fn new(program: &'a Program) -> Result<Self> {
        let words = |what: &str, text: &OsStr| {
            CString::new(text.as_bytes()).map_err(|error| {
                let text = format!("program {:?}: {what} {text:?} holds a NUL byte", program.exe);
                Error::new(ErrorKind::Spawn, text).with_source(error)
            })
        };
        let args = program.args.iter().map(|argument| words("argument", argument));
        // The first of two variables would win, and it would not be ours.
        let ours = |name: &OsStr| name == origin::VARIABLE || name == origin::EXECUTED;
        let env = program.env.iter().filter(|(name, _)| !ours(name)).map(|(name, value)| {
            let mut text = name.clone();
            text.push("=");
            text.push(value);
            words("environment variable", &text)
        });
        Ok(Self {
            program,
            exe: words("path", program.exe.as_os_str())?,
            args: args.collect::<Result<_>>()?,
            env: env.collect::<Result<_>>()?,
            cwd: program
                .cwd
                .as_deref()
                .map(|cwd| words("directory", cwd.as_os_str()))
                .transpose()?,
        })
    }

    fn start_linked(&mut self, extra: &Extra) -> Result<(Child, OwnedFd)> {
        let exe = &self.program.exe;
        let wrong = |what: &str, error: io::Error| {
            Error::new(ErrorKind::Io, format!("program {exe:?}: {what}")).with_source(error)
        };
        let (ours, theirs) =
            link(&mut self.env).map_err(|error| wrong("create the link", error))?;
        if let Some(file) = &self.program.file {
            let executed = executed(file.as_fd(), exe);
            self.env.push(executed.map_err(|error| wrong("look at its open file", error))?);
        }
        let listed = extra.descriptors.iter().map(|(fd, number)| (fd.as_fd(), *number));
        let fds: Vec<(BorrowedFd<'_>, RawFd)> =
            [(theirs.as_fd(), LINK)].into_iter().chain(listed).collect();
        let child = self.start(&fds, extra.blocked, Group::Ours)?;
        drop(fds);
        // Ours alone must keep the link open, or its end would never be seen.
        drop(theirs);
        Ok((child, ours))
    }

    fn start(
        &self,
        fds: &[(BorrowedFd<'_>, RawFd)],
        blocked: Option<Signal>,
        group: Group,
    ) -> Result<Child> {
        let last = fds.iter().map(|(_, number)| *number).max().unwrap_or(LINK - 1);
        let image = match &self.program.file {
            Some(file) => {
                no_script(&self.program.exe, file)?;
                Image::Descriptor(file.as_fd())
            }
            None => Image::Path(&self.exe),
        };
        let pid = system::posix_spawn(&system::Order {
            image,
            args: &self.args,
            env: &self.env,
            cwd: self.cwd.as_deref(),
            fds,
            blocked: blocked.as_slice(),
            group,
            close_from: last + 1,
        })
        .map_err(|error| explain(self.program, error))?;
        Child::adopt(pid, group)
    }
}

/// The variable that tells a program which is executed by a descriptor what it is called.
fn executed(file: BorrowedFd<'_>, exe: &Path) -> io::Result<CString> {
    let mut text = OsString::from(origin::EXECUTED);
    text.push("=");
    text.push(origin::executed_as(file, exe)?);
    Ok(CString::new(text.as_bytes())?)
}

/// An interpreter opens its script by a path, and the descriptor that we would name is closed by
/// then: it would start and fail with words of its own.
fn no_script(exe: &Path, file: &OwnedFd) -> Result<()> {
    let mut start = [0; 2];
    match pread(file, &mut start, 0) {
        Ok(2) if start == *SCRIPT => Err(Error::new(
            ErrorKind::Spawn,
            format!(
                "program {exe:?}: the file that was kept open is a script, which only its path \
                 could start; put it back there"
            ),
        )),
        // What cannot be read is the kernel's to judge.
        _ => Ok(()),
    }
}

/// A socket pair, both ends `CLOEXEC`, and the variable that describes the far end.
fn link(env: &mut Vec<CString>) -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    // The kernel then says of each message who sent it: on a pair SO_PEERCRED names us ourselves.
    scm::pass_credentials(ours.as_fd())?;
    let pid = std::process::id().cast_signed();
    let origin = Origin {
        descriptor: LINK,
        inode: socket::inode(theirs.as_fd())?,
        pid,
        // Without /proc the pid alone must do.
        start: own_start(pid),
    };
    env.push(CString::new(format!("{}={origin}", origin::VARIABLE))?);
    Ok((ours.into(), theirs.into()))
}

/// Reads what every start of a successor needs to know of this process, before one is wanted.
pub(crate) fn look_at_ourselves() {
    let _ = own_start(std::process::id().cast_signed());
}

/// When this process was started, read once; 0 if that is not known.
fn own_start(pid: i32) -> u64 {
    static OURS: Mutex<Option<(i32, u64)>> = Mutex::new(None);
    let mut ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
    match *ours {
        // A copy of this process, by fork(2), is another one.
        Some((whose, start)) if whose == pid => start,
        _ => {
            let start = origin::start_time(pid).unwrap_or(0);
            *ours = Some((pid, start));
            start
        }
    }
}

/// Names the object that was wrong and the remedy: `posix_spawn` has one number for many causes.
fn explain(program: &Program, error: io::Error) -> Error {
    let exe = &program.exe;
    if let Some(cwd) = &program.cwd {
        let wrong = match std::fs::metadata(cwd) {
            Ok(found) if !found.is_dir() => Some(io::Error::from_raw_os_error(libc::ENOTDIR)),
            Ok(_) => access(cwd, AccessFlags::X_OK).err().map(Into::into),
            Err(error) => Some(error),
        };
        if let Some(wrong) = wrong {
            let text = format!("program {exe:?}: its working directory {cwd:?} cannot be entered");
            return Error::new(ErrorKind::Spawn, text).with_source(wrong);
        }
    }
    let mut kind = ErrorKind::Spawn;
    let why = match error.raw_os_error() {
        Some(libc::ENOENT) if program.file.is_some() => {
            "the file that was kept open cannot be executed: /proc is not mounted, or the file's \
             interpreter (the ELF loader) is missing"
        }
        Some(libc::ENOENT | libc::ENOTDIR) if exe.symlink_metadata().is_err() => {
            "the file does not exist; put the new release there before the upgrade"
        }
        Some(libc::ENOENT) => {
            "the file or what it points to exists only in part: a dangling symbolic link, or its \
             interpreter (the #! line, the ELF loader) is missing"
        }
        Some(libc::EACCES) => {
            "the file may not be executed; check its mode, the directories above it, and noexec"
        }
        Some(libc::ENOEXEC) => {
            "the file is no program for this machine, nor a script that begins with #!"
        }
        Some(libc::ETXTBSY) => {
            "the file is being written; write the new release beside it and rename it into place"
        }
        Some(libc::E2BIG) => "its arguments and environment are too long for the kernel",
        // EBADF: a number beyond the limit of descriptors.
        Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::EBADF) => {
            kind = ErrorKind::Io;
            "this process may have no more processes, memory or descriptors; see RLIMIT_NPROC, \
             RLIMIT_NOFILE and the limits of its control group"
        }
        _ => "it could not be started",
    };
    Error::new(kind, format!("program {exe:?}: {why}")).with_source(error)
}

#[cfg(test)]
mod tests;
