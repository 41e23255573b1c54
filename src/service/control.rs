//! The desk: what each command of the control socket does.
//!
//! **Contract:** only who answers for the service obeys; whoever asks any other generation is told
//! to ask again, and then reaches the owner. A client that goes away takes nothing back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, oneshot};

use super::takeover::{Bringing, bring};
use super::{Command, Hold, Reply as Owed, Service, Shared, Urgency, Wish, ended};
use crate::control::Command as Asked;
use crate::control::{Answer, Answering, Clients, Desk, News, Peer, Reply, Started, Taker, Teller};
use crate::drain::DrainReport;
use crate::error::{Error, ErrorKind, Result};
use crate::generation::Generation;
use crate::report::{AskedBy, Report};
use crate::status::{Event, Outcome, Role};
use crate::wire::text::fit;

/// How long the end of this process waits for clients to be told.
const FAREWELL: Duration = Duration::from_secs(1);
/// A watcher is shown counts that change without an event at least this often.
const REFRESH: Duration = Duration::from_secs(1);
/// The longest reason of an operator, in bytes: it goes into reports, and on from one generation to
/// the next.
const LONGEST_REASON: usize = 4_096;
/// How long a command may wait for the service's task.
const SHORT: Duration = Duration::from_secs(10);

impl Service {
    /// This generation answers from now on.
    pub(super) fn listen_to_operator(&mut self) {
        let socket = match self.shared.sockets.open_control() {
            Ok(Some(socket)) => socket,
            Ok(None) => return,
            Err(error) => {
                crate::log::error!(target: "heirloom::control", error = %error.chain(), "no commands can be given");
                return;
            }
        };
        let shared = Arc::clone(&self.shared);
        let answering = self.answering.get_or_insert_with(|| {
            let access = shared.config.control_access();
            Answering::new(Clients::new(Arc::new(Clerk { shared }), access))
        });
        answering.resume(socket);
    }

    /// Another generation answers from now on. Whoever was accepted is still answered.
    pub(super) fn silence(&mut self) {
        if let Some(answering) = &mut self.answering {
            answering.pause();
        }
    }

    pub(super) fn survey_elders(&self) {
        self.shared.survey.set_elders(self.elders.views());
    }

    /// Whoever waits for the end is told, before the process is gone.
    pub(super) async fn say_farewell(&mut self, outcome: &Outcome) {
        self.silence();
        // Whoever waits for its turn sees the end of its connection, and asks again.
        self.takers.clear();
        self.shared.farewell.send_replace(Some(outcome.clone()));
        if let Some(answering) = &mut self.answering {
            // One that does not read is not waited for.
            let _ = tokio::time::timeout(FAREWELL, answering.end()).await;
        }
    }
}

struct Clerk {
    shared: Arc<Shared>,
}

impl Desk for Clerk {
    fn version(&self) -> &str {
        &self.shared.config.version
    }

    fn take_over(&self, service: String, taker: Taker) -> Bringing {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { bring(&shared, &service, taker).await })
    }

    fn answer(&self, command: Asked, peer: Peer, teller: Teller) -> Reply {
        let shared = Arc::clone(&self.shared);
        let by = AskedBy::Operator { uid: peer.uid, pid: peer.pid };
        Box::pin(async move {
            shared.answers()?;
            let follows_the_owner = follows_the_owner(&command);
            let work = async {
                match command {
                    Asked::Upgrade { executable, unless_busy, wait } => {
                        executable.as_deref().map_or(Ok(()), absolute)?;
                        let (queue, follow) = (!unless_busy, wait.then_some(teller));
                        let wish = |(reply, taken)| Wish { reply, taken, queue, executable, by };
                        shared.upgrade_for(wish, follow).await
                    }
                    Asked::RollBack { of } => shared.roll_back_for(of, by, &teller).await,
                    Asked::Follow { after } => shared.follow(after, &teller).await,
                    Asked::Drain => shared.drain_for(&teller).await,
                    Asked::Stop { force } => shared.stop_for(force, &teller).await,
                    Asked::Watch => shared.watched_by(&teller).await,
                    short => within(shared.obey(short, &teller)).await,
                }
            };
            // Boxed: the largest of them decides how much every client costs.
            match Box::pin(work).await {
                // A successor committed meanwhile: what was wished for is its to do.
                Err(error) if error.kind() == ErrorKind::NotNow && follows_the_owner => {
                    shared.answers().and(Err(error))
                }
                result => result,
            }
        })
    }
}

impl Shared {
    /// An error unless this generation answers for the service.
    pub(super) fn answers(&self) -> Result<()> {
        let stopping = self.status.borrow().role == Role::Stopping;
        if self.owns() || stopping {
            return Ok(());
        }
        Err(Error::new(ErrorKind::PassedOn, "a newer generation owns now: ask again"))
    }

    /// What is answered at once, or soon.
    async fn obey(&self, command: Asked, teller: &Teller) -> Result<Answer> {
        match command {
            Asked::Status => {
                let overview = Box::new(self.overview());
                Ok(Answer::Overview { overview })
            }
            Asked::Commit => report(self.put(Command::Approve).await?),
            Asked::Abort { reason } => {
                let reason = fit(&reason, LONGEST_REASON);
                report(self.put(|reply| Command::Reject { reason, reply }).await?)
            }
            Asked::Pause => {
                self.put(|reply| Command::Hold(Hold::Pause(reply))).await?.map(|()| Answer::Done)
            }
            Asked::Resume => {
                self.put(|reply| Command::Hold(Hold::Resume(reply))).await?.map(|()| Answer::Done)
            }
            Asked::History => {
                for report in self.reports() {
                    teller.tell(News::Report { report: Box::new(report) }).await;
                }
                let summary = Box::new(self.summary());
                teller.tell(News::Summary { summary }).await;
                Ok(Answer::Done)
            }
            Asked::Check => self.check(),
            Asked::Metrics => Ok(Answer::Text { text: self.metrics() }),
            _ => Err(Error::new(ErrorKind::Protocol, "this service does not know that command")),
        }
    }

    fn check(&self) -> Result<Answer> {
        if self.is_ready() {
            return Ok(Answer::Done);
        }
        let accepting = *self.accepting.borrow();
        Err(Error::new(ErrorKind::NotReady, format!("the service is not ready: {accepting}")))
    }

    /// Asks the service's task, and waits for its answer.
    async fn put<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
    ) -> Result<Result<T>> {
        let (reply, answer) = oneshot::channel();
        self.ask(command(reply)).await?;
        answer.await.map_err(|_| ended())
    }

    async fn upgrade_for(
        &self,
        wish: impl FnOnce((Owed, Option<oneshot::Sender<Started>>)) -> Wish,
        follow: Option<Teller>,
    ) -> Result<Answer> {
        let events = self.events.subscribe();
        let (taken, was_taken) = oneshot::channel();
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Upgrade(wish((reply, Some(taken))))).await?;
        let Ok(started) = was_taken.await else {
            return report(answer.await.map_err(|_| ended())?);
        };
        let Some(teller) = follow else { return Ok(Answer::Upgrade { started }) };
        if started == Started::Queued {
            teller.tell(News::Queued { owner: self.generation }).await;
        }
        self.tell_upgrade(events, answer, &teller).await
    }

    /// The program before this one, or the end of the upgrade that runs.
    async fn roll_back_for(
        &self,
        of: Option<Generation>,
        by: AskedBy,
        teller: &Teller,
    ) -> Result<Answer> {
        let events = self.events.subscribe();
        let (reply, answer) = oneshot::channel();
        self.ask(Command::RollBack { of, by, reply }).await?;
        self.tell_upgrade(events, answer, teller).await
    }

    /// Tells how an upgrade goes that was asked for, and its report, whatever its outcome.
    async fn tell_upgrade(
        &self,
        mut events: broadcast::Receiver<Event>,
        answer: oneshot::Receiver<Result<Report>>,
        teller: &Teller,
    ) -> Result<Answer> {
        let mut reports = Vec::new();
        let mut answer = std::pin::pin!(answer);
        let result = loop {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Ok(event) => self.pass_on(event, &mut reports, teller).await,
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Err(ended()),
                },
                result = &mut answer => break result.map_err(|_| ended())?,
            }
        };
        match result {
            Err(error) if error.kind() == ErrorKind::RolledBack => {
                while let Ok(event) = events.try_recv() {
                    self.pass_on(event, &mut reports, teller).await;
                }
                // The error begins with the name of the upgrade that it is about.
                let text = error.to_string();
                let ours = |report: &Report| text.starts_with(&format!("upgrade {}:", report.id));
                report(reports.into_iter().rev().find(ours).ok_or(error))
            }
            other => report(other),
        }
    }

    async fn pass_on(&self, event: Event, reports: &mut Vec<Report>, teller: &Teller) {
        match event {
            Event::UpgradePhase(phase) => {
                let probation = self.config.deadlines.probation;
                teller.tell(News::Phase { phase, probation }).await;
            }
            Event::UpgradeStarted(to) => {
                teller.tell(News::Started { from: self.generation, to }).await;
            }
            Event::UpgradeEnded(report) => reports.push(report),
            _ => {}
        }
    }

    /// The first upgrade that a generation after this one has run, or runs.
    async fn follow(&self, after: Generation, teller: &Teller) -> Result<Answer> {
        let mut events = self.events.subscribe();
        let found = self.reports().into_iter().find(|report| report.from > after);
        if let Some(found) = found {
            return report(Ok(found));
        }
        let status = self.status.borrow().clone();
        if !status.upgrading && !status.queued {
            let text = "the upgrade that was queued has not been run";
            return Err(Error::new(ErrorKind::NotNow, text));
        }
        let mut reports = Vec::new();
        loop {
            match events.recv().await {
                Ok(event) => self.pass_on(event, &mut reports, teller).await,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Err(ended()),
            }
            if let Some(found) = reports.pop() {
                return report(Ok(found));
            }
        }
    }

    async fn drain_for(&self, teller: &Teller) -> Result<Answer> {
        let mut progress = self.drain.watch();
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Hold(Hold::Drain(reply))).await?;
        let mut answer = std::pin::pin!(answer);
        loop {
            tokio::select! {
                biased;
                report = &mut answer => return drained(report.map_err(|_| ended())??),
                Ok(()) = progress.changed() => {
                    let progress = progress.borrow_and_update().clone();
                    teller.tell(News::Draining { progress }).await;
                }
            }
        }
    }

    async fn stop_for(&self, force: bool, teller: &Teller) -> Result<Answer> {
        let mut progress = self.drain.watch();
        let mut farewell = std::pin::pin!(self.farewell());
        let urgency = if force { Urgency::Force } else { Urgency::Once };
        self.ask(Command::Stop(urgency)).await?;
        loop {
            tokio::select! {
                biased;
                outcome = &mut farewell => return match outcome? {
                    // A successor had just committed, which has been told, or somebody took over,
                    // for whom a stop is the wish to hand over. To ask again would stop that one.
                    Outcome::Stopped(report) | Outcome::HandedOver(report) => drained(report),
                    Outcome::RolledBack { reason } => Err(Error::new(ErrorKind::NotNow, reason)),
                },
                Ok(()) = progress.changed() => {
                    let progress = progress.borrow_and_update().clone();
                    teller.tell(News::Draining { progress }).await;
                }
            }
        }
    }

    /// How this generation ends, just before it does.
    async fn farewell(&self) -> Result<Outcome> {
        let mut farewell = self.farewell.subscribe();
        let outcome = farewell.wait_for(Option::is_some).await.map_err(|_| ended())?.clone();
        outcome.ok_or_else(ended)
    }

    async fn watched_by(&self, teller: &Teller) -> Result<Answer> {
        let mut events = self.events.subscribe();
        let mut status = self.status.subscribe();
        let mut farewell = std::pin::pin!(self.farewell());
        loop {
            if let Err(passed_on) = self.answers() {
                // How the upgrade ended is this generation's to tell.
                let last = self.tell_last(&mut events, teller);
                let _ = tokio::time::timeout(FAREWELL, last).await;
                return Err(passed_on);
            }
            let overview = Box::new(self.overview());
            teller.tell(News::Overview { overview }).await;
            tokio::select! {
                biased;
                Ok(event) = events.recv() => {
                    teller.tell(News::Event { event: Box::new(event) }).await;
                }
                _ = &mut farewell => return Err(ended()),
                Ok(()) = status.changed() => {}
                () = tokio::time::sleep(REFRESH) => {}
            }
        }
    }

    /// All events up to the end of the upgrade that made this generation an elder.
    async fn tell_last(&self, events: &mut broadcast::Receiver<Event>, teller: &Teller) {
        while let Ok(event) = events.recv().await {
            let last = matches!(event, Event::UpgradeEnded(_));
            teller.tell(News::Event { event: Box::new(event) }).await;
            if last {
                return;
            }
        }
    }
}

/// Whether a command means the service, whichever generation owns it, and not what that generation
/// does just then.
fn follows_the_owner(command: &Asked) -> bool {
    matches!(command, Asked::Pause | Asked::Resume | Asked::Drain | Asked::RollBack { .. })
}

/// A relative path would mean what it leads to from the service's working directory.
fn absolute(program: &Path) -> Result<()> {
    if program.is_absolute() {
        return Ok(());
    }
    let text = format!("program {program:?}: name it by an absolute path");
    Err(Error::new(ErrorKind::Config, text))
}

async fn within(work: impl Future<Output = Result<Answer>>) -> Result<Answer> {
    let late = |_| Error::new(ErrorKind::Timeout, format!("it was not done within {SHORT:?}"));
    tokio::time::timeout(SHORT, work).await.map_err(late)?
}

fn report(result: Result<Report>) -> Result<Answer> {
    result.map(|report| Answer::Report { report: Box::new(report) })
}

fn drained(report: DrainReport) -> Result<Answer> {
    Ok(Answer::Drained { report: Box::new(report) })
}
