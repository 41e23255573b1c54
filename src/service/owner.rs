//! The reign of an owner: it decides upgrades and hears of its elders.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tracing::Instrument;

use super::candidate::{Candidate, Next};
use super::command::answer;
use super::elders::News;
use super::pause::{Draining, upgrading};
use super::{Command, Event, Gone, Reign, Reply, Role, Service, Urgency};
use crate::birth::Asked;
use crate::control::Accepting;
use crate::drain::{CutCounts, DrainReport};
use crate::error::{Error, ErrorKind, chain};
use crate::generation::Generation;
use crate::handoff::leaving::Left;
use crate::handoff::upgrade::{self, Ended, Order, Relation, Word};
use crate::pid_file::PidFile;
use crate::report::builder::ReportBuilder;
use crate::report::{AskedBy, Report};
use crate::requests::ErrorBudget;
use crate::wire::{Causes, Message};

type Running = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// The upgrade that runs.
pub(super) struct Active {
    future: Running,
    pub(super) words: mpsc::Sender<Word>,
    pub(super) replies: Vec<Reply>,
    /// Of those who want it to end without a commit.
    pub(super) rejections: Vec<Reply>,
    /// What it starts.
    program: Arc<Candidate>,
    /// Whether that is what ran before this generation.
    pub(super) goes_back: bool,
    /// Whether somebody else has started it.
    takes_over: bool,
}

enum Happened {
    Asked(Asked),
    Told(Command),
    News(Generation, News),
    Ended(Box<Ended>),
    /// A rejected successor is gone.
    Gone(Option<Gone>),
    /// A drain that an operator asked for is over.
    Drained(DrainReport),
    /// Something is to be said to the service manager.
    Beat,
    /// What it may store for us has changed.
    Changed,
}

impl Service {
    /// Owns until a successor does or the service stops.
    pub(super) async fn own(&mut self) -> Reign {
        let mut active: Option<Active> = None;
        loop {
            if active.is_none() {
                if self.stop_asked {
                    return Reign::Stopped;
                }
                if let Some(by) = self.shared.queued.take() {
                    active = Some(self.start_upgrade(Next::Release, by));
                }
                self.next_taker(&mut active);
            }
            match self.next(&mut active).await {
                Happened::Asked(Asked::Upgrade) => {
                    self.wish_unheard(&mut active, AskedBy::Signal);
                }
                Happened::Told(Command::Upgrade(wish)) => self.wish(&mut active, wish),
                Happened::Asked(Asked::Stop) => self.stop_asked(Urgency::Counted, &active),
                Happened::Told(Command::Stop(urgency)) => self.stop_asked(urgency, &active),
                Happened::Told(command) => self.told_as_owner(command, &mut active),
                Happened::Gone(gone) => self.gone(gone),
                Happened::Drained(report) => self.drained(&report),
                Happened::Beat => self.beats.beat(&self.shared),
                Happened::Changed => self.store.update(&self.shared.sockets),
                Happened::News(generation, news) => self.hear(generation, news, &mut active),
                Happened::Ended(ended) => {
                    if let Some(active) = active.take()
                        && let Some(reign) = self.conclude(*ended, active)
                    {
                        return reign;
                    }
                }
            }
        }
    }

    async fn next(&mut self, active: &mut Option<Active>) -> Happened {
        tokio::select! {
            biased;
            ended = async {
                match active {
                    Some(active) => active.future.as_mut().await,
                    None => std::future::pending().await,
                }
            } => Happened::Ended(Box::new(ended)),
            asked = self.signals.next() => Happened::Asked(asked),
            Some(command) = self.commands.recv() => Happened::Told(command),
            (generation, news) = self.elders.news() => Happened::News(generation, news),
            // A watcher that panicked has ended as well.
            Some(gone) = self.leaving.join_next() => Happened::Gone(gone.ok()),
            report = Draining::end(&mut self.draining) => Happened::Drained(report),
            () = self.beats.due() => Happened::Beat,
            () = self.store.changed() => Happened::Changed,
        }
    }

    /// A word about the upgrade that runs, or one that means nothing to an owner.
    fn told_as_owner(&mut self, command: Command, active: &mut Option<Active>) {
        match command {
            Command::Approve(reply) => match active {
                Some(active) if self.shared.in_probation() => {
                    // It may be ending in this very moment: its report says how.
                    let _ = active.words.try_send(Word::Approve);
                    active.replies.push(reply);
                }
                _ => refuse(reply, "no successor is in probation"),
            },
            Command::Reject { reason, reply } => match active {
                Some(active) => {
                    let _ = active.words.try_send(Word::Reject(reason));
                    active.rejections.push(reply);
                }
                None => refuse(reply, "no upgrade is running"),
            },
            Command::RollBack { of, by, reply } => self.roll_back(active, (of, by), reply),
            Command::Unhealthy { reply, .. } => {
                let text = "this generation owns: nobody could take the turn back";
                let _ = reply.send(Err(Error::new(ErrorKind::NotNow, text)));
            }
            // An owner's application that fails ends with its process.
            Command::Failed(_) | Command::Ready(_) | Command::NotYet(_) => {}
            Command::Hold(hold) if active.is_some() => hold.refuse(upgrading()),
            Command::Hold(hold) => self.hold(hold),
            // It is ready, and asks no more.
            Command::Take(_) => super::refuse(command, "this generation owns"),
            Command::TakeOver(taker) => self.turn_for(active, *taker),
            // Handled by the caller.
            Command::Upgrade(_) | Command::Stop(_) => {}
        }
    }

    pub(super) fn gone(&mut self, gone: Option<Gone>) {
        if self.leaving.is_empty() {
            self.rejected.clear();
        }
        if let Some(Gone { generation, served }) = gone {
            let accepted = served.map(|served| served.accepted);
            self.shared.note_served(generation, served);
            self.shared.event(Event::SuccessorLeft { generation, accepted });
        }
    }

    pub(super) fn start_upgrade(&mut self, next: Next, by: AskedBy) -> Active {
        self.highest = self.highest.next();
        let successor = self.highest;
        let shared = Arc::clone(&self.shared);
        let id = Report::id_of(&shared.service, successor);
        let numbers = (shared.generation, successor);
        let mut report =
            ReportBuilder::new(id, numbers, shared.config.version.clone(), Instant::now());
        report.asked(by, next.purpose());
        if self.elders.count() >= shared.config.max_draining {
            report.note(format!(
                "{} generations drain already: a commit hurries the oldest",
                self.elders.count()
            ));
        }
        let program = Candidate::new(&next, &shared.program);
        let goes_back = matches!(next, Next::Previous(_));
        let takes_over = matches!(next, Next::Taker(_));
        let order = self.order(next, &program, successor, &mut report);
        shared.status.send_modify(|status| {
            status.upgrading = true;
            status.queued = false;
        });
        shared.survey.upgrade_begins(successor);
        shared.event(Event::UpgradeStarted(successor));
        shared.manager.upgrades(successor);
        // It ends by deadlines of its own.
        self.beats.extend(Duration::MAX);
        let (words, mut heard) = mpsc::channel(16);
        let readers = self.elders.readers();
        let future = Box::pin(async move {
            let hand_over = move |pid| {
                readers.iter().for_each(AbortHandle::abort);
                // Whoever owns then has it before it answers for the service.
                shared.note_tally();
                shared.set_role(Role::Elder);
                shared.manager.hands_over(pid, successor);
            };
            let span = report.span();
            upgrade::run(order, report, &mut heard, hand_over).instrument(span).await
        });
        let replies = std::mem::take(&mut self.waiting);
        Active { future, words, replies, rejections: Vec::new(), program, goes_back, takes_over }
    }

    fn order(
        &self,
        next: Next,
        program: &Arc<Candidate>,
        successor: Generation,
        report: &mut ReportBuilder,
    ) -> Order {
        let shared = Arc::clone(&self.shared);
        if let Some(note) = next.note() {
            report.note(note);
        }
        let paused = *shared.accepting.borrow() != Accepting::Open;
        let mut health = shared.config.health.clone();
        if paused && !health.checks.is_empty() {
            // No release could answer behind a door that an operator has closed.
            health.checks.clear();
            report.note("paused by an operator: no health check could be made");
        }
        let taken_over = matches!(next, Next::Taker(_));
        let (preflight, start) = next.begin(program, &shared, &self.extra);
        Order {
            service: shared.service.clone(),
            version: shared.config.version.clone(),
            generation: shared.generation,
            successor,
            lengths: shared.config.lengths(),
            leave: shared.config.drain.deadline,
            accept_unenforceable: shared.config.accept_unenforceable,
            sockets: shared.sockets.clone(),
            paused,
            elders: self.elders.offer(),
            journals: {
                let (shared, elders) = (Arc::clone(&shared), self.elders.generations());
                Box::new(move || shared.journals(&elders))
            },
            failures: shared.programs.failures(),
            rejected: self.rejected.clone(),
            queued: Arc::clone(&shared.queued),
            preflight,
            start: Some(start),
            taken_over,
            budget: shared.config.budget.map(ErrorBudget::to_wire),
            health,
            drain: shared.drain.clone(),
            requests: shared.requests.clone(),
            hooks: shared.hooks.clone(),
            states: shared.states.clone(),
            sessions: shared.sessions.clone(),
            on_news: {
                let shared = Arc::clone(&shared);
                Box::new(move |news| {
                    shared.manager.hears(successor, &news);
                    shared.heard(news);
                })
            },
        }
    }

    /// An upgrade has ended. `Some` if that is the end of this reign.
    fn conclude(&mut self, ended: Ended, active: Active) -> Option<Reign> {
        let Active { replies, rejections, program, .. } = active;
        self.shared.survey.upgrade_ends();
        self.shared.status.send_modify(|status| {
            status.upgrading = false;
            status.phase = None;
            status.not_yet = None;
            status.ailing = None;
        });
        self.beats.extend_no_more();
        match ended {
            Ended::Committed { report, successor } => {
                self.beats.rest();
                self.shared.upgrade_ended(&report);
                answer(replies, || Ok(report.clone()));
                answer(rejections, || {
                    let text = format!("upgrade {} has committed", report.id);
                    Err(Error::new(ErrorKind::NotNow, text))
                });
                let generation = successor.generation;
                answer(std::mem::take(&mut self.waiting), || {
                    let text = format!("generation {generation} owns now and runs the upgrade");
                    Err(Error::new(ErrorKind::PassedOn, text))
                });
                self.shared.status.send_modify(|status| status.queued = false);
                self.send_takers_on();
                if !successor.child.is_ours() {
                    self.go_on_elsewhere();
                } else if self.stop_asked {
                    self.pass_stop_on(&successor);
                }
                Some(Reign::HandedOver(successor))
            }
            Ended::RolledBack { report, blamed, served, leaving } => {
                self.shared.note_requests(report.to, served);
                self.shared.upgrade_ended(&report);
                self.shared.journal.take_back();
                self.shared.manager.serves_on(&self.shared, &report);
                self.shared.set_verdict(None);
                if let Some(identity) = program.identity().filter(|_| blamed) {
                    let cause = report.cause.clone().unwrap_or_default();
                    self.shared.programs.failed(&identity, program.path(), &cause);
                }
                answer(replies, || Err(rejected(&report)));
                answer(rejections, || Ok(report.clone()));
                if let Some((task, link)) = leaving {
                    self.rejected.extend(link);
                    let pid_file = self.shared.config.pid_file.clone();
                    crate::task::spawn_in(&mut self.leaving, finished(report.to, task, pid_file));
                }
                None
            }
        }
    }

    /// The service shall stop. While a process takes over that is the wish to hand over now: the
    /// service goes on, and is ready. To ask for it twice means it.
    fn stop_asked(&mut self, urgency: Urgency, active: &Option<Active>) {
        let hurries = urgency.hurries(self.stop_asked);
        let first = !std::mem::replace(&mut self.stop_asked, true);
        self.hurried_by(hurries);
        let Some(active) = active else { return };
        if hurries || !active.takes_over {
            self.shared.set_accepting(Accepting::Stopping);
        }
        for _ in 0..usize::from(first) + usize::from(hurries) {
            // The upgrade may be ending in this very moment.
            let _ = active.words.try_send(Word::Stop);
        }
    }

    /// The wish to stop came too late for this generation: it was meant for the service. Not by a
    /// signal, which might mean something else to the successor.
    fn pass_stop_on(&self, successor: &Relation) {
        let message = Message::StopAsked { hurry: self.forced };
        if let Err(error) = successor.sender.post(message) {
            crate::log::error!(error = %chain(&error), "the stop could not be passed on to the new owner");
        }
    }

    fn hear(&mut self, generation: Generation, news: News, active: &mut Option<Active>) {
        match news {
            News::Asked(by) => self.wish_unheard(active, by),
            News::StopAsked { hurry } => {
                let urgency = if hurry { Urgency::Force } else { Urgency::Once };
                self.stop_asked(urgency, active);
            }
            other => self.note_elder(generation, &other),
        }
    }

    pub(super) fn note_elder(&mut self, generation: Generation, news: &News) {
        match news {
            // What is asked of a service that stops.
            News::Asked(_) => {}
            News::StopAsked { hurry } => self.hurried_by(*hurry),
            News::Progress(_) => self.survey_elders(),
            News::Drained(report) => {
                let cut = (report.cut.len() as u64).saturating_add(report.unlisted);
                let Causes { deadline, room, forced, lost } = report.causes;
                let cuts = CutCounts { deadline, room, forced, lost };
                let (drained, moved) = (report.drained, report.moved);
                self.shared.event(Event::ElderDrained { generation, drained, moved, cut, cuts });
            }
            News::Ended => {
                self.elders.forget(generation);
                self.shared.journal.forget(generation);
                let elders = self.elders.generations();
                self.shared.status.send_modify(|status| status.elders = elders);
                self.survey_elders();
                self.shared.event(Event::ElderEnded(generation));
                if self.elders.is_empty() {
                    self.shared.event(Event::AloneAtLast);
                }
            }
        }
    }
}

/// Waits for the end of a rejected successor, and removes what it may have left of a PID file.
async fn finished(
    generation: Generation,
    task: JoinHandle<Left>,
    pid_file: Option<PathBuf>,
) -> Gone {
    // A task that panicked has ended as well; its process is reaped by its guard.
    let Left { pid, served } = task.await.unwrap_or_default();
    if let Some(path) = pid_file.filter(|_| pid > 0) {
        PidFile::sweep(&path, pid);
    }
    Gone { generation, served }
}

pub(super) fn refuse(reply: Reply, why: &str) {
    // Whoever asked may have stopped waiting.
    let _ = reply.send(Err(Error::new(ErrorKind::NotNow, why)));
}

fn rejected(report: &Report) -> Error {
    let cause = report.cause.clone().unwrap_or_default();
    Error::new(ErrorKind::RolledBack, format!("upgrade {}: {cause}", report.id))
}
