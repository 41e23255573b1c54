//! Sessions that come from the predecessor.

use std::ops::RangeInclusive;

use super::Starting;
use crate::error::Result;
use crate::session::{Session, handler};

impl Starting {
    /// Takes sessions of this kind from the predecessor, as
    /// [`Running::on_session`](crate::Running::on_session).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn on_session<F, Fut>(
        &self,
        kind: &str,
        versions: RangeInclusive<u32>,
        serve: F,
    ) -> Result<()>
    where
        F: Fn(Session) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Send> + Send + 'static,
    {
        let _for_good =
            self.shared.sessions.register(kind.parse()?, None, versions, handler(serve));
        Ok(())
    }
}
