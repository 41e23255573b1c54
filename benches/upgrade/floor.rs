//! The floor: a program with an inherited listener, started by a bare `posix_spawn(3)`.

use std::ffi::{CStr, CString, OsStr};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::{WaitStatus, waitpid};
use tokio::io::AsyncWriteExt;

use super::{Failure, REST, now};

/// A program that is started for one answer.
pub(crate) struct Floor {
    program: PathBuf,
    arguments: [CString; 2],
    environment: Vec<CString>,
    listener: TcpListener,
}

impl Floor {
    pub(crate) fn new(mode: &CStr) -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let arguments = [CString::new(program.as_os_str().as_bytes())?, mode.to_owned()];
        let environment = std::env::vars_os()
            .map(|(name, value)| {
                CString::new([name.as_bytes(), value.as_bytes()].join(OsStr::new("=").as_bytes()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        Ok(Self { program, arguments, environment, listener })
    }

    /// From the start of the program to its answer, for which a client waits already.
    pub(crate) fn start(&self) -> Result<Duration, Failure> {
        let mut actions = PosixSpawnFileActions::init()?;
        actions.add_dup2(self.listener.as_raw_fd(), 0)?;
        let attributes = PosixSpawnAttr::init()?;
        std::thread::sleep(REST);
        let mut client = TcpStream::connect(self.listener.local_addr()?)?;
        let began = now();
        let child =
            posix_spawn(&self.program, &actions, &attributes, &self.arguments, &self.environment)?;
        client.read_exact(&mut [0])?;
        let time = now().saturating_sub(began);
        match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(time),
            status => Err(format!("the floor's program ended with {status:?}").into()),
        }
    }
}

/// The floor's program without a runtime: answers one connection on its standard input.
pub(crate) fn bare() -> Result<(), Failure> {
    let listener = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let (mut stream, _) = listener.accept()?;
    stream.write_all(&[0])?;
    Ok(())
}

/// The same with a runtime, as every successor has one.
pub(crate) fn with_a_runtime() -> Result<(), Failure> {
    let listener = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let answered = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            stream.write_all(&[0]).await
        });
        Ok(answered.await??)
    })
}
