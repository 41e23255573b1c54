//! What can be asked of a new socket.

use std::fmt;
use std::io;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;

/// A look at a new socket between `socket(2)` and `bind(2)`.
type Configure = Arc<dyn Fn(&socket2::Socket) -> io::Result<()> + Send + Sync>;

/// How a socket is made, for all kinds of sockets; what does not fit a kind is ignored.
///
/// An inherited socket was made by an earlier generation. Where its options differ from what is
/// asked for here, the upgrade's report says so; what can be changed on a living socket is
/// changed at commit (backlog, buffers, mode), the rest waits for a full restart.
///
/// ```
/// use std::num::NonZeroU32;
/// let options = heirloom::ListenOptions::new().backlog(NonZeroU32::new(1024).unwrap()).only_v6();
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct ListenOptions {
    pub(crate) backlog: NonZeroU32,
    pub(crate) reuse_address: bool,
    pub(crate) only_v6: bool,
    pub(crate) nodelay: bool,
    pub(crate) mode: Option<u32>,
    pub(crate) receive_buffer: Option<NonZeroUsize>,
    pub(crate) send_buffer: Option<NonZeroUsize>,
    pub(crate) configure: Option<Configure>,
}

impl ListenOptions {
    /// The default backlog, in connections.
    pub const BACKLOG: u32 = 4096;

    /// The defaults: backlog 4096, `SO_REUSEADDR` for TCP, `[::]` also serves IPv4, `TCP_NODELAY`
    /// on accepted connections, the kernel's buffer sizes, the umask's mode for Unix paths.
    #[must_use]
    pub fn new() -> Self {
        Self {
            backlog: NonZeroU32::new(Self::BACKLOG).unwrap_or(NonZeroU32::MIN),
            reuse_address: true,
            only_v6: false,
            nodelay: true,
            mode: None,
            receive_buffer: None,
            send_buffer: None,
            configure: None,
        }
    }

    /// How many connections may wait to be accepted; default 4096.
    ///
    /// The kernel silently lowers it to `net.core.somaxconn` (`listen(2)`). While a handoff is
    /// under way new connections wait here, so it should hold what arrives in half a second.
    #[must_use]
    pub fn backlog(mut self, connections: NonZeroU32) -> Self {
        self.backlog = connections;
        self
    }

    /// Binds TCP without `SO_REUSEADDR` (`socket(7)`): a fresh start then fails while connections
    /// of a dead server are in TIME_WAIT. An upgrade does not bind again and is not affected.
    #[must_use]
    pub fn without_reuse_address(mut self) -> Self {
        self.reuse_address = false;
        self
    }

    /// An IPv6 socket serves IPv6 only (`IPV6_V6ONLY`, `ipv6(7)`); by default `[::]` serves IPv4 too.
    #[must_use]
    pub fn only_v6(mut self) -> Self {
        self.only_v6 = true;
        self
    }

    /// Leaves Nagle's algorithm on for accepted TCP connections; by default `TCP_NODELAY` is set
    /// (`tcp(7)`).
    #[must_use]
    pub fn with_nagle(mut self) -> Self {
        self.nodelay = false;
        self
    }

    /// Permission bits of a Unix path, for example `0o660`; by default the umask decides.
    ///
    /// They are set before the path appears under its name. Linux asks for write permission to
    /// connect (`unix(7)`).
    #[must_use]
    pub fn mode(mut self, bits: u32) -> Self {
        self.mode = Some(bits & 0o7777);
        self
    }

    /// `SO_RCVBUF` in bytes, as asked for: the kernel doubles and caps it (`socket(7)`). Accepted
    /// TCP connections take it over.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: NonZeroUsize) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// `SO_SNDBUF` in bytes, as asked for: the kernel doubles and caps it (`socket(7)`). Accepted
    /// TCP connections take it over.
    #[must_use]
    pub fn send_buffer(mut self, bytes: NonZeroUsize) -> Self {
        self.send_buffer = Some(bytes);
        self
    }

    /// Sets any other option on a socket that is made anew, after the options above and before
    /// `bind(2)`. It is not called for an inherited socket. It must not block, and must leave the
    /// socket non-blocking.
    #[must_use]
    pub fn configure(
        mut self,
        configure: impl Fn(&socket2::Socket) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.configure = Some(Arc::new(configure));
        self
    }

    /// The backlog as `listen(2)` takes it.
    pub(crate) fn backlog_for_listen(&self) -> i32 {
        i32::try_from(self.backlog.get()).unwrap_or(i32::MAX)
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ListenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenOptions")
            .field("backlog", &self.backlog)
            .field("reuse_address", &self.reuse_address)
            .field("only_v6", &self.only_v6)
            .field("nodelay", &self.nodelay)
            .field("mode", &self.mode)
            .field("receive_buffer", &self.receive_buffer)
            .field("send_buffer", &self.send_buffer)
            .field("configure", &self.configure.is_some())
            .finish()
    }
}
