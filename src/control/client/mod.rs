//! The client: a method for each command.

mod exchange;
#[cfg(test)]
mod tests;
mod turn;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use self::exchange::pause;
pub(crate) use self::turn::{Asking, ask_for_turn, is_answered};
pub use self::watch::Watch;
use super::message::{Answer, Command, News, Started};
use super::path;
use super::view::Overview;
use crate::drain::DrainReport;
use crate::error::{Error, ErrorKind, Result};
use crate::generation::Generation;
use crate::report::{Report, Summary};

/// How long an answer may take that does not depend on an upgrade or a drain.
const SHORT: Duration = Duration::from_secs(10);
/// How long an upgrade or a drain is waited for.
const LONG: Duration = Duration::from_secs(600);
/// A deadline beyond it is this one: what is never reached, and an instant can still be told.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// Steers a service over its control socket.
///
/// Each method connects anew, so a client outlives any number of upgrades, and may be used from
/// several tasks. Nothing that was asked for is taken back when a future is dropped or the process
/// ends: an upgrade goes on.
///
/// # Errors
///
/// All methods: [`ErrorKind::NobodyThere`] if nobody answers at the path,
/// [`ErrorKind::Credentials`] if this user may not give commands, [`ErrorKind::Timeout`] if there
/// is no answer in time, [`ErrorKind::Protocol`] if the two sides do not understand each other,
/// [`ErrorKind::Link`] if the service goes away in the middle, and what the command itself meets.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
    short: Duration,
    long: Duration,
}

/// An upgrade to be asked for.
#[derive(Clone, Debug, Default)]
#[must_use = "hand it to Client::upgrade"]
pub struct Upgrade {
    executable: Option<PathBuf>,
    when: When,
}

/// What shall happen if another upgrade is running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum When {
    /// Whoever owns afterwards runs this one.
    #[default]
    Queued,
    /// [`ErrorKind::Busy`].
    AtOnce,
}

/// How a service is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// It drains, up to its deadline, and ends.
    Gracefully,
    /// Connections that are left are cut at once.
    Force,
}

impl Upgrade {
    /// To the program that the service's configuration says: the same path, as a rule.
    pub fn new() -> Self {
        Self::default()
    }

    /// To this program instead, an absolute path. Whoever may ask for it runs it as the service's
    /// user.
    pub fn executable(mut self, path: impl Into<PathBuf>) -> Self {
        self.executable = Some(path.into());
        self
    }

    /// If another upgrade is running. Default: [`When::Queued`].
    pub fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }
}

impl Client {
    /// Of the service whose control socket is at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), short: SHORT, long: LONG }
    }

    /// Of the service of this name, whose socket is at the default place:
    /// `$RUNTIME_DIRECTORY/NAME.sock`, else `$XDG_RUNTIME_DIR/heirloom/NAME.sock`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if neither variable is set, or if the name is no file name.
    pub fn of(service: &str) -> Result<Self> {
        Ok(Self::new(path::default_path(service)?))
    }

    /// How long an answer may take: 10 s by default, and 10 minutes where an upgrade or a drain
    /// is waited for. This sets both.
    #[must_use]
    pub fn timeout(mut self, deadline: Duration) -> Self {
        let deadline = deadline.min(LONGEST);
        self.short = deadline;
        self.long = deadline;
        self
    }

    /// Where the socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The service as it stands.
    ///
    /// # Errors
    ///
    /// As [all methods](Self).
    pub async fn status(&self) -> Result<Overview> {
        match self.ask(Command::Status).await? {
            Answer::Overview { overview } => Ok(*overview),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for an upgrade, and returns when it has begun or is queued.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] with [`When::AtOnce`]; [`ErrorKind::Stopping`] if the service stops.
    pub async fn upgrade(&self, upgrade: Upgrade) -> Result<Started> {
        match self.ask(upgrade.command(Wait::No)).await? {
            Answer::Upgrade { started } => Ok(started),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for an upgrade, tells `news` how it goes, and returns its report, whatever the outcome:
    /// [`Report::outcome`] says whether it committed.
    ///
    /// A queued upgrade is followed to whichever generation runs it.
    ///
    /// # Errors
    ///
    /// As for [`upgrade`](Self::upgrade); [`ErrorKind::Link`] if the generation that ran the upgrade
    /// died in the middle of it: [`status`](Self::status) says who owns then.
    pub async fn upgrade_and_wait(
        &self,
        upgrade: Upgrade,
        mut news: impl FnMut(&News),
    ) -> Result<Report> {
        let deadline = Instant::now() + self.long;
        let mut command = upgrade.command(Wait::Yes);
        let mut last_owner = None;
        loop {
            let answer = self
                .exchange(command.clone(), deadline, |told| {
                    match told {
                        News::Started { from, .. } => last_owner = Some(*from),
                        News::Queued { owner } => last_owner = Some(*owner),
                        _ => {}
                    }
                    news(told);
                })
                .await;
            match answer {
                Ok(Answer::Report { report }) => return Ok(*report),
                Ok(other) => return Err(unexpected(&other)),
                Err(error) if error.kind() == ErrorKind::PassedOn => {
                    if let Some(after) = last_owner {
                        command = Command::Follow { after };
                    }
                    pause(deadline, self.long).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Commits the upgrade whose successor is in probation; returns its report.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotNow`] if no successor is in probation, [`ErrorKind::RolledBack`] if it fails
    /// in this moment.
    pub async fn commit(&self) -> Result<Report> {
        report(self.ask(Command::Commit).await?)
    }

    /// Ends the upgrade that runs without a commit; returns its report.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotNow`] if no upgrade runs or if it has just committed.
    pub async fn abort(&self, reason: impl Into<String>) -> Result<Report> {
        report(self.ask(Command::Abort { reason: reason.into() }).await?)
    }

    /// Takes the last release back: an upgrade that runs is ended, else the program that ran before
    /// is started as the next generation. Tells `news` how that goes, and returns its report,
    /// whatever its outcome.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotNow`] if no other program ran before this one.
    pub async fn roll_back(&self, news: impl FnMut(&News)) -> Result<Report> {
        report(self.within(self.long, Command::RollBack { of: None }, news).await?)
    }

    /// As [`roll_back`](Self::roll_back), but only if `generation` is the one whose release is to go:
    /// the successor of the upgrade that runs, else the owner. Who presses twice rolls back once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotNow`] also if another generation is the newest.
    pub async fn roll_back_of(
        &self,
        generation: Generation,
        news: impl FnMut(&News),
    ) -> Result<Report> {
        let of = Some(generation);
        report(self.within(self.long, Command::RollBack { of }, news).await?)
    }

    /// Takes new connections no longer: they wait in the backlog. It outlives upgrades, until
    /// [`resume`](Self::resume).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] while an upgrade runs, [`ErrorKind::Stopping`] if the service stops.
    pub async fn pause(&self) -> Result<()> {
        done(self.ask(Command::Pause).await?)
    }

    /// Accepts again, and is ready again, after [`pause`](Self::pause) or [`drain`](Self::drain).
    ///
    /// # Errors
    ///
    /// As for [`pause`](Self::pause).
    pub async fn resume(&self) -> Result<()> {
        done(self.ask(Command::Resume).await?)
    }

    /// Takes the service out of rotation, and lets the process stay: it says that it is not ready,
    /// accepts for the time that load balancers need to notice, pauses, and asks every connection
    /// to go, with the deadlines of any drain. Returns what became of the connections.
    /// [`resume`](Self::resume) takes it back, at any time.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] while an upgrade runs, [`ErrorKind::Stopping`] if the service stops,
    /// [`ErrorKind::NotNow`] if somebody resumed it in the middle.
    pub async fn drain(&self, mut news: impl FnMut(&News)) -> Result<DrainReport> {
        drained(self.within(self.long, Command::Drain, &mut news).await?)
    }

    /// Stops the service, tells `news` how its drain goes, and returns when the generation ends that
    /// was asked. Older generations may still drain, and so may a newer one, if it committed in the
    /// moment of the stop: it has been told to stop too. While a process
    /// [takes over](crate::TakeOver) a stop means 'hand over now', and that process serves on.
    ///
    /// # Errors
    ///
    /// As [all methods](Self).
    pub async fn stop(&self, how: Stop, mut news: impl FnMut(&News)) -> Result<DrainReport> {
        let force = how == Stop::Force;
        drained(self.within(self.long, Command::Stop { force }, &mut news).await?)
    }

    /// The reports of the last upgrades, over generations, the oldest first.
    ///
    /// # Errors
    ///
    /// As [all methods](Self).
    pub async fn history(&self) -> Result<Vec<Report>> {
        Ok(self.history_and_summary().await?.0)
    }

    /// The reports of the last upgrades, and what all upgrades of the service's life were like.
    ///
    /// # Errors
    ///
    /// As [all methods](Self).
    pub async fn history_and_summary(&self) -> Result<(Vec<Report>, Summary)> {
        let (mut reports, mut all) = (Vec::new(), Summary::default());
        let take = |news: &News| match news {
            News::Report { report } => reports.push(Report::clone(report)),
            News::Summary { summary } => all = **summary,
            _ => {}
        };
        done(self.within(self.short, Command::History, take).await?)?;
        Ok((reports, all))
    }

    /// Figures in the OpenMetrics text format.
    ///
    /// # Errors
    ///
    /// As [all methods](Self).
    pub async fn metrics(&self) -> Result<String> {
        match self.ask(Command::Metrics).await? {
            Answer::Text { text } => Ok(text),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether the service is ready for new connections: an owner answers, accepts, and does not
    /// drain.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotReady`] with the reason if it is not.
    pub async fn check(&self) -> Result<()> {
        done(self.ask(Command::Check).await?)
    }

    /// What happens from now on: the service as it stands whenever that changes, and at least every
    /// second, and events between.
    ///
    /// # Errors
    ///
    /// As [all methods](Self).
    pub async fn watch(&self) -> Result<Watch> {
        let deadline = Instant::now() + self.short;
        let stream = self.send(Command::Watch, deadline).await?;
        Ok(Watch { client: self.clone(), stream })
    }

    async fn ask(&self, command: Command) -> Result<Answer> {
        self.within(self.short, command, |_| {}).await
    }
}

enum Wait {
    Yes,
    No,
}

impl Upgrade {
    fn command(&self, wait: Wait) -> Command {
        Command::Upgrade {
            executable: self.executable.clone(),
            unless_busy: self.when == When::AtOnce,
            wait: matches!(wait, Wait::Yes),
        }
    }
}

fn report(answer: Answer) -> Result<Report> {
    match answer {
        Answer::Report { report } => Ok(*report),
        other => Err(unexpected(&other)),
    }
}

fn drained(answer: Answer) -> Result<DrainReport> {
    match answer {
        Answer::Drained { report } => Ok(*report),
        other => Err(unexpected(&other)),
    }
}

fn done(answer: Answer) -> Result<()> {
    match answer {
        Answer::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(answer: &Answer) -> Error {
    let text = format!("control socket: an answer to another question: {answer:?}");
    Error::new(ErrorKind::Protocol, text)
}
