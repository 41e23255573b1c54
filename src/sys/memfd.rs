//! Sealable memory files: `memfd_create(2)`, `F_ADD_SEALS` in `fcntl(2)`.

use std::ffi::CStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// `MFD_NOEXEC_SEAL`, Linux 6.3: where `vm.memfd_noexec` is 2, nothing else is allowed.
const NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(8);

/// An empty, sealable, `CLOEXEC` memory file. The name shows in `/proc/PID/fd` and nowhere else.
pub(crate) fn create(name: &CStr) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC;
    match memfd_create(name, flags | NOEXEC_SEAL) {
        // Kernels before 6.3 do not know the flag.
        Err(Errno::EINVAL) => Ok(memfd_create(name, flags)?),
        other => Ok(other?),
    }
}

/// Adds seals; `PermissionDenied` once `F_SEAL_SEAL` is among those that hold.
pub(crate) fn add_seals(fd: BorrowedFd<'_>, seals: SealFlag) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(())
}

/// The seals that hold; `InvalidInput` if the file is of a kind that cannot be sealed.
pub(crate) fn seals(fd: BorrowedFd<'_>) -> io::Result<SealFlag> {
    Ok(SealFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GET_SEALS)?))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_first_seal_set_stays() {
        let fd = create(c"test").unwrap();
        let first = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_GROW;
        add_seals(fd.as_fd(), first).unwrap();
        let second = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK;
        let error = add_seals(fd.as_fd(), second).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let held = seals(fd.as_fd()).unwrap();
        assert!(held.contains(first));
        assert!(!held.contains(SealFlag::F_SEAL_SHRINK));
    }

    #[test]
    fn an_ordinary_file_has_no_seals() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(seals(reader.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
