//! The program as a server, and as its own operator.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use heirloom::{Config, Outcome};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Failure;

/// How long anything may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at something that tells nobody when it changes.
const GLANCE: Duration = Duration::from_millis(5);

/// A file of this name in the server's directory makes each new generation sick in its probation.
const DOOM: &str = "doom";

/// A file of this name says that the owner has taken back what it had handed over.
const ROLLED_BACK: &str = "rolled-back";

/// One generation of a framework's server.
#[must_use]
pub fn main(
    framework: String,
    address: String,
    directory: PathBuf,
    probation: Duration,
) -> ExitCode {
    let config = Config::new("glue")
        .pid_file(directory.join("pid"))
        .probation(probation)
        // Tests share their machine with whatever else runs there.
        .gap_deadline(Duration::from_secs(10))
        .drain_deadline(Duration::from_secs(20));
    heirloom::run(config, async move |start| -> Result<Outcome, Failure> {
        let listener = start.tcp("glue", address.as_str()).await?;
        let doomed = start.generation().get() > 0 && directory.join(DOOM).exists();
        let running = start.ready().await?;
        let note = directory.join(ROLLED_BACK);
        let who = running.clone();
        running.on_roll_back(move || {
            // The rejected one is told as well, perhaps when the note has been read already.
            let written = if who.is_owner() { fs::write(&note, "") } else { Ok(()) };
            async move { written.unwrap_or_else(|error| tracing::error!(%error, "no note")) }
        });
        let server = running.clone();
        tokio::spawn(async move {
            if let Err(error) = crate::serve(&framework, server, listener).await {
                tracing::error!(error, "the framework has failed");
            }
        });
        if doomed {
            tokio::time::sleep(Duration::from_millis(100)).await;
            running.unhealthy("this release is bad").await?;
        }
        Ok(running.finished().await?)
    })
}

/// A running server. It is stopped when this is dropped.
pub struct Server {
    directory: tempfile::TempDir,
    address: SocketAddr,
    first: Child,
}

impl Server {
    /// Starts `program` as the server of a framework, with this probation for each upgrade.
    ///
    /// # Errors
    ///
    /// If it does not start, or does not accept in time.
    pub fn start(program: &Path, framework: &str, probation: Duration) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("glue").tempdir()?;
        // Free a moment ago; nobody else asks for ports one by one here.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = fs::File::create(directory.path().join("log"))?;
        let first = Command::new(program)
            .args(["serve", framework, &address.to_string()])
            .arg(directory.path())
            .arg(probation.as_millis().to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let server = Self { directory, address, first };
        until("the server to own", || server.pid().is_ok())?;
        Ok(server)
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the generations have written to their logs.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The process that owns.
    ///
    /// # Errors
    ///
    /// If no generation has owned yet.
    pub fn pid(&self) -> Result<Pid, Failure> {
        Ok(Pid::from_raw(fs::read_to_string(self.directory.path().join("pid"))?.trim().parse()?))
    }

    /// Upgrades once, and waits until the new generation owns and the old one is gone.
    ///
    /// # Errors
    ///
    /// If that does not happen.
    pub fn upgrade(&self) -> Result<(), Failure> {
        let before = self.pid()?;
        kill(before, Signal::SIGHUP)?;
        until("the next generation to own", || self.pid().is_ok_and(|pid| pid != before))?;
        until("the old generation to end", || !lives(before))
    }

    /// Upgrades once to a release that falls sick in its probation, and waits until it has been rolled
    /// back.
    ///
    /// # Errors
    ///
    /// If that does not happen.
    pub fn bad_release(&self) -> Result<(), Failure> {
        let (doom, note) =
            (self.directory.path().join(DOOM), self.directory.path().join(ROLLED_BACK));
        fs::write(&doom, "")?;
        let before = self.pid()?;
        kill(before, Signal::SIGHUP)?;
        until("the roll back", || note.exists())?;
        fs::remove_file(note)?;
        fs::remove_file(doom)?;
        if self.pid()? == before { Ok(()) } else { Err("the bad release owns".into()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(pid) = self.pid() {
            // It may have gone by itself.
            let _ = kill(pid, Signal::SIGTERM);
            let _ = until("the server to end", || !lives(pid));
        }
        let _ = self.first.try_wait();
    }
}

/// Runs, and is no zombie.
fn lives(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            let text = format!("waited {PATIENCE:?} in vain for {what}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text).into());
        }
        sleep(GLANCE);
    }
    Ok(())
}
