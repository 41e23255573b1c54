//! What can be typed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ColorChoice, Parser, Subcommand};
use heirloom::control::Client;

/// Steers a running service: upgrades that can be watched, committed and taken back.
#[derive(Debug, Parser)]
#[command(version, after_help = super::exit::help(), max_term_width = 100)]
pub(crate) struct Args {
    /// The service's name: its socket is looked for as NAME.sock in $RUNTIME_DIRECTORY, in
    /// $XDG_RUNTIME_DIR/heirloom and in /run/NAME
    #[arg(short, long, global = true, value_name = "NAME")]
    service: Option<String>,
    /// The service's control socket; without this and --service, $HEIRLOOM_SOCKET says where it is
    #[arg(short = 'S', long, global = true, value_name = "PATH", conflicts_with = "service")]
    socket: Option<PathBuf>,
    /// JSON instead of text: one document, or one a line for what goes on for a while
    #[arg(long, global = true)]
    pub json: bool,
    /// How long an answer is waited for, as in 500ms, 30s or 5m; by default 10s, and 10m where an
    /// upgrade or a drain is waited for
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Colours: by default on a terminal only
    #[arg(long, global = true, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Shows every live generation, and the upgrade that runs
    Status,
    /// Starts the next generation
    Upgrade {
        /// This program instead of the one that the service would start
        #[arg(long, value_name = "PATH")]
        exe: Option<PathBuf>,
        /// Shows how it goes and ends with its report; the exit code is that of the outcome
        #[arg(long)]
        wait: bool,
        /// Ends with 'busy' while another upgrade runs, instead of queueing this one
        #[arg(long)]
        no_queue: bool,
    },
    /// Commits the upgrade whose successor is in probation, without waiting for its end
    Commit,
    /// Takes the last release back: an upgrade that runs is ended, else the program that ran before
    /// is started as the next generation
    Rollback {
        /// Only if this is the newest generation, so that who types twice rolls back once
        #[arg(long, value_name = "NUMBER")]
        generation: Option<u64>,
    },
    /// Ends the upgrade that runs, without a commit
    Abort {
        /// Why, for the report
        #[arg(long, default_value = "an operator aborted it")]
        reason: String,
    },
    /// Takes the service out of rotation: not ready, then paused, then every connection is asked to
    /// go; the process stays, and 'resume' takes it back
    Drain,
    /// Accepts no new connections: they wait until 'resume', in later generations as well
    Pause,
    /// Accepts again after 'pause' or 'drain'
    Resume,
    /// Stops the service and waits for its end
    Stop {
        /// Cuts what is left at once
        #[arg(long)]
        force: bool,
    },
    /// Shows what happens, until it is interrupted or the service ends
    Watch,
    /// Shows the reports of the last upgrades
    History,
    /// Prints figures in the OpenMetrics text format
    Metrics,
    /// Says by its exit code whether the service is ready for new connections
    Check,
    /// Runs a server as its stable parent, under supervisors that watch one process; 'run --help'
    /// says how. To be given first, before all options
    #[command(disable_help_flag = true)]
    Run {
        /// Options of 'run', then -- and the server
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Prints completions for a shell
    #[command(hide = true)]
    Completions {
        /// Which one
        shell: clap_complete::Shell,
    },
    /// Prints the manual page
    #[command(hide = true)]
    Man,
}

impl Verb {
    /// Whether its answer is all that it is for.
    pub(crate) fn only_asks(&self) -> bool {
        matches!(self, Self::Status | Self::Watch | Self::History | Self::Metrics)
    }
}

impl Args {
    /// None if nothing says which service is meant.
    pub(crate) fn client(&self) -> heirloom::Result<Option<Client>> {
        let client = match (&self.socket, &self.service) {
            (Some(path), _) => Client::new(path),
            (None, Some(service)) => find(service)?,
            (None, None) => {
                let path = std::env::var_os("HEIRLOOM_SOCKET").filter(|path| !path.is_empty());
                let Some(path) = path else { return Ok(None) };
                Client::new(path)
            }
        };
        Ok(Some(match self.timeout {
            Some(timeout) => client.timeout(timeout),
            None => client,
        }))
    }
}

/// The default place by our environment; else where a service of that name has it under systemd.
fn find(service: &str) -> heirloom::Result<Client> {
    let usual = Client::of(service);
    if service.is_empty() || service.contains('/') {
        return usual;
    }
    let system = Path::new("/run").join(service).join(format!("{service}.sock"));
    match usual {
        Ok(client) if client.path().exists() || !system.exists() => Ok(client),
        _ => Ok(Client::new(system)),
    }
}

/// `500ms`, `30s`, `5m`, `1h`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write 500ms, 30s, 5m or 1h");
    let at = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        "h" => Ok(Duration::from_secs(number.saturating_mul(3_600))),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn what_can_be_typed_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for wrong in ["", "s", "5 s", "-1s", "1d", "1.5s"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
