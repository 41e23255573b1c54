//! Born without a predecessor, and taking over from one all the same: the fourth way.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::birth::{Asked, Signals};
use crate::config::{Config, TakeOver};
use crate::control::{Asking, ask_for_turn, is_answered};
use crate::error::{Error, ErrorKind, Result};
use crate::handoff::adoption::{self, Adoption, Inheritance};
use crate::wire::Identity;

/// Asks for the turn if the configuration says so; none if this process is the first.
///
/// A predecessor that dies before everything is here has handed nothing over: whoever answers then
/// is asked, or nobody.
///
/// # Errors
///
/// Whatever keeps the turn from coming while somebody may be there: to start beside it would be
/// split brain.
pub(super) async fn taken_over(
    config: &Config,
    signals: &mut Signals,
) -> Result<Option<(Adoption, Inheritance)>> {
    let policy = config.steering.take_over;
    let Some(path) = config.control_path()?.filter(|_| policy != TakeOver::Never) else {
        return Ok(None);
    };
    let adopted = tokio::select! {
        biased;
        adopted = adopted(&path, config) => adopted?,
        stopped = stopped(signals) => return Err(stopped),
    };
    if adopted.is_some() {
        return Ok(adopted);
    }
    if policy == TakeOver::Require {
        let text = format!("takeover at {}: nobody is there to take over from", path.display());
        return Err(Error::new(ErrorKind::NobodyThere, text));
    }
    Ok(None)
}

/// What this process runs, by its contents if they can be read soon, else by its file alone.
async fn own_program(soon: Duration) -> Option<Identity> {
    let path = Path::new("/proc/self/exe");
    match tokio::time::timeout(soon, Identity::of_path_hashed(path)).await {
        Ok(Ok(hashed)) => Some(hashed),
        _ => Identity::of_path(path).ok(),
    }
}

/// How long it is read at most before the turn is asked for.
const READING: Duration = Duration::from_secs(1);

/// The turn of whoever answers there; none if nobody does any more.
async fn adopted(path: &Path, config: &Config) -> Result<Option<(Adoption, Inheritance)>> {
    let now = Instant::now();
    // More than any clock holds is as good as for ever.
    let deadline = now.checked_add(config.steering.take_over_deadline);
    let deadline = deadline.unwrap_or_else(|| now + AGES);
    // Only who finds somebody there has to know what it runs.
    if !is_answered(path, deadline).await? {
        return Ok(None);
    }
    let asking = Asking {
        service: config.service.clone(),
        version: config.version.clone(),
        program: own_program(READING.min(config.steering.take_over_deadline / 4)).await,
        access: config.control_access(),
    };
    while let Some(link) = ask_for_turn(path, &asking, deadline).await? {
        let adopted = async {
            adoption::greet(link.as_fd(), &config.version)?;
            adoption::adopt(link, config.deadlines).await
        };
        match adopted.await {
            Err(error) if error.kind() == ErrorKind::Link && Instant::now() < deadline => {
                crate::log::warn!(error = %error.chain(), "the predecessor is gone: looks for another");
            }
            adopted => return adopted.map(Some),
        }
    }
    Ok(None)
}

/// Longer than anybody waits.
const AGES: Duration = Duration::from_secs(365 * 24 * 3600);

/// A signal asked this process to stop while it waited for its turn. One that asks for an upgrade
/// means nothing yet: this is the new release.
async fn stopped(signals: &mut Signals) -> Error {
    loop {
        match signals.next().await {
            Ok(Asked::Upgrade) => {}
            Ok(Asked::Stop) => {
                let text = "it was asked to stop while it waited for its turn";
                return Error::new(ErrorKind::Stopping, text);
            }
            // Signals that cannot be watched are as good as none.
            Err(_) => std::future::pending().await,
        }
    }
}
