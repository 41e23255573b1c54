//! Whether new connections are taken: an operator may pause a service, drain it, and resume.
//!
//! **Contract:** a pause outlives an upgrade. What was paused stays so until somebody resumes it,
//! whoever owns by then; nothing that a handoff does accepts on a paused service.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::stop::tell_drain;
use super::{Service, Shared};
use crate::control::Accepting;
use crate::drain::DrainReport;
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::in_background;
use crate::status::Role;

/// What an operator wants.
pub(crate) enum Hold {
    /// Take no new connections.
    Pause(oneshot::Sender<Result<()>>),
    /// Take them again.
    Resume(oneshot::Sender<Result<()>>),
    /// Be not ready, pause, and let everybody go.
    Drain(Asker),
}

impl Hold {
    pub(super) fn refuse(self, error: Error) {
        // Whoever asked may have stopped waiting.
        match self {
            Self::Pause(reply) | Self::Resume(reply) => _ = reply.send(Err(error)),
            Self::Drain(reply) => _ = reply.send(Err(error)),
        }
    }
}

impl Shared {
    /// Whether a load balancer should send new connections to the service. Every generation speaks
    /// for the service: a probe may reach an elder over an old connection.
    pub(crate) fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// To be called whenever the role or an operator's wish has changed.
    pub(crate) fn update_ready(&self) {
        let open = *self.accepting.borrow() == Accepting::Open;
        let serves = match self.status.borrow().role {
            Role::Owner | Role::Successor | Role::Elder | Role::Leaving => true,
            Role::Starting | Role::Stopping | Role::Ended => false,
        };
        let ready = open && serves;
        self.ready.send_if_modified(|now| std::mem::replace(now, ready) != ready);
    }

    pub(crate) fn set_accepting(&self, accepting: Accepting) {
        self.accepting.send_replace(accepting);
        self.update_ready();
    }
}

impl Service {
    /// An owner, while no upgrade runs.
    pub(super) fn hold(&mut self, hold: Hold) {
        self.heed(hold);
        self.tell_elders();
    }

    /// An elder: what the owner was told holds for this generation if it owns again.
    pub(super) fn keep_to(&self, paused: bool) {
        self.shared.sockets.keep_to(paused);
        self.shared.set_accepting(if paused { Accepting::Paused } else { Accepting::Open });
    }

    fn heed(&mut self, hold: Hold) {
        match hold {
            Hold::Pause(reply) => {
                self.shared.sockets.hold();
                in_background(self.shared.sockets.pause());
                // A drained service is paused already, and stays drained.
                if *self.shared.accepting.borrow() == Accepting::Open {
                    self.shared.set_accepting(Accepting::Paused);
                }
                crate::log::info!(target: "heirloom::control", "paused");
                let _ = reply.send(Ok(()));
            }
            Hold::Resume(reply) => {
                self.end_draining(|| Error::new(ErrorKind::NotNow, "it was resumed"));
                self.shared.drain.reopen();
                in_background(self.shared.sockets.release());
                self.shared.set_accepting(Accepting::Open);
                crate::log::info!(target: "heirloom::control", "resumed");
                let _ = reply.send(Ok(()));
            }
            Hold::Drain(reply) => self.drain_and_stay(reply),
        }
    }

    /// Not ready, then paused, then everybody is asked to go; the process stays. Who asks while
    /// that goes on is told the same in the end.
    fn drain_and_stay(&mut self, reply: Asker) {
        if let Some(draining) = &mut self.draining {
            draining.askers.push(reply);
            return;
        }
        let shared = Arc::clone(&self.shared);
        let hurry = Arc::clone(&self.hurry);
        // Load balancers know of one that was drained before.
        let known = *shared.accepting.borrow() == Accepting::Drained;
        let notice = if known { Duration::ZERO } else { shared.config.steering.stop_notice };
        shared.set_accepting(Accepting::Drained);
        crate::log::info!(target: "heirloom::control", "drains, and stays");
        let run = Box::pin(async move {
            tokio::time::sleep(notice).await;
            shared.sockets.hold();
            in_background(shared.sockets.pause());
            shared.drain.run(&shared.config.drain, &hurry).await
        });
        self.draining = Some(Draining { run, askers: vec![reply] });
    }

    /// A drain that leaves the process alive is over.
    pub(super) fn drained(&mut self, report: &DrainReport) {
        tell_drain(report);
        for asker in self.draining.take().map(|draining| draining.askers).unwrap_or_default() {
            // Whoever asked may have stopped waiting.
            let _ = asker.send(Ok(report.clone()));
        }
    }

    /// A drain that leaves the process alive goes no further, and this is what its askers are told.
    pub(super) fn end_draining(&mut self, why: impl Fn() -> Error) {
        for asker in self.draining.take().map(|draining| draining.askers).unwrap_or_default() {
            let _ = asker.send(Err(why()));
        }
    }
}

type Asker = oneshot::Sender<Result<DrainReport>>;

/// A drain that an operator has asked for; it ends when this is dropped. What clients were told
/// cannot be taken back.
///
/// The service's own task runs it, so a resume, or a step of an upgrade, is before or after each
/// of its own steps and never beside one.
pub(super) struct Draining {
    run: Pin<Box<dyn Future<Output = DrainReport> + Send>>,
    askers: Vec<Asker>,
}

impl Draining {
    /// The end of the drain that runs, if one does. Cancel safe.
    pub(super) async fn end(running: &mut Option<Self>) -> DrainReport {
        match running {
            Some(draining) => draining.run.as_mut().await,
            None => std::future::pending().await,
        }
    }
}

pub(super) fn upgrading() -> Error {
    Error::new(ErrorKind::Busy, "an upgrade is running: wait for its end, or abort it")
}
