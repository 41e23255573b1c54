//! Every bound of the protocol, in one place.
//!
//! A message that keeps the counts and lengths below always fits [`MAX_PAYLOAD`]: the tests encode
//! the longest one of each kind. Text doubles at most, because control characters are replaced
//! before it is written and only quotes, backslashes and line breaks are escaped.

/// The longest payload of a frame, in bytes.
pub(crate) const MAX_PAYLOAD: usize = 512 * 1024;

/// Descriptors in one frame: `SCM_MAX_FD` of unix(7).
pub(crate) const MAX_FDS: usize = 253;

/// Items in one frame: each has a descriptor.
pub(crate) const MAX_ITEMS: usize = MAX_FDS;

/// Descriptors in a whole offer.
pub(crate) const MAX_OFFERED: usize = 65_536;

/// Claimed indices in one `Ready` frame.
pub(crate) const MAX_CLAIMED: usize = 4_096;

/// Notes in one `Ready` frame.
pub(crate) const MAX_NOTES: usize = 32;

/// The longest note, in bytes of UTF-8.
pub(crate) const MAX_NOTE: usize = 512;

/// The longest reason or error text, in bytes of UTF-8.
pub(crate) const MAX_REASON: usize = 16 * 1024;

/// The longest version of an application, in bytes of UTF-8.
pub(crate) const MAX_APP_VERSION: usize = 256;

/// The longest path or abstract name of a Unix socket, in bytes: `sun_path` of unix(7).
pub(crate) const MAX_ADDRESS: usize = 108;

/// The longest path or working directory of a program, in bytes: `PATH_MAX` without its NUL.
pub(crate) const MAX_EXECUTABLE_PATH: usize = 4_095;

/// Arguments of a program.
pub(crate) const MAX_ARGUMENTS: usize = 256;

/// All arguments of a program together, in bytes.
pub(crate) const MAX_ARGUMENTS_BYTES: usize = 16 * 1024;

/// Programs whose failures are remembered.
pub(crate) const MAX_FAILURES: usize = 16;

/// The longest cause of a program's failure, in bytes of UTF-8.
pub(crate) const MAX_CAUSE: usize = 512;

/// Connections that a last report lists; the rest is only counted.
pub(crate) const MAX_CUT: usize = 64;

/// The longest name or reason of a connection in a last report, in bytes of UTF-8.
pub(crate) const MAX_CUT_TEXT: usize = 192;

/// Sessions in one frame: each has a descriptor, and one more may hold the bytes of all of them.
pub(crate) const MAX_SESSIONS: usize = MAX_FDS - 1;

/// The longest address of a session's peer, in bytes of UTF-8.
pub(crate) const MAX_PEER: usize = 128;

/// The longest frame that always travels whole, header included, in bytes.
///
/// The kernel cuts a stream write into buffers of at most half of `SO_SNDBUF` less 64 bytes, and
/// accepts a buffer whole or not at all. `SO_SNDBUF` is never below 4608 bytes, so a write of up to
/// 2240 bytes never is half in the kernel, however small and however full the sender's buffer is.
/// Everything that an elder sends stays below this bound, because its link may be handed on to
/// another process at any time between two frames.
pub(crate) const WHOLE_FRAME: usize = 2 * 1024;
