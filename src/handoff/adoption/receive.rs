//! The dialogue up to 'adopted': all descriptors or none.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use tracing::Span;
use tracing::field::Empty;

use super::{Adoption, Inheritance, out_of_order, step};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::handoff::clock::{Clock, Lengths};
use crate::handoff::offer::{Received, Whole};
use crate::handoff::successor::{Action, Event, Plan, Say, Successor};
use crate::link::{self, Envelope, LinkReceiver, LinkSender};
use crate::report::Report;
use crate::report::queued::Queued;
use crate::spawn::Process;
use crate::sys::{pidfd, scm};
use crate::wire::{Failed, Hello, Message, SPOKEN, Welcome};

/// The first word over an inherited link: who we are. It is said before anything else is done, so
/// that the answer arrives while this process still builds its runtime.
///
/// # Errors
///
/// [`ErrorKind::Link`] if the link does not take it.
pub(crate) fn greet(link: BorrowedFd<'_>, version: &str) -> Result<()> {
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    let hello = Hello { protocol: SPOKEN, app_version: version.to_owned(), pid };
    let frame = Message::Hello(hello).frame(0)?;
    step("hello");
    let failed = || Error::new(ErrorKind::Link, "the link to the predecessor takes no hello");
    match scm::send(link, &frame, &[]) {
        Ok(sent) if sent == frame.len() => Ok(()),
        Ok(_) => Err(failed()),
        Err(error) => Err(failed().with_source(error)),
    }
}

/// The last word over an inherited link of a process that ends before it has a runtime.
pub(crate) fn regret(link: BorrowedFd<'_>, error: String) {
    // The link may be what failed; the predecessor then sees the end of this process.
    if let Ok(frame) = Message::Failed(Failed { error }).frame(0) {
        let _ = scm::send(link, &frame, &[]);
    }
}

/// The dialogue from the welcome to 'adopted', after the [greeting](greet).
///
/// # Errors
///
/// Whatever makes the handoff impossible; the predecessor has been told, and serves on.
pub(crate) async fn adopt(socket: OwnedFd, lengths: Lengths) -> Result<(Adoption, Inheritance)> {
    let (sender, mut receiver) = link::open(socket)?;
    let (machine, _) = Successor::new(Plan { enforceable: true });
    let (welcome, whole) = match receive(&mut receiver, lengths).await {
        Ok(received) => received,
        Err(error) => {
            let (_, actions) = machine.on(Event::Unusable(chain(&error)), None);
            tell(&sender, actions, lengths.commit).await;
            return Err(error);
        }
    };
    let span = span(&welcome, whole.predecessor.as_fd());
    span.in_scope(|| step("adopted"));
    let mut clock = Clock::new(lengths);
    clock.set_lengths(Lengths {
        probation: Duration::from_millis(welcome.probation_ms),
        silence: Duration::from_millis(welcome.silence_ms),
        ping: Duration::from_millis(welcome.ping_ms),
        gap: Duration::from_millis(welcome.gap_ms),
        ..lengths
    });
    let plan = Plan { enforceable: welcome.enforceable };
    let (machine, _) = machine.with_plan(plan).on(Event::Welcome, None);
    let (machine, actions) = machine.on(Event::Offered, None);
    tell(&sender, actions, lengths.commit).await;
    let adoption = Adoption {
        machine,
        clock,
        sender,
        receiver,
        link_ended: false,
        verdict: whole.verdict,
        process: Process::from_pidfd(whole.predecessor)?,
        process_ended: false,
        life: whole.life,
        elders: whole.elders,
        sessions: whole.sessions,
        predecessor: welcome.predecessor,
        queued: Queued::default(),
        sequence: 0,
        budget: welcome.budget,
        checks: super::expected::Checks::default(),
        taking: super::taking::Taking::default(),
        span,
    };
    let inheritance = Inheritance {
        generation: welcome.generation,
        sockets: whole.sockets,
        programs: whole.programs,
        failures: welcome.failures,
        paused: welcome.paused,
        journals: whole.journals,
    };
    Ok((adoption, inheritance))
}

/// The upgrade as the predecessor's log has it (`ReportBuilder`), seen from this side.
fn span(welcome: &Welcome, predecessor: BorrowedFd<'_>) -> Span {
    let (from, to) = (welcome.predecessor, welcome.generation);
    tracing::info_span!(
        target: "heirloom::handoff",
        "upgrade",
        id = %Report::id_of(&welcome.service, to),
        from = from.get(),
        to = to.get(),
        pid = pidfd::number(predecessor),
        version = %welcome.app_version,
        successor_pid = std::process::id(),
        successor_version = Empty,
    )
}

/// Says what the machine wants said before there is a task that listens. The link may be what
/// failed, or the predecessor may not read: it then learns it from our end, or by its deadline.
async fn tell(sender: &LinkSender, actions: Vec<Action>, deadline: Duration) {
    for action in actions {
        let message = match action {
            Action::Send(Say::Adopted) => Message::Adopted,
            Action::Send(Say::Failed(error)) => Message::Failed(Failed { error }),
            _ => continue,
        };
        let _ = tokio::time::timeout(deadline, sender.send(message, Vec::new())).await;
    }
}

async fn receive(receiver: &mut LinkReceiver, lengths: Lengths) -> Result<(Welcome, Whole)> {
    let late =
        |_| Error::new(ErrorKind::Timeout, "the predecessor did not send its whole offer in time");
    let welcome = tokio::time::timeout(lengths.hello, welcome(receiver)).await.map_err(late)??;
    step("welcome");
    let whole = tokio::time::timeout(lengths.adopt, whole_offer(receiver, welcome.descriptors))
        .await
        .map_err(late)??;
    Ok((welcome, whole))
}

async fn welcome(receiver: &mut LinkReceiver) -> Result<Welcome> {
    loop {
        match next(receiver).await?.message {
            Message::Welcome(welcome) => return Ok(welcome),
            Message::Unknown(_) => {}
            other => return Err(out_of_order(&other, "a welcome")),
        }
    }
}

async fn whole_offer(receiver: &mut LinkReceiver, announced: usize) -> Result<Whole> {
    let mut received = Received::default();
    loop {
        let envelope = next(receiver).await?;
        match envelope.message {
            Message::Offer(offer) => {
                if received.add(offer, envelope.descriptors) {
                    return received.finish(announced);
                }
            }
            Message::Unknown(_) => {}
            other => return Err(out_of_order(&other, "the offer")),
        }
    }
}

async fn next(receiver: &mut LinkReceiver) -> Result<Envelope> {
    let envelope = receiver.recv().await?.ok_or_else(|| {
        Error::new(ErrorKind::Link, "the predecessor went away before every descriptor was here")
    })?;
    match envelope.message {
        Message::Refuse(refuse) => Err(Error::new(
            ErrorKind::Predecessor,
            format!("the predecessor refused this successor: {}", refuse.reason),
        )),
        Message::RollBack { reason, .. } => Err(Error::new(
            ErrorKind::RolledBack,
            format!("the predecessor gave the handoff up: {reason}"),
        )),
        _ => Ok(envelope),
    }
}
