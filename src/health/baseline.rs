//! Checks of ourselves, before we yield: what a healthy generation's answers look like here.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Policy;
use super::candidate::Subject;
use super::herald::{Announcement, answer_here};
use super::round::{Round, Rounds};
use super::saturation::{Cause, Past};
use crate::generation::Generation;
use crate::inventory::Inventory;

/// So many announcements may wait to be answered.
const PENDING: usize = 16;

/// What each check gave before the predecessor yielded. The default knows nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Baseline {
    /// In the order of the checks.
    past: Vec<Past>,
}

impl Baseline {
    pub(super) fn past(&self, check: usize) -> Past {
        self.past.get(check).cloned().unwrap_or_default()
    }
}

/// One round of each check, all at once, each bounded as a whole by twice its timeout: no answer to
/// one question comes out before that.
///
/// # Cancel safety
/// Cancel safe: connections are closed, and nothing is known.
pub(crate) async fn baseline(
    policy: &Policy,
    subject: Subject,
    announce: mpsc::Sender<Announcement>,
) -> Baseline {
    let subject = Arc::new(subject);
    let mut asking = JoinSet::new();
    for (index, check) in policy.checks.iter().enumerate() {
        let (limit, check) = (check.timeout.saturating_mul(2), check.clone());
        let mut rounds = Rounds::new(check, Arc::clone(&subject), announce.clone());
        crate::task::spawn_in(&mut asking, async move {
            (index, timeout(limit, rounds.next()).await.map_or(Past::Unknown, past))
        });
    }
    drop(announce);
    let mut past = vec![Past::Unknown; policy.checks.len()];
    while let Some(asked) = asking.join_next().await {
        if let Ok((index, found)) = asked
            && let Some(past) = past.get_mut(index)
        {
            *past = found;
        }
    }
    Baseline { past }
}

/// The [`baseline`] of this process, whose listeners are these.
///
/// # Cancel safety
/// Cancel safe, as [`baseline`].
pub(crate) async fn baseline_of_ourselves(
    policy: &Policy,
    generation: Generation,
    inventory: &Inventory,
) -> Baseline {
    let (announce, announcements) = mpsc::channel(PENDING);
    let subject = Subject { generation, pid: std::process::id(), doors: inventory.doors() };
    let mut asked = pin!(baseline(policy, subject, announce));
    tokio::select! {
        baseline = &mut asked => baseline,
        () = answer_here(inventory, announcements) => asked.await,
    }
}

fn past(round: Round) -> Past {
    match round {
        Round::Passed { .. } => Past::Passed,
        Round::NotChecked(_) => Past::Unknown,
        Round::Failed(failure) => match failure.cause {
            Cause::Silent(_) => Past::Silent,
            Cause::Unreached => Past::Unreached,
            Cause::NotAsked => Past::Unknown,
            Cause::Wrong => Past::Failed(failure.text),
        },
    }
}
