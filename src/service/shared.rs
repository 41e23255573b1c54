//! What the application, the operator's desk and the service's task share.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
#[cfg(feature = "metrics")]
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::events::Events;
use super::manager::Manager;
use super::survey::Survey;
use super::{Command, Holdings, Programs, ended};
use crate::config::Config;
use crate::control::Accepting;
use crate::drain::{Drain, DrainReport};
use crate::error::Result;
use crate::generation::Generation;
use crate::handoff::adoption::Turn;
use crate::handoff::upgrade::News;
use crate::hooks::Hooks;
use crate::inventory::Inventory;
use crate::name::Name;
use crate::report::file::{Entry, Writer};
use crate::report::journal::{Journal, Tally};
use crate::report::metrics::{self, Gauges};
use crate::report::queued::Queued;
use crate::report::totals::Totals;
use crate::report::{AskedBy, Drained, Report, Summary, UpgradePhase};
use crate::requests::Requests;
use crate::session::Sessions;
use crate::spawn::Program;
use crate::state::States;
use crate::status::{Event, Outcome, Role, Status};
use crate::task::Work;
use crate::verdict::{Decision, Verdict};
use crate::wire::Figures;

/// How long the end of this process waits for the journal's file.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What the application and the service's task share.
pub(crate) struct Shared {
    pub config: Config,
    pub service: Name,
    pub generation: Generation,
    pub sockets: Inventory,
    pub drain: Drain,
    pub requests: Requests,
    pub hooks: Hooks,
    pub states: States,
    pub sessions: Sessions,
    pub manager: Manager,
    pub programs: Programs,
    /// What the next upgrade starts.
    pub program: Program,
    pub commands: mpsc::Sender<Command>,
    pub status: watch::Sender<Status>,
    pub owner: watch::Sender<bool>,
    pub events: Events,
    pub turn: watch::Sender<Turn>,
    pub outcome: watch::Sender<Option<Outcome>>,
    pub journal: Journal,
    /// The newest generation whose upgrade the recorder of the `metrics` crate knows.
    #[cfg(feature = "metrics")]
    pub recorded: AtomicU64,
    /// The same as a file.
    pub journal_file: Option<Writer>,
    /// An upgrade is to be run by whoever owns afterwards.
    pub queued: Arc<Queued>,
    /// The application has said that it is ready.
    pub asked_ready: AtomicBool,
    /// Of the handoff that runs, or ran last.
    pub verdict: Mutex<Option<Arc<Verdict>>>,
    /// What is known of the other live generations.
    pub survey: Survey,
    /// What an operator wants.
    pub accepting: watch::Sender<Accepting>,
    /// Whether a load balancer should send new connections.
    pub ready: watch::Sender<bool>,
    /// How this generation ends, before anybody else is told.
    pub farewell: watch::Sender<Option<Outcome>>,
}

impl Shared {
    pub(super) fn new(
        config: Config,
        generation: Generation,
        holdings: Holdings,
        (commands, manager, program): (mpsc::Sender<Command>, Manager, Program),
    ) -> Result<Self> {
        let Holdings { sockets, drain, programs, journal } = holdings;
        let service = config.service_name()?;
        let file = config.steering.journal.clone();
        let journal_file = file.map(|file| Writer::new(file, service.as_str()));
        let accepting = if sockets.is_held() { Accepting::Paused } else { Accepting::Open };
        Ok(Self {
            status: watch::Sender::new(Status {
                previous: programs.previous_release(),
                ..Status::new(&service, &config.version, generation)
            }),
            owner: watch::Sender::new(false),
            service,
            generation,
            sockets,
            sessions: Sessions::new(drain.clone(), config.sessions()),
            states: States::new(config.states),
            drain,
            requests: Requests::new(),
            hooks: Hooks::default(),
            manager,
            programs,
            program,
            commands,
            events: Events::default(),
            turn: watch::Sender::new(Turn::Waiting),
            outcome: watch::Sender::new(None),
            journal,
            journal_file,
            #[cfg(feature = "metrics")]
            recorded: AtomicU64::new(generation.get().saturating_sub(1)),
            queued: Arc::default(),
            asked_ready: AtomicBool::new(false),
            verdict: Mutex::new(None),
            survey: Survey::default(),
            accepting: watch::Sender::new(accepting),
            ready: watch::Sender::new(false),
            farewell: watch::Sender::new(None),
            config,
        })
    }

    pub(crate) fn event(&self, event: Event) {
        self.events.tell(event);
    }

    /// An upgrade was asked for that cannot begin now: whoever owns afterwards runs it.
    pub(crate) fn remember_upgrade(&self, by: AskedBy) {
        self.queued.remember(by);
        self.status.send_modify(|status| status.queued = true);
        self.event(Event::UpgradeQueued);
    }

    /// Nobody is to run the upgrade that was remembered; returns whether there was one.
    pub(crate) fn forget_upgrade(&self) -> bool {
        self.status.send_modify(|status| status.queued = false);
        self.queued.take().is_some()
    }

    /// An upgrade has ended: it is remembered and told.
    pub(crate) fn upgrade_ended(&self, report: &Report) {
        self.journal.record(report);
        self.write_down(&Entry::Upgrade(Box::new(report.clone())));
        self.event(Event::UpgradeEnded(report.clone()));
    }

    /// The drain after the upgrade to this generation is over.
    pub(super) fn upgrade_drained(&self, to: Generation, report: &DrainReport) {
        let drain = Drained::new(report);
        self.journal.drained(to, &drain);
        self.write_down(&Entry::Drained { to, drain });
    }

    pub(super) fn write_down(&self, entry: &Entry) {
        if let Some(file) = &self.journal_file {
            file.write(entry);
        }
    }

    /// What is written down is in the file, or it has had time enough to be.
    pub(super) async fn written_down(&self) {
        if let Some(file) = &self.journal_file {
            file.written(LAST_LINES).await;
        }
    }

    /// What all upgrades of the service's life were like.
    pub(crate) fn summary(&self) -> Summary {
        self.journal.totals().0.summary()
    }

    /// The reports of the last upgrades, the oldest first.
    pub(crate) fn reports(&self) -> Vec<Report> {
        self.journal.reports()
    }

    /// Writes down what this generation has served until now.
    pub(crate) fn note_tally(&self) {
        self.requests.remember();
        self.journal.merge(self.generation, self.tally());
    }

    /// What a successor that was taken back has served in all, if it has said so.
    pub(super) fn note_served(&self, generation: Generation, served: Option<Figures>) {
        if let Some(Figures { accepted, succeeded, failed, .. }) = served {
            let tally = Tally { accepted, succeeded, failed, ..Tally::default() };
            self.journal.merge(generation, tally);
        }
    }

    /// What it had served when it was taken back: those requests have ended, and it may die.
    pub(super) fn note_requests(&self, generation: Generation, served: Figures) {
        let Figures { succeeded, failed, .. } = served;
        if succeeded > 0 || failed > 0 {
            self.journal.merge(generation, Tally { succeeded, failed, ..Tally::default() });
        }
    }

    /// What a successor is to know of the service's life. Without it the handoff goes on.
    pub(super) fn journals(&self, elders: &[Generation]) -> Vec<(Generation, Arc<OwnedFd>)> {
        self.note_tally();
        self.journal.hand_on(self.generation, elders).unwrap_or_else(|error| {
            crate::log::warn!(error = %error.chain(), "counts begin anew with the successor");
            Vec::new()
        })
    }

    pub(super) fn tally(&self) -> Tally {
        let (succeeded, failed) = self.requests.totals();
        Tally { accepted: self.drain.accepted(), succeeded, failed, ..Tally::default() }
    }

    /// Figures of the service's whole life, in the OpenMetrics text format.
    pub(crate) fn metrics(&self) -> String {
        let (gauges, totals, tally) = self.figures();
        metrics::render(&gauges, &totals, &tally)
    }

    /// What the figures are made of.
    pub(crate) fn figures(&self) -> (Gauges, Totals, Tally) {
        self.note_tally();
        let (totals, tally) = self.journal.totals();
        let overview = self.overview();
        let mut active = BTreeMap::new();
        let views = overview.generations.iter();
        for (listener, count) in views.flat_map(|view| &view.by_listener) {
            *active.entry(listener.to_string()).or_insert(0) += count;
        }
        let gauges = Gauges {
            service: self.service.to_string(),
            version: self.config.version.clone(),
            generation: self.generation.get(),
            generations: overview.generations.len() as u64,
            ready: overview.ready,
            upgrading: overview.upgrade.is_some(),
            active: active.into_iter().collect(),
        };
        (gauges, totals, tally)
    }

    /// Whether this generation owns the service, as far as can be known now: the verdict is read,
    /// so a process that slept through it learns of it before it acts.
    pub(crate) fn owns(&self) -> bool {
        if self.status.borrow().role != Role::Owner {
            return false;
        }
        let verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        let decided = verdict.as_ref().map(|verdict| verdict.read());
        !matches!(decided, Some(Ok(Some(Decision::Committed))))
    }

    pub(crate) fn in_probation(&self) -> bool {
        self.status.borrow().phase == Some(UpgradePhase::Probation)
    }

    /// What becomes known while an upgrade runs.
    pub(super) fn heard(&self, news: News) {
        match news {
            News::Verdict(verdict) => self.set_verdict(Some(verdict)),
            News::Phase(phase) => {
                self.survey.phase(phase);
                self.status.send_modify(|status| {
                    status.phase = Some(phase);
                    status.not_yet = None;
                });
                self.event(Event::UpgradePhase(phase));
            }
            News::Process(pid) => self.survey.successor_process(pid),
            News::Version(version) => self.survey.successor_version(version),
            News::Served(figures) => self.survey.successor_serves(figures.active),
            News::Asked(by) => self.remember_upgrade(by),
            News::NotYet(why) => self.set_not_yet(why),
            News::Health(ailing) => self.status.send_modify(|status| status.ailing = ailing),
        }
    }

    pub(super) fn set_verdict(&self, verdict: Option<Arc<Verdict>>) {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = verdict;
    }

    pub(crate) fn set_not_yet(&self, why: String) {
        self.status.send_modify(|status| status.not_yet = Some(why));
    }

    pub(crate) fn set_role(&self, role: Role) {
        self.status.send_if_modified(|status| {
            let changed = status.role != role;
            status.role = role;
            changed
        });
        let owns = role == Role::Owner;
        self.owner.send_if_modified(|owner| std::mem::replace(owner, owns) != owns);
        self.update_ready();
    }

    /// Waits for a value that the service's task sets. The senders live here and not in the task,
    /// so its end (of its runtime, say) shows elsewhere.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stopping`] if the task has ended without it.
    pub(crate) async fn until<T: Clone>(
        &self,
        value: &mut watch::Receiver<T>,
        meets: impl FnMut(&T) -> bool,
    ) -> Result<T> {
        tokio::select! {
            biased;
            value = value.wait_for(meets) => value.map(|value| value.clone()).map_err(|_| ended()),
            () = self.commands.closed() => Err(ended()),
        }
    }

    /// Asks the service's task.
    pub(crate) fn ask(&self, command: Command) -> Work<'_, Result<()>> {
        Box::pin(async { self.commands.send(command).await.map_err(|_| ended()) })
    }
}
