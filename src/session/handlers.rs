//! Who takes what.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;

use super::session::Session;
use crate::name::Name;

type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves a session that has come.
pub(crate) type Handler = Arc<dyn Fn(Session) -> Serving + Send + Sync>;

/// Who serves these versions.
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only HTTP takes handlers away"))]
struct Served {
    number: u64,
    versions: RangeInclusive<u32>,
    /// None: they stay where they are.
    handler: Option<Handler>,
}

/// Who takes a session.
pub(super) enum Found {
    Handler(Handler),
    /// Nobody, and that is how it is meant; why, for people.
    Declined(String),
    /// Nobody so far; why, for people.
    Nobody(String),
}

/// The handlers of one generation.
#[derive(Default)]
pub(super) struct Handlers {
    /// By kind, and by listener if it is for one alone; the last that was added is the first.
    by_kind: HashMap<(Name, Option<Name>), Vec<Served>>,
    /// Ever added.
    added: u64,
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
    /// Adds one, or with none a word that these stay where they are; gives its number.
    pub(super) fn add(
        &mut self,
        kind: Name,
        listener: Option<Name>,
        versions: RangeInclusive<u32>,
        handler: Option<Handler>,
    ) -> u64 {
        self.added += 1;
        let served = Served { number: self.added, versions, handler };
        self.by_kind.entry((kind, listener)).or_default().insert(0, served);
        self.added
    }

    /// Removes the one of this number.
    #[cfg(feature = "http")]
    pub(super) fn remove(&mut self, number: u64) -> Option<Handler> {
        for all in self.by_kind.values_mut() {
            if let Some(at) = all.iter().position(|served| served.number == number) {
                return all.remove(at).handler;
            }
        }
        None
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_kind.values().all(Vec::is_empty)
    }

    /// Who takes it: a handler for its listener before one for all listeners.
    pub(super) fn find(&self, kind: &Name, listener: &Name, version: u32) -> Found {
        let mut other_versions = false;
        for of in [Some(listener), None] {
            let key = (kind.clone(), of.cloned());
            let Some(all) = self.by_kind.get(&key) else { continue };
            other_versions |= !all.is_empty();
            if let Some(served) = all.iter().find(|served| served.versions.contains(&version)) {
                return match &served.handler {
                    Some(handler) => Found::Handler(Arc::clone(handler)),
                    None => Found::Declined(format!(
                        "the successor leaves \"{kind}\" of listener \"{listener}\" where they are"
                    )),
                };
            }
        }
        Found::Nobody(if other_versions {
            format!("the successor takes \"{kind}\", but not in version {version}")
        } else {
            format!("the successor takes no \"{kind}\" of listener \"{listener}\"")
        })
    }
}
