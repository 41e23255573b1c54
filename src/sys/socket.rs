//! Accepting, and taking over descriptors that this process was started with.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockType, getsockopt, sockopt};
use nix::sys::stat::{SFlag, fstat};
use socket2::SockAddr;

use crate::sys::{checked, retry};

/// Takes the next connection from a listener: `accept4(2)`, non-blocking and `CLOEXEC` from birth.
pub(crate) fn accept4(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SockAddr)> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let call = |storage: *mut socket2::SockAddrStorage, length: *mut libc::socklen_t| {
        retry(|| {
            // SAFETY: the pointers come from `try_init` below, which gives room for any address
            // and its size.
            let fd = checked(unsafe {
                libc::accept4(listener.as_raw_fd(), storage.cast(), length, flags)
            })?;
            // SAFETY: the kernel has just opened this descriptor for us alone.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        })
    };
    // SAFETY: on success accept4 has written an address and its length.
    unsafe { SockAddr::try_init(call) }
}

/// Whether a number that was inherited is an open descriptor. Touches nothing.
pub(crate) fn is_open(number: RawFd) -> bool {
    borrow(number).is_ok()
}

/// The inode of an inherited descriptor if it is a Unix stream socket. Touches nothing.
pub(crate) fn unix_stream_inode(number: RawFd) -> io::Result<Option<u64>> {
    let fd = borrow(number)?;
    let stat = fstat(fd)?;
    let is_socket =
        SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFSOCK;
    if !is_socket {
        return Ok(None);
    }
    let stream = getsockopt(&fd, sockopt::SockType)? == SockType::Stream;
    Ok((stream && is_unix(fd)?).then_some(stat.st_ino))
}

/// The inode of a descriptor.
pub(crate) fn inode(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(fstat(fd)?.st_ino)
}

/// Takes over an inherited descriptor by its number and makes it `CLOEXEC`.
///
/// For a number that the environment says is ours, once, before anyone else could own it: birth
/// is the only caller. A number that is not open is `EBADF`.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    let fd = borrow(number)?;
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: the number is open, and by the contract above nobody else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether a socket is of the family `AF_UNIX` (`SO_DOMAIN`).
fn is_unix(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut domain: libc::c_int = 0;
    let mut length: libc::socklen_t = size_of::<libc::c_int>() as _;
    let (option, value) = (libc::SO_DOMAIN, (&raw mut domain).cast());
    // SAFETY: SO_DOMAIN writes one int, `domain` is one, and `length` says so.
    checked(unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, &raw mut length)
    })?;
    Ok(domain == AddressFamily::Unix as libc::c_int)
}

/// A look at an inherited descriptor, after the kernel has said that it is open.
fn borrow(number: RawFd) -> io::Result<BorrowedFd<'static>> {
    // SAFETY: F_GETFD with a number that is not open is only an error.
    checked(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: the number is open. It is not -1, which no descriptor is. The callers look before
    // the application has started, so nobody closes it meanwhile.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::{AsFd, IntoRawFd};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use nix::fcntl::OFlag;

    use super::*;

    #[test]
    fn p5_an_accepted_connection_is_cloexec_and_non_blocking() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, peer) = accept4(listener.as_fd()).unwrap();
        assert_eq!(peer.as_socket(), Some(client.local_addr().unwrap()));
        let flags = fcntl(&accepted, FcntlArg::F_GETFD).unwrap();
        assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
        let flags = fcntl(&accepted, FcntlArg::F_GETFL).unwrap();
        assert!(OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK));
        listener.set_nonblocking(true).unwrap();
        let empty = accept4(listener.as_fd()).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn p9_only_a_unix_stream_socket_has_the_inode_of_a_link() {
        let (link, _other) = UnixStream::pair().unwrap();
        let found = unix_stream_inode(link.as_raw_fd()).unwrap();
        assert_eq!(found, Some(inode(link.as_fd()).unwrap()));
        let (pipe, _writer) = std::io::pipe().unwrap();
        assert_eq!(unix_stream_inode(pipe.as_raw_fd()).unwrap(), None);
        let datagram = UnixDatagram::unbound().unwrap();
        assert_eq!(unix_stream_inode(datagram.as_raw_fd()).unwrap(), None);
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(unix_stream_inode(tcp.as_raw_fd()).unwrap(), None);
        assert!(unix_stream_inode(-1).is_err());
        assert!(!is_open(i32::MAX));
    }

    #[test]
    fn p5_an_inherited_descriptor_becomes_owned_and_cloexec() {
        let (pipe, _writer) = std::io::pipe().unwrap();
        fcntl(&pipe, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let owned = inherited(pipe.into_raw_fd()).unwrap();
        let flags = fcntl(&owned, FcntlArg::F_GETFD).unwrap();
        assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
        let closed = inherited(i32::MAX).unwrap_err();
        assert_eq!(closed.raw_os_error(), Some(libc::EBADF));
    }
}
