//! A running server.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use heirloom_peers::arguments::Arguments;
use heirloom_peers::tls;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::processes::{Watched, children, descendants, reap};
use super::{Peer, files};
use crate::Failure;
use crate::measure::probe::ask;

/// No start takes longer.
const START: Duration = Duration::from_secs(20);

/// What a server is started with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup {
    /// HTTP listeners besides the first.
    pub(crate) more: u16,
    /// Memory in use, in MiB.
    pub(crate) resident: usize,
    /// heirloom's probation.
    pub(crate) probation: Duration,
}

/// A server, which ends when it is dropped.
pub(crate) struct Server {
    pub(crate) peer: Peer,
    pub(crate) arguments: Arguments,
    _directory: TempDir,
    /// Who is asked for the next upgrade.
    owner: i32,
    /// Processes that were there before we started it.
    others: Vec<i32>,
}

/// An upgrade that has been asked for.
pub(crate) struct Asked {
    pub(crate) at: Instant,
    /// The processes of the generation that goes.
    pub(crate) old: Vec<i32>,
    pub(crate) ends: Watched,
}

impl Server {
    pub(crate) fn start(peer: Peer, setup: Setup) -> Result<Self, Failure> {
        let others = descendants()?;
        let directory = tempfile::tempdir()?;
        tls::make(directory.path())?;
        let arguments = Arguments {
            directory: directory.path().to_owned(),
            port: ports()?,
            more: setup.more,
            resident: setup.resident,
            probation: setup.probation,
            upgrade: false,
        };
        let mut server = Self { peer, arguments, _directory: directory, owner: 0, others };
        server.owner = server.spawn(false)?;
        let began = Instant::now();
        while ask(server.arguments.http()[0], 0).is_err() {
            if began.elapsed() > START {
                return Err(format!("{} does not answer; {}", peer.title(), server.log()).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    fn spawn(&self, upgrade: bool) -> Result<i32, Failure> {
        let mut command = Command::new(self.peer.program()?);
        match self.peer {
            Peer::NginxReload | Peer::NginxBinary => {
                let error_log = self.arguments.directory.join("error.log");
                command.arg("-e").arg(error_log).arg("-c").arg(files::nginx(&self.arguments)?);
            }
            Peer::Haproxy => {
                command.arg("-W").arg("-f").arg(files::haproxy(&self.arguments)?);
            }
            _ => {
                command.args(Arguments { upgrade, ..self.arguments.clone() }.words());
            }
        }
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.arguments.directory.join("log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(i32::try_from(command.spawn()?.id())?)
    }

    /// All of its processes.
    pub(crate) fn processes(&self) -> Result<Vec<i32>, Failure> {
        let mut processes = descendants()?;
        processes.retain(|pid| !self.others.contains(pid));
        Ok(processes)
    }

    /// Asks for an upgrade as an operator would, and returns when nothing more is to be done by
    /// them.
    pub(crate) fn upgrade(&mut self) -> Result<Asked, Failure> {
        if matches!(self.peer, Peer::NginxReload | Peer::NginxBinary) {
            self.owner = self.nginx_master()?;
        }
        let mut old = self.processes()?;
        if self.peer.keeps_its_master() {
            old.retain(|pid| *pid != self.owner);
        }
        let ends = Watched::new(&old);
        if matches!(self.peer, Peer::Heirloom | Peer::Hyper | Peer::Ecdysis | Peer::Shellflip) {
            self.owner = self.answers()?;
        }
        let owner = Pid::from_raw(self.owner);
        let at = Instant::now();
        match self.peer {
            Peer::Haproxy => kill(owner, Signal::SIGUSR2)?,
            Peer::NginxBinary => self.binary()?,
            Peer::Pingora => self.instance()?,
            _ => kill(owner, Signal::SIGHUP)?,
        }
        Ok(Asked { at, old, ends })
    }

    /// The process that answers now.
    fn answers(&self) -> Result<i32, Failure> {
        Ok(ask(self.arguments.http()[0], 0)?)
    }

    fn nginx_master(&self) -> Result<i32, Failure> {
        let text = std::fs::read_to_string(self.arguments.directory.join("nginx.pid"))?;
        Ok(text.trim().parse()?)
    }

    /// nginx: USR2, and QUIT to the old master once the new one has its workers.
    fn binary(&self) -> Result<(), Failure> {
        let began = Instant::now();
        kill(Pid::from_raw(self.owner), Signal::SIGUSR2)?;
        loop {
            if let Ok(master) = self.nginx_master()
                && master != self.owner
                && children(master)?.len() >= 2
            {
                return Ok(kill(Pid::from_raw(self.owner), Signal::SIGQUIT)?);
            }
            if began.elapsed() > START {
                return Err("nginx did not start another master".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// pingora: the next instance, and QUIT to the old one once it waits for the listeners.
    fn instance(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let old = self.owner;
        let socket = self.arguments.directory.join("upgrade.sock");
        let _ = std::fs::remove_file(&socket);
        self.owner = self.spawn(true)?;
        while !socket.exists() {
            if began.elapsed() > START {
                return Err("pingora did not wait for the listeners".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(kill(Pid::from_raw(old), Signal::SIGQUIT)?)
    }

    /// What it wrote to standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.arguments.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for _ in 0..3 {
            for pid in self.processes().unwrap_or_default() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            reap();
        }
    }
}

/// The first of three free ports, from below those that the kernel gives to clients.
fn ports() -> Result<u16, Failure> {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let offset = u16::try_from(std::process::id() % 1000)? * 10;
    (10_000 + offset..30_000)
        .step_by(3)
        .find(|first| (0..3).all(|more| free(first + more)))
        .ok_or_else(|| "found no three free ports in a row".into())
}
