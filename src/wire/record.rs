//! What an offered descriptor is: its role, and for a socket all that names it.

use std::borrow::Cow;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::executable::ExecutableRecord;
use super::text::Bytes;
use crate::generation::Generation;
use crate::name::Name;

/// One descriptor of an offer, in the order of the descriptors of its frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Item {
    /// What the descriptor is.
    pub role: Role,
}

/// What an offered descriptor is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "kebab-case")]
pub(crate) enum Role {
    /// A socket of the inventory.
    Socket(SocketRecord),
    /// The verdict's register.
    Verdict,
    /// The predecessor's pidfd.
    Predecessor,
    /// The link to a generation that still drains.
    ElderLink {
        /// The one that drains.
        generation: Generation,
        /// It has been told to cut what it still serves.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        hurried: bool,
    },
    /// The far end of the predecessor's pipe: it stays open for as long as any newer generation
    /// lives.
    Life,
    /// The same of a generation that still drains.
    ElderLife {
        /// The one that drains.
        generation: Generation,
    },
    /// The pidfd of a generation that still drains.
    ElderProcess {
        /// The one that drains.
        generation: Generation,
    },
    /// The far end of the channel over which sessions of the predecessor come.
    Sessions,
    /// The file of a program, opened for reading.
    Executable(ExecutableRecord),
    /// Something that this version does not know. Its descriptor is counted, then closed.
    #[serde(other)]
    Unknown,
}

/// All that names a socket. This record says what a socket is; getsockname(2) keeps the old name
/// of a Unix socket whose path was renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SocketRecord {
    /// The name under which it is claimed.
    pub name: Name,
    /// Its type and family.
    pub kind: Kind,
    /// What it is bound to.
    pub address: Address,
    /// Its place in an `SO_REUSEPORT` group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Member>,
    /// Device and inode of its path, as stat(2) gave them right after bind(2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_inode: Option<(u64, u64)>,
}

/// The place of one socket in an `SO_REUSEPORT` group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// From zero.
    pub index: u32,
    /// How many members the group has.
    pub count: u32,
}

/// Type and family of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Cow<'_, str>", into = "&'static str")]
pub(crate) enum Kind {
    /// A TCP listener.
    Tcp,
    /// A listener on a Unix stream socket.
    UnixStream,
    /// A listener on a Unix sequential-packet socket.
    UnixSeqpacket,
    /// A Unix datagram socket.
    UnixDatagram,
    /// A UDP socket.
    Udp,
    /// Any other descriptor that the application named, and any kind that a later version knows.
    Other,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Tcp,
        Self::UnixStream,
        Self::UnixSeqpacket,
        Self::UnixDatagram,
        Self::Udp,
        Self::Other,
    ];

    /// The kind's word in messages, logs and reports.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::UnixStream => "unix-stream",
            Self::UnixSeqpacket => "unix-seqpacket",
            Self::UnixDatagram => "unix-datagram",
            Self::Udp => "udp",
            Self::Other => "other",
        }
    }
}

impl From<Kind> for &'static str {
    fn from(kind: Kind) -> Self {
        kind.as_str()
    }
}

impl From<Cow<'_, str>> for Kind {
    fn from(word: Cow<'_, str>) -> Self {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word).unwrap_or(Self::Other)
    }
}

/// What a socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Families", into = "Families")]
pub(crate) enum Address {
    /// An IPv4 or IPv6 address and port.
    Inet(SocketAddr),
    /// A path of unix(7).
    Path(PathBuf),
    /// An abstract name of unix(7), without its leading zero byte.
    Abstract(Vec<u8>),
    /// Nothing, or an address of a family that this version does not know.
    None,
}

/// An address in a payload: at most one field is there. A family that a later version adds is a
/// field that is skipped, so its socket still counts.
#[derive(Serialize, Deserialize)]
struct Families {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inet: Option<SocketAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r#abstract: Option<Bytes>,
}

impl From<Address> for Families {
    fn from(address: Address) -> Self {
        let mut families = Self { inet: None, path: None, r#abstract: None };
        match address {
            Address::Inet(inet) => families.inet = Some(inet),
            Address::Path(path) => {
                families.path = Some(Bytes(path.as_os_str().as_bytes().to_vec()));
            }
            Address::Abstract(name) => families.r#abstract = Some(Bytes(name)),
            Address::None => {}
        }
        families
    }
}

impl TryFrom<Families> for Address {
    type Error = &'static str;

    fn try_from(families: Families) -> Result<Self, Self::Error> {
        match (families.inet, families.path, families.r#abstract) {
            (Some(inet), None, None) => Ok(Self::Inet(inet)),
            (None, Some(Bytes(path)), None) => {
                Ok(Self::Path(PathBuf::from(OsString::from_vec(path))))
            }
            (None, None, Some(Bytes(name))) => Ok(Self::Abstract(name)),
            (None, None, None) => Ok(Self::None),
            _ => Err("an address of more than one family"),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Abstract(name) => write!(f, "@{}", name.escape_ascii()),
            Self::None => f.write_str("no address"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Item {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_a_later_version_adds_keeps_its_place() {
        assert_eq!(read(r#"{"role":"verdict","more":[{}]}"#).role, Role::Verdict);
        assert_eq!(read(r#"{"role":"sessions","window":9}"#).role, Role::Sessions);
        assert_eq!(read(r#"{"role":"quic-state","port":9}"#).role, Role::Unknown);
        let item = read(
            r#"{"role":"socket","name":"v","kind":"vsock","address":{"vsock":{"cid":3}},"x":1}"#,
        );
        let Role::Socket(record) = item.role else { panic!("{item:?}") };
        assert_eq!((record.kind, record.address), (Kind::Other, Address::None));
    }

    #[test]
    fn an_address_has_one_family_and_reads_well() {
        let both = r#"{"inet":"[::1]:80","path":"/x"}"#;
        assert!(serde_json::from_str::<Address>(both).is_err());
        let scoped = Address::Inet("[fe80::1%7]:80".parse().unwrap());
        let json = serde_json::to_string(&scoped).unwrap();
        assert_eq!(json, r#"{"inet":"[fe80::1%7]:80"}"#);
        assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), scoped);
        assert_eq!(Address::Abstract(b"a\0b".to_vec()).to_string(), "@a\\x00b");
        assert_eq!(Address::Path("/run/x".into()).to_string(), "/run/x");
    }
}
