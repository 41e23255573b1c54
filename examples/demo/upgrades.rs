//! The upgrades: SIGHUP to the owner, the first answer of the next generation, its commit.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use tokio::time::timeout;

use crate::fleet::Fleet;
use crate::ledger::Ledger;
use crate::options::Options;

/// How long an upgrade may take beside its probation.
const PATIENCE: Duration = Duration::from_secs(10);

/// One upgrade as it is seen from outside. Times are since the demo began.
#[derive(Clone, Debug)]
pub(crate) struct Upgrade {
    /// When the owner got SIGHUP.
    pub(crate) signalled: Duration,
    /// When a client had the first answer of the new generation, and which generation that is.
    pub(crate) answered: Option<(Duration, u64)>,
    /// When the PID file named the new generation's process.
    pub(crate) committed: Option<Duration>,
    /// Why it is not committed.
    pub(crate) trouble: Option<String>,
}

/// Runs one upgrade after another; stops at the first that is not committed.
pub(crate) async fn run(
    options: &Options,
    ledger: &Ledger,
    fleet: &Fleet,
    upgrades: &mut Vec<Upgrade>,
) {
    for _ in 0..options.upgrades {
        let mut upgrade = Upgrade {
            signalled: ledger.now(),
            answered: None,
            committed: None,
            trouble: Some("interrupted".to_owned()),
        };
        upgrade.trouble = one(options, ledger, fleet, &mut upgrade).await.err();
        let failed = upgrade.trouble.is_some();
        upgrades.push(upgrade);
        if failed {
            return;
        }
        tokio::time::sleep(options.pause).await;
    }
}

/// One upgrade, from the signal to the commit.
async fn one(
    options: &Options,
    ledger: &Ledger,
    fleet: &Fleet,
    upgrade: &mut Upgrade,
) -> Result<(), String> {
    let owner = fleet.owner().ok_or("the PID file names nobody")?;
    let generation = ledger.seen().keys().next_back().copied().ok_or("nobody has answered")?;
    let deadline = options.probation + PATIENCE;
    upgrade.signalled = ledger.now();
    kill(owner, Signal::SIGHUP)
        .map_err(|error| format!("cannot signal process {owner}: {error}"))?;
    let next = timeout(deadline, ledger.newer_than(Some(generation))).await;
    let (newer, sighting) =
        next.map_err(|_| format!("no answer of a new generation in {deadline:?}"))?;
    upgrade.answered = Some((sighting.at, newer));
    let commit = timeout(deadline, fleet.owned_by(sighting.pid)).await;
    commit.map_err(|_| format!("generation {newer} was not committed in {deadline:?}"))?;
    upgrade.committed = Some(ledger.now());
    Ok(())
}
