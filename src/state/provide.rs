//! What a provider says about its state.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::writer::StateWriter;
use super::{Failure, work};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::name::Name;
use crate::wire::{Contents, Range};

type Job = Arc<dyn Fn(&mut StateWriter) -> Result<(), Failure> + Send + Sync>;

/// A state that can be handed over: its version, the closure that writes it down, and what else
/// there is to say about it.
///
/// ```
/// use std::io::Write;
///
/// let state = heirloom::State::new(4, |writer| match writer.version() {
///     4 => writer.write_all(b"with colours"),
///     _ => writer.write_all(b"plain"),
/// })
/// .oldest_version(3);
/// ```
#[derive(Clone)]
#[must_use = "a state is not provided before it is given to `provide_with`"]
pub struct State {
    newest: u32,
    oldest: u32,
    snapshot: Job,
    delta: Option<Job>,
}

impl State {
    /// A state of this version. The closure writes all of it down, in a thread of its own, once
    /// for each successor that asks; an error refuses the state to that successor.
    ///
    /// It may be called again after a roll back, so it must take nothing away: a roll back hands
    /// nothing back.
    pub fn new<F, E>(version: u32, snapshot: F) -> Self
    where
        F: Fn(&mut StateWriter) -> Result<(), E> + Send + Sync + 'static,
        E: Into<Failure>,
    {
        Self { newest: version, oldest: version, snapshot: job(snapshot), delta: None }
    }

    /// The closure can also write every version down to this one, for a successor of an older
    /// release: [`StateWriter::version`] says which one is wanted. Default: only its own.
    pub fn oldest_version(mut self, version: u32) -> Self {
        self.oldest = version.min(self.newest);
        self
    }

    /// Adds what is sent last: what has changed since the state was taken. The closure runs when
    /// this generation gives its turn away, after the hooks of
    /// [`on_yield`](crate::Running::on_yield) and before the successor serves; new connections
    /// wait meanwhile, within [`Config::gap_deadline`](crate::Config::gap_deadline). An error ends
    /// the upgrade. It runs only if the successor has taken the state.
    ///
    /// A successor that takes over because this process died or hangs gets no delta.
    pub fn delta<F, E>(mut self, delta: F) -> Self
    where
        F: Fn(&mut StateWriter) -> Result<(), E> + Send + Sync + 'static,
        E: Into<Failure>,
    {
        self.delta = Some(job(delta));
        self
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("newest", &self.newest)
            .field("oldest", &self.oldest)
            .finish_non_exhaustive()
    }
}

fn job<F, E>(closure: F) -> Job
where
    F: Fn(&mut StateWriter) -> Result<(), E> + Send + Sync + 'static,
    E: Into<Failure>,
{
    Arc::new(move |writer| closure(writer).map_err(Into::into))
}

/// What a successor that asks for a state is answered.
#[derive(Debug)]
pub(crate) enum Answered {
    /// The state, and what is needed for its delta.
    Here { provided: Provided, contents: Contents, file: OwnedFd },
    /// Nobody provides it.
    Unknown,
    /// It is not handed over, and why.
    Refused(String),
}

/// A state that was handed over in this version.
#[derive(Clone, Debug)]
pub(crate) struct Provided {
    pub(crate) name: Name,
    pub(crate) version: u32,
    state: State,
}

impl Provided {
    /// The state in the newest version that the successor reads as well.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StateRefused`], naming the versions of both sides.
    pub(super) fn new(name: &Name, state: &State, wanted: Range) -> Result<Self> {
        let ours = Range { min: state.oldest, max: state.newest };
        let version = ours.common(wanted).ok_or_else(|| {
            let text = format!(
                "it is provided in {}, and the successor takes {}",
                versions(ours),
                versions(wanted)
            );
            Error::new(ErrorKind::StateRefused, text)
        })?;
        Ok(Self { name: name.clone(), version, state: state.clone() })
    }

    /// Writes the whole state down.
    pub(super) async fn snapshot(&self, limit: u64) -> Result<(OwnedFd, Contents)> {
        self.write(Arc::clone(&self.state.snapshot), limit).await
    }

    /// Writes down what has changed since; none if its provider has no such thing.
    ///
    /// # Errors
    ///
    /// The provider's, naming the state.
    pub(crate) async fn delta(&self, limit: u64) -> Result<Option<(OwnedFd, Contents)>> {
        let Some(delta) = self.state.delta.clone() else { return Ok(None) };
        let written = self.write(delta, limit).await;
        written.map(Some).map_err(|error| {
            let text = format!("the delta of state \"{}\"", self.name);
            Error::new(ErrorKind::StateRefused, text).with_source(error)
        })
    }

    async fn write(&self, job: Job, limit: u64) -> Result<(OwnedFd, Contents)> {
        let waiting = GiveUp(Arc::default());
        let mut writer = StateWriter::new(self.version, limit, Arc::clone(&waiting.0))?;
        let written = work::in_a_thread(move || {
            let returned = job(&mut writer);
            let finished = writer.finish();
            match (returned, finished) {
                (Ok(()), finished) => finished,
                // What the writer found comes out of the closure as an error of its own kind.
                (Err(error), Ok(_)) => {
                    Err(Error::new(ErrorKind::StateRefused, chain(error.as_ref())))
                }
                (Err(_), Err(error)) => Err(error),
            }
        })
        .await?;
        drop(waiting);
        written
    }
}

/// Lets a closure's next write fail once nobody waits for it.
struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn versions(range: Range) -> String {
    if range.min == range.max {
        format!("version {}", range.max)
    } else if range.max == u32::MAX {
        format!("versions from {}", range.min)
    } else {
        format!("versions {} to {}", range.min, range.max)
    }
}
