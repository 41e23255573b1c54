//! What costs no wait: what of a file is in memory (`RWF_NOWAIT` of `preadv2(2)`), and whether many
//! descriptors are open.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use super::checked;

/// Reads the beginning of a file if that does not wait for a disk; gives how many bytes came.
///
/// `WouldBlock` if it would; `Unsupported` on a file system that cannot tell.
pub(crate) fn read(file: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    let part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: one part, which is borrowed for the call and as long as it says.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &raw const part, 1, 0, libc::RWF_NOWAIT) };
    Ok(checked(read as i64)?.unsigned_abs() as usize)
}

/// Whether this number is a descriptor of this process (`F_GETFD` of `fcntl(2)`).
pub(crate) fn is_open(number: RawFd) -> bool {
    // SAFETY: it reads a flag, of whatever has this number now.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_is_in_memory_is_read_or_it_is_said_why_not() {
        let mut start = [0; 4];
        let program = File::open("/proc/self/exe").unwrap();
        match read(program.as_fd(), &mut start) {
            Ok(read) => assert_eq!((read, &start), (4, b"\x7fELF")),
            // Pages may have been dropped, and not every file system can tell.
            Err(error) => {
                let kinds = [io::ErrorKind::WouldBlock, io::ErrorKind::Unsupported];
                assert!(kinds.contains(&error.kind()), "{error}");
            }
        }
    }
}
