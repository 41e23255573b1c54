//! A rejected successor on its way out.
//!
//! **Contract:** it is given its time to finish what it accepted, then ended, and reaped, whatever
//! the generation that rejected it does meanwhile.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{Instrument, Span};

use crate::link::{LinkReceiver, LinkSender};
use crate::spawn::{Child, Exit};
use crate::task::Work;
use crate::wire::{Figures, Message};

/// The number of the pong that no ping asked for: the successor has stopped accepting. Pings are
/// numbered from one.
pub(crate) const STOPPED: u64 = 0;

/// One that has ended.
#[derive(Default)]
pub(crate) struct Left {
    /// 0 if it is not known.
    pub(crate) pid: i32,
    /// What it has served, if it said so.
    pub(crate) served: Option<Figures>,
}

/// The task that watches it, and the exit status it will have.
pub(crate) struct Leaving {
    task: JoinHandle<Left>,
    link: Option<LinkSender>,
    status: oneshot::Receiver<Exit>,
    figures: Option<oneshot::Receiver<Figures>>,
}

impl Leaving {
    /// How it ended, if that is known within `wait`.
    pub(crate) async fn status(&mut self, wait: Duration) -> Option<Exit> {
        tokio::time::timeout(wait, &mut self.status).await.ok()?.ok()
    }

    /// What it had served when it stopped accepting, if it says so within `wait`.
    pub(crate) async fn figures(&mut self, wait: Duration) -> Option<Figures> {
        tokio::time::timeout(wait, self.figures.as_mut()?).await.ok()?.ok()
    }

    /// The task that ends when the process has, and the link to tell it more.
    pub(crate) fn into_parts(self) -> (JoinHandle<Left>, Option<LinkSender>) {
        (self.task, self.link)
    }
}

/// Waits `grace` for the end of the process, then ends it. The link stays open until then, so that
/// the successor hears its last word and can tell what it finished.
pub(crate) fn watch(
    child: Child,
    link: Option<(LinkSender, LinkReceiver)>,
    grace: Duration,
) -> Leaving {
    let (tell, status) = oneshot::channel();
    let sender = link.as_ref().map(|(sender, _)| sender.clone());
    let (count, figures) = oneshot::channel();
    let figures = link.is_some().then_some(figures);
    let leaving = async move {
        let pid = child.pid();
        let (left, mut accepted) = oneshot::channel();
        let last_words = last_words(link, count, left).instrument(Span::current());
        let last_words = crate::task::spawn(last_words);
        let exit = child.end(grace).await;
        crate::log::info!(target: "heirloom::handoff", pid, exit = %exit, "the rejected successor ended");
        // Its last word may be in the link still, which ends with it.
        let accepted = tokio::time::timeout(LAST_WORD, &mut accepted).await;
        last_words.abort();
        // Nobody may be waiting for the status any more.
        let _ = tell.send(exit);
        Left { pid, served: accepted.ok().and_then(|served| served.ok()) }
    };
    let task = crate::task::spawn(leaving.instrument(Span::current()));
    Leaving { task, link: sender, status, figures }
}

/// How long the link of a process that has ended is read for what it said last.
const LAST_WORD: Duration = Duration::from_millis(100);

/// How long a program that is still being started is waited for. What is held up longer by a disk, or
/// by somebody who looks at it first, is ended whenever it runs, by its guard.
const UNBORN: Duration = Duration::from_secs(10);

/// A program that is still being started: if that comes to something, it is ended as soon as it runs.
pub(crate) fn unborn(starting: Work<'static, Option<(Child, OwnedFd)>>) -> Leaving {
    let (tell, status) = oneshot::channel();
    let task = crate::task::spawn(async move {
        let Ok(Some((child, _link))) = tokio::time::timeout(UNBORN, starting).await else {
            return Left::default();
        };
        let pid = child.pid();
        let _ = tell.send(child.end(Duration::ZERO).await);
        Left { pid, served: None }
    });
    Leaving { task, link: None, status, figures: None }
}

/// Reads what it says on its way out: what it had served when it stopped accepting, and that it
/// has finished.
async fn last_words(
    link: Option<(LinkSender, LinkReceiver)>,
    count: oneshot::Sender<Figures>,
    left: oneshot::Sender<Figures>,
) {
    let Some((_sender, mut receiver)) = link else {
        return;
    };
    let (mut count, mut left) = (Some(count), Some(left));
    let mut last = Figures::default();
    while let Ok(Some(envelope)) = receiver.recv().await {
        // Nobody may be waiting for either any more.
        match envelope.message {
            // The answer to an earlier ping may come first: it has another number.
            Message::Pong { sequence: STOPPED, figures } => {
                last = figures;
                let _ = count.take().map(|count| count.send(figures));
            }
            Message::Left { accepted } => {
                crate::log::info!(target: "heirloom::handoff", accepted, "the rejected successor finished what it had accepted");
                let _ = left.take().map(|left| left.send(Figures { accepted, ..last }));
            }
            _ => {}
        }
    }
    drop((count, left));
    // The end of its process is what counts; keep our end open until then.
    std::future::pending::<()>().await;
}
