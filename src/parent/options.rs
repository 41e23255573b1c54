//! What `heirloom run` is asked for.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::name::Name;

pub(super) const HELP: &str = "\
Usage: heirloom run [OPTIONS] -- SERVER [ARGUMENTS...]

Runs a server under a parent whose pid stays: as process 1 of a container, under
supervisord, runit or s6, in a terminal. Signals go to the server (SIGHUP asks it for
an upgrade); it is started again when it crashes, with the same sockets.

Options:
  --listen NAME=ADDRESS   listens and passes the socket on: 0.0.0.0:80, [::]:80, a path,
                          or @NAME (abstract); may be given several times
  --restart WHEN          when the server has ended by itself: on-failure (default),
                          always, never
  --grace SECONDS         kills a server that has not ended so long after SIGTERM;
                          without it the container's own grace counts
  --ready-fd NUMBER       writes a line to this descriptor when the server is ready (s6)
  --help                  this text

The exit code is the server's own; 128 and the signal's number if a signal ended it
(143 for SIGTERM, 137 for SIGKILL); 64 for arguments that make no sense; 126 if the
server could not be started. A server that ends before it was ever ready is not
started again.
";

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Run(Options),
    Help,
}

/// When a server that has ended by itself is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    OnFailure,
    Always,
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Abstract(String),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) server: Vec<OsString>,
    pub(super) listen: Vec<(Name, Endpoint)>,
    pub(super) restart: Restart,
    pub(super) grace: Option<Duration>,
    pub(super) ready: Option<u32>,
}

impl Options {
    pub(super) fn parse(arguments: Vec<OsString>) -> Result<Wanted, String> {
        let mut options = Self {
            server: Vec::new(),
            listen: Vec::new(),
            restart: Restart::OnFailure,
            grace: None,
            ready: None,
        };
        let mut rest = arguments.into_iter();
        while let Some(argument) = rest.next() {
            let text = argument.to_str().unwrap_or_default().to_owned();
            let (name, inline) = match text.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (text.as_str(), None),
            };
            match name {
                "--help" | "-h" => return Ok(Wanted::Help),
                "--" => {
                    options.server = rest.collect();
                    break;
                }
                "--listen" | "--restart" | "--grace" | "--ready-fd" => {
                    let next = || rest.next().and_then(|value| value.into_string().ok());
                    let value = inline.or_else(next);
                    let value = value.ok_or_else(|| format!("{name} needs a value"))?;
                    options.set(name, &value)?;
                }
                _ if argument.as_bytes().starts_with(b"-") => {
                    return Err(format!("{argument:?} is no option; see --help"));
                }
                _ => {
                    options.server = std::iter::once(argument).chain(rest).collect();
                    break;
                }
            }
        }
        if options.server.is_empty() {
            return Err(String::from("no server: heirloom run [OPTIONS] -- SERVER [ARGUMENTS...]"));
        }
        Ok(Wanted::Run(options))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |what: &str| format!("{name} {value:?}: {what}");
        match name {
            "--listen" => {
                let (socket, address) =
                    value.split_once('=').ok_or_else(|| wrong("use NAME=ADDRESS"))?;
                let socket: Name = socket.parse().map_err(|error| format!("{name}: {error}"))?;
                if self.listen.iter().any(|(other, _)| *other == socket) {
                    return Err(wrong("this name has an address already"));
                }
                let endpoint = if address.starts_with('/') {
                    Endpoint::Unix(address.into())
                } else if let Some(name) = address.strip_prefix('@').filter(|name| !name.is_empty())
                {
                    Endpoint::Abstract(name.to_owned())
                } else {
                    let address = address.parse();
                    let form = "use IP:PORT, an absolute path, or @NAME";
                    Endpoint::Tcp(address.map_err(|_| wrong(form))?)
                };
                self.listen.push((socket, endpoint));
            }
            "--restart" => {
                self.restart = match value {
                    "on-failure" => Restart::OnFailure,
                    "always" => Restart::Always,
                    "never" => Restart::Never,
                    _ => return Err(wrong("use on-failure, always or never")),
                }
            }
            "--grace" => {
                let seconds = value.parse::<f64>().ok();
                let grace = seconds.and_then(|length| Duration::try_from_secs_f64(length).ok());
                self.grace = Some(grace.ok_or_else(|| wrong("use a number of seconds"))?);
            }
            _ => {
                self.ready = Some(value.parse().map_err(|_| wrong("use a descriptor's number"))?);
            }
        }
        Ok(())
    }
}
