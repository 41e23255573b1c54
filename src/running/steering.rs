//! What an application can ask for: upgrades and their ends, pauses, the stop.

use tokio::sync::oneshot;

use super::Running;
use crate::error::{Error, ErrorKind, Result};
use crate::executable::HeldOff;
use crate::generation::Generation;
use crate::report::{AskedBy, Report};
use crate::service::{Command, Hold, Reply, Urgency, Wish, ended};
use crate::wire::Identity;

/// Whether a wish waits for the upgrade that runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Queue {
    Yes,
    No,
}

impl Running {
    /// Starts the next generation and returns when the verdict is in: the report of an upgrade
    /// that was committed.
    ///
    /// While another upgrade runs, this one is remembered and run by whoever owns afterwards.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::RolledBack`] with the cause if the predecessor, which is this generation, goes
    /// on; [`ErrorKind::PassedOn`] if another generation owns and runs it;
    /// [`ErrorKind::Stopping`] if the service stops.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not end the upgrade.
    pub async fn upgrade(&self) -> Result<Report> {
        self.wish(Queue::Yes, AskedBy::Application).await
    }

    /// As [`upgrade`](Self::upgrade), but with [`ErrorKind::Busy`] at once while another one runs.
    ///
    /// # Errors
    ///
    /// As for `upgrade`, and [`ErrorKind::Busy`].
    pub async fn try_upgrade(&self) -> Result<Report> {
        self.wish(Queue::No, AskedBy::Application).await
    }

    /// Ends the probation that runs: the successor has proven itself. Returns the upgrade's report.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotNow`] if no successor is in probation, or if this generation is not the one
    /// that watches; [`ErrorKind::RolledBack`] if it fails in this moment.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes nothing back.
    pub async fn commit(&self) -> Result<Report> {
        self.tell(Command::Approve).await
    }

    /// Ends the upgrade that runs, at whichever step before the verdict: this generation accepts
    /// again, and the successor goes. The reason stands in the report, which is returned.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotNow`] if no upgrade runs here, or if it has committed in this moment.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes nothing back.
    pub async fn abort(&self, reason: impl Into<String>) -> Result<Report> {
        let reason = reason.into();
        self.tell(|reply| Command::Reject { reason, reply }).await
    }

    /// Takes a release back, before its commit or after it.
    ///
    /// While an upgrade runs here this is [`abort`](Self::abort). Otherwise the program that ran
    /// before this generation's is started as the next generation, with its own arguments and working
    /// directory and this generation's environment, also if its file has been deleted or replaced
    /// meanwhile: its descriptor has been kept. It has to go through probation like any other.
    /// [`Status::previous`](crate::Status::previous) says which one that is. From then on this
    /// generation's program counts as failed. An upgrade that was queued before is forgotten.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotNow`] if there is nothing to roll back to, or if this generation does not
    /// own; [`ErrorKind::RolledBack`] if the previous program does not prove itself, or if its file
    /// has been overwritten in place, which is said by name.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not end it.
    pub async fn roll_back(&self) -> Result<Report> {
        self.tell(|reply| Command::RollBack { of: None, by: AskedBy::Application, reply }).await
    }

    /// As [`roll_back`](Self::roll_back), but only if `generation` is the one whose release is to go:
    /// the successor of the upgrade that runs, else this one. So whoever decides by what it saw a
    /// moment ago, or presses twice, takes no other release back.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotNow`] also if another generation is the newest.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not end it.
    pub async fn roll_back_of(&self, generation: Generation) -> Result<Report> {
        self.tell(|reply| Command::RollBack {
            of: Some(generation),
            by: AskedBy::Application,
            reply,
        })
        .await
    }

    /// As [`upgrade`](Self::upgrade), for what retries by itself: a program that has failed is held
    /// off for a while, longer with each failure in a row ([`Config::hold_off`]), and while another
    /// upgrade runs this one is not queued: it may fail, and the next try comes. Programs are known
    /// by their contents, so a new file at the same path is not held off.
    ///
    /// [`Config::hold_off`]: crate::Config::hold_off
    ///
    /// # Errors
    ///
    /// [`ErrorKind::HeldOff`] with the time that is left and the last failure; otherwise as for
    /// [`try_upgrade`](Self::try_upgrade).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not end the upgrade.
    pub async fn upgrade_unattended(&self) -> Result<Report> {
        let path = &self.shared.program.exe;
        // A file that cannot be read is the upgrade's to report.
        if let Ok(identity) = Identity::of_path_hashed(path).await
            && let Some(held) = self.shared.programs.held_off(&identity)
        {
            let HeldOff { left, failures, cause } = held;
            let text = format!(
                "program {path:?} has failed {failures} times in a row and is held off for {left:.0?}: \
                 {cause}"
            );
            return Err(Error::new(ErrorKind::HeldOff, text));
        }
        self.wish(Queue::No, AskedBy::Unattended).await
    }

    /// Says that this generation, a successor in probation, is not well: its predecessor takes the
    /// turn back. Returns when that has been asked for.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotNow`] if there is no predecessor that could.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes nothing back.
    pub async fn unhealthy(&self, reason: impl Into<String>) -> Result<()> {
        let reason = reason.into();
        self.put(|reply| Command::Unhealthy { reason, reply }).await
    }

    /// Takes no new connections: they wait in the backlog until [`resume`](Self::resume), in the
    /// next generation as well.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] while an upgrade runs, [`ErrorKind::NotNow`] if this generation does not
    /// own the service.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes nothing back.
    pub async fn pause(&self) -> Result<()> {
        self.put(|reply| Command::Hold(Hold::Pause(reply))).await
    }

    /// Accepts again after [`pause`](Self::pause), or after an operator's `drain`.
    ///
    /// # Errors
    ///
    /// As for `pause`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes nothing back.
    pub async fn resume(&self) -> Result<()> {
        self.put(|reply| Command::Hold(Hold::Resume(reply))).await
    }

    async fn put<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.shared.ask(command(reply)).await?;
        answer.await.map_err(|_| ended())?
    }

    async fn tell(&self, command: impl FnOnce(Reply) -> Command) -> Result<Report> {
        self.put(command).await
    }

    async fn wish(&self, queue: Queue, by: AskedBy) -> Result<Report> {
        let queue = queue == Queue::Yes;
        let wish = |reply| Wish { reply, taken: None, queue, executable: None, by };
        self.tell(|reply| Command::Upgrade(wish(reply))).await
    }

    /// Asks the service to stop: it serves what is queued, drains and ends. A second call cuts
    /// what is left. It returns when the service has been asked, not when it has ended.
    pub async fn stop(&self) {
        // A service that has ended cannot be stopped any more.
        let _ = self.shared.ask(Command::Stop(Urgency::Counted)).await;
    }
}
