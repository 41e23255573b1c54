//! What a taker gets.

use std::fmt;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};

use super::work;
use crate::error::{Error, ErrorKind, Result};
use crate::name::Name;
use crate::sys::memfd::Mapping;
use crate::wire::Contents;

/// A state that the predecessor has handed over, whole: its length and its checksum have been
/// compared, and nobody can change it any more.
///
/// It derefs to its bytes, which lie in memory that both processes share until it is dropped:
/// nothing is copied, and reading needs no `await`. A `&[u8]` is a [`Read`](std::io::Read), so
/// `serde_json::from_slice(&blob)` and `serde_json::from_reader(&*blob)` both do; `blob.to_vec()`
/// makes a copy that lives longer.
#[must_use = "a state that is taken and dropped is lost"]
pub struct Blob {
    name: Name,
    version: u32,
    bytes: Mapping,
}

impl Blob {
    /// The name under which it was provided.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The version that it is written in, as its provider numbers them.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("len", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Looks at what came, all of it, and hands it out only if it is what was announced.
///
/// # Errors
///
/// [`ErrorKind::StateRefused`] if it is longer than `limit` bytes; [`ErrorKind::Protocol`] if it
/// is not sealed, or its length or checksum differ.
///
/// # Cancel safety
///
/// Cancel safe: the look goes on for a moment, and what was mapped is given back.
pub(crate) async fn verified(
    name: Name,
    version: u32,
    contents: Contents,
    file: OwnedFd,
    limit: u64,
) -> Result<Blob> {
    if contents.length > limit {
        let text = format!(
            "state \"{name}\": it has {} bytes, more than {limit} (Config::state_limit)",
            contents.length
        );
        return Err(Error::new(ErrorKind::StateRefused, text));
    }
    work::in_a_thread(move || verify(name, version, contents, &file)).await?
}

/// Reads a few bytes or a few hundred megabytes.
pub(crate) fn verify(name: Name, version: u32, contents: Contents, file: &OwnedFd) -> Result<Blob> {
    let wrong = || Error::new(ErrorKind::Protocol, format!("state \"{name}\": cannot be used"));
    let bytes =
        Mapping::of(file.as_fd(), contents.length).map_err(|error| wrong().with_source(error))?;
    let checksum = crc32fast::hash(&bytes);
    if checksum != contents.checksum {
        let text = format!("its checksum is {checksum:08x}, not {:08x}", contents.checksum);
        return Err(wrong().with_source(text));
    }
    Ok(Blob { name, version, bytes })
}
