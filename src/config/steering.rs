//! Settings for whoever operates the service.

use std::path::PathBuf;
use std::time::Duration;

use super::Config;
use crate::control::{self, Access};
use crate::error::{Error, ErrorKind, Result};
use crate::report::JournalFile;

/// What an operator sees of the service, and how.
#[derive(Clone, Debug)]
pub(crate) struct Steering {
    pub control: Option<ControlPlace>,
    pub users: Vec<u32>,
    pub stop_notice: Duration,
    pub journal: Option<JournalFile>,
    pub take_over: TakeOver,
    pub take_over_deadline: Duration,
}

impl Default for Steering {
    fn default() -> Self {
        Self {
            control: None,
            users: Vec::new(),
            stop_notice: Duration::ZERO,
            journal: None,
            take_over: TakeOver::Never,
            take_over_deadline: Duration::from_secs(60),
        }
    }
}

/// What a process does that no predecessor has started, when it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TakeOver {
    /// It is the first generation. If another instance has the control socket, the start fails.
    #[default]
    Never,
    /// It takes over from whoever answers at the control socket, and is the first generation if
    /// nobody is there. Somebody who is there and does not hand over is an error.
    IfSomeoneAnswers,
    /// It takes over, or does not start.
    Require,
}

/// Where the control socket is.
#[derive(Clone, Debug)]
pub(crate) enum ControlPlace {
    /// In the runtime directory, by the service's name.
    Default,
    /// Here.
    Path(PathBuf),
}

impl Config {
    /// Answers commands over a Unix socket at the default place: `$RUNTIME_DIRECTORY/NAME.sock`
    /// (`RuntimeDirectory=` of systemd.exec(5)), else `$XDG_RUNTIME_DIR/heirloom/NAME.sock`.
    /// Default: no control socket.
    ///
    /// [`control`](crate::control) says who may use it and how; the start fails if neither variable
    /// is set, or if another instance of the service has the socket.
    pub fn control_socket(mut self) -> Self {
        self.steering.control = Some(ControlPlace::Default);
        self
    }

    /// Answers commands over a Unix socket at this path, in a directory that only its owner may
    /// write to. Default: no control socket.
    pub fn control_socket_at(mut self, path: impl Into<PathBuf>) -> Self {
        self.steering.control = Some(ControlPlace::Path(path.into()));
        self
    }

    /// The numbers of users who may give commands over the control socket, besides the service's
    /// own and root. Default: none.
    ///
    /// With such a list the socket's mode is 0666, the right to reach it is that of its directory,
    /// and who is not in the list is refused by what the kernel says of it. Whoever may give
    /// commands may let the service run any program as its user.
    pub fn control_users(mut self, users: impl IntoIterator<Item = u32>) -> Self {
        self.steering.users = users.into_iter().collect();
        self
    }

    /// What this process does when no predecessor has started it: a container, another unit, a
    /// terminal has. Default: [`TakeOver::Never`].
    ///
    /// It asks for the turn at the [control socket](Self::control_socket), which has to be
    /// configured, and becomes the successor of whoever answers, with all promises of an upgrade:
    /// nothing is irreversible before the verdict, and the predecessor's settings judge. Both sides
    /// must allow the other's user ([`control_users`](Self::control_users)). A predecessor that may
    /// not signal this process, in another PID namespace for one, must
    /// [accept that](Self::accept_unenforceable). The [guide](crate::guide::takeover) says how
    /// containers and units are set up for it.
    pub fn take_over(mut self, policy: TakeOver) -> Self {
        self.steering.take_over = policy;
        self
    }

    /// How long this process waits for its turn to begin when it [takes over](Self::take_over),
    /// while another upgrade runs or whoever answers is silent. Default 60 s; then the start fails.
    pub fn take_over_deadline(mut self, deadline: Duration) -> Self {
        self.steering.take_over_deadline = deadline;
        self
    }

    /// How long the service says that it is [not ready](crate::Running::is_ready) and accepts on,
    /// when it is told to stop or to drain, before it accepts no more: the time that load balancers
    /// need to notice. Default zero.
    ///
    /// Two intervals of the balancer's probe are a good value. A second stop cuts it short.
    pub fn stop_notice(mut self, notice: Duration) -> Self {
        self.steering.stop_notice = notice;
        self
    }

    /// Also writes the journal of upgrades to a file, as JSON lines. Default: none.
    ///
    /// Each line has `unix_ms` (when it was written), `service`, and one of `upgrade` (a
    /// [`Report`](crate::Report)), `drained` (what became of the predecessor's connections, `to` is
    /// the successor's generation) and `stopped`. Generations write to the same file without
    /// tearing each other's lines. It is written beside everything else: a slow or full disk or a
    /// directory that is not there loses lines, which the log says, and never delays or fails an
    /// upgrade. The end of a process waits for what is not written yet at most a second.
    ///
    /// ```
    /// # use std::num::NonZeroUsize;
    /// use heirloom::{Config, JournalFile};
    ///
    /// # let kept = NonZeroUsize::MIN;
    /// let file = JournalFile::new("/var/log/shop/upgrades.jsonl").longest_bytes(4 << 20).keep(kept);
    /// let config = Config::new("shop").journal_file(file);
    /// ```
    pub fn journal_file(mut self, file: impl Into<JournalFile>) -> Self {
        self.steering.journal = Some(file.into());
        self
    }

    /// Whoever takes over has to know where.
    pub(super) fn check_take_over(&self) -> Result<()> {
        if self.steering.take_over == TakeOver::Never || self.steering.control.is_some() {
            return Ok(());
        }
        let text = "takeover: there is no control socket to take over from: set \
                    Config::control_socket, to the same place as the other's";
        Err(Error::new(ErrorKind::Config, text))
    }

    /// Where the control socket is to be, if there is to be one; its directory is there then.
    pub(crate) fn control_path(&self) -> Result<Option<PathBuf>> {
        let path = match &self.steering.control {
            None => return Ok(None),
            Some(ControlPlace::Path(path)) => path.clone(),
            Some(ControlPlace::Default) => control::default_path(&self.service)?,
        };
        control::checked(&path).map(Some)
    }

    /// The mode of the control socket: whoever may not use it must not even reach it, unless there
    /// is a list of users.
    pub(crate) fn control_mode(&self) -> u32 {
        if self.steering.users.is_empty() { 0o600 } else { 0o666 }
    }

    pub(crate) fn control_access(&self) -> Access {
        Access::new(&self.steering.users)
    }
}
