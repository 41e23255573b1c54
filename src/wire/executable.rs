//! What a program's file is, how it was started, and which ones have failed.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::limits::{
    MAX_APP_VERSION, MAX_ARGUMENTS, MAX_ARGUMENTS_BYTES, MAX_CAUSE, MAX_EXECUTABLE_PATH,
};
use super::text::{self, Bytes, fit};
use crate::generation::Generation;

/// A generation's program: what comes with the descriptor of its file, so that it can be started
/// again when the file has lost its name.
///
/// The environment is not in it: it may hold secrets, and whoever starts the program has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub(crate) struct ExecutableRecord {
    /// Whose program it is.
    pub of: Which,
    /// The generation that ran it.
    pub generation: Generation,
    /// The application's version, for people.
    pub version: String,
    /// The path by which it was started, symbolic links as they are.
    pub path: PathBuf,
    /// All arguments, beginning with the program's own name.
    pub args: Vec<OsString>,
    /// The working directory that it was started in.
    pub cwd: Option<PathBuf>,
    /// What the file was when its generation began.
    pub identity: Identity,
}

impl ExecutableRecord {
    /// The record as it can be sent: text cut to its limit. None if the path, the directory or the
    /// arguments are too long for a message: half of them would start another program.
    pub(crate) fn sendable(mut self) -> Option<Self> {
        self.version = fit(&self.version, MAX_APP_VERSION);
        Written::from(self.clone()).within_limits().then_some(self)
    }
}

/// Whose program it is, as seen from the generation that offers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Cow<'_, str>", into = "&'static str")]
pub(crate) enum Which {
    /// The one that the offering generation runs.
    Running,
    /// The one that it would roll back to.
    Previous,
    /// Something that this version does not know. Its descriptor is closed.
    Other,
}

impl From<Which> for &'static str {
    fn from(which: Which) -> Self {
        match which {
            Which::Running => "running",
            Which::Previous => "previous",
            Which::Other => "other",
        }
    }
}

impl From<Cow<'_, str>> for Which {
    fn from(word: Cow<'_, str>) -> Self {
        match &*word {
            "running" => Self::Running,
            "previous" => Self::Previous,
            _ => Self::Other,
        }
    }
}

/// What tells one file, with what it holds, from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Its length, in bytes.
    pub size: u64,
    /// When it was last written: seconds and nanoseconds of the epoch, `st_mtim` of stat(2).
    pub mtime: (i64, u32),
    /// The device that it is on.
    pub dev: u64,
    /// Its inode there.
    pub ino: u64,
    /// The hash of its bytes, once it has been taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Hash>,
}

impl Identity {
    /// Whether both are of the same program: by its bytes where both hashes are known, so that a
    /// second copy is no other program, else by the very file and when it was written.
    pub(crate) fn is_same_program(&self, other: &Self) -> bool {
        if self.size != other.size {
            return false;
        }
        match (self.hash, other.hash) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => (self.mtime, self.dev, self.ino) == (other.mtime, other.dev, other.ino),
        }
    }
}

/// A hash of a file's bytes, in 32 hexadecimal digits. It tells files apart and proves nothing: who
/// means to can make two files with the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Hash(pub [u8; 16]);

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text::hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let digits = text::bounded::<D, 32>(from)?;
        let bytes = text::unhex(&digits).and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a hash that is not of 32 hexadecimal digits"))
    }
}

/// A program that has failed, as one generation tells the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailureRecord {
    /// The program.
    pub identity: Identity,
    /// How often in a row.
    pub failures: u32,
    /// When the last time was, in milliseconds of the epoch.
    pub at_ms: u64,
    /// What the last failure was, for people.
    #[serde(deserialize_with = "text::bounded::<_, MAX_CAUSE>")]
    pub cause: String,
}

/// The record in a payload.
#[derive(Serialize, Deserialize)]
struct Written {
    of: Which,
    generation: Generation,
    #[serde(deserialize_with = "text::bounded::<_, MAX_APP_VERSION>")]
    version: String,
    path: Bytes<MAX_EXECUTABLE_PATH>,
    #[serde(deserialize_with = "text::list::<_, _, MAX_ARGUMENTS>")]
    args: Vec<Bytes<MAX_ARGUMENTS_BYTES>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cwd: Option<Bytes<MAX_EXECUTABLE_PATH>>,
    identity: Identity,
}

impl Written {
    fn within_limits(&self) -> bool {
        let path = |path: &Bytes<MAX_EXECUTABLE_PATH>| path.0.len() <= MAX_EXECUTABLE_PATH;
        let bytes: usize = self.args.iter().map(|argument| argument.0.len()).sum();
        path(&self.path)
            && self.cwd.as_ref().is_none_or(path)
            && self.args.len() <= MAX_ARGUMENTS
            && bytes <= MAX_ARGUMENTS_BYTES
    }
}

impl From<ExecutableRecord> for Written {
    fn from(record: ExecutableRecord) -> Self {
        let path = |path: PathBuf| Bytes(path.into_os_string().into_vec());
        Self {
            of: record.of,
            generation: record.generation,
            version: record.version,
            path: path(record.path),
            args: record.args.iter().map(|argument| Bytes(argument.as_bytes().to_vec())).collect(),
            cwd: record.cwd.map(path),
            identity: record.identity,
        }
    }
}

impl TryFrom<Written> for ExecutableRecord {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if !written.within_limits() {
            return Err(format!("arguments of more than {MAX_ARGUMENTS_BYTES} bytes"));
        }
        let path = |bytes: Bytes<MAX_EXECUTABLE_PATH>| OsString::from_vec(bytes.0).into();
        Ok(Self {
            of: written.of,
            generation: written.generation,
            version: written.version,
            path: path(written.path),
            args: written.args.into_iter().map(|bytes| OsString::from_vec(bytes.0)).collect(),
            cwd: written.cwd.map(path),
            identity: written.identity,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { size: 10, mtime: (1_700_000_000, 5), dev: 1, ino: 2, hash: None }
    }

    fn record() -> ExecutableRecord {
        ExecutableRecord {
            of: Which::Previous,
            generation: Generation::FIRST,
            version: "1.0".into(),
            path: "/srv/app".into(),
            args: vec!["app".into()],
            cwd: None,
            identity: identity(),
        }
    }

    #[test]
    fn a_program_is_known_by_its_bytes_or_else_by_the_very_file() {
        let plain = identity();
        assert!(plain.is_same_program(&plain));
        let moved = Identity { ino: 3, mtime: (9, 9), ..identity() };
        assert!(!plain.is_same_program(&moved));
        let hashed = |identity: &Identity, byte| Identity {
            hash: Some(Hash([byte; 16])),
            ..identity.clone()
        };
        assert!(hashed(&plain, 1).is_same_program(&hashed(&moved, 1)));
        assert!(!hashed(&plain, 1).is_same_program(&hashed(&plain, 2)));
        assert!(hashed(&plain, 1).is_same_program(&plain));
        assert!(!hashed(&plain, 1).is_same_program(&moved));
        let grown = Identity { size: 11, ..hashed(&plain, 1) };
        assert!(!hashed(&plain, 1).is_same_program(&grown));
    }

    #[test]
    fn what_is_too_long_for_a_message_is_not_sent_at_all() {
        assert_eq!(record().sendable(), Some(record()));
        let long = |length: usize| "x".repeat(length);
        let version = ExecutableRecord { version: long(1_000), ..record() };
        assert!(version.sendable().unwrap().version.len() <= MAX_APP_VERSION);
        for too_long in [
            ExecutableRecord { path: long(MAX_EXECUTABLE_PATH + 1).into(), ..record() },
            ExecutableRecord { cwd: Some(long(MAX_EXECUTABLE_PATH + 1).into()), ..record() },
            ExecutableRecord { args: vec!["".into(); MAX_ARGUMENTS + 1], ..record() },
            ExecutableRecord {
                args: vec![long(MAX_ARGUMENTS_BYTES).into(), "x".into()],
                ..record()
            },
        ] {
            assert_eq!(too_long.clone().sendable(), None);
            let json = serde_json::to_string(&too_long).unwrap();
            assert!(serde_json::from_str::<ExecutableRecord>(&json).is_err());
        }
    }

    #[test]
    fn a_hash_is_32_digits_and_what_a_later_version_adds_is_known_as_such() {
        let json = serde_json::to_string(&Hash([0xab; 16])).unwrap();
        assert_eq!(json, format!("\"{}\"", "ab".repeat(16)));
        assert_eq!(serde_json::from_str::<Hash>(&json).unwrap(), Hash([0xab; 16]));
        for wrong in ["\"\"", "\"ab\"", "7", &format!("\"{}\"", "ab".repeat(17))] {
            assert!(serde_json::from_str::<Hash>(wrong).is_err(), "{wrong}");
        }
        assert_eq!(serde_json::from_str::<Which>("\"canary\"").unwrap(), Which::Other);
    }
}
