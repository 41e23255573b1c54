//! A service as its owner sees it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::generation::Generation;
use crate::name::Name;
use crate::report::UpgradePhase;
use crate::status::Role;

/// The whole service at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Overview {
    /// The service's name.
    pub service: Name,
    /// The generation that answers for the service.
    pub owner: Generation,
    /// Whether new connections are accepted.
    pub accepting: Accepting,
    /// Whether a load balancer should send new connections.
    pub ready: bool,
    /// Whether an upgrade was asked for that waits for the one that runs.
    pub queued: bool,
    /// The upgrade that runs.
    #[serde(default)]
    pub upgrade: Option<UpgradeView>,
    /// Every live generation, the newest first.
    pub generations: Vec<GenerationView>,
}

/// Whether a service accepts new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Accepting {
    /// It does.
    Open,
    /// An operator has paused it: connections wait in the backlog until it is resumed.
    Paused,
    /// An operator has drained it: not ready, paused, and connections are asked to go.
    Drained,
    /// The service stops.
    Stopping,
}

impl fmt::Display for Accepting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Open => "accepting",
            Self::Paused => "paused",
            Self::Drained => "drained",
            Self::Stopping => "stopping",
        })
    }
}

/// The upgrade that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UpgradeView {
    /// The generation that it started.
    pub to: Generation,
    /// How far it is.
    pub phase: UpgradePhase,
    /// The time since it was asked for.
    pub elapsed: Duration,
    /// The time in its phase.
    pub in_phase: Duration,
    /// How long probation lasts, by the owner's configuration.
    pub probation: Duration,
    /// What the successor's application still waits for.
    #[serde(default)]
    pub not_yet: Option<String>,
}

/// One live generation, as far as its owner knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GenerationView {
    /// Its number.
    pub generation: Generation,
    /// What it is for the service.
    pub role: Role,
    /// Its process in the owner's PID namespace; none if it is in another one, or has just ended.
    #[serde(default)]
    pub pid: Option<i32>,
    /// The application's version, once it has said so.
    #[serde(default)]
    pub version: Option<String>,
    /// The time since its process started.
    #[serde(default)]
    pub age: Option<Duration>,
    /// Memory that its process holds (`VmRSS` of proc_pid_status(5)), in bytes.
    #[serde(default)]
    pub resident_bytes: Option<u64>,
    /// Connections that it serves, as it said last; none if it has not said yet.
    #[serde(default)]
    pub connections: Option<u64>,
    /// The same for each listener that has at least one, by name.
    #[serde(default)]
    pub by_listener: Vec<(Name, u64)>,
    /// The age of its oldest connection.
    #[serde(default)]
    pub oldest: Option<Duration>,
    /// Whether it was told to cut what it still serves.
    #[serde(default)]
    pub hurried: bool,
}

impl GenerationView {
    pub(crate) fn new(generation: Generation, role: Role) -> Self {
        Self {
            generation,
            role,
            pid: None,
            version: None,
            age: None,
            resident_bytes: None,
            connections: None,
            by_listener: Vec::new(),
            oldest: None,
            hurried: false,
        }
    }
}
