//! States and sessions: how much, and for how long.

use std::time::Duration;

use super::Config;
use crate::session::Settings;

impl Config {
    /// The longest state that is handed over or taken, in bytes. Default 1 GiB.
    ///
    /// A state lies in memory from when it is written until the successor drops it. Both sides
    /// hold it to their own limit.
    pub fn state_limit(mut self, bytes: u64) -> Self {
        self.states.length = bytes;
        self
    }

    /// How long a provider may take to write a state down, and a successor's
    /// [`take`](crate::Starting::take) to wait for it. Default 10 s.
    pub fn state_deadline(mut self, deadline: Duration) -> Self {
        self.states.deadline = deadline;
        self
    }

    /// How long a successor may leave open whether it takes a session that was
    /// [handed over](crate::Running::hand_off). Default 5 s, counted from the moment it was sent, or
    /// from the answer to the one before it if that came later: a long queue is no silence. After
    /// that this side closes its copy, and hands nothing more over to it.
    pub fn session_deadline(mut self, deadline: Duration) -> Self {
        self.session_deadline = deadline;
        self
    }

    /// How long sessions may take, as their room needs it.
    pub(crate) fn sessions(&self) -> Settings {
        Settings { deadline: self.session_deadline, farewell: self.farewell() }
    }

    /// How long a handler has to say goodbye when its connection is cut.
    pub(crate) fn farewell(&self) -> Duration {
        self.drain.force_grace / 2
    }
}
