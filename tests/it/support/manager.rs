//! A service manager as far as its notify socket goes: it hears the main process and nobody else
//! (`NotifyAccess=main`), follows `MAINPID`, keeps what it is given, and answers barriers.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};

use super::wait::until;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub pid: i32,
    pub lines: Vec<String>,
    /// Whether it came from the main process.
    pub heard: bool,
}

impl Said {
    pub(crate) fn has(&self, line: &str) -> bool {
        self.lines.iter().any(|other| other == line)
    }

    /// The value of this line.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }
}

#[derive(Default)]
struct Known {
    said: Vec<Said>,
    /// 0 before the first message.
    main: i32,
    store: Vec<(String, OwnedFd)>,
    over: bool,
}

/// The manager; a thread reads its socket.
pub(crate) struct Manager {
    /// As `NOTIFY_SOCKET` has it.
    pub address: String,
    known: Arc<Mutex<Known>>,
    thread: Option<JoinHandle<()>>,
}

impl Manager {
    pub(crate) fn at(directory: &Path) -> Self {
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::new(path.to_str().unwrap().to_owned(), socket)
    }

    /// On an abstract name, which is free since the directory is ours.
    pub(crate) fn at_abstract(directory: &Path) -> Self {
        let name = format!("{}/notify", directory.display());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        Self::new(format!("@{name}"), UnixDatagram::bind_addr(&address).unwrap())
    }

    fn new(address: String, socket: UnixDatagram) -> Self {
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::PassCred, &true).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
        let known = Arc::new(Mutex::new(Known::default()));
        let shared = Arc::clone(&known);
        let thread = std::thread::spawn(move || {
            while !shared.lock().unwrap().over {
                read(&socket, &shared);
            }
        });
        Self { address, known, thread: Some(thread) }
    }

    /// The command that starts the directory's server with this manager, and with these variables.
    pub(crate) fn starts(&self, directory: &Path, variables: &str) -> Command {
        let script =
            format!("export NOTIFY_SOCKET='{}' FDSTORE=64 {variables}; exec \"$0\"", self.address);
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script).arg(directory.join("server"));
        command
    }

    pub(crate) fn said(&self) -> Vec<Said> {
        self.known.lock().unwrap().said.clone()
    }

    pub(crate) fn main(&self) -> i32 {
        self.known.lock().unwrap().main
    }

    /// The first message after the first `skip` that is so, with its place.
    pub(crate) fn until_said(
        &self,
        what: &str,
        skip: usize,
        meets: impl Fn(&Said) -> bool,
    ) -> (usize, Said) {
        until(what, || {
            let said = self.said();
            let at = said.iter().skip(skip).position(&meets)? + skip;
            Some((at, said[at].clone()))
        })
    }

    /// The names in the store, sorted.
    pub(crate) fn stored(&self) -> Vec<String> {
        let known = self.known.lock().unwrap();
        let mut names: Vec<String> = known.store.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// A copy of what is stored under this name.
    pub(crate) fn copy(&self, name: &str) -> OwnedFd {
        let known = self.known.lock().unwrap();
        let found = known.store.iter().find(|(other, _)| other == name);
        found.unwrap().1.try_clone().unwrap()
    }

    /// It starts the service anew: whoever speaks next is the main process.
    pub(crate) fn forget_main(&self) {
        self.known.lock().unwrap().main = 0;
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.known.lock().unwrap().over = true;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn read(socket: &UnixDatagram, shared: &Mutex<Known>) {
    let mut bytes = [0; 8192];
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let mut control = cmsg_space!(UnixCredentials, [RawFd; 64]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    // A timeout: it looks whether the test is over.
    let Ok(got) = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags) else {
        return;
    };
    let (mut pid, mut descriptors) = (0, Vec::new());
    for message in got.cmsgs().unwrap() {
        match message {
            ControlMessageOwned::ScmCredentials(credentials) => pid = credentials.pid(),
            ControlMessageOwned::ScmRights(numbers) => {
                descriptors.extend(numbers.into_iter().map(own));
            }
            _ => {}
        }
    }
    let length = got.bytes;
    let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut known = shared.lock().unwrap();
    if known.main == 0 {
        known.main = pid;
    }
    let said = Said { pid, lines, heard: known.main == pid };
    if said.heard {
        if let Some(main) = said.value("MAINPID") {
            known.main = main.parse().unwrap();
        }
        let name = said.value("FDNAME").unwrap_or("stored").to_owned();
        if said.has("FDSTORE=1") {
            assert_eq!(said.value("FDPOLL"), Some("0"));
            known.store.extend(descriptors.drain(..).map(|descriptor| (name.clone(), descriptor)));
        }
        if said.has("FDSTOREREMOVE=1") {
            known.store.retain(|(other, _)| *other != name);
        }
    }
    known.said.push(said);
}

#[allow(unsafe_code, reason = "recvmsg(2) gives numbers")]
fn own(number: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just opened it for us alone.
    unsafe { OwnedFd::from_raw_fd(number) }
}
