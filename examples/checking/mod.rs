//! The `check` mode of an example: the program starts itself as a server, upgrades it, and looks at
//! it as its client.

use std::error::Error;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{sleep, timeout};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The example as a server, in a directory of its own. It is stopped when this is dropped.
pub(crate) struct Server {
    directory: tempfile::TempDir,
    address: SocketAddr,
    first: Child,
}

impl Server {
    /// Starts it with these arguments besides `--listen` and `--pid-file`, which are made of its
    /// directory, and waits until it serves.
    pub(crate) async fn start(
        arguments: impl FnOnce(&Path) -> Vec<String>,
    ) -> Result<Self, Failure> {
        let directory = tempfile::tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let first = Command::new(std::env::current_exe()?)
            .args(["--listen", &address.to_string(), "--pid-file"])
            .arg(directory.path().join("pid"))
            .args(arguments(directory.path()))
            .stdin(Stdio::null())
            .spawn()?;
        let server = Self { directory, address, first };
        until("generation 0 to own", || server.pid().is_ok()).await?;
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    #[allow(dead_code, reason = "not every example keeps files there")]
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Upgrades it, and waits until the new generation owns.
    pub(crate) async fn upgrade(&self) -> Result<(), Failure> {
        let before = self.pid()?;
        kill(before, Signal::SIGHUP)?;
        until("the next generation to own", || self.pid().is_ok_and(|pid| pid != before)).await
    }

    fn pid(&self) -> Result<Pid, Failure> {
        Ok(Pid::from_raw(fs::read_to_string(self.path("pid"))?.trim().parse()?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(pid) = self.pid() {
            // It may have gone by itself.
            let _ = kill(pid, Signal::SIGTERM);
        }
        let _ = self.first.try_wait();
    }
}

/// A PID file tells nobody when it changes.
async fn until(what: &str, holds: impl Fn() -> bool) -> Result<(), Failure> {
    let wait = async {
        while !holds() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait).await.map_err(|_| format!("waited in vain for {what}").into())
}
