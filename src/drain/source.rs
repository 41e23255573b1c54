//! Where the guards of one listener come from.

use std::fmt;

use super::{Drain, Guard};
use crate::name::Name;

/// Gives guards for the connections of one listener, or for other work under one name.
#[derive(Clone)]
pub struct Guards {
    drain: Drain,
    listener: Name,
}

impl Drain {
    /// The guards of this listener.
    pub(crate) fn guards(&self, listener: &Name) -> Guards {
        Guards { drain: self.clone(), listener: listener.clone() }
    }
}

impl Guards {
    /// A guard: the drain waits for it. Needs no runtime.
    pub fn take(&self) -> Guard {
        self.drain.guard(&self.listener, None)
    }
}

impl fmt::Debug for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guards").field("listener", &self.listener).finish_non_exhaustive()
    }
}
