//! Errors of `accept(2)` that pass.

use std::io;

/// The connection failed before it was accepted: the next one may be fine (`accept(2)`).
pub(super) fn is_lost_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPROTO
                | libc::EPERM
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
        )
    )
}

/// The process or the machine has run out of something that comes back.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::ENOSPC)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_told_from_a_shortage() {
        let error = io::Error::from_raw_os_error;
        assert!(is_lost_connection(&error(libc::ECONNABORTED)));
        assert!(is_shortage(&error(libc::EMFILE)));
        assert!(!is_lost_connection(&error(libc::EBADF)) && !is_shortage(&error(libc::EBADF)));
    }
}
