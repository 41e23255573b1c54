//! Who may give a command.

use std::fs;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use tokio::net::UnixStream;

use crate::error::{Error, ErrorKind, Result};

/// What `/proc/sys/kernel/overflowuid` says unless somebody changed it.
const OVERFLOW: u32 = 65_534;

/// The users who may give commands.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    users: Vec<u32>,
    overflow: u32,
}

/// Who is at the other end, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The process that connected, zero if it is in another namespace.
    pub pid: i32,
    /// The user it was then.
    pub uid: u32,
}

impl Access {
    /// Our own user, root, and these.
    pub(crate) fn new(others: &[u32]) -> Self {
        let own = nix::unistd::geteuid().as_raw();
        let users = [own, 0].iter().chain(others).copied().collect();
        let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid");
        let overflow = overflow.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(OVERFLOW);
        Self { users, overflow }
    }

    /// Whether this user may give commands. The overflow user stands for any user of another
    /// namespace and never may.
    pub(crate) fn allows(&self, uid: u32) -> bool {
        uid != self.overflow && self.users.contains(&uid)
    }

    /// The peer, if it may.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credentials`] if it may not.
    pub(super) fn check(&self, stream: &UnixStream) -> Result<Peer> {
        let found = getsockopt(stream, PeerCredentials).map_err(|error| {
            Error::new(ErrorKind::Credentials, "control socket: who connects is not known")
                .with_source(std::io::Error::from(error))
        })?;
        let peer = Peer { pid: found.pid(), uid: found.uid() };
        if self.allows(peer.uid) {
            return Ok(peer);
        }
        let text = format!(
            "user {} may not give commands here; the service's own user, root, and who is in its \
             list of control users may",
            peer.uid
        );
        Err(Error::new(ErrorKind::Credentials, text))
    }
}
