//! How long a file may be that this process writes: `RLIMIT_FSIZE` in `getrlimit(2)`.

use std::io;

use nix::sys::resource::{Resource, getrlimit};

/// `FileTooLarge` if a write up to `length` bytes would pass the limit, of memory files too: the
/// write itself would end the process with `SIGXFSZ`, as nobody handles that.
pub(crate) fn check(length: u64) -> io::Result<()> {
    let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE)?;
    if length <= limit {
        return Ok(());
    }
    let text = format!("files may not be longer than {limit} bytes (RLIMIT_FSIZE)");
    Err(io::Error::new(io::ErrorKind::FileTooLarge, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_the_limit_may_be_written() {
        let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        check(limit).unwrap();
        check(0).unwrap();
        if let Some(beyond) = limit.checked_add(1) {
            assert_eq!(check(beyond).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        }
    }
}
