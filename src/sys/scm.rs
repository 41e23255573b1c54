//! Bytes with descriptors and credentials over a Unix socket: `sendmsg(2)`, `recvmsg(2)`,
//! `unix(7)`.
//!
//! By hand, because the wrappers leak: on `MSG_CTRUNC` the descriptors that did fit are already
//! installed in this process, and whoever only returns an error loses them.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::sys::{checked, cmsg, retry};

/// The most descriptors that one message can carry (`SCM_MAX_FD` in the kernel).
pub(crate) const MAX_FDS: usize = 253;

/// The type of a control message that carries a pidfd of the sender (`SCM_PIDFD`, Linux 6.5).
const SCM_PIDFD: i32 = 4;

/// Room for all descriptors of one message.
const RIGHTS_SPACE: usize = cmsg::space(MAX_FDS * size_of::<i32>());

/// Room for everything that can come with one message: descriptors, credentials, a pidfd, and a
/// security label of usual length.
const CONTROL_SPACE: usize =
    RIGHTS_SPACE + cmsg::space(size_of::<libc::ucred>()) + cmsg::space(size_of::<i32>()) + 512;

/// Who sent a message, as the kernel vouches for it (`SCM_CREDENTIALS`).
///
/// All three are as seen from the receiver's namespaces: the pid is 0 for a process that is not
/// visible here, the ids are the overflow ids for users that are not mapped here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// The process.
    pub(crate) pid: i32,
    /// Its effective or real user.
    pub(crate) uid: u32,
    /// Its effective or real group.
    pub(crate) gid: u32,
}

/// What one `recvmsg` brought besides descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// How many bytes; 0 means that the other side has closed.
    pub(crate) bytes: usize,
    /// Who sent them, if the socket asks for that ([`pass_credentials`]).
    pub(crate) credentials: Option<Credentials>,
}

/// Sends bytes, and with the first of them the descriptors, in one `sendmsg` that never blocks.
///
/// Returns how many bytes went. That may be fewer than were given, and then all descriptors have
/// gone with them: the rest must be sent without. `WouldBlock` means that nothing has gone.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    if fds.len() > MAX_FDS {
        return Err(invalid("more than 253 descriptors in one message"));
    }
    if bytes.is_empty() {
        // The kernel drops descriptors without a byte to carry them.
        return if fds.is_empty() { Ok(0) } else { Err(invalid("descriptors without a byte")) };
    }
    let mut numbers = [0_u8; MAX_FDS * size_of::<i32>()];
    for (place, fd) in numbers.as_chunks_mut::<4>().0.iter_mut().zip(fds) {
        *place = fd.as_raw_fd().to_ne_bytes();
    }
    let mut control = cmsg::Buffer::<RIGHTS_SPACE>::new();
    let mut slice =
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut header = header(&mut slice);
    if !fds.is_empty() {
        let data = &numbers[..size_of_val(fds) / size_of::<BorrowedFd<'_>>() * size_of::<i32>()];
        let taken = control
            .encode(libc::SOL_SOCKET, libc::SCM_RIGHTS, data)
            .ok_or_else(|| invalid("descriptors do not fit the control buffer"))?;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = taken as _;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let sent = retry(|| {
        // SAFETY: the header points to `bytes` and `control`, which outlive the call and are only
        // read by it; the descriptors in it are borrowed for as long.
        checked(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) } as i64)
    })?;
    Ok(sent as usize)
}

/// Receives bytes and whatever comes with them in one `recvmsg` that never blocks.
///
/// There is always room for 253 descriptors; they are `CLOEXEC` and go to the end of `fds`. If
/// some could not be installed (`MSG_CTRUNC`: the limit of open files), those of this message that
/// were are closed, and the error is of kind `InvalidData`.
pub(crate) fn recv(
    socket: BorrowedFd<'_>,
    buf: &mut [u8],
    fds: &mut VecDeque<OwnedFd>,
) -> io::Result<Received> {
    if buf.is_empty() {
        return Err(invalid("receive into an empty buffer"));
    }
    let mut control = cmsg::Buffer::<CONTROL_SPACE>::new();
    let mut slice = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let mut header = header(&mut slice);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    let bytes = retry(|| {
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_SPACE as _;
        // SAFETY: the header points to `buf` and `control`, which outlive the call, are not
        // borrowed by anyone else, and have the lengths given.
        checked(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) } as i64)
    })?;
    let filled = &control.0[..CONTROL_SPACE.min(header.msg_controllen)];
    let (installed, credentials) = take_control(filled);
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        let text = format!(
            "descriptors were lost: {} of a message could be opened, the rest not; \
             raise the limit of open files (RLIMIT_NOFILE)",
            installed.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    fds.extend(installed);
    Ok(Received { bytes: bytes as usize, credentials })
}

/// Takes ownership of every descriptor in a filled control buffer, and reads the credentials.
fn take_control(filled: &[u8]) -> (Vec<OwnedFd>, Option<Credentials>) {
    let mut fds = Vec::new();
    let mut credentials = None;
    for message in cmsg::decode(filled).filter(|message| message.level == libc::SOL_SOCKET) {
        match message.kind {
            libc::SCM_RIGHTS => fds.extend(cmsg::ints(message.data).map(|number| {
                // SAFETY: the kernel has just installed this descriptor for us alone.
                unsafe { OwnedFd::from_raw_fd(number) }
            })),
            libc::SCM_CREDENTIALS => {
                let mut numbers = cmsg::ints(message.data);
                if let (Some(pid), Some(uid), Some(gid)) =
                    (numbers.next(), numbers.next(), numbers.next())
                {
                    let (uid, gid) = (uid.cast_unsigned(), gid.cast_unsigned());
                    credentials = Some(Credentials { pid, uid, gid });
                }
            }
            // Nobody asks for it, but a descriptor that came must not be lost.
            SCM_PIDFD => {
                cmsg::ints(message.data).filter(|number| *number >= 0).for_each(|number| {
                    // SAFETY: the kernel has just installed this descriptor for us alone.
                    drop(unsafe { OwnedFd::from_raw_fd(number) });
                })
            }
            _ => {}
        }
    }
    (fds, credentials)
}

/// Copies the next bytes without taking them, and without installing any descriptor: `recv(2)`
/// with `MSG_PEEK`, never blocking. 0 means that the other side has closed.
pub(crate) fn peek(socket: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    let length = buf.len();
    let copied = retry(|| {
        // SAFETY: the buffer is ours alone and has the length given.
        let copied =
            unsafe { libc::recv(socket.as_raw_fd(), buf.as_mut_ptr().cast(), length, flags) };
        checked(copied as i64)
    })?;
    Ok(copied as usize)
}

/// How many bytes wait to be received (`FIONREAD`, `unix(7)`).
pub(crate) fn queued(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, and `count` is one.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Asks the kernel to say with every message who sent it (`SO_PASSCRED`).
///
/// On a socket pair `SO_PEERCRED` only names whoever created the pair.
pub(crate) fn pass_credentials(socket: BorrowedFd<'_>) -> io::Result<()> {
    socket2::SockRef::from(&socket).set_passcred(true)
}

/// A message header for one slice of bytes, without control messages.
fn header(slice: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: msghdr is plain C data for which all zeroes is a valid value: null pointers with
    // lengths of 0.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = slice;
    header.msg_iovlen = 1;
    header
}

/// A request that no kernel would carry out.
fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    #[test]
    fn p5_253_descriptors_arrive_owned_and_cloexec() {
        let (here, there) = pair();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let many = vec![writer.as_fd(); MAX_FDS];
        assert_eq!(send(here.as_fd(), b"x", &many).unwrap(), 1);
        let mut fds = VecDeque::new();
        let mut buf = [0; 16];
        let received = recv(there.as_fd(), &mut buf, &mut fds).unwrap();
        assert_eq!(received, Received { bytes: 1, credentials: None });
        assert_eq!(fds.len(), MAX_FDS);
        for fd in &fds {
            let flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
        }
        std::fs::File::from(fds.pop_front().unwrap()).write_all(b"hi").unwrap();
        drop((fds, writer));
        let mut text = String::new();
        // The end comes only when every copy is closed.
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi");
    }

    #[test]
    fn p9_what_cannot_be_sent_is_refused_before_it_is_tried() {
        let (here, there) = pair();
        let many = vec![there.as_fd(); MAX_FDS + 1];
        for error in [send(here.as_fd(), b"x", &many), send(here.as_fd(), b"", &many[..1])] {
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(send(here.as_fd(), b"", &[]).unwrap(), 0);
        assert_eq!(queued(there.as_fd()).unwrap(), 0);
    }

    #[test]
    fn p9_the_kernel_says_who_sent() {
        let (here, there) = pair();
        pass_credentials(there.as_fd()).unwrap();
        send(here.as_fd(), b"hello", &[here.as_fd()]).unwrap();
        let mut fds = VecDeque::new();
        let received = recv(there.as_fd(), &mut [0; 16], &mut fds).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        assert_eq!(received.credentials, Some(Credentials { pid, uid, gid }));
        assert_eq!((received.bytes, fds.len()), (5, 1));
    }

    /// Runs one ignored test of this file in a process that may open few files.
    #[test]
    fn p5_descriptors_that_cannot_all_be_opened_are_all_closed() {
        let status = std::process::Command::new("/bin/sh")
            .args(["-c", "ulimit -n 40; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "sys::scm::tests::under_a_low_limit", "--ignored"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&status.stdout);
        assert!(status.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    #[ignore = "started with a low limit by the test above"]
    fn under_a_low_limit() {
        let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let (here, there) = pair();
        let before = count();
        let mut fds = VecDeque::new();
        for _ in 0..3 {
            send(here.as_fd(), b"x", &[here.as_fd(); 100]).unwrap();
            let lost = recv(there.as_fd(), &mut [0; 4], &mut fds).unwrap_err();
            assert_eq!(lost.kind(), io::ErrorKind::InvalidData);
            assert!(lost.to_string().contains("RLIMIT_NOFILE"), "{lost}");
            assert_eq!((fds.len(), count()), (0, before));
        }
        send(here.as_fd(), b"x", &[here.as_fd(); 3]).unwrap();
        recv(there.as_fd(), &mut [0; 4], &mut fds).unwrap();
        assert_eq!(fds.len(), 3);
    }

    #[test]
    fn peek_takes_neither_bytes_nor_descriptors() {
        let (here, there) = pair();
        send(here.as_fd(), b"hello", &[here.as_fd(), here.as_fd()]).unwrap();
        let mut buf = [0; 16];
        for _ in 0..3 {
            assert_eq!(peek(there.as_fd(), &mut buf).unwrap(), 5);
            assert_eq!(&buf[..5], b"hello");
            assert_eq!(queued(there.as_fd()).unwrap(), 5);
        }
        let mut fds = VecDeque::new();
        assert_eq!(recv(there.as_fd(), &mut buf, &mut fds).unwrap().bytes, 5);
        assert_eq!(fds.len(), 2);
    }

    #[test]
    fn nothing_there_would_block_and_a_closed_end_is_zero() {
        let (here, there) = pair();
        let mut fds = VecDeque::new();
        let mut buf = [0; 4];
        assert_eq!(
            recv(there.as_fd(), &mut buf, &mut fds).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert_eq!(peek(there.as_fd(), &mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(here);
        assert_eq!(recv(there.as_fd(), &mut buf, &mut fds).unwrap().bytes, 0);
        assert_eq!(peek(there.as_fd(), &mut buf).unwrap(), 0);
        let broken = send(there.as_fd(), b"x", &[]).unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_short_send_has_taken_its_descriptors_and_a_refused_one_has_not() {
        let (here, there) = pair();
        let big = vec![7; 4 << 20];
        let sent = send(here.as_fd(), &big, &[here.as_fd()]).unwrap();
        assert!(sent < big.len());
        let full = loop {
            match send(here.as_fd(), &big, &[]) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let full = send(here.as_fd(), b"x", &[here.as_fd()]).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let mut fds = VecDeque::new();
        let mut buf = vec![0; 1 << 20];
        while recv(there.as_fd(), &mut buf, &mut fds).is_ok_and(|received| received.bytes > 0) {}
        assert_eq!(fds.len(), 1);
    }
}
