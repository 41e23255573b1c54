//! Whether two descriptors are one open file: `kcmp(2)`.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::stat::fstat;

use crate::sys::checked;

/// `KCMP_FILE`: the open file descriptions of two descriptors.
const FILE: libc::c_int = 0;

/// Whether both descriptors are of one open file description. Where the kernel may not say, whether
/// they lead to the same inode: that is as good for sockets.
///
/// An inode alone is not enough: all of `eventfd(2)`, `timerfd_create(2)` and the like share one.
pub(crate) fn same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let pid = std::process::id();
    // SAFETY: kcmp reads and writes no memory of ours; all its arguments are numbers.
    let compared = checked(unsafe {
        libc::syscall(libc::SYS_kcmp, pid, pid, FILE, one.as_raw_fd(), other.as_raw_fd())
    });
    match compared {
        Ok(order) => order == 0,
        Err(_) => {
            let inode = |fd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
            inode(one).is_some_and(|inode_of_one| inode(other) == Some(inode_of_one))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::eventfd::EventFd;

    use super::*;

    #[test]
    fn a_copy_is_the_same_and_another_of_its_kind_is_not() {
        let (one, other) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        let copy = one.as_fd().try_clone_to_owned().unwrap();
        assert!(same(one.as_fd(), copy.as_fd()));
        assert!(!same(one.as_fd(), other.as_fd()));
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(same(socket.as_fd(), socket.try_clone().unwrap().as_fd()));
        assert!(!same(socket.as_fd(), one.as_fd()));
    }
}
