//! What an owner is asked to start: upgrades and roll backs.

use super::candidate::Next;
use super::command::answer;
use super::owner::{Active, refuse};
use super::{Reply, Service, Wish};
use crate::control::Started;
use crate::error::{Error, ErrorKind};
use crate::generation::Generation;
use crate::handoff::upgrade::Word;
use crate::report::AskedBy;

impl Service {
    /// Somebody who waits for no answer wishes for an upgrade.
    pub(super) fn wish_unheard(&mut self, active: &mut Option<Active>, by: AskedBy) {
        match active {
            None => *active = Some(self.start_upgrade(Next::Release, by)),
            Some(_) => self.shared.remember_upgrade(by),
        }
    }

    /// Somebody wishes for an upgrade: it begins, or it is remembered, or its asker is told.
    pub(super) fn wish(&mut self, active: &mut Option<Active>, wish: Wish) {
        let taken = match active {
            None => {
                let next = wish.executable.map_or(Next::Release, Next::Program);
                let mut begun = self.start_upgrade(next, wish.by);
                begun.replies.push(wish.reply);
                *active = Some(begun);
                Started::Begun
            }
            // Whoever owns afterwards remembers the wish, and not for which program.
            Some(_) if wish.queue && wish.executable.is_none() => {
                self.shared.remember_upgrade(wish.by);
                self.waiting.push(wish.reply);
                Started::Queued
            }
            Some(_) => {
                let text = "another upgrade is running";
                let _ = wish.reply.send(Err(Error::new(ErrorKind::Busy, text)));
                return;
            }
        };
        // Whoever asked may have stopped waiting.
        let _ = wish.taken.map(|told| told.send(taken));
    }

    /// An operator wants the program back that ran before.
    pub(super) fn roll_back(
        &mut self,
        active: &mut Option<Active>,
        (of, by): (Option<Generation>, AskedBy),
        reply: Reply,
    ) {
        let own = self.shared.generation;
        let newest = if active.is_some() { self.highest } else { own };
        let joins = active.as_ref().is_some_and(|active| active.goes_back)
            && of.is_none_or(|generation| generation == own);
        match of {
            Some(other) if other != newest && !joins => {
                let text = format!(
                    "generation {other} is not the newest any more, generation {newest} is: \
                     nothing is rolled back"
                );
                return refuse(reply, &text);
            }
            _ => {}
        }
        if let Some(active) = active {
            if joins {
                // Two operators want the same thing: to end it would leave them with what neither
                // wants.
                active.replies.push(reply);
                return;
            }
            self.forget_wishes();
            let reason = String::from("an operator asked to roll back");
            let _ = active.words.try_send(Word::Reject(reason));
            active.rejections.push(reply);
            return;
        }
        let Some(previous) = self.shared.programs.previous() else {
            return refuse(reply, "no other program ran before this one: nothing to roll back to");
        };
        self.shared.programs.own_failed("an operator rolled it back after its commit");
        let mut begun = self.start_upgrade(Next::Previous(previous), by);
        begun.replies.push(reply);
        *active = Some(begun);
    }

    /// Who rolls back does not want the release that somebody else wished for before.
    fn forget_wishes(&mut self) {
        if self.shared.forget_upgrade() {
            crate::log::info!("the upgrade that was queued is forgotten: an operator rolled back");
        }
        answer(std::mem::take(&mut self.waiting), || {
            Err(Error::new(ErrorKind::NotNow, "an operator rolled back in the meantime"))
        });
    }
}
