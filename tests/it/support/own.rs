//! What a server looks at, or does, in its own process when a client asks for it.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::SockRef;

use super::{fixture, process};

/// Whether each listening socket of this process is non-blocking.
pub(crate) fn non_blocking_listeners() -> Vec<bool> {
    let listeners = listeners();
    let flags = listeners.iter().map(flags);
    flags.map(|flags| flags.contains(OFlag::O_NONBLOCK)).collect()
}

/// What a former owner may have done: the flag belongs to the description, which all share.
pub(crate) fn make_listeners_blocking() {
    for listener in listeners() {
        let flags = flags(&listener) - OFlag::O_NONBLOCK;
        fcntl(&listener, FcntlArg::F_SETFL(flags)).unwrap();
    }
}

/// Starts this program again as a service of its own in another directory, with our environment.
pub(crate) fn start_again(directory: &Path) -> i32 {
    let log = fs::File::create(directory.join("output.log")).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .env(fixture::VARIABLE, directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn();
    child.unwrap().id().cast_signed()
}

/// The label at the end of the running program's file, whatever stands at its path.
pub(crate) fn label() -> String {
    let mut file = fs::File::open("/proc/self/exe").unwrap();
    file.seek(SeekFrom::End(-16)).unwrap();
    let mut label = String::new();
    file.read_to_string(&mut label).unwrap();
    label.trim().to_owned()
}

fn flags(descriptor: &OwnedFd) -> OFlag {
    OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL).unwrap())
}

/// Duplicates of the listening sockets.
fn listeners() -> Vec<OwnedFd> {
    let numbers = process::descriptors(getpid().as_raw_pid()).into_keys();
    let copies = numbers.filter_map(|number| {
        let copy = duplicate(number)?;
        let listens = SockRef::from(&copy).is_listener().unwrap_or(false);
        listens.then_some(copy)
    });
    copies.collect()
}

/// A descriptor of this process by its number; none if it is not open.
pub(crate) fn duplicate(number: i32) -> Option<OwnedFd> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    pidfd_getfd(&own, number, PidfdGetfdFlags::empty()).ok()
}
