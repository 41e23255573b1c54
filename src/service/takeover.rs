//! Takeover: the successor was started by somebody else, and asks for the turn.
//!
//! **Contract:** one handoff at a time; who asks meanwhile waits, and is answered by the generation
//! that owns then. Who may not have the turn is told why before anything has begun.

use std::pin::Pin;

use super::candidate::Next;
use super::command::passed_on;
use super::owner::Active;
use super::{Command, Service, Shared};
use crate::control::Taker;
use crate::error::{Error, ErrorKind, Result};

/// So many may wait for their turn.
const TAKERS: usize = 16;

impl Service {
    /// Somebody asks for the turn.
    pub(super) fn turn_for(&mut self, active: &mut Option<Active>, taker: Taker) {
        if active.is_some() || self.stop_asked {
            taker.wait(self.shared.generation);
            return self.keep_taker(taker);
        }
        match self.may_take_over(&taker) {
            Ok(()) => {
                let by = taker.asked_by();
                *active = Some(self.start_upgrade(Next::Taker(taker), by));
            }
            Err(error) => taker.refuse(error),
        }
    }

    /// It waits. Whoever has gone meanwhile gives up its place among the clients.
    pub(super) fn keep_taker(&mut self, taker: Taker) {
        self.takers.retain(|waiting| !waiting.has_gone());
        if self.takers.len() < TAKERS {
            self.takers.push_back(taker);
        } else {
            let text = format!("takeover: {TAKERS} processes wait for the turn already");
            taker.refuse(Error::new(ErrorKind::Busy, text));
        }
    }

    /// No upgrade runs: whoever waits gets the turn.
    pub(super) fn next_taker(&mut self, active: &mut Option<Active>) {
        while active.is_none()
            && let Some(taker) = self.takers.pop_front()
        {
            if !taker.has_gone() {
                self.turn_for(active, taker);
            }
        }
    }

    /// Another generation owns now: whoever waits asks that one.
    pub(super) fn send_takers_on(&mut self) {
        for taker in self.takers.drain(..) {
            taker.refuse(passed_on());
        }
    }

    /// The new owner has a supervisor of its own. Ours holds nothing of the service any more, and
    /// goes on watching over this process until it has drained.
    pub(super) fn go_on_elsewhere(&mut self) {
        self.store.give_up();
        self.beats.feed();
    }

    fn may_take_over(&self, taker: &Taker) -> Result<()> {
        let shared = &self.shared;
        if !taker.may_be_ended() && !shared.config.accept_unenforceable {
            let text = "takeover: this process may not signal the one that asks, so a roll back \
                        could not be enforced: run both as the same user and in one pid \
                        namespace, or allow it by Config::accept_unenforceable";
            return Err(Error::new(ErrorKind::Credentials, text));
        }
        let held = taker.program().and_then(|program| shared.programs.held_off(program));
        held.map_or(Ok(()), |held| {
            let text = format!(
                "takeover: this program has failed {} times in a row and is held off for {:.0?}: {}",
                held.failures, held.left, held.cause
            );
            Err(Error::new(ErrorKind::HeldOff, text))
        })
    }
}

/// Brings a wish for the turn to the service's task.
pub(super) async fn bring(shared: &Shared, service: &str, taker: Taker) {
    if shared.service.as_str() != service {
        let text = format!("takeover: this is the service {}, not {service:?}", shared.service);
        return taker.refuse(Error::new(ErrorKind::Config, text));
    }
    if let Err(error) = shared.answers() {
        return taker.refuse(error);
    }
    // If this generation has ended, so has the connection, and whoever waits asks again.
    let _ = shared.ask(Command::TakeOver(Box::new(taker))).await;
}

/// What the desk gives back.
pub(super) type Bringing = Pin<Box<dyn Future<Output = ()> + Send>>;
