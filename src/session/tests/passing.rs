//! P6: a generation that hands over while its predecessor's sessions still come passes them on.

use tokio::sync::Notify;
use tokio::time::Instant;

use super::*;

const MANY: usize = 300;

/// Three generations; the one in the middle gives on what it gets once it drains.
fn three() -> (Side, Side, Side, Owner) {
    let (first, middle, process) = connected();
    let last = Side::new();
    let (ours, theirs) = channel();
    middle.sessions.send_to(ours, process.process());
    last.sessions.receive_from(theirs);
    let onward = middle.sessions.clone();
    let serve = handler(move |session: Session| {
        let onward = onward.clone();
        async move {
            session.guard().clone().reached(crate::drain::DrainPhase::LameDuck).await;
            onward.hand_off(session).await.is_ok()
        }
    });
    let _ = middle.sessions.register(name("chat"), None, 1..=2, serve);
    (first, middle, last, process)
}

#[tokio::test]
async fn what_still_comes_when_its_owner_hands_over_goes_on_to_the_next() {
    let (first, middle, last, _process) = three();
    let mut came = last.takes("chat");
    let (hurry, settings) = (Notify::new(), DrainSettings::default());
    let arrived = middle.sessions.pass_on();
    let drains =
        middle.drain.run_until_empty_after(arrived, &settings, crate::drain::forced(&hurry));
    let gives = async {
        for _ in 0..MANY {
            let (session, mut client) = first.session("chat");
            soon(first.sessions.hand_off(session)).await.unwrap();
            // The middle is empty again and again, and does not end for that.
            let mut session = soon(came.recv()).await.unwrap();
            talks(&mut session, &mut client).await;
        }
    };
    let (report, ()) = soon(async { tokio::join!(drains, gives) }).await;
    assert_eq!((report.moved, report.drained, report.cut_count), (MANY as u64, 0, 0));
    let (session, _client) = first.session("chat");
    let (_session, reason) = declined(soon(first.sessions.hand_off(session)).await);
    assert_eq!(reason, "the successor takes no more sessions");
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_a_predecessor_that_gives_nothing() {
    let hurry = Notify::new();
    let settings = DrainSettings { deadline: Duration::from_secs(3_600), ..Default::default() };
    let began = Instant::now();
    let drained = async |side: &Side| {
        let arrived = side.sessions.pass_on();
        side.drain.run_until_empty_after(arrived, &settings, crate::drain::forced(&hurry)).await
    };
    // Without a predecessor, and with one whose sessions nobody here takes.
    drained(&Side::new()).await;
    let (first, middle, _process) = connected();
    drained(&middle).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    drop(first);
    // With one that has nothing to give.
    let (_first, middle, _last, _process) = three();
    drained(&middle).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_drain_that_is_hurried_takes_no_more() {
    let (first, middle, _last, _process) = three();
    let (hurry, settings) = (Notify::new(), DrainSettings::default());
    hurry.notify_one();
    let arrived = middle.sessions.pass_on();
    let report =
        middle.drain.run_until_empty_after(arrived, &settings, crate::drain::forced(&hurry)).await;
    assert!(report.hurried);
    let (session, _client) = first.session("chat");
    let (_session, reason) = declined(soon(first.sessions.hand_off(session)).await);
    assert_eq!(reason, "the successor takes no more sessions");
}

/// The one before has nothing now, and does not know yet what its own predecessor has.
#[tokio::test]
async fn whoever_may_still_get_some_is_waited_for() {
    let (first, middle, last, _process) = three();
    let mut came = last.takes("chat");
    middle.drain.advance(crate::drain::DrainPhase::LameDuck);
    let mut passes = std::pin::pin!(last.sessions.pass_on());
    let long = Duration::from_millis(1_200);
    assert!(tokio::time::timeout(long, &mut passes).await.is_err(), "they were given up");
    let (session, mut client) = first.session("chat");
    soon(first.sessions.hand_off(session)).await.unwrap();
    let mut session = soon(came.recv()).await.unwrap();
    talks(&mut session, &mut client).await;
    // And no longer than that.
    middle.sessions.stop_receiving();
    soon(passes).await;
}

/// A long queue of a slow predecessor is no reason to close what stands in it.
#[tokio::test]
async fn whoever_said_that_others_wait_is_waited_for() {
    // Whatever the deadline is.
    for deadline in [Duration::from_secs(20), Duration::MAX] {
        waits_for_others(Side::with(deadline)).await;
    }
}

async fn waits_for_others(middle: Side) {
    let mut came = middle.takes("chat");
    let (ours, theirs) = channel();
    middle.sessions.receive_from(theirs);
    let (first, mut answers) = link::open(ours).unwrap();
    let give = async |number, more| {
        let (kind, listener) = (name("chat"), name("main"));
        let session = SessionRecord {
            kind,
            version: 1,
            listener,
            peer: None,
            name: None,
            state: 0,
            read_ahead: 0,
        };
        let items = vec![session];
        let sessions = wire::Sessions { first: number, items, bytes: None, more };
        let (stream, client) = StdStream::pair().unwrap();
        let descriptors = vec![Arc::new(stream.into())];
        first.send(Message::Sessions(sessions), descriptors).await.unwrap();
        client
    };
    assert_eq!(soon(answers.recv()).await.unwrap().unwrap().message, Message::SessionsOpen);
    let _one = give(0, true).await;
    let _here = soon(came.recv()).await.unwrap();
    let mut passes = std::pin::pin!(middle.sessions.pass_on());
    let long = Duration::from_millis(1_200);
    assert!(tokio::time::timeout(long, &mut passes).await.is_err(), "the others were given up");
    let _other = give(1, false).await;
    let _here_too = soon(came.recv()).await.unwrap();
    soon(passes).await;
}
