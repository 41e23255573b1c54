//! What the application does when the turn changes hands.
//!
//! **Contract:** an application that was asked to yield is told afterwards how it ended, once: the
//! turn is back, or it is gone. It is told in order: a hook never runs beside an earlier one of the
//! same application.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
}

#[derive(Default)]
struct Book {
    on_yield: Vec<Hook<Result<(), Failure>>>,
    on_roll_back: Vec<Hook<()>>,
    on_commit: Vec<Hook<()>>,
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

    /// Asks the application to yield, in the order in which the hooks were added. The first error
    /// ends it, and so does a panic: the hooks run in a task of their own, which is not the one that
    /// decides for this generation.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the hook that runs is dropped at its next `await`.
    pub(crate) async fn yield_now(&self) -> Result<()> {
        let hooks = self.book().on_yield.clone();
        if hooks.is_empty() {
            return Ok(());
        }
        let one_at_a_time = Arc::clone(&self.one_at_a_time);
        let mut asked = JoinSet::new();
        asked.spawn(async move {
            let _turn = one_at_a_time.lock_owned().await;
            for hook in hooks {
                hook().await.map_err(|error| refused(&chain(error.as_ref())))?;
            }
            Ok(())
        });
        match asked.join_next().await {
            Some(Ok(yielded)) => yielded,
            Some(Err(_)) | None => Err(refused("it panicked")),
        }
    }

    /// Tells the application how it went on, in a task of its own: nobody waits for it. A hook that
    /// panics keeps none of the others from being called.
    pub(crate) fn tell(&self, moment: Moment) {
        let hooks = {
            let book = self.book();
            match moment {
                Moment::RollBack => book.on_roll_back.clone(),
                Moment::Commit => book.on_commit.clone(),
            }
        };
        if hooks.is_empty() {
            return;
        }
        let one_at_a_time = Arc::clone(&self.one_at_a_time);
        tokio::spawn(async move {
            let _turn = one_at_a_time.lock_owned().await;
            for hook in hooks {
                let mut told = JoinSet::new();
                told.spawn(async move { hook().await });
                if let Some(Err(error)) = told.join_next().await {
                    tracing::error!(target: "heirloom::handoff", %error, ?moment, "a hook failed");
                }
            }
        });
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::Successor, format!("the application's on_yield: {why}"))
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
    async fn a_hook_that_panics_is_an_error_and_the_next_one_is_called_nevertheless() {
        let hooks = Hooks::default();
        hooks.on_yield(async || -> Result<(), String> { panic!("in on_yield") });
        let error = hooks.yield_now().await.unwrap_err();
        assert!(error.chain().contains("panicked"), "{error}");
        let (tell, mut heard) = mpsc::unbounded_channel();
        hooks.on(Moment::RollBack, async || panic!("in on_roll_back"));
        hooks.on(Moment::RollBack, move || {
            let tell = tell.clone();
            async move { _ = tell.send("told") }
        });
        hooks.tell(Moment::RollBack);
        assert_eq!(heard.recv().await, Some("told"));
    }

    #[tokio::test]
    async fn a_hook_that_never_ends_delays_only_those_who_have_hooks_to_ask() {
        let hooks = Hooks::default();
        hooks.on(Moment::Commit, std::future::pending);
        hooks.tell(Moment::Commit);
        hooks.yield_now().await.unwrap();
    }
}
