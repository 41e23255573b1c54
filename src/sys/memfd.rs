//! Sealable memory files: `memfd_create(2)`, `F_ADD_SEALS` in `fcntl(2)`, `mmap(2)`.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

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

/// With these seals nothing in a file can change any more, its length included.
const UNCHANGEABLE: SealFlag =
    SealFlag::F_SEAL_WRITE.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SHRINK);

/// Seals a file for good: nobody can change it, and nobody can add a seal.
pub(crate) fn freeze(fd: BorrowedFd<'_>) -> io::Result<()> {
    add_seals(fd, UNCHANGEABLE | SealFlag::F_SEAL_SEAL)
}

/// The contents of a [frozen](freeze) file, mapped into this process: nothing is copied.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// None for an empty file, which cannot be mapped.
    start: Option<NonNull<u8>>,
    length: usize,
}

// SAFETY: the memory is never written, by anybody, as long as it is mapped.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a file of exactly this length; the mapping outlives the descriptor. It refuses with
    /// `InvalidData` what is not frozen or has another length.
    pub(crate) fn of(fd: BorrowedFd<'_>, length: u64) -> io::Result<Self> {
        let wrong = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text);
        if !seals(fd).is_ok_and(|seals| seals.contains(UNCHANGEABLE)) {
            return Err(wrong("it is not a memory file that is sealed"));
        }
        let size = nix::sys::stat::fstat(fd)?.st_size;
        if u64::try_from(size).ok() != Some(length) {
            let text = format!("it has {size} bytes, and {length} were announced");
            return Err(wrong(&text));
        }
        let length = usize::try_from(length).map_err(|_| wrong("it does not fit the memory"))?;
        if length == 0 {
            return Ok(Self { start: None, length });
        }
        // A shared mapping of a file sealed against writing is refused by kernels before 6.7.
        let flags = libc::MAP_PRIVATE | libc::MAP_POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, flags, fd.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: NonNull::new(start.cast()), length })
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self.start {
            None => &[],
            // SAFETY: so many bytes are mapped there until the drop, and the file behind them is
            // sealed: it neither changes nor shrinks.
            Some(start) => unsafe { std::slice::from_raw_parts(start.as_ptr(), self.length) },
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Some(start) = self.start {
            // SAFETY: the mapping is ours, whole, and nobody borrows from it any more.
            unsafe { libc::munmap(start.as_ptr().cast(), self.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
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

    fn file(bytes: &[u8]) -> std::fs::File {
        let mut file = std::fs::File::from(create(c"test").unwrap());
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_frozen_file_is_mapped_as_it_is_and_outlives_its_descriptor() {
        for bytes in [&b""[..], b"x", &[7; 100_000]] {
            let mut file = file(bytes);
            freeze(file.as_fd()).unwrap();
            let mapping = Mapping::of(file.as_fd(), bytes.len() as u64).unwrap();
            assert!(file.write_all(b"more").is_err());
            assert!(file.set_len(0).is_err() || bytes.is_empty());
            drop(file);
            assert_eq!(&*mapping, bytes);
        }
    }

    #[test]
    fn p9_what_could_change_or_has_another_length_is_not_mapped() {
        let open = file(b"hello");
        let error = Mapping::of(open.as_fd(), 5).unwrap_err();
        assert!(error.to_string().contains("sealed"), "{error}");
        add_seals(open.as_fd(), SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK).unwrap();
        assert!(Mapping::of(open.as_fd(), 5).is_err(), "it could grow");
        freeze(open.as_fd()).unwrap();
        for length in [0, 4, 6, u64::MAX] {
            let error = Mapping::of(open.as_fd(), length).unwrap_err();
            assert!(error.to_string().contains("it has 5 bytes"), "{error}");
        }
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(Mapping::of(reader.as_fd(), 0).is_err(), "a pipe");
    }
}
