//! The one frame that a client sends, as it travels.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::message::Command;
use crate::generation::Generation;
use crate::wire::Identity;
use crate::wire::version::Range;

/// The one frame that a client sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub(super) struct Request {
    /// The versions of the protocol that it speaks.
    pub protocol: Range,
    /// Its own version, for people.
    pub client: String,
    pub command: Command,
}

/// The fields of a request and of all commands side by side, so that serde writes what reads them
/// once. A field has the same type in whatever command it is, in later versions too.
#[derive(Serialize, Deserialize)]
struct Fields {
    protocol: Range,
    #[serde(default)]
    client: String,
    command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<Option<PathBuf>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unless_busy: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Generation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<Option<Generation>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    force: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<Option<Identity>>,
}

impl From<Request> for Fields {
    fn from(request: Request) -> Self {
        let mut fields = Self {
            protocol: request.protocol,
            client: request.client,
            command: request.command.name().to_owned(),
            executable: None,
            unless_busy: None,
            wait: None,
            after: None,
            of: None,
            reason: None,
            force: None,
            service: None,
            program: None,
        };
        match request.command {
            Command::Upgrade { executable, unless_busy, wait } => {
                fields.executable = Some(executable);
                fields.unless_busy = Some(unless_busy);
                fields.wait = Some(wait);
            }
            Command::Follow { after } => fields.after = Some(after),
            Command::RollBack { of } => fields.of = Some(of),
            Command::Abort { reason } => fields.reason = Some(reason),
            Command::Stop { force } => fields.force = Some(force),
            Command::TakeOver { service, program } => {
                fields.service = Some(service);
                fields.program = Some(program);
            }
            Command::Status
            | Command::Commit
            | Command::Drain
            | Command::Pause
            | Command::Resume
            | Command::Watch
            | Command::History
            | Command::Metrics
            | Command::Check
            | Command::Unknown => {}
        }
        fields
    }
}

impl TryFrom<Fields> for Request {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let missing = |name| format!("missing field `{name}`");
        let command = match &*fields.command {
            "status" => Command::Status,
            "upgrade" => Command::Upgrade {
                executable: fields.executable.flatten(),
                unless_busy: fields.unless_busy.unwrap_or_default(),
                wait: fields.wait.unwrap_or_default(),
            },
            "follow" => Command::Follow { after: fields.after.ok_or_else(|| missing("after"))? },
            "commit" => Command::Commit,
            "roll-back" => Command::RollBack { of: fields.of.flatten() },
            "abort" => Command::Abort { reason: fields.reason.ok_or_else(|| missing("reason"))? },
            "drain" => Command::Drain,
            "pause" => Command::Pause,
            "resume" => Command::Resume,
            "stop" => Command::Stop { force: fields.force.unwrap_or_default() },
            "watch" => Command::Watch,
            "history" => Command::History,
            "metrics" => Command::Metrics,
            "check" => Command::Check,
            "take-over" => Command::TakeOver {
                service: fields.service.ok_or_else(|| missing("service"))?,
                program: fields.program.flatten(),
            },
            _ => Command::Unknown,
        };
        Ok(Self { protocol: fields.protocol, client: fields.client, command })
    }
}
