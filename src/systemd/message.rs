//! One notification: lines of `NAME=value`, `sd_notify(3)`.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::name::Name;
use crate::sys::pidfd;

/// The longest status, in characters: it stands in one line of `systemctl status`.
const LONGEST_STATUS: usize = 500;

/// A message to a service manager.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(super) text: String,
    pub(super) descriptors: Vec<Arc<OwnedFd>>,
}

impl Message {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn line(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        // Writing to a string cannot fail.
        let _ = write!(self.text, "{name}={value}");
        self
    }

    /// It serves, or serves again.
    pub(crate) fn ready(self) -> Self {
        self.line("READY", 1)
    }

    /// An upgrade begins now. A manager compares the time with when it asked for one.
    pub(crate) fn reloading(self) -> Self {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.line("RELOADING", 1).line("MONOTONIC_USEC", now.as_micros())
    }

    /// The service stops for good.
    pub(crate) fn stopping(self) -> Self {
        self.line("STOPPING", 1)
    }

    /// The main process is this one from now on; with the number that no later process will have,
    /// where the kernel gives one.
    pub(crate) fn main_pid(self, pid: i32) -> Self {
        let message = self.line("MAINPID", pid);
        match pidfd::unique_id(pid) {
            Some(id) => message.line("MAINPIDFDID", id),
            None => message,
        }
    }

    /// What it does, for people. One line, whatever the text holds.
    pub(crate) fn status(self, text: &str) -> Self {
        let one_line: String = text
            .chars()
            .take(LONGEST_STATUS)
            .map(|char| if char.is_control() { ' ' } else { char })
            .collect();
        self.line("STATUS", one_line)
    }

    /// What it does now may take so much longer, counted from now.
    pub(crate) fn extend_timeout(self, by: Duration) -> Self {
        self.line("EXTEND_TIMEOUT_USEC", by.as_micros())
    }

    /// A sign of life.
    pub(crate) fn watchdog(self) -> Self {
        self.line("WATCHDOG", 1)
    }

    /// Keep these, under this name, whatever happens on their other ends.
    pub(crate) fn store(name: &Name, descriptors: Vec<Arc<OwnedFd>>) -> Self {
        let mut message = Self::new().line("FDSTORE", 1).line("FDNAME", name.as_str());
        message = message.line("FDPOLL", 0);
        message.descriptors = descriptors;
        message
    }

    /// Keep nothing under this name any more.
    pub(crate) fn remove(name: &Name) -> Self {
        Self::new().line("FDSTOREREMOVE", 1).line("FDNAME", name.as_str())
    }

    /// The manager closes the descriptor when it has read all that came before.
    pub(super) fn barrier(descriptor: OwnedFd) -> Self {
        let mut message = Self::new().line("BARRIER", 1);
        message.descriptors = vec![Arc::new(descriptor)];
        message
    }

    /// Whether nobody would miss it: only people read it.
    pub(super) fn is_status_only(&self) -> bool {
        self.text.starts_with("STATUS=") && !self.text.contains('\n')
    }
}
