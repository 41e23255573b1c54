//! The check that a new program has to pass before it is started for real.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::read;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::error::{Error, ErrorKind, Result};
use crate::spawn::{Child, Exit, Program, beside, spawn_aside};
use crate::wire::text::fit;

/// How much of what the check has written goes into the error, in bytes.
const LAST_WORDS: usize = 4 * 1024;

/// A pipe never holds more than this: `/proc/sys/fs/pipe-max-size` is 1 MiB, and bigger ones are
/// made by whoever writes, not by a check that has ended.
const FULL_PIPE: usize = 1024 * 1024;

/// A check that the next generation's program has to pass before an upgrade starts it: a run of the
/// program itself, or of a command.
///
/// It runs in the working directory and with the environment of the next generation, with nothing
/// but standard streams: its input is empty, and what it writes at the end is in the error if it
/// fails. It has passed if it exits with status 0 before its deadline. It has a process group of
/// its own; whatever is left of that when it has ended, or at the deadline, is killed.
///
/// The program that serves meanwhile is not touched: a check that fails costs no client anything.
///
/// ```
/// use heirloom::Preflight;
/// use std::time::Duration;
///
/// // The new program itself, which reads its configuration and exits.
/// let check = Preflight::arguments(["--check"]).deadline(Duration::from_secs(10));
/// // Or a command.
/// let command = Preflight::command("/usr/bin/dpkg", ["--verify", "shop"]);
/// # drop((check, command));
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a preflight runs only if it is given to the configuration"]
pub struct Preflight {
    what: What,
    deadline: Duration,
    env: Vec<(OsString, OsString)>,
}

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// The program of the next generation, with these arguments after its name.
    Program(Vec<OsString>),
    /// Something else.
    Command(PathBuf, Vec<OsString>),
}

impl Preflight {
    /// Runs the next generation's program with these arguments instead of its own. Its name, the
    /// first of all arguments, is the same.
    ///
    /// It is started like any command: nobody is its predecessor. It must do its check and exit
    /// before it comes to [`run`](crate::run), which would serve.
    pub fn arguments<S: Into<OsString>>(arguments: impl IntoIterator<Item = S>) -> Self {
        Self::of(What::Program(arguments.into_iter().map(Into::into).collect()))
    }

    /// Runs a command: a path, or a name that is looked up in `PATH`.
    pub fn command<S: Into<OsString>>(
        command: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self::of(What::Command(command.into(), arguments))
    }

    fn of(what: What) -> Self {
        Self { what, deadline: Duration::from_secs(30), env: Vec::new() }
    }

    /// How long it may take, its start included. Default 30 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets a variable in its environment, which otherwise is that of the next generation.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// How long it may take. A clock of somebody else's that ran out first would lose its last
    /// words.
    pub(crate) fn longest(&self) -> Duration {
        self.deadline
    }

    /// What is started, if this is the program of the next generation. Looks for a command in `PATH`,
    /// which may wait for the disk.
    pub(crate) fn program(&self, next: &Program) -> Program {
        let mut program = next.clone();
        for (name, value) in &self.env {
            program.env.retain(|(other, _)| other != name);
            program.env.push((name.clone(), value.clone()));
        }
        match &self.what {
            What::Program(arguments) => {
                program.args.truncate(1);
                program.args.extend_from_slice(arguments);
            }
            What::Command(command, arguments) => {
                program.exe = program.command(command);
                program.file = None;
                program.args = vec![command.clone().into_os_string()];
                program.args.extend_from_slice(arguments);
            }
        }
        program
    }
}

impl fmt::Debug for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of variables may be secrets.
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Preflight")
            .field("what", &self.what)
            .field("deadline", &self.deadline)
            .field("env", &names)
            .finish()
    }
}

/// Runs the check: its [program](Preflight::program).
///
/// # Errors
///
/// [`ErrorKind::Preflight`]: it could not be started, exited with another status than 0, was killed,
/// did not end before its deadline, or nobody can say how it ended. [`ErrorKind::Io`]: this process
/// or the machine lacks what a start needs.
///
/// # Cancel safety
///
/// Cancelled, it ends the check.
pub(crate) async fn preflight(preflight: &Preflight, program: Program) -> Result<()> {
    until(tokio::time::sleep(preflight.deadline), preflight, program).await
}

/// The check with its deadline as a future.
async fn until(
    deadline: impl Future<Output = ()>,
    preflight: &Preflight,
    program: Program,
) -> Result<()> {
    let mut said = LastWords::default();
    let run = async {
        let started = program.clone();
        let (child, output) = beside(move |_| start(&started)).await?;
        Ok(watch(child, output, &mut said).await)
    };
    let ended: Option<Result<Exit>> = tokio::select! {
        biased;
        ended = run => Some(ended),
        () = deadline => None,
    };
    let why = match ended {
        Some(Ok(Exit::Code(0))) => return Ok(()),
        Some(Ok(Exit::Unknown)) => "it ended, but its status was taken by another, so nobody can \
             say that it passed; the application must not ignore SIGCHLD nor wait for children \
             that are not its own"
            .to_owned(),
        Some(Ok(exit)) => exit.to_string(),
        Some(Err(error)) => {
            let kind = error.kind();
            let failed = failed(&program, "it could not be started").with_source(error);
            return Err(if kind == ErrorKind::Io { failed.of_kind(kind) } else { failed });
        }
        None => format!("it did not end within {:?} and was killed", preflight.deadline),
    };
    Err(failed(&program, &format!("{why}{said}")))
}

fn failed(program: &Program, why: &str) -> Error {
    let arguments = program.args.get(1..).unwrap_or_default();
    let text = format!("preflight {:?} with arguments {arguments:?}: {why}", program.exe);
    Error::new(ErrorKind::Preflight, text)
}

/// Starts the check; what it writes comes out of the pipe.
fn start(program: &Program) -> Result<(Child, pipe::Receiver)> {
    let io = |error: io::Error| {
        Error::new(ErrorKind::Io, "its standard streams could not be made").with_source(error)
    };
    let input = File::open("/dev/null").map_err(io)?;
    let (reader, writer) = io::pipe().map_err(io)?;
    let output = pipe::Receiver::from_owned_fd(reader.into()).map_err(io)?;
    let child = spawn_aside(program, [input.as_fd(), writer.as_fd(), writer.as_fd()])?;
    Ok((child, output))
}

/// Waits until the check has ended, and takes what it writes. Its end is its own: a process that
/// holds the pipe longer is not waited for.
async fn watch(mut child: Child, mut output: pipe::Receiver, said: &mut LastWords) -> Exit {
    let mut chunk = vec![0; LAST_WORDS];
    let mut open = true;
    let exit = loop {
        tokio::select! {
            exit = child.ended() => break exit,
            read = output.read(&mut chunk), if open => match read {
                Ok(count) if count > 0 => said.add(&chunk[..count]),
                // Closed, or not readable: its end is still to come.
                _ => open = false,
            },
        }
    };
    // What it wrote is in the pipe by now, whether or not the runtime has been told; who has left
    // its group may write for ever.
    let mut left = FULL_PIPE;
    while left > 0 {
        match read(output.as_fd(), &mut chunk) {
            Ok(count) if count > 0 => {
                said.add(&chunk[..count]);
                left = left.saturating_sub(count);
            }
            Err(Errno::EINTR) => {}
            _ => break,
        }
    }
    exit
}

/// The end of what was written, however much it was.
#[derive(Default)]
struct LastWords {
    bytes: Vec<u8>,
    cut: bool,
}

impl LastWords {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if let Some(too_many) = self.bytes.len().checked_sub(LAST_WORDS + 1) {
            self.bytes.drain(..=too_many);
            self.cut = true;
        }
    }
}

impl fmt::Display for LastWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.bytes.as_slice();
        if self.cut {
            // The rest of a character whose beginning is gone.
            let rest = bytes.iter().take_while(|byte| **byte & 0xc0 == 0x80).count();
            bytes = &bytes[rest.min(3)..];
        }
        // Bytes that are no text become three each.
        let text = String::from_utf8_lossy(bytes);
        let text = fit(text.trim(), 3 * LAST_WORDS);
        match (text.is_empty(), self.cut) {
            (true, _) => f.write_str("; it wrote nothing"),
            (false, false) => write!(f, "; it wrote: {text}"),
            (false, true) => write!(f, "; it wrote: …{text}"),
        }
    }
}

#[cfg(test)]
mod tests;
