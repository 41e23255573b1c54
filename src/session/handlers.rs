//! Who takes what.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;

use super::session::Session;
use crate::name::Name;

type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves a session that has come.
pub(crate) type Handler = Arc<dyn Fn(Session) -> Served + Send + Sync>;

/// Who serves these versions.
type Versions = (RangeInclusive<u32>, Handler);

/// The handlers of one generation.
#[derive(Default)]
pub(super) struct Handlers {
    /// By kind, and by listener if it is for one alone; the last that was added is the first.
    by_kind: HashMap<(Name, Option<Name>), Vec<Versions>>,
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.by_kind.keys()).finish()
    }
}

/// A closure as a handler.
pub(crate) fn handler<F, Fut>(serve: F) -> Handler
where
    F: Fn(Session) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Send> + Send + 'static,
{
    Arc::new(move |session| {
        let served = serve(session);
        Box::pin(async move { drop(served.await) })
    })
}

impl Handlers {
    pub(super) fn add(
        &mut self,
        kind: Name,
        listener: Option<Name>,
        versions: RangeInclusive<u32>,
        handler: Handler,
    ) {
        self.by_kind.entry((kind, listener)).or_default().insert(0, (versions, handler));
    }

    /// Who takes it: a handler for its listener before one for all listeners.
    ///
    /// # Errors
    ///
    /// Why nobody does.
    pub(super) fn find(
        &self,
        kind: &Name,
        listener: &Name,
        version: u32,
    ) -> Result<Handler, String> {
        let mut other_versions = false;
        for listener in [Some(listener), None] {
            let key = (kind.clone(), listener.cloned());
            let Some(versions) = self.by_kind.get(&key) else { continue };
            other_versions = true;
            if let Some((_, handler)) =
                versions.iter().find(|(versions, _)| versions.contains(&version))
            {
                return Ok(Arc::clone(handler));
            }
        }
        Err(if other_versions {
            format!("the successor takes \"{kind}\", but not in version {version}")
        } else {
            format!("the successor takes no \"{kind}\" of listener \"{listener}\"")
        })
    }
}
