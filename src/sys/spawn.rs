//! Starting a program without a copy of our page tables: `posix_spawn(3)` with file actions.
//!
//! Called by hand, because these functions return their error numbers, and a wrapper that looks
//! for −1 loses them.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigSet, Signal};

/// The first number after the standard streams.
const FIRST_OTHER: RawFd = 3;

/// The file that a program is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Image<'a> {
    /// What this path leads to; not looked up in `PATH`, and relative to the new directory.
    Path(&'a CStr),
    /// What this descriptor, which is `CLOEXEC`, has open: also a file that has no name any more.
    /// The program does not get the descriptor. Needs `/proc`.
    Descriptor(BorrowedFd<'a>),
}

/// The process group that a program is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// Ours.
    Ours,
    /// A new one, whose number is the program's pid.
    Own,
}

/// What to start, and what it gets from us.
///
/// Besides the descriptors listed, the program gets 0, 1 and 2 as they are here (unless they are
/// listed) and nothing else.
pub(crate) struct Order<'a> {
    /// The file to execute.
    pub(crate) image: Image<'a>,
    /// All arguments, beginning with the program's own name.
    pub(crate) args: &'a [CString],
    /// The whole environment, as `NAME=value`.
    pub(crate) env: &'a [CString],
    /// The working directory; ours if there is none.
    pub(crate) cwd: Option<&'a CStr>,
    /// Descriptors, each with the number that it gets in the program, below `close_from`.
    pub(crate) fds: &'a [(BorrowedFd<'a>, RawFd)],
    /// The signals that are blocked in the program; all others are not.
    pub(crate) blocked: &'a [Signal],
    /// The process group of the program.
    pub(crate) group: Group,
    /// A number above all that are listed, from which on everything is closed.
    pub(crate) close_from: RawFd,
}

/// Starts the program and returns its pid: it is our child and must be reaped.
///
/// Signals that we ignore (as `nohup` makes us) are back at their default. An error means that no
/// process is left, also when it was the `exec` that failed.
pub(crate) fn posix_spawn(order: &Order<'_>) -> io::Result<i32> {
    let image = image(order)?;
    let sources: Vec<_> = order.fds.iter().map(|(fd, to)| (fd.as_raw_fd(), *to)).collect();
    let kept = image.descriptor.as_ref().map(AsRawFd::as_raw_fd);
    let plan = plan(&sources, kept, order.close_from)?;
    let mut actions = Actions::new()?;
    if let Some(cwd) = order.cwd {
        actions.change_directory(cwd)?;
    }
    for step in plan {
        match step {
            Step::Copy { from, to } => actions.copy(from, to)?,
            Step::Close(number) => actions.close(number)?,
        }
    }
    actions.close_from(order.close_from.max(kept.map_or(0, |kept| kept + 1)))?;
    let attributes = Attributes::new(order.blocked, order.group)?;
    let args = pointers(order.args);
    let env = pointers(order.env);
    let mut pid = 0;
    // SAFETY: all strings and both arrays end in a null, are borrowed by `order` or owned here,
    // and outlive the call; actions and attributes have been initialised.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            image.path.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            args.as_ptr(),
            env.as_ptr(),
        )
    };
    returned(error)?;
    Ok(pid)
}

/// A file as `execve(2)` wants it: by a path.
struct Executed<'a> {
    path: Cow<'a, CStr>,
    /// What the path names, if it names a descriptor: it stays open, under its number, until the
    /// `exec`, which closes it.
    descriptor: Option<Kept<'a>>,
}

/// A descriptor whose number no other descriptor of the program gets.
enum Kept<'a> {
    Ours(BorrowedFd<'a>),
    Copy(OwnedFd),
}

impl AsRawFd for Kept<'_> {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Ours(fd) => fd.as_raw_fd(),
            Self::Copy(fd) => fd.as_raw_fd(),
        }
    }
}

/// The path of what is to be executed. The number of a descriptor stays as it is where that is
/// possible: each number that is closed below it costs a step in the child.
fn image<'a>(order: &Order<'a>) -> io::Result<Executed<'a>> {
    let fd = match order.image {
        Image::Path(path) => return Ok(Executed { path: Cow::Borrowed(path), descriptor: None }),
        Image::Descriptor(fd) => fd,
    };
    let number = fd.as_raw_fd();
    let taken = number < FIRST_OTHER || order.fds.iter().any(|(_, to)| *to == number);
    let kept = if taken {
        let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(order.close_from.max(FIRST_OTHER)))?;
        // SAFETY: the kernel has just opened this descriptor for us alone.
        Kept::Copy(unsafe { OwnedFd::from_raw_fd(copy) })
    } else {
        Kept::Ours(fd)
    };
    let path = CString::new(format!("/proc/self/fd/{}", kept.as_raw_fd()))?;
    Ok(Executed { path: Cow::Owned(path), descriptor: Some(kept) })
}

/// The strings as C wants them: an array of pointers that ends in a null.
fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    let all = strings.iter().map(|string| string.as_ptr().cast_mut());
    all.chain([ptr::null_mut()]).collect()
}

/// These functions return their error number; `errno` means nothing.
fn returned(error: libc::c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// One thing that the child does before it executes the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// `dup2(2)`; from a number to itself it clears `CLOEXEC`.
    Copy { from: RawFd, to: RawFd },
    /// `close(2)`, which may be of a number that is not open.
    Close(RawFd),
}

/// The order of steps in which no source is overwritten before it has been copied, and `kept`,
/// which is nobody's target, stays open. What is left open besides is numbered `close_from` or
/// higher, and higher than `kept`.
///
/// A move whose target is nobody's source goes first. If there is none, the rest are cycles; one
/// source steps aside to a free number above `close_from`, where it is closed in the end.
fn plan(moves: &[(RawFd, RawFd)], kept: Option<RawFd>, close_from: RawFd) -> io::Result<Vec<Step>> {
    let end = close_from.max(kept.map_or(0, |kept| kept + 1));
    for (index, (_, to)) in moves.iter().enumerate() {
        let twice = moves[..index].iter().any(|(_, other)| other == to);
        if twice || *to < 0 || *to >= close_from {
            let text = format!("descriptor number {to} cannot be given to a program");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    }
    let mut left = moves.to_vec();
    let mut steps = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let free = left.iter().position(|(from, to)| {
            left.iter().all(|(source, target)| source != to || (target == to && source == from))
        });
        if let Some(index) = free {
            let (from, to) = left.swap_remove(index);
            steps.push(Step::Copy { from, to });
        } else {
            let (from, _) = left[0];
            let aside = (end..=RawFd::MAX)
                .find(|number| left.iter().all(|(source, _)| source != number))
                .ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))?;
            steps.push(Step::Copy { from, to: aside });
            left.iter_mut()
                .filter(|(source, _)| *source == from)
                .for_each(|(source, _)| *source = aside);
        }
    }
    let gaps = (FIRST_OTHER..end)
        .filter(|number| kept != Some(*number) && moves.iter().all(|(_, to)| to != number));
    steps.extend(gaps.map(Step::Close));
    Ok(steps)
}

/// `posix_spawn_file_actions_t`, destroyed on drop.
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: the function initialises what the pointer leads to.
        returned(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: it said that it has.
        Ok(Self(unsafe { actions.assume_init() }))
    }

    fn change_directory(&mut self, path: &CStr) -> io::Result<()> {
        let (actions, path) = (&raw mut self.0, path.as_ptr());
        // SAFETY: initialised actions; the path ends in a null and is copied.
        returned(unsafe { libc::posix_spawn_file_actions_addchdir_np(actions, path) })
    }

    fn copy(&mut self, from: RawFd, to: RawFd) -> io::Result<()> {
        // SAFETY: initialised actions; the numbers are only used in the child.
        returned(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, from, to) })
    }

    fn close(&mut self, number: RawFd) -> io::Result<()> {
        // SAFETY: initialised actions; the number is only used in the child.
        returned(unsafe { libc::posix_spawn_file_actions_addclose(&raw mut self.0, number) })
    }

    fn close_from(&mut self, number: RawFd) -> io::Result<()> {
        let actions = &raw mut self.0;
        // SAFETY: initialised actions; the number is only used in the child.
        returned(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(actions, number) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised, and not used again.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

/// `posix_spawnattr_t`, destroyed on drop.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    /// The mask and the group of the child, and every signal back at its default.
    fn new(blocked: &[Signal], group: Group) -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the function initialises what the pointer leads to.
        returned(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: it said that it has.
        let mut attributes = Self(unsafe { attributes.assume_init() });
        let mut mask = SigSet::empty();
        blocked.iter().for_each(|signal| mask.add(*signal));
        let mut reset = SigSet::all();
        reset.remove(Signal::SIGKILL);
        reset.remove(Signal::SIGSTOP);
        let place = &raw mut attributes.0;
        // SAFETY: initialised attributes; the set is copied.
        returned(unsafe { libc::posix_spawnattr_setsigmask(place, mask.as_ref()) })?;
        // SAFETY: as above.
        returned(unsafe { libc::posix_spawnattr_setsigdefault(place, reset.as_ref()) })?;
        let mut flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        if group == Group::Own {
            // SAFETY: as above. 0 stands for the child's own pid.
            returned(unsafe { libc::posix_spawnattr_setpgroup(place, 0) })?;
            flags |= libc::POSIX_SPAWN_SETPGROUP;
        }
        // SAFETY: initialised attributes.
        returned(unsafe { libc::posix_spawnattr_setflags(place, flags as libc::c_short) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised, and not used again.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What the descriptors are after the steps: number to the source it was copied from.
    fn carried_out(moves: &[(RawFd, RawFd)], close_from: RawFd) -> BTreeMap<RawFd, RawFd> {
        let mut open: BTreeMap<_, _> = moves.iter().map(|(from, _)| (*from, *from)).collect();
        let mut kept = BTreeMap::new();
        for step in plan(moves, None, close_from).unwrap() {
            match step {
                Step::Copy { from, to } => {
                    let what = open[&from];
                    open.insert(to, what);
                    kept.insert(to, what);
                }
                Step::Close(number) => {
                    open.remove(&number);
                    kept.remove(&number);
                }
            }
        }
        kept.retain(|number, _| *number < close_from);
        kept
    }

    #[test]
    fn no_source_is_lost_however_the_numbers_meet() {
        let cases: &[&[(RawFd, RawFd)]] = &[
            &[],
            &[(10, 3)],
            &[(3, 3)],
            &[(3, 4), (4, 3)],
            &[(3, 4), (4, 5), (5, 3)],
            &[(3, 4), (4, 3), (5, 6), (6, 5)],
            &[(4, 3), (3, 4), (4, 5)],
            &[(7, 3), (8, 4), (9, 5)],
            &[(3, 5), (3, 4), (3, 3)],
            &[(3, 4), (4, 5), (9, 3)],
            &[(6, 3), (7, 4), (3, 5), (4, 6)],
            &[(0, 3), (1, 4)],
        ];
        for moves in cases {
            let expected: BTreeMap<_, _> = moves.iter().map(|(from, to)| (*to, *from)).collect();
            for close_from in [7, 8, 20] {
                assert_eq!(carried_out(moves, close_from), expected, "{moves:?} to {close_from}");
            }
        }
    }

    #[test]
    fn every_arrangement_of_four_descriptors_is_safe() {
        let numbers = 3..=7;
        for a in numbers.clone() {
            for b in numbers.clone() {
                for c in numbers.clone() {
                    for d in numbers.clone() {
                        let moves = [(a, 3), (b, 4), (c, 5), (d, 6)];
                        let expected = moves.iter().map(|(from, to)| (*to, *from)).collect();
                        assert_eq!(carried_out(&moves, 7), expected, "{moves:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_gap_between_the_numbers_is_closed_and_a_wrong_number_refused() {
        let steps = plan(&[(9, 3), (5, 6)], None, 7).unwrap();
        assert_eq!(steps[2..], [Step::Close(4), Step::Close(5)]);
        for wrong in [&[(9, 3), (8, 3)][..], &[(9, 7)], &[(9, -1)]] {
            assert_eq!(plan(wrong, None, 7).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
    #[test]
    fn the_file_to_execute_stays_open_and_all_around_it_is_closed() {
        // In a gap, at the end, beyond the end; and a source that is the file itself.
        for (kept, moves, close_from) in [
            (5, &[(9, 3), (8, 7)][..], 8),
            (4, &[(9, 3)], 4),
            (12, &[(9, 3)], 4),
            (6, &[(6, 3)], 4),
        ] {
            let steps = plan(moves, Some(kept), close_from).unwrap();
            let end = close_from.max(kept + 1);
            for number in FIRST_OTHER..end {
                let target = moves.iter().any(|(_, to)| *to == number);
                let closed = steps.contains(&Step::Close(number));
                assert_eq!(closed, !target && number != kept, "{number} of {moves:?}");
            }
            assert!(steps.iter().all(|step| !matches!(step, Step::Copy { to, .. } if *to == kept)));
        }
        // A cycle steps aside beyond the file, not onto it.
        let steps = plan(&[(3, 4), (4, 3)], Some(5), 5).unwrap();
        assert_eq!(steps[0], Step::Copy { from: 3, to: 6 });
    }
}
