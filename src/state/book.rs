//! What one generation provides, and what it does with deltas.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Failure;
use super::blob::Blob;
use super::provide::{Answered, Provided, State};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::name::Name;
use crate::wire::Range;

/// States that one generation may provide.
const MOST: usize = 1_024;

type Applied = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;
type Apply = Arc<dyn Fn(Blob) -> Applied + Send + Sync>;

/// How long a state may be, and how long its provider may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// In bytes.
    pub length: u64,
    pub deadline: Duration,
}

/// The states of one generation; clones are the same ones.
#[derive(Clone)]
pub(crate) struct States {
    limits: Limits,
    book: Arc<Mutex<Book>>,
}

#[derive(Default)]
struct Book {
    provided: BTreeMap<Name, State>,
    on_delta: BTreeMap<Name, Apply>,
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("States").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl States {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, book: Arc::default() }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Provides a state under this name, instead of what was provided under it before.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if there are too many.
    pub(crate) fn provide(&self, name: Name, state: State) -> Result<()> {
        let mut book = self.book();
        if book.provided.len() >= MOST && !book.provided.contains_key(&name) {
            let text = format!("state \"{name}\": {MOST} states are provided already");
            return Err(Error::new(ErrorKind::Config, text));
        }
        book.provided.insert(name, state);
        Ok(())
    }

    /// Applies the delta of this state, if its provider sends one.
    pub(crate) fn on_delta<F, Fut, E>(&self, name: Name, apply: F)
    where
        F: Fn(Blob) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Failure>,
    {
        let apply: Apply = Arc::new(move |blob| {
            let applied = apply(blob);
            Box::pin(async move { applied.await.map_err(Into::into) })
        });
        self.book().on_delta.insert(name, apply);
    }

    /// What a successor is answered that reads these versions of the state. It is written down
    /// now, within the deadline.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the provider's next write fails.
    pub(crate) async fn snapshot(&self, name: &Name, wanted: Range) -> Answered {
        let state = self.book().provided.get(name).cloned();
        let Some(state) = state else { return Answered::Unknown };
        let provided = match Provided::new(name, &state, wanted) {
            Ok(provided) => provided,
            Err(error) => return Answered::Refused(error.to_string()),
        };
        let Limits { length, deadline } = self.limits;
        match tokio::time::timeout(deadline, provided.snapshot(length)).await {
            Ok(Ok((file, contents))) => Answered::Here { provided, contents, file },
            Ok(Err(error)) => Answered::Refused(chain(&error)),
            Err(_) => {
                let text = "its provider took longer than Config::state_deadline";
                Answered::Refused(format!("{text}, {deadline:?}"))
            }
        }
    }

    /// Applies a delta.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StateRefused`] with the application's error; also if nobody wants the delta,
    /// since what is in it would be lost.
    pub(crate) async fn apply(&self, delta: Blob) -> Result<()> {
        let name = delta.name().clone();
        let apply = self.book().on_delta.get(&name).cloned();
        let Some(apply) = apply else {
            let text = format!(
                "state \"{name}\": its provider sent a delta, and nothing takes it \
                 (Starting::on_delta)"
            );
            return Err(Error::new(ErrorKind::StateRefused, text));
        };
        apply(delta).await.map_err(|error| {
            let text = format!("the delta of state \"{name}\": {}", chain(error.as_ref()));
            Error::new(ErrorKind::StateRefused, text)
        })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
