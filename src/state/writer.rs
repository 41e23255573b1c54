//! Where a provider writes.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::{file_size, memfd};
use crate::wire::Contents;

/// Small writes are gathered up to this length.
const GATHERED: usize = 64 * 1024;

/// Long ones are cut, so that what was just added to the checksum is still in a cache when the
/// kernel copies it.
const CHUNK: usize = 256 * 1024;

/// Takes the bytes of a state, in any portions: small writes are gathered.
///
/// A write fails once the state is longer than [`Config::state_limit`](crate::Config::state_limit),
/// and when nobody waits for it any more. The state is refused then, whatever the closure returns.
#[derive(Debug)]
pub struct StateWriter {
    file: File,
    gathered: Vec<u8>,
    checksum: crc32fast::Hasher,
    length: u64,
    /// How much of it is in the file.
    through: u64,
    limit: u64,
    version: u32,
    given_up: Arc<AtomicBool>,
    failed: Option<Why>,
}

/// Why a write failed.
#[derive(Clone, Copy, Debug)]
enum Why {
    TooLong,
    GivenUp,
    Limited,
    Io(io::ErrorKind),
}

impl StateWriter {
    /// An empty state of at most `limit` bytes; writes fail once `given_up` is set.
    pub(crate) fn new(version: u32, limit: u64, given_up: Arc<AtomicBool>) -> Result<Self> {
        let file = memfd::create(c"heirloom-state").map_err(|error| {
            Error::new(ErrorKind::Io, "no memory file could be had for a state").with_source(error)
        })?;
        Ok(Self {
            file: file.into(),
            gathered: Vec::new(),
            checksum: crc32fast::Hasher::new(),
            length: 0,
            through: 0,
            limit,
            version,
            given_up,
            failed: None,
        })
    }

    /// The version to write: the newest that both sides know.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// How much has been written, in bytes.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.length
    }

    /// The file, which nobody can change any more, and what it holds.
    pub(crate) fn finish(mut self) -> Result<(OwnedFd, Contents)> {
        let refused = |text: String| Error::new(ErrorKind::StateRefused, text);
        // Some closures swallow the error of a write.
        self.write_gathered().map_err(|error| refused(error.to_string()))?;
        let contents = Contents { length: self.length, checksum: self.checksum.finalize() };
        memfd::freeze(self.file.as_fd())
            .map_err(|error| refused("it could not be sealed".into()).with_source(error))?;
        Ok((self.file.into(), contents))
    }

    fn fail(&mut self, why: Why) -> io::Error {
        let why = *self.failed.get_or_insert(why);
        match why {
            Why::TooLong => io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it is longer than {} bytes (Config::state_limit)", self.limit),
            ),
            Why::GivenUp => io::Error::new(io::ErrorKind::TimedOut, "nobody waits for it any more"),
            Why::Limited => io::Error::new(
                io::ErrorKind::FileTooLarge,
                "it is longer than this process may write (RLIMIT_FSIZE)",
            ),
            Why::Io(kind) => io::Error::new(kind, format!("its memory file: {kind}")),
        }
    }

    fn check(&mut self) -> io::Result<()> {
        if self.given_up.load(Ordering::Relaxed) {
            self.failed.get_or_insert(Why::GivenUp);
        }
        match self.failed {
            Some(why) => Err(self.fail(why)),
            None => Ok(()),
        }
    }

    fn write_gathered(&mut self) -> io::Result<()> {
        self.check()?;
        let mut gathered = std::mem::take(&mut self.gathered);
        let written = self.write_through(&gathered);
        gathered.clear();
        self.gathered = gathered;
        written
    }

    fn write_through(&mut self, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(CHUNK) {
            self.check()?;
            if file_size::check(self.through.saturating_add(chunk.len() as u64)).is_err() {
                return Err(self.fail(Why::Limited));
            }
            self.checksum.update(chunk);
            if let Err(error) = self.file.write_all(chunk) {
                return Err(self.fail(Why::Io(error.kind())));
            }
            self.through += chunk.len() as u64;
        }
        Ok(())
    }
}

impl Write for StateWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        let length = self.length.saturating_add(bytes.len() as u64);
        if length > self.limit {
            return Err(self.fail(Why::TooLong));
        }
        if self.gathered.len() + bytes.len() <= GATHERED {
            self.gathered.extend_from_slice(bytes);
        } else {
            self.write_gathered()?;
            if bytes.len() <= GATHERED {
                self.gathered.extend_from_slice(bytes);
            } else {
                self.write_through(bytes)?;
            }
        }
        self.length = length;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_gathered()
    }
}
