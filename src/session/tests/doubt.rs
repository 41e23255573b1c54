//! What is in doubt when an end goes away, at every moment at which it can; the other end is
//! played by hand.

use std::os::fd::AsFd;

use tokio::sync::oneshot;

use super::*;
use crate::link::tests::in_a_process_of_its_own;
use crate::session::sender::{Leaving, Sender};
use crate::session::turns::Turns;
use crate::sys::scm;

/// The owner's end, by hand.
struct ByHand {
    sender: LinkSender,
    receiver: LinkReceiver,
}

impl ByHand {
    fn new(channel: OwnedFd) -> Self {
        let (sender, receiver) = link::open(channel).unwrap();
        Self { sender, receiver }
    }

    async fn say(&self, message: Message) {
        self.sender.send(message, Vec::new()).await.unwrap();
    }

    async fn takes(&self, number: u64) {
        let taken = vec![number];
        self.say(Message::SessionsAnswered(SessionsAnswered { taken, declined: vec![] })).await;
    }

    /// The next sessions: the number of the first, and how many.
    async fn hears(&mut self) -> (u64, usize, Vec<OwnedFd>) {
        loop {
            let envelope = soon(self.receiver.recv()).await.unwrap().unwrap();
            let Message::Sessions(sessions) = envelope.message else { panic!() };
            // Without any it only says whether others may come.
            if !sessions.items.is_empty() {
                return (sessions.first, sessions.items.len(), envelope.descriptors);
            }
        }
    }
}

/// An elder whose owner is played, with so much patience.
fn elder(deadline: Duration) -> (Side, ByHand, Owner) {
    let (elder, process) = (Side::with(deadline), Owner::new());
    let (ours, theirs) = channel();
    elder.sessions.send_to(ours, process.process());
    (elder, ByHand::new(theirs), process)
}

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn nothing_is_sent_to_an_owner_that_has_not_spoken() {
    for speaks in [false, true] {
        let (elder, owner, _process) = elder(SHORT);
        let (session, mut client) = elder.session("chat");
        // An older release closes what it does not know.
        let kept = speaks.then_some(owner);
        let (mut session, _) = declined(soon(elder.sessions.hand_off(session)).await);
        talks(&mut session, &mut client).await;
        if let Some(mut owner) = kept {
            assert!(soon(owner.receiver.recv()).await.unwrap().is_none(), "nothing was sent");
        }
    }
}

/// P6. Death before the acknowledgement: it goes on here; after it: it is gone.
#[tokio::test]
async fn an_owner_that_dies_has_what_it_acknowledged_and_nothing_else() {
    for acknowledged in [false, true] {
        for dies_first in [false, true] {
            let (elder, mut owner, mut process) = elder(PATIENCE);
            owner.say(Message::SessionsOpen).await;
            let (session, mut client) = elder.session("chat");
            let play = async {
                let (number, count, descriptors) = owner.hears().await;
                assert_eq!((number, count, descriptors.len()), (0, 1, 1));
                if acknowledged {
                    owner.takes(number).await;
                }
                if dies_first {
                    process.dies();
                }
                drop((owner, descriptors));
                process.dies();
            };
            let moved = elder.sessions.hand_off(session);
            let (result, ()) = soon(async { tokio::join!(moved, play) }).await;
            if acknowledged {
                result.unwrap();
                assert_eq!(client.read(&mut [0]).unwrap(), 0, "this side has let go");
            } else {
                let (mut session, reason) = declined(result);
                assert_eq!(reason, "the successor died before it took it");
                talks(&mut session, &mut client).await;
            }
        }
    }
}

/// An elder's sender with a queue of two, whose owner is played.
struct Direct {
    elder: Side,
    queue: mpsc::Sender<Leaving>,
    turns: Turns,
    /// Ends with the sender.
    sending: JoinSet<()>,
}

impl Direct {
    fn new(deadline: Duration) -> (Self, ByHand, Owner) {
        let (elder, process) = (Side::new(), Owner::new());
        let (ours, theirs) = channel();
        let (queue, leaving) = mpsc::channel(2);
        let (link, turns) = (link::open(ours).unwrap(), Turns::new(1));
        let mut sending = JoinSet::new();
        let process_ = process.process();
        sending.spawn(Sender::new(link, process_, leaving, turns.clone(), None, deadline).run());
        (Self { elder, queue, turns, sending }, ByHand::new(theirs), process)
    }

    /// A session as it is queued, where its outcome comes, and its client.
    fn leaving(&self) -> (Leaving, oneshot::Receiver<Result<(), NotMoved>>, StdStream) {
        let (Session { stream, about }, client) = self.elder.session("chat");
        let (stream, (reply, settled)) = (stream.into_fd().unwrap(), oneshot::channel());
        (Leaving { about, stream, reply }, settled, client)
    }

    async fn ends(mut self) {
        soon(self.sending.join_next()).await.unwrap().unwrap();
    }
}

/// P6. Whoever hands it over has a place in the queue before it is there.
#[tokio::test]
async fn a_session_that_is_queued_as_the_channel_ends_stays_here() {
    let (direct, owner, _process) = Direct::new(PATIENCE);
    let place = direct.queue.reserve().await.unwrap();
    drop(owner);
    soon(direct.queue.closed()).await;
    let (leaving, settled, mut client) = direct.leaving();
    place.send(leaving);
    let (mut session, _) = declined(soon(settled).await.unwrap());
    talks(&mut session, &mut client).await;
    direct.ends().await;
}

/// However long somebody holds a place in the queue who does not come to use it.
#[tokio::test]
async fn what_is_in_doubt_waits_for_nobody_who_is_about_to_hand_over() {
    for dies in [false, true] {
        let (direct, mut owner, mut process) =
            Direct::new(if dies { PATIENCE } else { 10 * SHORT });
        let place = direct.queue.reserve().await.unwrap();
        owner.say(Message::SessionsOpen).await;
        let (leaving, settled, mut client) = direct.leaving();
        direct.queue.send(leaving).await.unwrap();
        let (_, _, descriptors) = owner.hears().await;
        drop(owner);
        soon(direct.queue.closed()).await;
        if dies {
            process.dies();
            let (mut session, reason) = declined(soon(settled).await.unwrap());
            assert_eq!(reason, "the successor died before it took it");
            talks(&mut session, &mut client).await;
        } else {
            let lost = soon(settled).await.unwrap();
            assert!(matches!(lost, Err(NotMoved::Lost { .. })), "{lost:?}");
        }
        drop((place, descriptors));
        direct.ends().await;
    }
}

#[test]
fn what_cannot_be_sent_keeps_nothing_behind_it_waiting() {
    in_a_process_of_its_own("session::tests::doubt::with_no_descriptor_for_states");
}

#[tokio::test]
#[ignore = "started with a low limit by the test above"]
async fn with_no_descriptor_for_states() {
    let (elder, owner, _process) = elder(PATIENCE);
    let (mut moves, mut clients) = (JoinSet::new(), Vec::new());
    for _ in 0..3 {
        // Each is a frame of its own.
        let (mut session, client) = elder.session("chat");
        session.set_state(vec![7; 5 << 20]);
        clients.push(client);
        let sessions = elder.sessions.clone();
        moves.spawn(async move { sessions.hand_off(session).await });
    }
    let taken: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/").ok()).collect();
    owner.say(Message::SessionsOpen).await;
    while let Some(moved) = soon(moves.join_next()).await {
        let (session, reason) = declined(moved.unwrap());
        assert!(reason.contains("Too many open files"), "{reason}");
        assert_eq!(session.state().len(), 5 << 20);
    }
    drop((taken, clients));
}

/// Whoever was announced and stays after all is not waited for.
#[tokio::test]
async fn others_that_do_not_come_are_called_off() {
    let (direct, mut owner, _process) = Direct::new(PATIENCE);
    let wishes = [direct.turns.wish(), direct.turns.wish()];
    owner.say(Message::SessionsOpen).await;
    let (leaving, settled, _client) = direct.leaving();
    direct.queue.send(leaving).await.unwrap();
    let mut said = Vec::new();
    let mut hears = async || {
        let envelope = soon(owner.receiver.recv()).await.unwrap().unwrap();
        let Message::Sessions(sessions) = envelope.message else { panic!() };
        said.push(sessions.more);
        sessions.items.len()
    };
    while hears().await == 0 {}
    drop(wishes);
    assert_eq!(hears().await, 0);
    assert!(said.pop().is_some_and(|more| !more), "they are called off");
    assert!(said.iter().all(|more| *more), "they were announced: {said:?}");
    owner.takes(0).await;
    soon(settled).await.unwrap().unwrap();
    let Direct { queue, sending, elder, turns } = direct;
    drop(queue);
    // Everything has been said.
    assert!(soon(owner.receiver.recv()).await.unwrap().is_none());
    drop((sending, elder, turns));
}

/// A closed channel is no death: the owner may be about to begin.
#[tokio::test]
async fn an_owner_that_lives_and_says_nothing_keeps_what_is_in_doubt() {
    for closes in [false, true] {
        let (elder, mut owner, process) = elder(SHORT);
        owner.say(Message::SessionsOpen).await;
        let (session, mut client) = elder.session("chat");
        let play = async {
            let (_, _, descriptors) = owner.hears().await;
            (descriptors, (!closes).then_some(owner))
        };
        let moved = elder.sessions.hand_off(session);
        let (result, (descriptors, owner)) = soon(async { tokio::join!(moved, play) }).await;
        assert!(matches!(result, Err(NotMoved::Lost { .. })), "{result:?}");
        assert_eq!(elder.drain.active(), 0);
        // Nobody but the owner can talk to the client now.
        drop(descriptors);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        let (session, _client) = elder.session("chat");
        drop(declined(soon(elder.sessions.hand_off(session)).await));
        // A late answer changes nothing.
        if let Some(owner) = owner {
            let late = SessionsAnswered { taken: vec![0], declined: vec![] };
            let _ = owner.sender.send(Message::SessionsAnswered(late), vec![]).await;
        }
        drop(process);
    }
}

#[tokio::test]
async fn an_orderly_close_gives_back_what_was_not_answered() {
    let (elder, mut owner, _process) = elder(PATIENCE);
    owner.say(Message::SessionsOpen).await;
    let (first, _client) = elder.session("chat");
    let (second, mut client) = elder.session("chat");
    let play = async {
        let mut heard = 0;
        let mut held = Vec::new();
        while heard < 2 {
            let (_, count, descriptors) = owner.hears().await;
            heard += count;
            held.push(descriptors);
        }
        owner.takes(0).await;
        owner.say(Message::SessionsClosed).await;
        drop(held);
    };
    let moved =
        async { tokio::join!(elder.sessions.hand_off(first), elder.sessions.hand_off(second)) };
    let ((one, other), ()) = soon(async { tokio::join!(moved, play) }).await;
    one.unwrap();
    let (mut session, _) = declined(other);
    talks(&mut session, &mut client).await;
}

#[tokio::test]
async fn only_so_many_are_in_doubt_at_once() {
    const ALL: usize = 1_100;
    const WINDOW: usize = 4 * 252;
    let (elder, mut owner, _process) = elder(PATIENCE);
    let mut moves = JoinSet::new();
    // They share one stream; nobody reads it.
    let (_client, stream) = StdStream::pair().unwrap();
    for _ in 0..ALL {
        let guard = elder.drain.guards(&name("main")).take();
        let stream = stream.try_clone().unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = UnixStream::from_std(stream).unwrap();
        let session = Session::new("chat", 1, stream, guard).unwrap();
        let sessions = elder.sessions.clone();
        moves.spawn(async move { sessions.hand_off(session).await });
    }
    owner.say(Message::SessionsOpen).await;
    let mut heard = 0;
    while heard < WINDOW {
        let (first, count, _) = owner.hears().await;
        assert_eq!(usize::try_from(first).unwrap(), heard);
        heard += count;
    }
    assert_eq!(heard, WINDOW);
    let more = tokio::time::timeout(SHORT, owner.receiver.recv()).await;
    assert!(more.is_err(), "one more is in doubt");
    let mut answered = 0;
    while answered < ALL {
        owner.takes(answered as u64).await;
        answered += 1;
        while heard < ALL && heard - answered < WINDOW - 300 {
            heard += owner.hears().await.1;
        }
    }
    while let Some(moved) = soon(moves.join_next()).await {
        moved.unwrap().unwrap();
    }
}

/// The elder's end, by hand.
fn owner() -> (Side, ByHand) {
    let owner = Side::new();
    let (ours, theirs) = channel();
    owner.sessions.receive_from(theirs);
    (owner, ByHand::new(ours))
}

fn record(kind: &str, state: u64) -> SessionRecord {
    let (kind, listener) = (name(kind), name("main"));
    SessionRecord { kind, version: 1, listener, peer: None, name: None, state, read_ahead: 0 }
}

async fn greeted(elder: &mut ByHand) {
    let envelope = soon(elder.receiver.recv()).await.unwrap().unwrap();
    assert_eq!(envelope.message, Message::SessionsOpen);
}

/// The acknowledgement is in the kernel before the first byte can be read.
#[tokio::test]
async fn a_handler_begins_after_the_acknowledgement() {
    let (owner, mut elder) = owner();
    let mut came = owner.takes("chat");
    greeted(&mut elder).await;
    let (stream, _client) = StdStream::pair().unwrap();
    let items = vec![record("chat", 0)];
    let sessions = Message::Sessions(wire::Sessions { first: 3, items, bytes: None, more: false });
    elder.sender.send(sessions, vec![Arc::new(stream.into())]).await.unwrap();
    let _serves = soon(came.recv()).await.unwrap();
    let here = tokio::time::timeout(Duration::ZERO, elder.receiver.recv()).await;
    let answered = SessionsAnswered { taken: vec![3], declined: vec![] };
    let envelope = here.expect("it is there already").unwrap().unwrap();
    assert_eq!(envelope.message, Message::SessionsAnswered(answered));
}

#[tokio::test]
async fn an_owner_whose_elder_was_gone_before_it_spoke_takes_nothing() {
    let owner = Side::new();
    let mut came = owner.takes("chat");
    let (ours, theirs) = channel();
    let (stream, client) = StdStream::pair().unwrap();
    client.set_nonblocking(true).unwrap();
    let mut client = UnixStream::from_std(client).unwrap();
    let items = vec![record("chat", 0)];
    let sessions = Message::Sessions(wire::Sessions { first: 0, items, bytes: None, more: false });
    let frame = sessions.frame(1).unwrap();
    scm::send(ours.as_fd(), &frame, &[stream.as_fd()]).unwrap();
    drop((ours, stream));
    owner.sessions.receive_from(theirs);
    assert_eq!(soon(client.read(&mut [0])).await.unwrap(), 0, "the owner has closed it");
    assert!(came.try_recv().is_err());
    assert_eq!(owner.drain.active(), 0);
}

/// The elder has closed all that was in doubt before it closed its end.
#[tokio::test]
async fn an_owner_goes_on_with_what_came_if_the_elder_is_gone_when_it_answers() {
    let (owner, mut elder) = owner();
    let mut came = owner.takes("chat");
    greeted(&mut elder).await;
    let (stream, mut client) = StdStream::pair().unwrap();
    let items = vec![record("chat", 0)];
    let sessions = Message::Sessions(wire::Sessions { first: 0, items, bytes: None, more: false });
    elder.sender.send(sessions, vec![Arc::new(stream.into())]).await.unwrap();
    // The owner has not run since.
    drop(elder);
    let mut session = soon(came.recv()).await.unwrap();
    talks(&mut session, &mut client).await;
    assert_eq!(owner.drain.active(), 1);
}

#[tokio::test]
async fn nonsense_is_not_taken_and_what_came_before_is() {
    let (pipe, _writer) = std::io::pipe().unwrap();
    let pipe: OwnedFd = pipe.into();
    for (record, why) in [(record("chat", 5), "bytes that end too early"), (record("chat", 0), "")]
    {
        let (owner, mut elder) = owner();
        let mut came = owner.takes("chat");
        greeted(&mut elder).await;
        let items = vec![record];
        let sessions =
            Message::Sessions(wire::Sessions { first: 8, items, bytes: None, more: false });
        elder.sender.send(sessions, vec![Arc::new(pipe.try_clone().unwrap())]).await.unwrap();
        let envelope = soon(elder.receiver.recv()).await.unwrap().unwrap();
        match envelope.message {
            Message::SessionsClosed if !why.is_empty() => {}
            // A pipe is no stream that could be served.
            Message::SessionsAnswered(SessionsAnswered { taken, declined }) if why.is_empty() => {
                assert!(taken.is_empty());
                assert!(matches!(declined[..], [DeclinedItem { number: 8, lasting: false, .. }]));
            }
            other => panic!("{other:?}"),
        }
        assert!(came.try_recv().is_err());
    }
}

/// A queue that is answered slowly and in order is no silence.
#[tokio::test]
async fn a_slow_owner_takes_more_than_fits_into_one_deadline() {
    const COUNT: usize = 4;
    let (elder, mut owner, _process) = elder(3 * SHORT);
    let mut moves = JoinSet::new();
    for _ in 0..COUNT {
        let (session, client) = elder.session("chat");
        let sessions = elder.sessions.clone();
        moves.spawn(async move { (sessions.hand_off(session).await, client) });
    }
    owner.say(Message::SessionsOpen).await;
    let (mut heard, mut held) = (0, Vec::new());
    while heard < COUNT {
        let (_, count, descriptors) = owner.hears().await;
        heard += count;
        held.push(descriptors);
    }
    for number in 0..COUNT {
        tokio::time::sleep(SHORT).await;
        owner.takes(number as u64).await;
    }
    while let Some(moved) = soon(moves.join_next()).await {
        let (moved, _client) = moved.unwrap();
        moved.unwrap();
    }
}
