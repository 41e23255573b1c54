//! Links over real sockets, with the smallest buffers that the kernel allows.

use std::collections::VecDeque;
use std::io::{Read, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::task::yield_now;

use super::*;
use crate::wire::limits::WHOLE_FRAME;
use crate::wire::{Failed, HEADER, Header, Item, Offer, Refuse, Role};

/// No test waits this long unless something hangs.
const HANGS: Duration = Duration::from_secs(60);

fn pair() -> (OwnedFd, OwnedFd) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours.into(), theirs.into())
}

fn shrunk_pair() -> (OwnedFd, OwnedFd) {
    let (ours, theirs) = pair();
    for socket in [&ours, &theirs] {
        let socket = socket2::SockRef::from(socket);
        socket.set_send_buffer_size(1).unwrap();
        socket.set_recv_buffer_size(1).unwrap();
    }
    (ours, theirs)
}

/// A pipe: its read end tells when every copy of the write end is closed.
fn pipe() -> (std::io::PipeReader, Arc<OwnedFd>) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader, Arc::new(writer.into()))
}

fn offer(items: usize) -> Message {
    Message::Offer(Offer { items: vec![Item { role: Role::Verdict }; items], last: true })
}

/// Whether every copy of the write end is closed by now.
fn are_closed(watch: &std::io::PipeReader) -> bool {
    let mut polled = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).unwrap();
    polled[0].revents().unwrap().contains(PollFlags::POLLHUP)
}

fn failed(length: usize) -> Message {
    Message::Failed(Failed { error: "e".repeat(length) })
}

fn raw(kind: u16, payload: &[u8], descriptors: usize) -> Vec<u8> {
    let header = Header { length: payload.len(), kind, descriptors };
    [&header.write().unwrap(), payload].concat()
}

/// Lets every ready task and the I/O driver run.
async fn settle() {
    for _ in 0..8 {
        yield_now().await;
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANGS, future).await.expect("it hangs")
}

async fn next(receiver: &mut LinkReceiver) -> Envelope {
    soon(receiver.recv()).await.unwrap().expect("the link has ended")
}

async fn error(receiver: &mut LinkReceiver) -> Error {
    let first = soon(receiver.recv()).await.unwrap_err();
    let again = soon(receiver.recv()).await.unwrap_err();
    assert_eq!((first.kind(), first.chain()), (again.kind(), again.chain()));
    first
}

#[tokio::test]
async fn messages_and_descriptors_arrive_in_order() {
    let (ours, theirs) = pair();
    let (sender, _) = open(ours).unwrap();
    let (_, mut receiver) = open(theirs).unwrap();
    let (mut watch, end) = pipe();
    sender.send(Message::Adopted, vec![]).await.unwrap();
    sender.send(offer(2), vec![Arc::clone(&end), end]).await.unwrap();
    sender.post(Message::Yield).unwrap();
    drop(sender);

    assert_eq!(next(&mut receiver).await.message, Message::Adopted);
    let envelope = next(&mut receiver).await;
    assert_eq!(envelope.message, offer(2));
    assert_eq!(envelope.descriptors.len(), 2);
    for descriptor in envelope.descriptors {
        std::fs::File::from(descriptor).write_all(b"x").unwrap();
    }
    let mut read = String::new();
    watch.read_to_string(&mut read).unwrap();
    assert_eq!(read, "xx");
    assert_eq!(next(&mut receiver).await.message, Message::Yield);
    assert!(soon(receiver.recv()).await.unwrap().is_none());
    assert!(soon(receiver.recv()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_frame_cut_at_any_point_arrives_once_and_whole() {
    for message in [offer(1), Message::Refuse(Refuse { reason: "r".repeat(1_900) })] {
        let carried = message.items().unwrap_or(0);
        let frame = message.frame(carried).unwrap();
        assert!(frame.len() <= WHOLE_FRAME);
        for cut in 1..frame.len() {
            let (ours, theirs) = shrunk_pair();
            let counted = theirs.try_clone().unwrap();
            let (_sender, mut receiver) = open(theirs).unwrap();
            let (_watch, end) = pipe();
            let along = [end.as_fd()];
            let sent = scm::send(ours.as_fd(), &frame[..cut], &along[..carried]).unwrap();
            assert_eq!(sent, cut);
            tokio::select! {
                biased;
                got = receiver.recv() => panic!("cut {cut}: {got:?}"),
                () = settle() => {}
            }
            assert_eq!(scm::queued(counted.as_fd()).unwrap(), cut, "it waits in the kernel");
            let mut rest = frame[cut..].to_vec();
            rest.extend(Message::Asked { by: None }.frame(0).unwrap());
            // With the smallest buffer the next frame may not fit until this one is read.
            let sent = scm::send(ours.as_fd(), &rest, &[]).unwrap();
            assert!(sent >= frame.len() - cut, "cut {cut}: {sent}");
            let envelope = next(&mut receiver).await;
            assert_eq!(envelope.message, message);
            assert_eq!(envelope.descriptors.len(), carried);
            if sent == rest.len() {
                assert_eq!(next(&mut receiver).await.message, Message::Asked { by: None });
            }
        }
    }
}

#[tokio::test]
async fn a_long_frame_cut_at_any_point_arrives_once_and_whole() {
    let message = failed(2_100);
    let frame = message.frame(0).unwrap();
    assert!(frame.len() > WHOLE_FRAME);
    for cut in 1..frame.len() {
        let (ours, theirs) = shrunk_pair();
        let (_sender, mut receiver) = open(theirs).unwrap();
        assert_eq!(scm::send(ours.as_fd(), &frame[..cut], &[]).unwrap(), cut);
        tokio::select! {
            biased;
            got = receiver.recv() => panic!("cut {cut}: {got:?}"),
            () = settle() => {}
        }
        assert_eq!(scm::send(ours.as_fd(), &frame[cut..], &[]).unwrap(), frame.len() - cut);
        assert_eq!(next(&mut receiver).await.message, message);
    }
}

#[tokio::test]
async fn the_smallest_buffers_carry_the_most_descriptors() {
    let (ours, theirs) = shrunk_pair();
    let (sender, _) = open(ours).unwrap();
    let (_, mut receiver) = open(theirs).unwrap();
    let (_watch, end) = pipe();
    let sending = tokio::spawn(async move {
        for chunk in [253, 253, 253, 241] {
            sender.send(offer(chunk), vec![Arc::clone(&end); chunk]).await.unwrap();
            sender.send(failed(9_000), vec![]).await.unwrap();
        }
    });
    let mut all = Vec::new();
    for chunk in [253, 253, 253, 241] {
        let envelope = next(&mut receiver).await;
        assert_eq!(envelope.message, offer(chunk));
        assert_eq!(envelope.descriptors.len(), chunk);
        all.extend(envelope.descriptors);
        assert_eq!(next(&mut receiver).await.message, failed(9_000));
    }
    assert_eq!(all.len(), 1_000);
    soon(sending).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_sends_and_receives_tear_and_lose_nothing() {
    let (ours, theirs) = shrunk_pair();
    let (sender, _) = open(ours).unwrap();
    let (_, mut receiver) = open(theirs).unwrap();
    let sending = tokio::spawn(async move {
        let mut known = Vec::new();
        for number in 0..2_000_u64 {
            let message = match number % 3 {
                0 => Message::Refuse(Refuse { reason: format!("{number} {}", "x".repeat(5_000)) }),
                _ => Message::Ping { sequence: number },
            };
            let send = sender.send(message, vec![]);
            tokio::select! {
                biased;
                sent = send => { sent.unwrap(); known.push(number); }
                () = yield_now(), if number % 2 == 0 => {}
            }
        }
        sender.send(Message::Hurry, vec![]).await.unwrap();
        known
    });
    let mut got = Vec::new();
    loop {
        let envelope = tokio::select! {
            biased;
            envelope = receiver.recv() => envelope.unwrap().unwrap(),
            () = yield_now() => continue,
        };
        match envelope.message {
            Message::Ping { sequence } => got.push(sequence),
            Message::Refuse(Refuse { reason }) => {
                let (number, rest) = reason.split_once(' ').unwrap();
                assert_eq!(rest.len(), 5_000);
                got.push(number.parse().unwrap());
            }
            Message::Hurry => break,
            other => panic!("{other:?}"),
        }
    }
    let known = soon(sending).await.unwrap();
    assert!(got.is_sorted_by(|a, b| a < b), "once and in order");
    assert!(known.iter().all(|number| got.binary_search(number).is_ok()), "what was sent is here");
    assert!(known.len() < 2_000, "nothing was cancelled");
}

#[tokio::test]
async fn nonsense_ends_the_link_with_a_reason() {
    let long = [&b"HLRM\xff\xff\xff\x7f\x04\0\0\0"[..], b"x"].concat();
    for (bytes, kind, reason) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), ErrorKind::Protocol, "does not speak heirloom"),
        (long, ErrorKind::Protocol, "\"offer\" (kind 4): a payload of 2147483647 bytes"),
        (b"HLRM\0\0\0\0\x04\0\xff\0".to_vec(), ErrorKind::Protocol, "255 descriptors are over"),
        (raw(4, b"{}", 0), ErrorKind::Protocol, "\"offer\" (kind 4): missing field `items`"),
        (raw(5, b"{}", 1), ErrorKind::Protocol, "it speaks of 1 descriptors and carries 0"),
        (offer(1).frame(1).unwrap(), ErrorKind::Protocol, "speaks of 1 descriptors and carries 0"),
        (
            raw(4, br#"{"items":[{"role":"verdict"}],"last":true}"#, 0),
            ErrorKind::Protocol,
            "speaks of 1 descriptors and carries 0",
        ),
    ] {
        let (ours, theirs) = pair();
        let (_sender, mut receiver) = open(theirs).unwrap();
        assert_eq!(scm::send(ours.as_fd(), &bytes, &[]).unwrap(), bytes.len());
        let error = error(&mut receiver).await;
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(reason), "{reason} in {error}");
    }
}

#[tokio::test]
async fn a_torn_frame_is_an_error_that_says_so() {
    for frame in [offer(1).frame(1).unwrap(), failed(3_000).frame(0).unwrap()] {
        for cut in [1, HEADER - 1, HEADER, HEADER + 1, frame.len() - 1] {
            for early in [true, false] {
                let (ours, theirs) = pair();
                let (_sender, mut receiver) = open(theirs).unwrap();
                scm::send(ours.as_fd(), &frame[..cut], &[]).unwrap();
                let mut ours = Some(ours);
                if early {
                    ours = None;
                } else {
                    tokio::select! {
                        biased;
                        got = receiver.recv() => panic!("{got:?}"),
                        () = settle() => {}
                    }
                }
                drop(ours);
                let error = error(&mut receiver).await;
                assert_eq!(error.kind(), ErrorKind::Link);
                let said = error.to_string();
                assert!(said.contains("closed in the middle of a"), "{said}");
                assert!(said.contains(&format!("after {cut} of")), "{said}");
            }
        }
    }
}

#[tokio::test]
async fn a_side_that_ends_without_reading_is_an_end() {
    let (ours, theirs) = pair();
    let (sender, mut receiver) = open(theirs).unwrap();
    sender.send(Message::Hurry, vec![]).await.unwrap();
    scm::send(ours.as_fd(), &Message::Asked { by: None }.frame(0).unwrap(), &[]).unwrap();
    drop(ours);
    assert_eq!(next(&mut receiver).await.message, Message::Asked { by: None });
    assert!(soon(receiver.recv()).await.unwrap().is_none());
}

#[tokio::test]
async fn descriptors_of_an_unknown_kind_are_closed_and_the_link_goes_on() {
    let (ours, theirs) = pair();
    let (_sender, mut receiver) = open(theirs).unwrap();
    let (mut watch, end) = pipe();
    scm::send(ours.as_fd(), &raw(999, b"what is this", 2), &[end.as_fd(), end.as_fd()]).unwrap();
    scm::send(ours.as_fd(), &Message::Asked { by: None }.frame(0).unwrap(), &[]).unwrap();
    drop(end);
    let envelope = next(&mut receiver).await;
    assert_eq!(envelope.message, Message::Unknown(999));
    assert!(envelope.descriptors.is_empty());
    assert_eq!(watch.read(&mut [0]).unwrap(), 0, "no copy is open");
    assert_eq!(next(&mut receiver).await.message, Message::Asked { by: None });
}

#[tokio::test]
async fn frames_glued_in_the_kernel_keep_their_descriptors_apart() {
    let (ours, theirs) = pair();
    let (_watch, end) = pipe();
    scm::send(ours.as_fd(), &Message::Asked { by: None }.frame(0).unwrap(), &[]).unwrap();
    scm::send(ours.as_fd(), &offer(1).frame(1).unwrap(), &[end.as_fd()]).unwrap();
    scm::send(ours.as_fd(), &offer(2).frame(2).unwrap(), &[end.as_fd(), end.as_fd()]).unwrap();
    scm::send(ours.as_fd(), &Message::Hurry.frame(0).unwrap(), &[]).unwrap();
    drop(ours);
    let (_sender, mut receiver) = open(theirs).unwrap();
    for (message, carried) in
        [(Message::Asked { by: None }, 0), (offer(1), 1), (offer(2), 2), (Message::Hurry, 0)]
    {
        let envelope = next(&mut receiver).await;
        assert_eq!(envelope.message, message);
        assert_eq!(envelope.descriptors.len(), carried);
    }
    assert!(soon(receiver.recv()).await.unwrap().is_none());
}

#[tokio::test]
async fn descriptors_that_no_header_announced_are_closed_and_end_the_link() {
    let glued =
        [Message::Asked { by: None }.frame(0).unwrap(), offer(1).frame(1).unwrap()].concat();
    for (bytes, carried) in
        [(glued, 1), (Message::Asked { by: None }.frame(0).unwrap(), 3), (vec![b'H'], 2)]
    {
        let (ours, theirs) = pair();
        let (_sender, mut receiver) = open(theirs).unwrap();
        let (mut watch, end) = pipe();
        scm::send(ours.as_fd(), &bytes, &vec![end.as_fd(); carried]).unwrap();
        drop(end);
        if bytes.len() < HEADER {
            let rest = &Message::Asked { by: None }.frame(0).unwrap()[bytes.len()..];
            scm::send(ours.as_fd(), rest, &[]).unwrap();
        }
        let error = error(&mut receiver).await;
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains("speaks of 0 descriptors"), "{error}");
        assert_eq!(watch.read(&mut [0]).unwrap(), 0, "no copy is open");
    }
}

#[tokio::test]
async fn unannounced_descriptors_end_a_long_frame_before_its_end() {
    let (ours, theirs) = pair();
    let (_sender, mut receiver) = open(theirs).unwrap();
    let (mut watch, end) = pipe();
    let frame = failed(16_000).frame(0).unwrap();
    scm::send(ours.as_fd(), &frame[..3_000], &[]).unwrap();
    scm::send(ours.as_fd(), &frame[3_000..3_001], &[end.as_fd()]).unwrap();
    drop(end);
    let error = error(&mut receiver).await;
    assert_eq!(
        error.to_string(),
        "frame \"failed\" (kind 7): it speaks of 0 descriptors and carries 1"
    );
    assert_eq!(watch.read(&mut [0]).unwrap(), 0, "no copy is open");
}

#[tokio::test]
async fn both_directions_run_at_once_with_full_buffers() {
    let (ours, theirs) = shrunk_pair();
    let busy = |socket| {
        let (sender, mut receiver) = open(socket).unwrap();
        let writing = tokio::spawn(async move {
            for _ in 0..50 {
                sender.send(failed(16_000), vec![]).await.unwrap();
            }
        });
        let reading = tokio::spawn(async move {
            for _ in 0..50 {
                assert_eq!(next(&mut receiver).await.message, failed(16_000));
            }
            receiver
        });
        async { tokio::join!(writing, reading) }
    };
    let (one, other) = soon(async { tokio::join!(busy(ours), busy(theirs)) }).await;
    for (writing, reading) in [one, other] {
        writing.unwrap();
        reading.unwrap();
    }
}

#[tokio::test]
async fn the_kernel_says_who_speaks() {
    let (ours, theirs) = pair();
    scm::pass_credentials(theirs.as_fd()).unwrap();
    let (sender, _) = open(ours).unwrap();
    let (_, mut receiver) = open(theirs).unwrap();
    for message in [Message::Asked { by: None }, failed(10_000)] {
        sender.send(message.clone(), vec![]).await.unwrap();
        let envelope = next(&mut receiver).await;
        assert_eq!(envelope.message, message);
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(envelope.credentials.unwrap().pid, pid);
    }
}

#[tokio::test]
async fn a_link_handed_on_goes_on_at_the_next_frame() {
    let (ours, theirs) = shrunk_pair();
    let (sender, _) = open(ours).unwrap();
    let sending = tokio::spawn(async move {
        for sequence in 0..300 {
            sender.send(pong(sequence), vec![]).await.unwrap();
        }
    });
    let mut socket = theirs;
    for owner in 0..30 {
        let dup = socket.try_clone().unwrap();
        let (_sender, mut receiver) = open(socket).unwrap();
        for frame in 0..10 {
            let sequence = owner * 10 + frame;
            assert_eq!(next(&mut receiver).await.message, pong(sequence));
        }
        socket = dup;
    }
    soon(sending).await.unwrap();
}

#[tokio::test]
async fn a_link_is_handed_on_while_half_a_frame_waits() {
    let frame = offer(1).frame(1).unwrap();
    for cut in 1..frame.len() {
        let (ours, theirs) = pair();
        let (_watch, end) = pipe();
        let dup = theirs.try_clone().unwrap();
        let (_sender, mut elder) = open(theirs).unwrap();
        scm::send(ours.as_fd(), &Message::Asked { by: None }.frame(0).unwrap(), &[]).unwrap();
        scm::send(ours.as_fd(), &frame[..cut], &[end.as_fd()]).unwrap();
        assert_eq!(next(&mut elder).await.message, Message::Asked { by: None });
        tokio::select! {
            biased;
            got = elder.recv() => panic!("{got:?}"),
            () = settle() => {}
        }
        drop(elder);
        let (_sender, mut owner) = open(dup).unwrap();
        scm::send(ours.as_fd(), &frame[cut..], &[]).unwrap();
        let envelope = next(&mut owner).await;
        assert_eq!((envelope.message, envelope.descriptors.len()), (offer(1), 1));
    }
}

#[test]
fn the_kernel_never_cuts_a_frame_that_travels_whole() {
    let (ours, theirs) = shrunk_pair();
    let mut buffer = vec![0; WHOLE_FRAME];
    for small in [1, 7, 100, 512, 1_000, 2_000] {
        for before in 0..20 {
            for _ in 0..before {
                // A full buffer refuses; what is tested is that it never takes a part.
                let _ = scm::send(ours.as_fd(), &buffer[..small], &[]);
            }
            if let Ok(sent) = scm::send(ours.as_fd(), &buffer, &[]) {
                assert_eq!(sent, WHOLE_FRAME, "behind {before} writes of {small}");
            }
            while scm::queued(theirs.as_fd()).unwrap() > 0 {
                scm::recv(theirs.as_fd(), &mut buffer, &mut VecDeque::new()).unwrap();
            }
            let empty = scm::send(ours.as_fd(), &buffer, &[]).unwrap();
            assert_eq!(empty, WHOLE_FRAME);
            scm::recv(theirs.as_fd(), &mut buffer, &mut VecDeque::new()).unwrap();
        }
    }
}

#[tokio::test]
async fn a_broken_link_says_the_same_to_everyone() {
    let (ours, theirs) = pair();
    let (sender, _receiver) = open(ours).unwrap();
    drop(theirs);
    let clone = sender.clone();
    let first = soon(sender.send(Message::Asked { by: None }, vec![])).await.unwrap_err();
    let second = soon(clone.send(Message::Asked { by: None }, vec![])).await.unwrap_err();
    let third = clone.post(Message::Asked { by: None }).unwrap_err();
    assert_eq!(first.kind(), ErrorKind::Link);
    assert!(first.chain().starts_with("link: send \"asked\": Broken pipe"), "{}", first.chain());
    assert_eq!(first.chain(), second.chain());
    assert_eq!(first.chain(), third.chain());
}

#[tokio::test]
async fn the_last_message_is_sent_though_nobody_waits_for_it() {
    let (ours, theirs) = shrunk_pair();
    let (sender, receiver) = open(ours).unwrap();
    let mut taken = 0;
    let full = loop {
        match sender.post(Message::Refuse(Refuse { reason: "r".repeat(1_000) })) {
            Ok(()) => taken += 1,
            Err(full) => break full,
        }
    };
    assert!(taken >= QUEUE, "what the socket does not take waits in the queue");
    assert!(full.to_string().contains("does not read; \"refuse\" is not sent"), "{full}");
    drop((sender, receiver));
    let (_, mut receiver) = open(theirs).unwrap();
    for _ in 0..taken {
        assert!(matches!(next(&mut receiver).await.message, Message::Refuse(_)));
    }
    assert!(soon(receiver.recv()).await.unwrap().is_none(), "the writer has let go");
}

#[test]
fn what_waits_when_the_runtime_ends_is_given_up() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (ours, _theirs) = shrunk_pair();
    let (watch, end) = pipe();
    let (sender, waiting) = runtime.block_on(async {
        let (sender, _) = open(ours).unwrap();
        while sender.post(failed(1_000)).is_ok() {}
        let waiting = sender.clone();
        let waiting = tokio::spawn(async move { waiting.send(offer(1), vec![end]).await });
        settle().await;
        (sender, waiting)
    });
    assert!(!waiting.is_finished(), "there is no room");
    drop(runtime);
    let error = sender.post(Message::Yield).unwrap_err();
    assert!(error.chain().contains("the runtime that the link lives in has ended"), "{error}");
    assert!(are_closed(&watch), "its descriptors are closed");
}

#[test]
fn a_queued_frame_closes_its_descriptors_when_the_runtime_ends() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (ours, theirs) = shrunk_pair();
    let (watch, end) = pipe();
    let (sender, queued) = runtime.block_on(async {
        let (sender, _) = open(ours).unwrap();
        // A long one, which the socket does not take whole.
        sender.post(failed(60_000)).unwrap();
        let queued = sender.clone();
        let queued = tokio::spawn(async move { queued.send(offer(1), vec![end]).await });
        settle().await;
        (sender, queued)
    });
    assert!(!queued.is_finished(), "there is no room");
    drop(runtime);
    assert!(are_closed(&watch), "its descriptors are closed");
    drop((sender, theirs));
}

/// What the other side reads makes room, and nobody waits for room.
#[test]
fn to_be_read_wakes_no_runtime() {
    const MESSAGES: usize = 50;
    let (ours, theirs) = pair();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().unwrap();
    let (sender, _receiver) = runtime.block_on(async { open(ours) }).unwrap();
    for _ in 0..MESSAGES {
        sender.post(Message::Yield).unwrap();
    }
    let wait = || runtime.block_on(runtime.spawn(async {})).unwrap();
    wait();
    let parked = || runtime.metrics().worker_park_count(0);
    let before = parked();
    let frame = Message::Yield.frame(0).unwrap();
    for _ in 0..MESSAGES {
        let mut read = vec![0; frame.len()];
        UnixStream::from(theirs.try_clone().unwrap()).read_exact(&mut read).unwrap();
        // A worker that is woken has the time to sleep again.
        std::thread::yield_now();
    }
    wait();
    let woken = parked() - before;
    assert!(woken < MESSAGES as u64 / 4, "it was woken {woken} times");
}

#[tokio::test]
async fn a_message_beyond_the_limits_leaves_the_link_as_it_was() {
    let (ours, theirs) = pair();
    let (sender, _) = open(ours).unwrap();
    let (_, mut receiver) = open(theirs).unwrap();
    let (_watch, end) = pipe();
    for (message, carried) in [(offer(254), 254), (offer(1), 0), (Message::Unknown(9), 0)] {
        let error = sender.send(message, vec![Arc::clone(&end); carried]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
    sender.send(Message::Asked { by: None }, vec![]).await.unwrap();
    assert_eq!(next(&mut receiver).await.message, Message::Asked { by: None });
}

#[tokio::test]
async fn a_half_frame_that_waits_costs_nothing() {
    let (ours, theirs) = pair();
    let (_sender, mut receiver) = open(theirs).unwrap();
    let frame = Message::Asked { by: None }.frame(0).unwrap();
    scm::send(ours.as_fd(), &frame[..5], &[]).unwrap();
    let mut polls = 0;
    let mut waiting = Box::pin(receiver.recv());
    let counting = std::future::poll_fn(|context| {
        polls += 1;
        waiting.as_mut().poll(context)
    });
    tokio::select! {
        biased;
        got = counting => panic!("{got:?}"),
        () = settle() => {}
    }
    drop(waiting);
    assert!(polls <= 16, "{polls} polls");
}

#[test]
fn a_link_outside_of_a_runtime_is_an_error() {
    let error = open(pair().0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Link);
}

fn pong(sequence: u64) -> Message {
    Message::Pong { sequence, figures: crate::wire::Figures::default() }
}

/// Runs an ignored test in a process that may open few files.
pub(crate) fn in_a_process_of_its_own(test: &str) {
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", "ulimit -n 48; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn what_waits_is_sent_though_the_socket_cannot_be_watched() {
    in_a_process_of_its_own("link::tests::with_no_descriptor_left");
}

#[test]
#[ignore = "started with a low limit by the test above"]
fn with_no_descriptor_left() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (ours, theirs) = shrunk_pair();
        let (sender, _) = open(ours).unwrap();
        let (_, mut receiver) = open(theirs).unwrap();
        let mut taken: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/").ok()).collect();
        let mut posted = 0;
        while sender.post(failed(1_000)).is_ok() {
            posted += 1;
        }
        assert!(posted >= QUEUE, "some wait");
        for _ in 0..posted {
            assert!(matches!(next(&mut receiver).await.message, Message::Failed(_)));
        }
        assert!(std::fs::File::open("/").is_err(), "it could have been watched");
        taken.clear();
    });
}

#[test]
fn too_many_descriptors_on_their_way_are_waited_for() {
    in_a_process_of_its_own("link::tests::with_many_on_their_way");
}

#[test]
#[ignore = "started with a low limit by the test above"]
fn with_many_on_their_way() {
    // Root is not held to the limit. What is on its way is counted for each user.
    let nobody = nix::unistd::Uid::from_raw(60_000 + std::process::id() % 1_000);
    if nix::unistd::Uid::effective().is_root() {
        nix::unistd::setuid(nobody).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (ours, theirs) = pair();
        let (sender, _) = open(ours).unwrap();
        let (_, mut receiver) = open(theirs).unwrap();
        let (_watch, end) = pipe();
        let sending = tokio::spawn(async move {
            for _ in 0..8 {
                sender.send(offer(20), vec![Arc::clone(&end); 20]).await.unwrap();
            }
        });
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert!(!sending.is_finished(), "the kernel does not count them");
        for _ in 0..8 {
            assert_eq!(next(&mut receiver).await.descriptors.len(), 20);
        }
        soon(sending).await.unwrap();
    });
}
