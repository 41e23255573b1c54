//! What can be set on the command line.

use std::path::PathBuf;
use std::time::Duration;

pub(crate) const USAGE: &str =
    "[--listen ADDR] [--tls] [--drain MS] [--probation MS] [--pid-file PATH]";

pub(crate) struct Options {
    pub(crate) listen: String,
    pub(crate) tls: bool,
    pub(crate) drain: Duration,
    pub(crate) probation: Duration,
    pub(crate) pid_file: PathBuf,
}

impl Options {
    /// `None`: something that is no option, or no value for one.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self {
            listen: String::from("127.0.0.1:8080"),
            tls: false,
            drain: Duration::from_secs(30),
            probation: Duration::from_secs(5),
            pid_file: std::env::temp_dir().join("heirloom-axum.pid"),
        };
        while let Some(flag) = args.next() {
            if flag == "--tls" {
                options.tls = true;
                continue;
            }
            let value = args.next()?;
            match flag.as_str() {
                "--listen" => options.listen = value,
                "--drain" => options.drain = Duration::from_millis(value.parse().ok()?),
                "--probation" => options.probation = Duration::from_millis(value.parse().ok()?),
                "--pid-file" => options.pid_file = value.into(),
                _ => return None,
            }
        }
        Some(options)
    }
}
