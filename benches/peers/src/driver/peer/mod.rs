//! The servers that are compared, and how each is asked for an upgrade.

mod files;
pub(crate) mod processes;
pub(crate) mod server;

use std::path::PathBuf;

pub(crate) use self::server::{Server, Setup};

/// A server and its way to be upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    Heirloom,
    Hyper,
    Ecdysis,
    Shellflip,
    Pingora,
    NginxReload,
    NginxBinary,
    Haproxy,
}

pub(crate) const PEERS: [Peer; 8] = [
    Peer::Heirloom,
    Peer::Hyper,
    Peer::Ecdysis,
    Peer::Shellflip,
    Peer::Pingora,
    Peer::NginxReload,
    Peer::NginxBinary,
    Peer::Haproxy,
];

impl Peer {
    /// What it is called on the command line.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Heirloom => "heirloom",
            Self::Hyper => "hyper",
            Self::Ecdysis => "ecdysis",
            Self::Shellflip => "shellflip",
            Self::Pingora => "pingora",
            Self::NginxReload => "nginx-hup",
            Self::NginxBinary => "nginx-usr2",
            Self::Haproxy => "haproxy",
        }
    }

    /// What it is called in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Heirloom => "heirloom",
            Self::Hyper => "hyper, inherit by hand",
            Self::Ecdysis => "ecdysis",
            Self::Shellflip => "shellflip",
            Self::Pingora => "pingora-core",
            Self::NginxReload => "nginx, HUP",
            Self::NginxBinary => "nginx, USR2 and QUIT",
            Self::Haproxy => "HAProxy, USR2",
        }
    }

    /// Whether it serves HTTP/2 and TLS as well.
    pub(crate) fn speaks_more(self) -> bool {
        self != Self::Pingora
    }

    /// Whether its application speaks WebSocket.
    pub(crate) fn speaks_websocket(self) -> bool {
        matches!(self, Self::Heirloom | Self::Hyper | Self::Ecdysis | Self::Shellflip)
    }

    /// Whether it is a program of this crate.
    pub(crate) fn is_ours_to_build(self) -> bool {
        !matches!(self, Self::NginxReload | Self::NginxBinary | Self::Haproxy)
    }

    /// Whether one process outlives all generations.
    pub(crate) fn keeps_its_master(self) -> bool {
        matches!(self, Self::NginxReload | Self::Haproxy)
    }

    /// The program, or why it cannot be run.
    pub(crate) fn program(self) -> Result<PathBuf, String> {
        match self {
            Self::NginxReload | Self::NginxBinary => installed("nginx"),
            Self::Haproxy => installed("haproxy"),
            _ => built(&format!("peer-{}", self.id())),
        }
    }
}

fn installed(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join(name))
        .find(|program| program.exists())
        .ok_or_else(|| format!("{name} is not installed (apt-get install {name})"))
}

fn built(name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = own.with_file_name(name);
    match program.exists() {
        true => Ok(program),
        false => Err(format!("{name} was not built: its feature is off")),
    }
}
