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

    /// Whether the application wants to be asked before the turn is given.
    pub(crate) fn any_on_yield(&self) -> bool {
        !self.book().on_yield.is_empty()
    }

    /// Asks the application to yield, in the order in which the hooks were added. The first error
    /// ends it.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the hook that runs is dropped at its next `await`.
    pub(crate) async fn yield_now(&self) -> Result<()> {
        let _turn = self.one_at_a_time.lock().await;
        let hooks = self.book().on_yield.clone();
        for hook in hooks {
            hook().await.map_err(|error| {
                let text = format!("the application's on_yield: {}", chain(error.as_ref()));
                Error::new(ErrorKind::Successor, text)
            })?;
        }
        Ok(())
    }

    /// Tells the application how it went on, in a task of its own: nobody waits for it.
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
                hook().await;
            }
        });
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
}
