//! Whoever steers the service over its control socket, as a test needs it: without async.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use heirloom::control::{Client, Overview, Upgrade};
use heirloom::{ErrorKind, Report, Result, UpgradePhase};
use tokio::runtime::Runtime;

use super::wait::{PATIENCE, until};

/// A client of one service.
pub(crate) struct Operator {
    pub client: Client,
    runtime: Runtime,
}

impl Operator {
    /// Of the service in this directory.
    pub(crate) fn of(directory: &Path) -> Self {
        Self::at(directory.join("control.sock"))
    }

    pub(crate) fn at(path: PathBuf) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { client: Client::new(path).timeout(PATIENCE), runtime }
    }

    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(crate) fn status(&self) -> Overview {
        self.run(self.client.status()).unwrap()
    }

    /// As soon as the service is so.
    pub(crate) fn until_status(&self, what: &str, meets: impl Fn(&Overview) -> bool) -> Overview {
        until(what, || Some(self.status()).filter(&meets))
    }

    /// An upgrade from the wish to the report.
    pub(crate) fn upgrade(&self) -> Result<Report> {
        self.run(self.client.upgrade_and_wait(Upgrade::new(), |_| {}))
    }

    /// Until a successor is in probation.
    pub(crate) fn until_probation(&self) {
        self.until_status("probation", |status| {
            status.upgrade.as_ref().is_some_and(|upgrade| upgrade.phase == UpgradePhase::Probation)
        });
    }

    /// An upgrade that is not left to its probation.
    pub(crate) fn upgrade_and_commit(&self) -> Report {
        self.run(self.client.upgrade(Upgrade::new())).unwrap();
        self.until_probation();
        self.run(self.client.commit()).unwrap()
    }

    /// A bare connection to the socket.
    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.client.path()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

/// What a service says last over a connection: the text of its answer frame.
pub(crate) fn last_words(mut stream: UnixStream) -> String {
    let mut bytes = Vec::new();
    // It may close with something of ours unread: what it has said is here all the same.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(bytes.get(12..).unwrap_or_default()).into_owned()
}

/// The kind of an error that must be one.
pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}
