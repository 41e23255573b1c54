//! Receiving one record or datagram without waiting, whatever the flags of the description say.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::SockAddr;

/// Receives one datagram or record and its sender (`recvfrom(2)` with `MSG_DONTWAIT`).
///
/// What does not fit into `buffer` is lost, as with every datagram socket.
pub(crate) fn recv_from(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, SockAddr)> {
    let receive = |storage: *mut socket2::SockAddrStorage, length: *mut libc::socklen_t| {
        // SAFETY: `buffer` is valid for writes of its length, `storage` and `length` come from
        // `SockAddr::try_init` and describe memory that holds any socket address.
        let received = unsafe {
            libc::recvfrom(
                socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
                storage.cast(),
                length,
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    };
    // SAFETY: the kernel has written an address of `length` bytes when `recvfrom` succeeds.
    unsafe { SockAddr::try_init(receive) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_datagram_is_received_and_an_empty_queue_does_not_block() {
        let (here, there) = UnixDatagram::pair().unwrap();
        let mut buffer = [0; 8];
        let empty = recv_from(here.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        there.send(b"hello").unwrap();
        let (length, sender) = recv_from(here.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"hello");
        assert!(sender.as_pathname().is_none(), "it has no name");
    }
}
