//! The signals by which an operator asks for an upgrade or a stop.

use std::io;
use std::os::fd::AsFd;

use nix::sys::signal::Signal;
use tokio::io::Interest;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::signal::{self, Watch};
use crate::sys::watch::Watched;

/// The signal that asks for an upgrade unless the caller says otherwise: what service managers
/// send to reload.
pub(crate) const UPGRADE: Signal = Signal::SIGHUP;

/// The signals that ask for a stop unless the caller says otherwise.
pub(crate) const STOP: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

/// What a signal asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Start the next generation.
    Upgrade,
    /// Drain and exit.
    Stop,
}

/// The signals of this process. Until dropped they ask; afterwards they do nothing.
#[derive(Debug)]
pub(crate) struct Signals {
    watch: Watch,
    /// What each watched signal asks for, in the watch's order.
    meaning: Vec<Asked>,
    /// When the first signal came of the request that was returned last.
    came: Option<u64>,
    /// The watch's event in the runtime of whoever called [`Signals::next`] first.
    watched: Option<Watched>,
}

impl Signals {
    /// Installs the handlers, then unblocks the upgrade signal in this thread.
    ///
    /// To be called before any other thread exists: a predecessor starts its successor with the
    /// upgrade signal blocked, so that one that comes early waits instead of ending it, and
    /// threads keep the mask that they are born with. With `upgrade` none, that signal is left
    /// alone.
    pub(crate) fn install(upgrade: Option<Signal>, stop: &[Signal]) -> Result<Self> {
        if let Some(both) = upgrade.filter(|upgrade| stop.contains(upgrade)) {
            let text = format!("{both} cannot ask for an upgrade and for a stop");
            return Err(Error::new(ErrorKind::Config, text));
        }
        let signals: Vec<_> = upgrade.iter().chain(stop).copied().collect();
        let meaning =
            upgrade.iter().map(|_| Asked::Upgrade).chain(stop.iter().map(|_| Asked::Stop));
        let meaning = meaning.collect();
        let failed = |what: &str, error: io::Error| {
            let names: Vec<_> = signals.iter().map(|signal| signal.as_str()).collect();
            let text = format!("signals {}: {what}", names.join(", "));
            Error::new(ErrorKind::Config, text).with_source(error)
        };
        let watch = Watch::new(&signals).map_err(|error| failed("install handlers", error))?;
        if let Some(upgrade) = upgrade {
            signal::unblock(upgrade).map_err(|error| failed("unblock", error))?;
        }
        Ok(Self { watch, meaning, came: None, watched: None })
    }

    /// Waits for the next request. However often a signal came since the last, it is one request;
    /// a stop goes before an upgrade.
    ///
    /// The first call registers in the runtime of the caller, which must have I/O enabled; if that
    /// runtime has ended, a later call registers in its own. An error means that this was refused.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a request is taken only when it is returned.
    pub(crate) async fn next(&mut self) -> Result<Asked> {
        loop {
            if let Some(asked) = self.take() {
                return Ok(asked);
            }
            let watched = match self.watched.take() {
                Some(watched) => self.watched.insert(watched),
                None => self.watched.insert(self.register()?),
            };
            match watched.readable().await {
                // Clears the event, and then looks at the counts: the handler counts first.
                Ok(mut guard) => drop(guard.try_io(|event| signal::clear(event.as_fd()))),
                // The runtime in which it was registered has ended.
                Err(_) => self.watched = None,
            }
        }
    }

    /// When the first signal came of the request that was returned last, in nanoseconds since the
    /// epoch.
    pub(crate) fn came(&self) -> Option<u64> {
        self.came
    }

    fn register(&self) -> Result<Watched> {
        Watched::new(self.watch.event(), Interest::READABLE).map_err(|error| {
            Error::new(ErrorKind::Io, "signals: watch them in the runtime").with_source(error)
        })
    }

    fn take(&mut self) -> Option<Asked> {
        let (watch, meaning) = (&self.watch, &self.meaning);
        [Asked::Stop, Asked::Upgrade].into_iter().find(|wanted| {
            let (mut count, mut since) = (0_u32, None::<u64>);
            for (index, _) in meaning.iter().enumerate().filter(|(_, asked)| *asked == wanted) {
                let more = watch.take(index);
                if more > 0 {
                    // Of one that is just being counted the time stays with its count.
                    since = [since, watch.take_since(index)].into_iter().flatten().min();
                }
                count = count.saturating_add(more);
            }
            if count > 0 {
                self.came = since;
            }
            count > 0
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::signal::raise;

    use super::*;

    /// Signals are the whole process's, and tests run side by side: each takes two for itself.
    const LONG: Duration = Duration::from_secs(20);

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    async fn next(signals: &mut Signals) -> Asked {
        tokio::time::timeout(LONG, signals.next()).await.unwrap().unwrap()
    }

    async fn nothing(signals: &mut Signals) {
        // One poll is enough: what has come is known to the kernel.
        tokio::task::yield_now().await;
        let waited = tokio::time::timeout(Duration::from_millis(1), signals.next()).await;
        assert!(waited.is_err(), "{waited:?}");
    }

    #[test]
    fn a_storm_before_the_runtime_is_one_request_and_stop_goes_first() {
        let mut signals = Signals::install(Some(Signal::SIGHUP), &[Signal::SIGUSR1]).unwrap();
        for _ in 0..1000 {
            raise(Signal::SIGHUP).unwrap();
        }
        raise(Signal::SIGUSR1).unwrap();
        runtime().block_on(async {
            assert_eq!(next(&mut signals).await, Asked::Stop);
            assert_eq!(next(&mut signals).await, Asked::Upgrade);
            nothing(&mut signals).await;
            // Wakes a reader that waits, and a cancelled one has taken nothing.
            raise(Signal::SIGHUP).unwrap();
            assert_eq!(next(&mut signals).await, Asked::Upgrade);
            for _ in 0..1000 {
                raise(Signal::SIGHUP).unwrap();
            }
            assert_eq!(next(&mut signals).await, Asked::Upgrade);
            nothing(&mut signals).await;
        });
    }

    #[test]
    fn a_signal_that_was_blocked_at_birth_is_heard() {
        signal::block(Signal::SIGUSR2).unwrap();
        raise(Signal::SIGUSR2).unwrap();
        let mut signals = Signals::install(Some(Signal::SIGUSR2), &[]).unwrap();
        runtime().block_on(async {
            assert_eq!(next(&mut signals).await, Asked::Upgrade);
            nothing(&mut signals).await;
        });
    }

    #[test]
    fn a_second_runtime_hears_what_the_first_one_did() {
        let mut signals = Signals::install(None, &[Signal::SIGXFSZ]).unwrap();
        for _ in 0..2 {
            let runtime = runtime();
            runtime.block_on(async {
                nothing(&mut signals).await;
                raise(Signal::SIGXFSZ).unwrap();
                assert_eq!(next(&mut signals).await, Asked::Stop);
            });
        }
    }

    #[test]
    fn a_signal_with_two_meanings_or_none_is_refused() {
        for (upgrade, stop) in [(UPGRADE, [UPGRADE]), (UPGRADE, [Signal::SIGKILL])] {
            let error = Signals::install(Some(upgrade), &stop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
        }
        assert!(!STOP.contains(&UPGRADE));
    }
}
