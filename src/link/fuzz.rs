//! Any bytes, cut anywhere, with descriptors anywhere: only whole frames come out, with their own
//! descriptors, and nothing behind a frame is touched.

#![allow(clippy::panic, reason = "a panic is how a target says what is wrong")]

use std::io::{PipeReader, PipeWriter};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::fuzz::script::Script;
use crate::sys::socket;
use crate::wire::HEADER;
use crate::wire::limits::{MAX_PAYLOAD, WHOLE_FRAME};

/// The most descriptors that one script may send: other tests of the process need some, too.
const MOST: usize = 300;

/// Pads payloads: JSON allows white space behind a value.
const PADDING: [u8; 2048] = [b' '; 2048];

/// Bytes and descriptors as the script wants them; a reader that must make of them what
/// [`Peer::expected`] does.
pub fn frame(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut peer = Peer::new(script.byte() & 1 == 1);
    while let Some(instruction) = script.next() {
        match instruction {
            0 => {
                let length = script.byte();
                peer.staged.extend(script.take(length.into()));
            }
            1 => peer.stage(&mut script, 0),
            2 => {
                let units = script.byte();
                peer.stage(&mut script, units.into());
            }
            3 => peer.stage_header(&mut script),
            4 => {
                let (length, carried) = (script.number().into(), script.byte());
                peer.send(length, carried);
            }
            5 => {
                let carried = script.byte();
                peer.send(usize::MAX, carried);
            }
            6 => {
                for _ in 0..script.byte() {
                    peer.send(1, 0);
                }
            }
            7 => peer.read(More::MayCome),
            // Free for what a later target wants to say.
            _ => {}
        }
    }
    peer.send(usize::MAX, 0);
    peer.ended = true;
    peer.sender = None;
    peer.read(More::Never);
    assert!(peer.faulty || peer.at == peer.sent.len(), "the end was not reached");
    drop(peer.incoming);
    drop(peer.receiver);
    peer.pipes.into_iter().for_each(Pipe::assert_closed);
}

/// How many descriptors a byte stands for: few, or as many as can be, or one more than that.
fn count(byte: u8) -> usize {
    match byte {
        255 => MAX_FDS,
        254 => MAX_FDS + 1,
        _ => usize::from(byte % 8),
    }
}

/// Something to send, which can be told from others and tells when its last copy is closed.
struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
    inode: u64,
}

impl Pipe {
    fn new() -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let inode = socket::inode(writer.as_fd()).expect("an inode");
        Self { reader, writer, inode }
    }

    /// Another thread may hold copies for the moment in which it starts a process.
    fn assert_closed(self) {
        drop(self.writer);
        let mut ends = [PollFd::new(self.reader.as_fd(), PollFlags::empty())];
        let closed = poll(&mut ends, PollTimeout::from(10_000_u16)).expect("poll");
        assert_eq!(closed, 1, "a descriptor has leaked");
    }
}

/// What is at the reader's place in the stream, by the protocol's rules told once more.
#[derive(Debug)]
enum Expected {
    /// A whole frame that is right.
    Frame(Message, Range<usize>),
    /// A frame that is wrong, whatever follows; `seen` if its header alone or its end says so.
    Wrong { seen: bool },
    /// Less than a frame, of which so many bytes are needed to go on.
    Part { needed: usize },
}

struct Peer {
    sender: Option<UnixStream>,
    receiver: UnixStream,
    incoming: Incoming,
    credentials: bool,
    pipes: [Pipe; 3],
    /// Not sent yet.
    staged: Vec<u8>,
    sent: Vec<u8>,
    /// Where each descriptor went: with which byte, and which pipe's.
    carried: Vec<(usize, usize)>,
    /// Where the frame begins that the reader is at.
    at: usize,
    /// Where each `sendmsg` began.
    cuts: Vec<usize>,
    ended: bool,
    faulty: bool,
}

impl Peer {
    fn new(credentials: bool) -> Self {
        let (sender, receiver) = UnixStream::pair().expect("a socket pair");
        if credentials {
            scm::pass_credentials(receiver.as_fd()).expect("SO_PASSCRED");
        }
        Self {
            sender: Some(sender),
            receiver,
            incoming: Incoming::default(),
            credentials,
            pipes: [Pipe::new(), Pipe::new(), Pipe::new()],
            staged: Vec::new(),
            sent: Vec::new(),
            carried: Vec::new(),
            at: 0,
            cuts: Vec::new(),
            ended: false,
            faulty: false,
        }
    }

    /// A frame with a true length: its kind, its count of descriptors, and its payload.
    fn stage(&mut self, script: &mut Script<'_>, padding: usize) {
        let (kind, descriptors, length) = (script.byte(), script.byte(), script.byte());
        let payload = script.take(length.into());
        let all = payload.len() + padding * PADDING.len();
        self.header(all as u32, kind.into(), count(descriptors) as u16);
        self.staged.extend(payload);
        (0..padding).for_each(|_| self.staged.extend(PADDING));
    }

    /// A header that says anything.
    fn stage_header(&mut self, script: &mut Script<'_>) {
        let length = u32::from(script.number()) | u32::from(script.byte()) << 16;
        let (kind, descriptors) = (script.number(), script.number());
        self.header(length, kind, descriptors);
    }

    fn header(&mut self, length: u32, kind: u16, descriptors: u16) {
        self.staged.extend(b"HLRM");
        self.staged.extend(length.to_le_bytes());
        self.staged.extend(kind.to_le_bytes());
        self.staged.extend(descriptors.to_le_bytes());
    }

    /// Sends so many of the staged bytes, the descriptors with the first of them.
    fn send(&mut self, length: usize, carried: u8) {
        let mut bytes: Vec<u8> = self.staged.drain(..length.min(self.staged.len())).collect();
        let room = MOST - self.carried.len();
        let mut carried = count(carried).min(MAX_FDS).min(room);
        while !bytes.is_empty() && !self.faulty {
            let Some(sender) = &self.sender else { return };
            let before = self.carried.len();
            let along: Vec<usize> = (before..before + carried).map(|index| index % 3).collect();
            let fds: Vec<BorrowedFd<'_>> =
                along.iter().map(|pipe| self.pipes[*pipe].writer.as_fd()).collect();
            match scm::send(sender.as_fd(), &bytes, &fds) {
                Ok(sent) => {
                    let at = self.sent.len();
                    self.cuts.push(at);
                    self.carried.extend(along.iter().map(|pipe| (at, *pipe)));
                    self.sent.extend(bytes.drain(..sent));
                    carried = 0;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let before = scm::queued(self.receiver.as_fd()).expect("FIONREAD");
                    self.read(More::MayCome);
                    let after = scm::queued(self.receiver.as_fd()).expect("FIONREAD");
                    assert!(self.faulty || after < before, "writer and reader wait for each other");
                }
                Err(error) => panic!("send: {error}"),
            }
        }
    }

    /// Reads until there is nothing to read, and compares.
    fn read(&mut self, more: More) {
        while !self.faulty {
            let expected = self.expected();
            match (self.incoming.step(self.receiver.as_fd(), more), expected) {
                (Ok(Some(envelope)), Expected::Frame(message, range)) => {
                    self.assert_same(envelope, message, &range);
                    self.at = range.end;
                    self.assert_untouched();
                }
                (Ok(None), _) => {
                    assert!(self.ended && self.at == self.sent.len(), "the end came too early");
                    return;
                }
                (Err(Fault::Io(error)), expected) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
                    assert!(more == More::MayCome, "it waits for what cannot come");
                    self.assert_waits(&expected);
                    return;
                }
                (Err(Fault::Wire(_)), Expected::Wrong { .. }) => self.faulty = true,
                (Err(Fault::Torn { got, .. }), expected) => {
                    assert!(more == More::Never, "torn before the end");
                    assert_eq!(got, self.sent.len() - self.at);
                    assert!(!matches!(expected, Expected::Frame(..)), "torn: {expected:?}");
                    self.faulty = true;
                }
                (Ok(Some(envelope)), expected) => panic!("{envelope:?} for {expected:?}"),
                (Err(Fault::Wire(error)), expected) => panic!("{error} for {expected:?}"),
            }
        }
    }

    /// What the bytes at the reader's place are, with all that has been sent so far.
    fn expected(&self) -> Expected {
        let rest = &self.sent[self.at..];
        let within = |end: usize| {
            self.carried.iter().filter(move |(at, _)| (self.at..end).contains(at)).count()
        };
        let Some(header) = rest.first_chunk::<HEADER>() else {
            return if within(usize::MAX) > MAX_FDS {
                Expected::Wrong { seen: false }
            } else {
                Expected::Part { needed: HEADER }
            };
        };
        let [.., l0, l1, l2, l3, k0, k1, d0, d1] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let descriptors = usize::from(u16::from_le_bytes([d0, d1]));
        if !header.starts_with(b"HLRM") || length > MAX_PAYLOAD || descriptors > MAX_FDS {
            return Expected::Wrong { seen: true };
        }
        let end = self.at + HEADER + length;
        let carried = within(end);
        let Some(payload) = self.sent.get(self.at + HEADER..end) else {
            return if carried > descriptors {
                Expected::Wrong { seen: false }
            } else {
                Expected::Part { needed: HEADER + length }
            };
        };
        match Message::decode(u16::from_le_bytes([k0, k1]), payload) {
            Ok(message) if carried == descriptors && message.carries(carried).is_ok() => {
                Expected::Frame(message, self.at..end)
            }
            _ => Expected::Wrong { seen: true },
        }
    }

    fn assert_same(&self, envelope: Envelope, message: Message, range: &Range<usize>) {
        assert_eq!(envelope.message, message);
        assert_eq!(envelope.credentials.is_some(), self.credentials);
        let own = std::process::id().cast_signed();
        assert!(envelope.credentials.is_none_or(|credentials| credentials.pid == own));
        let inode = |fd: &OwnedFd| socket::inode(fd.as_fd()).expect("an inode");
        let got: Vec<u64> = envelope.descriptors.iter().map(inode).collect();
        let its = |(at, pipe): &(usize, usize)| range.contains(at).then(|| self.pipes[*pipe].inode);
        let meant: Vec<u64> = match message {
            Message::Unknown(_) => Vec::new(),
            _ => self.carried.iter().filter_map(its).collect(),
        };
        assert_eq!(got, meant, "descriptors of another frame, or in another order");
    }

    /// No byte behind the reader's place has left the kernel: the link could be handed on.
    fn assert_untouched(&self) {
        let queued = scm::queued(self.receiver.as_fd()).expect("FIONREAD");
        assert_eq!(queued, self.sent.len() - self.at, "bytes behind a frame were taken");
    }

    /// There is a reason to wait, and a short frame waits in the kernel.
    fn assert_waits(&self, expected: &Expected) {
        let needed = match expected {
            Expected::Part { needed } => *needed,
            Expected::Wrong { seen: false } => return,
            _ => panic!("it waits at {expected:?}"),
        };
        // A header that several calls have sent may have to be read in order to be seen.
        let in_one = !self.cuts.iter().any(|cut| (self.at + 1..self.at + HEADER).contains(cut));
        let short = needed <= WHOLE_FRAME && in_one;
        if short || self.sent.len() - self.at < HEADER {
            self.assert_untouched();
        }
    }
}
