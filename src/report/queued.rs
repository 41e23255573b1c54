//! An upgrade that was asked for while another one ran.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::AskedBy;

/// At most one, for whoever owns afterwards, and whose wish it was.
#[derive(Debug, Default)]
pub(crate) struct Queued(Mutex<Option<AskedBy>>);

impl Queued {
    fn lock(&self) -> MutexGuard<'_, Option<AskedBy>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody asked. Of several the first counts who is known by more than having asked elsewhere.
    pub(crate) fn remember(&self, by: AskedBy) {
        let mut known = self.lock();
        if matches!(*known, None | Some(AskedBy::PassedOn | AskedBy::Unknown)) {
            *known = Some(by);
        }
    }

    /// Whose it is to run now; nothing if nobody asked.
    pub(crate) fn take(&self) -> Option<AskedBy> {
        self.lock().take()
    }

    /// Whether somebody asked.
    pub(crate) fn is_there(&self) -> bool {
        self.lock().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_wishes_one_is_kept_and_the_first_who_is_known() {
        let queued = Queued::default();
        assert!(!queued.is_there());
        for by in [AskedBy::PassedOn, AskedBy::Signal, AskedBy::Application, AskedBy::PassedOn] {
            queued.remember(by);
        }
        assert!(queued.is_there());
        assert_eq!(queued.take(), Some(AskedBy::Signal));
        assert_eq!(queued.take(), None);
    }
}
