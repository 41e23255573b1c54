//! The link of a handoff, reached behind the library's back.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{PassCred, PeerCredentials};
use nix::sys::socket::{MsgFlags, Shutdown, getsockopt, send, shutdown};

use super::release::Side;
use super::{own, process};

/// The number that the link has in a successor.
const IN_SUCCESSOR: i32 = 3;

/// What no message begins with.
const GARBAGE: u8 = 0xA5;

/// Shuts it down in both directions.
pub(crate) fn cut(side: Side) {
    let link = find(side);
    match shutdown(link.as_raw_fd(), Shutdown::Both) {
        Ok(()) | Err(Errno::ENOTCONN) => {}
        Err(error) => panic!("cut the link: {error}"),
    }
}

/// So many bytes that are no message, for the other side to read.
pub(crate) fn write_garbage(side: Side, bytes: usize) {
    let link = find(side);
    let garbage = vec![GARBAGE; bytes];
    match send(link.as_raw_fd(), &garbage, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
        Ok(_) | Err(Errno::EPIPE | Errno::ECONNRESET) => {}
        Err(error) => panic!("garbage on the link: {error}"),
    }
}

/// A duplicate of this side's end.
fn find(side: Side) -> OwnedFd {
    match side {
        Side::Successor => own::duplicate(IN_SUCCESSOR).expect("a successor has its link"),
        Side::Predecessor => newest(),
    }
}

/// Among the socket pairs that this process has made, those that want credentials are links, and
/// the newest is that of the handoff that runs: inode numbers of sockets go up.
fn newest() -> OwnedFd {
    let pid = std::process::id().cast_signed();
    let sockets = process::descriptors(pid).into_iter().filter_map(|(number, target)| {
        let inode: u64 = target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        let socket = own::duplicate(number)?;
        let is_link = getsockopt(&socket, PassCred) == Ok(true);
        let made_by = getsockopt(&socket, PeerCredentials).ok()?.pid();
        (is_link && made_by == pid).then_some((inode, socket))
    });
    let (_, link) = sockets.max_by_key(|(inode, _)| *inode).expect("there is a handoff");
    link
}
