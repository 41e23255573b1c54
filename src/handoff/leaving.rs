//! A rejected successor on its way out.
//!
//! **Contract:** it is given its time to finish what it accepted, then ended, and reaped, whatever
//! the generation that rejected it does meanwhile.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::Result;
use crate::link::{LinkReceiver, LinkSender};
use crate::spawn::{Child, Exit};
use crate::wire::Message;

/// The task that watches it, and the exit status it will have.
pub(crate) struct Leaving {
    task: JoinHandle<()>,
    link: Option<LinkSender>,
    status: oneshot::Receiver<Exit>,
}

impl Leaving {
    /// How it ended, if that is known within `wait`.
    pub(crate) async fn status(&mut self, wait: Duration) -> Option<Exit> {
        tokio::time::timeout(wait, &mut self.status).await.ok()?.ok()
    }

    /// The task that ends when the process has, and the link to tell it more.
    pub(crate) fn into_parts(self) -> (JoinHandle<()>, Option<LinkSender>) {
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
    let task = tokio::spawn(async move {
        let pid = child.pid();
        let last_words = tokio::spawn(last_words(link));
        let exit = child.end(grace).await;
        tracing::info!(target: "heirloom::handoff", pid, exit = %exit, "the rejected successor ended");
        last_words.abort();
        // Nobody may be waiting for the status any more.
        let _ = tell.send(exit);
    });
    Leaving { task, link: sender, status }
}

/// A program that is still being started: it is ended as soon as it runs.
pub(crate) fn unborn<F>(spawning: F) -> Leaving
where
    F: Future<Output = Result<(Child, OwnedFd)>> + Send + 'static,
{
    let (tell, status) = oneshot::channel();
    let task = tokio::spawn(async move {
        if let Ok((child, _link)) = spawning.await {
            let _ = tell.send(child.end(Duration::ZERO).await);
        }
    });
    Leaving { task, link: None, status }
}

async fn last_words(link: Option<(LinkSender, LinkReceiver)>) {
    let Some((_sender, mut receiver)) = link else {
        return;
    };
    while let Ok(Some(envelope)) = receiver.recv().await {
        if let Message::Left { accepted } = envelope.message {
            tracing::info!(target: "heirloom::handoff", accepted, "the rejected successor finished what it had accepted");
        }
    }
    // The end of its process is what counts; keep our end open until then.
    std::future::pending::<()>().await;
}
