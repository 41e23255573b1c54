//! The verdict of one handoff: a register that is written once, arbitrated by the kernel.
//!
//! Both sides hold the same memory file. The seal set names the verdict, and it always holds
//! `F_SEAL_SEAL`, so a second set is refused with `EPERM` (`fcntl(2)`, File Sealing). It needs no
//! message to arrive, no rights over the other process, and it is still there when one side is
//! dead, or wakes up late.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::memfd;

/// How a handoff ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Decision {
    /// The successor owns.
    Committed,
    /// The predecessor owns.
    RolledBack,
}

/// The seals that mean something here; a kernel may hold others (`F_SEAL_EXEC`) from the start.
const MEANING: SealFlag =
    SealFlag::F_SEAL_SEAL.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SHRINK);

/// The seal set for 'committed'.
const COMMITTED: SealFlag = SealFlag::F_SEAL_SEAL.union(SealFlag::F_SEAL_GROW);

/// The seal set for 'rolled back'.
const ROLLED_BACK: SealFlag = SealFlag::F_SEAL_SEAL.union(SealFlag::F_SEAL_SHRINK);

/// The register: open, committed or rolled back, and once decided never anything else.
#[derive(Debug)]
pub(crate) struct Verdict {
    fd: OwnedFd,
}

impl Verdict {
    /// An open verdict for a new handoff.
    pub(crate) fn create() -> Result<Self> {
        let fd = memfd::create(c"heirloom-verdict").map_err(|error| {
            Error::new(ErrorKind::Io, "verdict: create a memory file").with_source(error)
        })?;
        Ok(Self { fd })
    }

    /// The verdict that came with an offer, which may be decided already.
    ///
    /// Anything that could not be decided, or says what no version of this crate would, is
    /// refused.
    pub(crate) fn adopt(fd: OwnedFd) -> Result<Self> {
        let flags = fcntl(&fd, FcntlArg::F_GETFL).map_err(|error| unusable(error.into()))?;
        let mode = OFlag::from_bits_retain(flags) & OFlag::O_ACCMODE;
        if mode != OFlag::O_RDWR {
            return Err(unusable(io::ErrorKind::PermissionDenied.into()));
        }
        let verdict = Self { fd };
        verdict.read()?;
        Ok(verdict)
    }

    /// Decides, unless that has been done; returns what holds now.
    pub(crate) fn decide(&self, decision: Decision) -> Result<Decision> {
        let seals = match decision {
            Decision::Committed => COMMITTED,
            Decision::RolledBack => ROLLED_BACK,
        };
        match memfd::add_seals(self.fd.as_fd(), seals) {
            Ok(()) => Ok(decision),
            Err(error) => self.read()?.ok_or_else(|| unusable(error)),
        }
    }

    /// What has been decided, if anything.
    pub(crate) fn read(&self) -> Result<Option<Decision>> {
        let seals = memfd::seals(self.fd.as_fd()).map_err(unusable)? & MEANING;
        if seals.is_empty() {
            Ok(None)
        } else if seals == COMMITTED {
            Ok(Some(Decision::Committed))
        } else if seals == ROLLED_BACK {
            Ok(Some(Decision::RolledBack))
        } else {
            let text = format!("verdict: seals {:#x} stand for no decision", seals.bits());
            Err(Error::new(ErrorKind::Descriptor, text))
        }
    }
}

impl AsFd for Verdict {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The other side sent something else in place of the register.
fn unusable(error: io::Error) -> Error {
    let text = "verdict: the descriptor is not a memory file that can be sealed";
    Error::new(ErrorKind::Descriptor, text).with_source(error)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    #[test]
    fn p3_the_first_decision_holds_for_both_sides() {
        for (first, second) in [
            (Decision::Committed, Decision::RolledBack),
            (Decision::RolledBack, Decision::Committed),
        ] {
            let here = Verdict::create().unwrap();
            let there = Verdict::adopt(here.as_fd().try_clone_to_owned().unwrap()).unwrap();
            assert_eq!(here.read().unwrap(), None);
            assert_eq!(there.decide(first).unwrap(), first);
            assert_eq!(here.decide(second).unwrap(), first);
            assert_eq!(here.decide(first).unwrap(), first);
            assert_eq!((here.read().unwrap(), there.read().unwrap()), (Some(first), Some(first)));
            let late = Verdict::adopt(here.as_fd().try_clone_to_owned().unwrap()).unwrap();
            assert_eq!(late.read().unwrap(), Some(first));
        }
    }

    #[test]
    fn p3_ten_thousand_races_have_one_winner_each() {
        const RACES: usize = 10_000;
        let barrier = Barrier::new(2);
        // In rounds, so that the test does not hold 20 000 descriptors.
        for _ in 0..RACES / 100 {
            let one: Vec<_> = (0..100).map(|_| Verdict::create().unwrap()).collect();
            let two: Vec<_> = one
                .iter()
                .map(|verdict| {
                    Verdict::adopt(verdict.as_fd().try_clone_to_owned().unwrap()).unwrap()
                })
                .collect();
            let run = |verdicts: &[Verdict], wish| -> Vec<Decision> {
                verdicts
                    .iter()
                    .map(|verdict| {
                        barrier.wait();
                        verdict.decide(wish).unwrap()
                    })
                    .collect()
            };
            let (left, right) = std::thread::scope(|scope| {
                let left = scope.spawn(|| run(&one, Decision::Committed));
                let right = scope.spawn(|| run(&two, Decision::RolledBack));
                (left.join().unwrap(), right.join().unwrap())
            });
            assert_eq!(left, right);
            for (verdict, decision) in one.iter().zip(left) {
                assert_eq!(verdict.read().unwrap(), Some(decision));
            }
        }
    }

    #[test]
    fn p9_what_is_no_register_is_refused() {
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        let (pipe, _writer) = std::io::pipe().unwrap();
        let fixed = memfd_create(c"fixed", MFdFlags::MFD_CLOEXEC).unwrap();
        let odd = Verdict::create().unwrap().fd;
        memfd::add_seals(odd.as_fd(), SealFlag::F_SEAL_GROW).unwrap();
        let both = Verdict::create().unwrap().fd;
        memfd::add_seals(both.as_fd(), MEANING).unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&both));
        let read_only: OwnedFd = std::fs::File::open(path).unwrap().into();
        for fd in [file, pipe.into(), fixed, odd, both, read_only] {
            assert_eq!(Verdict::adopt(fd).unwrap_err().kind(), ErrorKind::Descriptor);
        }
    }
}
