//! What an application waits for before it is ready.
//!
//! **Contract:** readiness is said when every check has passed once; until then the reason is known
//! to whoever asks why it takes so long.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::error::chain;

type Failure = Box<dyn StdError + Send + Sync>;
type Running = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;
type Try = Box<dyn Fn() -> Running + Send + Sync>;

/// How long one try of a check may take before it is dropped and tried again.
const LONGEST_TRY: Duration = Duration::from_secs(5);

/// The checks of one generation.
#[derive(Default)]
pub(crate) struct Readiness {
    checks: Vec<(String, Try)>,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.checks.iter().map(|(name, _)| name)).finish()
    }
}

impl Readiness {
    pub(crate) fn add<F, Fut, E>(&mut self, name: String, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Failure>,
    {
        let check: Try = Box::new(move || {
            let running = check();
            Box::pin(async move { running.await.map_err(Into::into) })
        });
        self.checks.push((name, check));
    }

    /// Returns when every check has passed. Each is tried again after `interval`, in the order in
    /// which they were added; one that has passed is not asked again. `not_yet` is told what is
    /// missing whenever that changes.
    pub(crate) async fn passed<Fut>(&self, interval: Duration, not_yet: impl Fn(String) -> Fut)
    where
        Fut: Future<Output = ()>,
    {
        let mut last = String::new();
        for (name, check) in &self.checks {
            while let Err(why) = tried(check).await {
                let why = format!("{name}: {why}");
                if why != last {
                    last.clone_from(&why);
                    not_yet(why).await;
                }
                tokio::time::sleep(interval).await;
            }
        }
    }
}

async fn tried(check: &Try) -> Result<(), String> {
    match tokio::time::timeout(LONGEST_TRY, check()).await {
        Ok(result) => result.map_err(|error| chain(error.as_ref())),
        Err(_) => Err(format!("no answer within {LONGEST_TRY:?}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_check_is_tried_until_it_passes_and_says_why_not_yet() {
        let mut readiness = Readiness::default();
        let tries = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&tries);
        readiness.add("db".into(), move || {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            async move {
                match number {
                    0 | 1 => Err("connection refused"),
                    2 => std::future::pending().await,
                    _ => Ok(()),
                }
            }
        });
        readiness.add("cache".into(), async || Ok::<_, String>(()));
        let told = Mutex::new(Vec::new());
        let tell = |why| {
            told.lock().unwrap().push(why);
            std::future::ready(())
        };
        readiness.passed(Duration::from_millis(10), tell).await;
        assert_eq!(tries.load(Ordering::Relaxed), 4);
        let told = told.into_inner().unwrap();
        assert_eq!(told, ["db: connection refused", "db: no answer within 5s"]);
    }
}
