//! A generation after its commit: it drains, and owns again if every newer one dies.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::command::passed_on;
use super::{Command, PidFileState, Role, Service, Shared, Urgency, refuse};
use crate::birth::Asked;
use crate::drain::{CutCause, CutCounts, DrainReport, forced};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::handoff::life::Life;
use crate::handoff::predecessor::Event;
use crate::handoff::upgrade::Relation;
use crate::hooks::Moment;
use crate::inventory::in_background;
use crate::link::Envelope;
use crate::pid_file::{PidFile, Published};
use crate::report::AskedBy;
use crate::report::journal::Tally;
use crate::wire::{Causes, CutItem, LastReport, MAX_CUT, Message, Progress};

/// However many generations drain, none is hurried for that before it has drained for so long: what
/// is idle moves within that time, and short requests end.
const AT_LEAST: Duration = Duration::from_secs(1);

/// How the life of an elder ended.
pub(super) enum End {
    /// Everything that was accepted is finished or cut.
    Drained(DrainReport),
    /// No newer generation lives.
    OwnsAgain,
}

impl Service {
    /// Drains, tells the owner how far it is, and does what the owner says.
    pub(super) async fn be_elder(&mut self, mut relation: Relation) -> End {
        self.step_down(&relation);
        let shared = Arc::clone(&self.shared);
        let (hurry, crowded) = (Arc::clone(&self.hurry), Arc::clone(&self.crowded));
        let mut progress = shared.drain.watch();
        let mut drain = std::pin::pin!(Self::drain(&shared, &hurry, &crowded));
        let (mut link_ended, mut child_ended) = (false, false);
        let mut life_ended = relation.life.is_none();
        let mut drained = None;
        // Who is to stop the service looks into the PID file, and finds this process until then.
        let mut heir = std::pin::pin!(tokio::time::sleep(shared.config.deadlines.commit));
        loop {
            tokio::select! {
                biased;
                // What was asked goes to the owner even if nothing is left to drain, and whom it
                // was meant for is judged by what was known then.
                asked = self.signals.next() => self.asked_as_elder(&mut relation, asked),
                envelope = relation.receiver.recv(), if !link_ended => {
                    link_ended = self.heard_as_elder(&mut relation, envelope);
                }
                _ = relation.child.ended(), if !child_ended => child_ended = true,
                () = ended(relation.life.as_ref()), if !life_ended => life_ended = true,
                Some(command) = self.commands.recv() => {
                    self.told_as_elder(&mut relation, command);
                }
                report = &mut drain, if drained.is_none() => drained = Some(report),
                Ok(()) = progress.changed() => {
                    let now = progress.borrow_and_update().clone();
                    post(&relation, self.progress(now));
                }
                () = self.beats.due() => self.beats.beat(&shared),
                // A rejected successor ends with this process, but it has its own to finish.
                Some(gone) = self.leaving.join_next() => self.gone(gone.ok()),
                () = hurry.notified(), if drained.is_some() => self.leaving.abort_all(),
                () = crowded.notified(), if drained.is_some() => self.leaving.abort_all(),
                () = &mut heir, if !heir.is_elapsed() => {}
            }
            let waits = drained.is_some()
                && !link_ended
                && !heir.is_elapsed()
                && !self.heir_is_known
                && self.is_named();
            let over = drained.take_if(|_| self.leaving.is_empty() && !waits);
            if over.is_some()
                && link_ended
                && !(child_ended && life_ended)
                && Self::dies(&shared, &mut relation).await
            {
                (child_ended, life_ended) = (true, true);
            }
            let unheld = link_ended && life_ended;
            if unheld && child_ended && relation.tell(Event::Abandoned) {
                self.sweep_after(&relation);
                return End::OwnsAgain;
            }
            if let Some(report) = over {
                return Self::leave(&shared, &relation, report).await;
            }
        }
    }

    /// The successor may have died before it could rename its PID file.
    fn sweep_after(&self, relation: &Relation) {
        if let Some(path) = &self.shared.config.pid_file {
            PidFile::sweep(path, relation.child.pid());
        }
    }

    /// Connections of the generation before may still be on their way through this one.
    async fn drain(shared: &Shared, hurry: &Notify, crowded: &Notify) -> DrainReport {
        let passed_on = shared.sessions.pass_on();
        let at_least = tokio::time::sleep(AT_LEAST);
        let makes_way = async {
            tokio::join!(crowded.notified(), at_least);
            // However long the queue is, whoever stands in it moves. It ends: see `at_rest`.
            shared.sessions.at_rest().await;
            crate::log::warn!("too many generations drain at once: what is left here is cut");
            CutCause::Room
        };
        let hurried = async {
            tokio::select! {
                biased;
                cause = forced(hurry) => cause,
                cause = makes_way => cause,
            }
        };
        shared.drain.run_until_empty_after(passed_on, &shared.config.drain, hurried).await
    }

    /// A newer generation owns: what an owner has goes, and the drain begins.
    fn step_down(&mut self, relation: &Relation) {
        self.elders.unwatch();
        self.silence();
        // The new owner is paused; whoever waits for the drain asks it.
        self.end_draining(passed_on);
        for passed_on in self.elders.asked_meanwhile() {
            post(relation, passed_on);
        }
        (self.hurry, self.crowded) = (Arc::default(), Arc::default());
        (self.stops, self.heir_is_known) = (false, false);
        if self.forced {
            self.hurry.notify_one();
        }
        let connections = self.shared.drain.active();
        crate::log::info!(target: "heirloom::handoff", step = "draining", connections, pid = std::process::id());
    }

    /// Whether the successor, whose link has ended, is about to die, and nobody newer lives: a
    /// process that ends closes its descriptors one by one, and is known to have ended after that.
    async fn dies(shared: &Shared, relation: &mut Relation) -> bool {
        let wait = shared.config.deadlines.commit;
        let both = async {
            relation.child.ended().await;
            if let Some(life) = &relation.life {
                life.ended().await;
            }
        };
        tokio::time::timeout(wait, both).await.is_ok()
    }

    /// True if the link has ended.
    fn heard_as_elder(
        &mut self,
        relation: &mut Relation,
        envelope: Result<Option<Envelope>>,
    ) -> bool {
        let message = match envelope {
            Ok(Some(envelope)) => envelope.message,
            Ok(None) => return true,
            Err(error) => {
                crate::log::warn!(error = %chain(&error), "the link to the newer generation broke");
                return true;
            }
        };
        match message {
            Message::Hurry if self.stops => self.hurry.notify_one(),
            Message::Hurry => self.crowded.notify_one(),
            Message::Stopping => {
                self.stops = true;
                relation.tell(Event::ServiceStops);
            }
            Message::NewOwner { generation, paused, .. } => {
                self.heir_is_known = true;
                self.highest = self.highest.max(generation);
                if let Some(paused) = paused {
                    self.keep_to(paused);
                }
                // It does not know yet how far this generation is.
                post(relation, self.progress(self.shared.drain.progress()));
            }
            _ => {}
        }
        false
    }

    /// An upgrade that a signal asks for goes to the owner. A stop is heeded here, and a second one
    /// cuts what is left. One that came as long as the PID file named this process is meant for the
    /// service.
    fn asked_as_elder(&mut self, relation: &mut Relation, asked: Asked) {
        match asked {
            Asked::Upgrade => post(relation, Message::Asked { by: AskedBy::Signal.asker() }),
            Asked::Stop => {
                let again = self.stop_asked;
                if relation.child.is_ours() && self.was_named() {
                    crate::log::info!(target: "heirloom::handoff", step = "stop passed on", "the PID file named this process");
                    post(relation, Message::StopAsked { hurry: again });
                }
                self.stop_here(relation);
            }
        }
    }

    /// The first time this generation is not to own again, the second time it is not waited for.
    fn stop_here(&mut self, relation: &mut Relation) {
        if std::mem::replace(&mut self.stop_asked, true) {
            self.hurry.notify_one();
        } else {
            relation.tell(Event::Stop);
        }
    }

    /// Whether who looks into the PID file still finds this process.
    fn is_named(&self) -> bool {
        self.finds_us(Published::is_ours)
    }

    /// Whether who looked into it did when the stop came that was heard last: this process may have
    /// been busy since then, with its own commit.
    fn was_named(&self) -> bool {
        let came = self.signals.came();
        self.is_named() || came.is_some_and(|came| self.finds_us(|file| file.was_ours(came)))
    }

    fn finds_us(&self, ask: impl FnOnce(&Published) -> io::Result<bool>) -> bool {
        let Some(PidFileState::Published(published)) = &self.pid_file else { return false };
        ask(published).unwrap_or_else(|error| {
            crate::log::warn!(%error, "the PID file cannot be read");
            false
        })
    }

    fn told_as_elder(&mut self, relation: &mut Relation, command: Command) {
        match command {
            Command::Upgrade(wish) => {
                let text = if wish.travels() {
                    post(relation, Message::Asked { by: wish.by.asker() });
                    "a newer generation owns and runs the upgrade"
                } else {
                    "a newer generation owns: ask again"
                };
                let _ = wish.reply.send(Err(Error::new(ErrorKind::PassedOn, text)));
            }
            // The application's own, which knows whom it asks.
            Command::Stop(Urgency::Counted) => self.stop_here(relation),
            // An operator's, who asked the owner: that was this generation a moment ago.
            Command::Stop(urgency) => {
                if relation.child.is_ours() {
                    post(relation, Message::StopAsked { hurry: urgency.hurries(false) });
                }
                if urgency.hurries(self.stop_asked) {
                    self.hurry.notify_one();
                }
                self.stop_asked = true;
                relation.tell(Event::Stop);
            }
            other => refuse(other, "a newer generation owns"),
        }
    }

    /// How far the drain is, for the owner; what was served until now is written down.
    fn progress(&self, now: crate::drain::Progress) -> Message {
        self.shared.note_tally();
        Message::Progress(Progress {
            active: now.active as u64,
            oldest_ms: now.oldest.map_or(0, |held| millis(held.age)),
            cut: 0,
            app_version: self.shared.config.version.clone(),
            by_listener: now.by_listener.into_iter().map(|(name, at)| (name, at as u64)).collect(),
        })
    }

    /// Nothing is left here: that is told, and this generation ends.
    async fn leave(shared: &Shared, relation: &Relation, report: DrainReport) -> End {
        super::stop::tell_drain(&report);
        Self::send_last_report(shared, relation, &report).await;
        shared.manager.has_heard().await;
        End::Drained(report)
    }

    async fn send_last_report(shared: &Shared, relation: &Relation, report: &DrainReport) {
        let DrainReport { drained, moved, cut_count: cut, cuts, .. } = *report;
        let tally = Tally { drained, moved, cut, cuts, ..shared.tally() };
        shared.journal.merge(shared.generation, tally);
        shared.upgrade_drained(relation.generation, report);
        let message = Message::LastReport(last_report(report));
        let sent = relation.sender.send(message, Vec::new());
        // The owner may be stopped, or gone; this generation ends all the same.
        let _ = tokio::time::timeout(shared.config.deadlines.commit, sent).await;
    }

    /// Every newer generation died while this one still drained.
    pub(super) async fn own_again(&mut self) {
        crate::log::warn!(target: "heirloom::handoff", step = "owns again", "every newer generation is gone");
        // Whoever is accepted from here on is not asked to go.
        self.shared.drain.reopen();
        in_background(self.shared.sockets.own_again());
        self.shared.set_verdict(None);
        self.shared.journal.take_back();
        self.elders.watch();
        self.shared.set_role(Role::Owner);
        self.shared.hooks.tell(Moment::RollBack);
        self.begin_reign().await;
    }
}

/// The end of every newer generation that took over from this one.
async fn ended(life: Option<&Life>) {
    match life {
        Some(life) => life.ended().await,
        None => std::future::pending().await,
    }
}

fn post(relation: &Relation, message: Message) {
    if let Err(error) = relation.sender.post(message) {
        crate::log::debug!(error = %chain(&error), "not sent to the owner");
    }
}

fn millis(length: std::time::Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

fn causes(cuts: CutCounts) -> Causes {
    let CutCounts { deadline, room, forced, lost } = cuts;
    Causes { deadline, room, forced, lost }
}

fn last_report(report: &DrainReport) -> LastReport {
    let listed = report.cut.iter().take(MAX_CUT);
    let cut: Vec<CutItem> = listed
        .map(|held| CutItem {
            listener: held.listener.clone(),
            name: held.to_string(),
            reason: held.reason.clone().unwrap_or_default(),
            age_ms: millis(held.age),
        })
        .collect();
    LastReport {
        drained: report.drained,
        moved: report.moved,
        unlisted: report.cut_count.saturating_sub(cut.len() as u64),
        cut,
        forced: report.hurried,
        causes: causes(report.cuts),
        elapsed_ms: millis(report.elapsed),
    }
}
