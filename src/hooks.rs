//! What the application does when the turn changes hands.
//!
//! **Contract:** an application that was asked to yield is told afterwards how it ended, once: the
//! turn is back, or it is gone. It is told in order: a hook never runs beside an earlier one of the
//! same application. Whatever a hook does, panics and blocking its thread included, whoever drives
//! the handoff goes on.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};
use tokio::task::JoinSet;

use crate::error::{Error, ErrorKind, Result, chain};

type Failure = Box<dyn StdError + Send + Sync>;
type Running<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Hook<T> = Arc<dyn Fn() -> Running<T> + Send + Sync>;

/// When a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The turn is back, or was taken from this generation.
    RollBack,
    /// The verdict is 'committed'.
    Commit,
}

/// The hooks of one generation; clones are the same ones.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    book: Arc<Mutex<Book>>,
    /// Held while a hook runs.
    one_at_a_time: Arc<tokio::sync::Mutex<()>>,
    /// How often the application is being told something.
    telling: Arc<watch::Sender<usize>>,
}

/// Counted while the application is being told something.
struct Telling(Arc<watch::Sender<usize>>);

impl Telling {
    fn begin(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(Arc::clone(count))
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[derive(Default)]
struct Book {
    on_yield: Vec<Hook<Result<(), Failure>>>,
    on_roll_back: Vec<Hook<()>>,
    on_commit: Vec<Hook<()>>,
    /// Which hooks run now.
    now: Option<&'static str>,
}

/// The right to call hooks, for as long as it is held.
struct Floor {
    book: Arc<Mutex<Book>>,
    _alone: OwnedMutexGuard<()>,
}

impl Drop for Floor {
    fn drop(&mut self) {
        locked(&self.book).now = None;
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

impl Hooks {
    pub(crate) fn on_yield<F, Fut, E>(&self, hook: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Failure>,
    {
        let hook: Hook<Result<(), Failure>> = Arc::new(move || {
            let running = hook();
            Box::pin(async move { running.await.map_err(Into::into) })
        });
        self.book().on_yield.push(hook);
    }

    pub(crate) fn on<F, Fut>(&self, moment: Moment, hook: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let hook: Hook<()> = Arc::new(move || Box::pin(hook()));
        let mut book = self.book();
        match moment {
            Moment::RollBack => book.on_roll_back.push(hook),
            Moment::Commit => book.on_commit.push(hook),
        }
    }

    /// Which of the application's hooks run now, by the name of the method that adds them.
    pub(crate) fn now(&self) -> Option<&'static str> {
        self.book().now
    }

    /// Asks the application to yield, in the order in which the hooks were added. The first error,
    /// or panic, ends it.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the hook that runs is dropped at its next `await`; no other begins before that.
    pub(crate) async fn yield_now(&self) -> Result<()> {
        let hooks = self.book().on_yield.clone();
        if hooks.is_empty() {
            // Nobody is asked, so nobody has to be waited for.
            return Ok(());
        }
        let (all, mut task) = (self.clone(), JoinSet::new());
        crate::task::spawn_in(&mut task, async move {
            let _floor = all.floor("on_yield").await;
            for hook in hooks {
                hook().await?;
            }
            Ok::<_, Failure>(())
        });
        let text = match task.join_next().await {
            Some(Ok(Ok(()))) => return Ok(()),
            Some(Ok(Err(error))) => {
                format!("the application's on_yield: {}", chain(error.as_ref()))
            }
            Some(Err(_)) | None => String::from("the application's on_yield panicked"),
        };
        Err(Error::new(ErrorKind::Successor, text))
    }

    /// Tells the application how it went on, in a task of its own: nobody waits for it but the
    /// [end](Self::settled) of the generation.
    pub(crate) fn tell(&self, moment: Moment) {
        let (hooks, name) = {
            let book = self.book();
            match moment {
                Moment::RollBack => (book.on_roll_back.clone(), "on_roll_back"),
                Moment::Commit => (book.on_commit.clone(), "on_commit"),
            }
        };
        if hooks.is_empty() {
            return;
        }
        let (all, telling) = (self.clone(), Telling::begin(&self.telling));
        crate::task::spawn(async move {
            let _telling = telling;
            let _floor = all.floor(name).await;
            for hook in hooks {
                // In a task of its own, so that those after it are told even if it panics.
                if crate::task::spawn(async move { hook().await }).await.is_err() {
                    crate::log::error!("a hook of the application's {name} panicked");
                }
            }
        });
    }

    /// Waits until the application has been told everything, at most `limit`: a process that has
    /// nothing to drain must not end under a hook.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub(crate) async fn settled(&self, limit: Duration) {
        let mut telling = self.telling.subscribe();
        let told = telling.wait_for(|count| *count == 0);
        if tokio::time::timeout(limit, told).await.is_err() {
            crate::log::warn!(hook = self.now(), "the process ends, and a hook has not returned");
        }
    }

    /// Waits until no other hook runs.
    async fn floor(&self, name: &'static str) -> Floor {
        let alone = Arc::clone(&self.one_at_a_time).lock_owned().await;
        self.book().now = Some(name);
        Floor { book: Arc::clone(&self.book), _alone: alone }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        locked(&self.book)
    }
}

fn locked(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn hooks_are_called_in_their_order_and_one_at_a_time() {
        let hooks = Hooks::default();
        let (tell, mut heard) = mpsc::unbounded_channel();
        for number in [1, 2] {
            let tell = tell.clone();
            hooks.on_yield(move || {
                let tell = tell.clone();
                async move {
                    tokio::task::yield_now().await;
                    tell.send(("yield", number)).map_err(|error| error.to_string())
                }
            });
        }
        let told = tell.clone();
        hooks.on(Moment::RollBack, move || {
            let told = told.clone();
            async move { _ = told.send(("roll back", 0)) }
        });
        hooks.on(Moment::Commit, move || {
            let tell = tell.clone();
            async move { _ = tell.send(("commit", 0)) }
        });
        hooks.yield_now().await.unwrap();
        hooks.tell(Moment::RollBack);
        assert_eq!(heard.recv().await, Some(("yield", 1)));
        assert_eq!(heard.recv().await, Some(("yield", 2)));
        assert_eq!(heard.recv().await, Some(("roll back", 0)));
        hooks.tell(Moment::Commit);
        assert_eq!(heard.recv().await, Some(("commit", 0)));
    }

    #[tokio::test]
    async fn a_hook_that_refuses_stops_those_after_it() {
        let hooks = Hooks::default();
        hooks.on_yield(async || Err("the journal cannot be flushed"));
        hooks.on_yield(async || -> Result<(), String> { panic!("not reached") });
        let error = hooks.yield_now().await.unwrap_err();
        assert!(error.chain().contains("the journal cannot be flushed"), "{error}");
    }

    #[tokio::test]
    async fn a_hook_that_panics_is_a_refusal_and_keeps_no_other_from_being_told() {
        let hooks = Hooks::default();
        hooks.on_yield(|| -> std::future::Ready<Result<(), String>> { panic!("no journal") });
        let error = hooks.yield_now().await.unwrap_err();
        assert!(error.chain().contains("on_yield panicked"), "{error}");
        let (tell, mut heard) = mpsc::unbounded_channel();
        hooks.on(Moment::RollBack, || -> std::future::Ready<()> { panic!("no leader") });
        hooks.on(Moment::RollBack, move || {
            let tell = tell.clone();
            async move { _ = tell.send(()) }
        });
        hooks.tell(Moment::RollBack);
        assert_eq!(heard.recv().await, Some(()));
    }

    /// P4: whoever waits for a hook is told which.
    #[tokio::test]
    async fn a_hook_that_never_returns_is_known_and_holds_up_nobody_who_is_not_asked() {
        let hooks = Hooks::default();
        let (tell, mut heard) = mpsc::unbounded_channel();
        hooks.on(Moment::Commit, move || {
            let tell = tell.clone();
            async move {
                let _ = tell.send(());
                std::future::pending().await
            }
        });
        hooks.tell(Moment::Commit);
        assert_eq!(heard.recv().await, Some(()));
        hooks.yield_now().await.unwrap();
        assert_eq!(hooks.now(), Some("on_commit"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_what_is_being_told_and_not_for_ever() {
        let (hooks, long) = (Hooks::default(), Duration::from_secs(3_600));
        hooks.settled(long).await;
        let (tell, mut heard) = mpsc::unbounded_channel();
        hooks.on(Moment::Commit, move || {
            let tell = tell.clone();
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let _ = tell.send("flushed");
            }
        });
        hooks.tell(Moment::Commit);
        hooks.settled(long).await;
        assert_eq!(heard.try_recv(), Ok("flushed"));
        hooks.on(Moment::Commit, std::future::pending);
        hooks.tell(Moment::Commit);
        hooks.settled(Duration::from_secs(2)).await;
    }
}
