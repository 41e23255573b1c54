//! The reign of an owner: it decides upgrades and hears of its elders.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

use super::elders::News;
use super::{Command, Event, Gone, Reign, Reply, Role, Service};
use crate::birth::Asked;
use crate::error::{Error, ErrorKind, Result};
use crate::generation::Generation;
use crate::handoff::upgrade::{self, Ended, Order, Relation, Word};
use crate::pid_file::PidFile;
use crate::report::Report;
use crate::report::builder::ReportBuilder;
use crate::requests::ErrorBudget;

type Running = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// The upgrade that runs.
struct Active {
    future: Running,
    words: mpsc::Sender<Word>,
    replies: Vec<Reply>,
    /// Of those who want it to end without a commit.
    rejections: Vec<Reply>,
}

enum Next {
    Asked(Asked),
    Told(Command),
    News(Generation, News),
    Ended(Box<Ended>),
    /// A rejected successor is gone.
    Gone(Option<Gone>),
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
                if self.shared.queued.swap(false, Ordering::Relaxed) {
                    active = Some(self.start_upgrade());
                }
            }
            match self.next(&mut active).await {
                Next::Asked(Asked::Upgrade) => self.wish(&mut active, None, true),
                Next::Told(Command::Upgrade { reply, queue }) => {
                    self.wish(&mut active, Some(reply), queue);
                }
                Next::Asked(Asked::Stop) | Next::Told(Command::Stop) => {
                    if self.stop_asked {
                        self.hurry.notify_one();
                    }
                    self.stop_asked = true;
                    if let Some(active) = &active {
                        // The upgrade may be ending in this very moment.
                        let _ = active.words.try_send(Word::Stop);
                    }
                }
                Next::Told(command) => self.told_as_owner(command, &mut active),
                Next::Gone(gone) => self.gone(gone),
                Next::News(generation, news) => self.hear(generation, news, &mut active),
                Next::Ended(ended) => {
                    if let Some(active) = active.take()
                        && let Some(reign) = self.conclude(*ended, active)
                    {
                        return reign;
                    }
                }
            }
        }
    }

    async fn next(&mut self, active: &mut Option<Active>) -> Next {
        tokio::select! {
            biased;
            ended = async {
                match active {
                    Some(active) => active.future.as_mut().await,
                    None => std::future::pending().await,
                }
            } => Next::Ended(Box::new(ended)),
            asked = self.signals.next() => Next::Asked(asked),
            Some(command) = self.commands.recv() => Next::Told(command),
            (generation, news) = self.elders.news() => Next::News(generation, news),
            // A watcher that panicked has ended as well.
            Some(gone) = self.leaving.join_next() => Next::Gone(gone.ok()),
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
            Command::Unhealthy { reply, .. } => {
                let text = "this generation owns: nobody could take the turn back";
                let _ = reply.send(Err(Error::new(ErrorKind::NotNow, text)));
            }
            // An owner's application that fails ends with its process.
            Command::Failed(_) | Command::Ready(_) | Command::NotYet(_) => {}
            // It is ready, and asks no more.
            Command::Take(_) => super::refuse(command, "this generation owns"),
            // Handled by the caller.
            Command::Upgrade { .. } | Command::Stop => {}
        }
    }

    pub(super) fn gone(&mut self, gone: Option<Gone>) {
        if self.leaving.is_empty() {
            self.rejected.clear();
        }
        if let Some(Gone { generation, accepted }) = gone {
            self.shared.event(Event::SuccessorLeft { generation, accepted });
        }
    }

    /// Somebody wishes for an upgrade: it begins, or it is remembered, or its asker is told.
    fn wish(&mut self, active: &mut Option<Active>, reply: Option<Reply>, queue: bool) {
        match active {
            None => {
                let mut begun = self.start_upgrade();
                begun.replies.extend(reply);
                *active = Some(begun);
            }
            Some(_) if queue => {
                self.shared.remember_upgrade();
                self.waiting.extend(reply);
            }
            Some(_) => {
                if let Some(reply) = reply {
                    let text = "another upgrade is running";
                    let _ = reply.send(Err(Error::new(ErrorKind::Busy, text)));
                }
            }
        }
    }

    fn start_upgrade(&mut self) -> Active {
        self.highest = self.highest.next();
        let successor = self.highest;
        let shared = Arc::clone(&self.shared);
        let id = format!("{}-{}", shared.service, successor);
        let numbers = (shared.generation, successor);
        let mut report =
            ReportBuilder::new(id, numbers, shared.config.version.clone(), Instant::now());
        if self.elders.count() >= shared.config.max_draining {
            report.note(format!(
                "{} generations drain already: a commit hurries the oldest",
                self.elders.count()
            ));
        }
        let order = Order {
            service: shared.service.clone(),
            version: shared.config.version.clone(),
            generation: shared.generation,
            successor,
            program: self.program.clone(),
            extra: self.extra.clone(),
            lengths: shared.config.lengths(),
            leave: shared.config.drain.deadline,
            accept_unenforceable: shared.config.accept_unenforceable,
            sockets: shared.sockets.clone(),
            own_process: Arc::clone(&self.own_process),
            elders: self.elders.offer(),
            rejected: self.rejected.clone(),
            queued: Arc::clone(&shared.queued),
            preflight: None,
            budget: shared.config.budget.map(ErrorBudget::to_wire),
            health: shared.config.health.clone(),
            drain: shared.drain.clone(),
            hooks: shared.hooks.clone(),
            states: shared.states.clone(),
            sessions: shared.sessions.clone(),
            on_news: {
                let shared = Arc::clone(&shared);
                Box::new(move |news| shared.heard(news))
            },
        };
        shared.status.send_modify(|status| {
            status.upgrading = true;
            status.queued = false;
        });
        shared.event(Event::UpgradeStarted(successor));
        let (words, mut heard) = mpsc::channel(16);
        let readers = self.elders.readers();
        let future = Box::pin(async move {
            let hand_over = move || {
                readers.iter().for_each(AbortHandle::abort);
                shared.sessions.stop_receiving();
                shared.set_role(Role::Elder);
            };
            upgrade::run(order, report, &mut heard, hand_over).await
        });
        Active { future, words, replies: std::mem::take(&mut self.waiting), rejections: Vec::new() }
    }

    /// An upgrade has ended. `Some` if that is the end of this reign.
    fn conclude(&mut self, ended: Ended, active: Active) -> Option<Reign> {
        let Active { replies, rejections, .. } = active;
        self.shared.status.send_modify(|status| {
            status.upgrading = false;
            status.phase = None;
            status.not_yet = None;
            status.ailing = None;
        });
        match ended {
            Ended::Committed { report, successor } => {
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
                if self.stop_asked {
                    self.pass_stop_on(&successor);
                }
                Some(Reign::HandedOver(successor))
            }
            Ended::RolledBack { report, leaving } => {
                self.shared.upgrade_ended(&report);
                self.shared.set_verdict(None);
                answer(replies, || Err(rejected(&report)));
                answer(rejections, || Ok(report.clone()));
                if let Some((task, link)) = leaving {
                    self.rejected.extend(link);
                    let temporary = self.shared.config.pid_file.clone().zip(report.successor_pid);
                    self.leaving.spawn(finished(report.to, task, temporary));
                }
                None
            }
        }
    }

    /// The wish to stop came too late for this generation: it was meant for the service.
    fn pass_stop_on(&self, successor: &Relation) {
        let Some(signal) = self.shared.config.stop_signals.first() else { return };
        if let Err(error) = successor.child.kill(*signal) {
            tracing::error!(%error, "the stop could not be passed on to the new owner");
        }
    }

    fn hear(&mut self, generation: Generation, news: News, active: &mut Option<Active>) {
        match news {
            News::Asked => self.wish(active, None, true),
            other => self.note_elder(generation, &other),
        }
    }

    pub(super) fn note_elder(&mut self, generation: Generation, news: &News) {
        match news {
            News::Asked => {}
            News::Drained(report) => {
                let cut = (report.cut.len() as u64).saturating_add(report.unlisted);
                let (drained, moved) = (report.drained, report.moved);
                self.shared.event(Event::ElderDrained { generation, drained, moved, cut });
            }
            News::Ended => {
                self.elders.forget(generation);
                let elders = self.elders.generations();
                self.shared.status.send_modify(|status| status.elders = elders);
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
    task: JoinHandle<Option<u64>>,
    pid_file: Option<(PathBuf, i32)>,
) -> Gone {
    // A task that panicked has ended as well; its process is reaped by its guard.
    let accepted = task.await.ok().flatten();
    if let Some((path, pid)) = pid_file {
        PidFile::sweep(&path, pid);
    }
    Gone { generation, accepted }
}

fn refuse(reply: Reply, why: &str) {
    // Whoever asked may have stopped waiting.
    let _ = reply.send(Err(Error::new(ErrorKind::NotNow, why)));
}

fn rejected(report: &Report) -> Error {
    let cause = report.cause.clone().unwrap_or_default();
    Error::new(ErrorKind::RolledBack, format!("upgrade {}: {cause}", report.id))
}

pub(super) fn answer(replies: Vec<Reply>, result: impl Fn() -> Result<Report>) {
    for reply in replies {
        // Whoever asked may have stopped waiting.
        let _ = reply.send(result());
    }
}
