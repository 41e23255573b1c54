//! The end of a service.

use std::sync::Arc;
use std::time::Duration;

use super::command::answer;
use super::manager::EXTENSION;
use super::{Command, Outcome, Role, Service, ended, refuse};
use crate::birth::Asked;
use crate::control::Accepting;
use crate::drain::DrainReport;
use crate::error::{Error, ErrorKind};
use crate::report::file::Entry;
use crate::report::{Drained, cuts};
use crate::wire::Message;

/// What whoever asks for anything is told.
const STOPS: &str = "this generation has ended";

impl Service {
    /// Serves what is queued, drains, and outlives rejected successors and elders, so that whoever
    /// supervises this process does not end them with it.
    pub(super) async fn stop(&mut self) -> Outcome {
        let shared = Arc::clone(&self.shared);
        self.end_draining(|| Error::new(ErrorKind::Stopping, "the service stops"));
        shared.set_role(Role::Stopping);
        shared.set_accepting(Accepting::Stopping);
        answer(std::mem::take(&mut self.waiting), || Err(ended()));
        self.elders.tell_all(&Message::Stopping);
        self.hurried_by(self.forced);
        if self.store.is_used() {
            shared.sockets.leave_paths();
        }
        shared.manager.stops(shared.drain.active());
        self.beats.extend(self.longest_stop());
        self.give_notice().await;
        shared.sockets.stop();
        shared.sessions.stop_receiving();
        crate::log::info!(target: "heirloom::handoff", step = "stopping", connections = shared.drain.active());
        let report = self.drain_hurriable().await;
        tell_drain(&report);
        let (generation, drain) = (shared.generation, Drained::new(&report));
        shared.write_down(&Entry::Stopped { generation, drain });
        let left = shared.config.drain.deadline.saturating_sub(report.elapsed);
        self.outlive(left).await;
        self.remove_pid_file();
        // The application and the runtime have their ends before them, and nobody to ask again.
        self.beats.extend_once(shared.config.shutdown.saturating_add(EXTENSION));
        shared.manager.has_heard().await;
        Outcome::Stopped(report)
    }

    /// Load balancers notice that the service is not ready, and connections are still accepted. A
    /// second wish to stop cuts this short, and what is left with it.
    async fn give_notice(&mut self) {
        let notice = self.shared.config.steering.stop_notice;
        if notice.is_zero() || self.forced {
            return;
        }
        crate::log::info!(target: "heirloom::handoff", step = "not ready", ?notice);
        let over = tokio::time::sleep(notice);
        let mut over = std::pin::pin!(over);
        loop {
            let again = tokio::select! {
                biased;
                () = &mut over => return,
                asked = self.signals.next() => matches!(asked, Asked::Stop),
                Some(command) = self.commands.recv() => {
                    self.refuse_or_keep(command)
                }
                (generation, news) = self.elders.news() => {
                    self.note_elder(generation, &news);
                    false
                }
                () = self.beats.due() => {
                    self.beats.beat(&self.shared);
                    false
                }
            };
            if again {
                self.hurried_by(true);
                return;
            }
        }
    }

    /// Nothing is done any more. Whoever asks for the turn waits for the end of this process: then
    /// it finds nobody, or who came after it. Returns whether it was another wish to stop.
    fn refuse_or_keep(&mut self, command: Command) -> bool {
        match command {
            Command::Stop(urgency) => return urgency.hurries(true),
            Command::TakeOver(taker) => self.keep_taker(*taker),
            other => refuse(other, STOPS),
        }
        false
    }

    /// The drain, and the elders and rejected successors after it.
    fn longest_stop(&self) -> Duration {
        let drain = &self.shared.config.drain;
        let notice = self.shared.config.steering.stop_notice;
        let drained = drain.deadline.saturating_add(drain.force_grace);
        notice.saturating_add(drained).saturating_add(EXTENSION)
    }

    async fn drain_hurriable(&mut self) -> DrainReport {
        let shared = Arc::clone(&self.shared);
        let hurry = Arc::clone(&self.hurry);
        let mut drain = std::pin::pin!(shared.drain.run(&shared.config.drain, &hurry));
        loop {
            tokio::select! {
                biased;
                report = &mut drain => return report,
                asked = self.signals.next() => self.hurried_by(matches!(asked, Asked::Stop)),
                Some(command) = self.commands.recv() => {
                    let again = self.refuse_or_keep(command);
                    self.hurried_by(again);
                }
                (generation, news) = self.elders.news() => {
                    self.note_elder(generation, &news);
                }
                () = self.beats.due() => self.beats.beat(&shared),
            }
        }
    }

    /// A second wish to stop cuts what is left, here and in the elders.
    pub(super) fn hurried_by(&mut self, again: bool) {
        if again {
            self.forced = true;
            self.hurry.notify_one();
            // First why: who is hurried without it takes it for want of room.
            self.elders.tell_all(&Message::Stopping);
            self.elders.tell_all(&Message::Hurry);
        }
    }

    async fn outlive(&mut self, left: Duration) {
        let deadline = tokio::time::sleep(left);
        let mut deadline = std::pin::pin!(deadline);
        while !self.elders.is_empty() || !self.leaving.is_empty() {
            tokio::select! {
                biased;
                (generation, news) = self.elders.news() => {
                    self.note_elder(generation, &news);
                }
                Some(gone) = self.leaving.join_next() => self.gone(gone.ok()),
                asked = self.signals.next() => {
                    if self.stays_no_longer(matches!(asked, Asked::Stop)) {
                        return;
                    }
                }
                Some(command) = self.commands.recv() => {
                    let again = self.refuse_or_keep(command);
                    if self.stays_no_longer(again) {
                        return;
                    }
                }
                () = self.beats.due() => self.beats.beat(&self.shared),
                () = &mut deadline => return,
            }
        }
    }

    /// A second wish to stop hurries the elders; one after that does not even wait for them.
    fn stays_no_longer(&mut self, again: bool) -> bool {
        let enough = again && self.forced;
        self.hurried_by(again);
        enough
    }
}

/// At most so many of those that were cut are logged one by one; the report has more.
const NAMED_CUTS: usize = 16;

/// The end of a drain, and who was cut by it.
pub(super) fn tell_drain(report: &DrainReport) {
    for held in report.cut.iter().take(NAMED_CUTS) {
        crate::log::warn!(target: "heirloom::handoff", %held, "cut at the end of the drain");
    }
    if let Some(cut) = cuts::told(report) {
        crate::log::warn!(target: "heirloom::handoff", cuts = %report.cuts, "cut: {cut}");
    }
    let DrainReport { drained, moved, cut_count: cut, elapsed, .. } = *report;
    crate::log::info!(target: "heirloom::handoff", step = "drained", outcome = %report.outcome, drained, moved, cut, ?elapsed);
}
