//! What the successor is told.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Upgrade;
use crate::error::chain;
use crate::handoff::life::Life;
use crate::handoff::offer;
use crate::handoff::predecessor::Say;
use crate::report::AskedBy;
use crate::wire::{Message, Owner, Refuse, Welcome};

impl<H: FnOnce(i32) + Send> Upgrade<H> {
    pub(super) fn say(&mut self, say: Say) {
        let message = match say {
            Say::Offer => return self.offer(),
            Say::Welcome => self.welcome(),
            Say::Refuse => Message::Refuse(Refuse { reason: self.cause.clone() }),
            Say::Ping => {
                self.sequence += 1;
                Message::Ping { sequence: self.sequence }
            }
            Say::Yield => Message::Yield,
            Say::MayCommit => Message::MayCommit,
            Say::Owner => {
                let queued = self.order.queued.take();
                let queued_by = queued.and_then(AskedBy::asker);
                Message::Owner(Owner { queued_upgrade: queued.is_some(), queued_by })
            }
            Say::RollBack { last } => Message::RollBack { reason: self.cause.clone(), last },
        };
        self.post(message);
    }

    pub(super) fn post(&self, message: Message) {
        let Some((sender, _)) = &self.link else {
            return;
        };
        // A link that takes nothing more is seen on the reading side, or by its deadline.
        if let Err(error) = sender.post(message) {
            crate::log::debug!(target: "heirloom::handoff", error = %chain(&error), "not sent");
        }
    }

    /// The welcome announces how many descriptors follow, so the offer is put together now.
    fn welcome(&mut self) -> Message {
        let sockets = self.order.sockets.offer();
        self.offered = sockets.len();
        let sessions = self.open_sessions();
        let journals = std::mem::replace(&mut self.order.journals, Box::new(Vec::new))();
        self.offer = Life::new().and_then(|(life, far)| {
            self.life = Some(life);
            let holdings = (self.programs.as_slice(), journals.as_slice());
            offer::offer(&self.verdict, far, &self.order.elders, sessions, holdings, sockets)
        });
        let parcels = self.offer.as_deref().unwrap_or_default();
        let descriptors = parcels.iter().map(|(_, descriptors)| descriptors.len()).sum();
        let millis = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let lengths = self.clock.lengths();
        Message::Welcome(Welcome {
            protocol: self.protocol,
            app_version: self.order.version.clone(),
            service: self.order.service.clone(),
            generation: self.order.successor,
            predecessor: self.order.generation,
            descriptors,
            probation_ms: millis(lengths.probation),
            silence_ms: millis(lengths.silence),
            ping_ms: millis(lengths.ping),
            gap_ms: millis(lengths.gap),
            enforceable: self.enforceable(),
            budget: self.order.budget,
            failures: self.order.failures.clone(),
            paused: self.order.paused,
        })
    }

    /// A channel for sessions; its far end goes with the offer. Without one none move, and nothing
    /// else changes.
    fn open_sessions(&mut self) -> Option<OwnedFd> {
        let (ours, theirs) = UnixStream::pair()
            .inspect_err(|error| {
                crate::log::warn!(target: "heirloom::handoff", %error, "no channel for sessions could be had");
            })
            .ok()?;
        self.sessions = Some(ours.into());
        Some(theirs.into())
    }

    /// The offer leaves in a task of its own: a successor that does not read it must not keep this
    /// side from its deadlines.
    fn offer(&mut self) {
        let Some((sender, _)) = &self.link else {
            return;
        };
        self.outdate_rejected();
        let sender = sender.clone();
        let parcels = std::mem::replace(&mut self.offer, Ok(Vec::new()));
        self.offering = Some(crate::task::spawn(async move {
            for (message, descriptors) in parcels? {
                sender.send(message, descriptors).await?;
            }
            Ok(())
        }));
    }

    /// From the offer on there is somebody else to take the service over if this process dies: a
    /// rejected successor that has not gone yet must not. It reads this before it believes in
    /// that death.
    fn outdate_rejected(&self) {
        let reason = "a newer successor was started";
        for link in &self.order.rejected {
            // One whose link takes nothing has gone.
            let _ = link.post(Message::RollBack { reason: reason.into(), last: true });
        }
    }
}
