//! What can be asked for on the command line.

use std::path::PathBuf;
use std::time::Duration;

/// The text for `--help`.
pub(crate) const HELP: &str = "\
usage: demo [options]
  --upgrades N      upgrades to run                                     [20]
  --rate N          requests, lines and connections a second, about     [2000]
  --probation MS    how long a new generation is watched                [400]
  --lame-duck MS    how long a drain only asks clients to leave         [500]
  --drain MS        the deadline of a drain                             [10000]
  --pause MS        from a commit to the next upgrade                   [300]
  --svg PATH        where the drawing goes                              [heirloom-demo.svg]
  --log PATH        keep the server's log there
  --help            this text";

/// What to be.
#[derive(Debug)]
pub(crate) enum Mode {
    /// The demo: start a server, drive it, upgrade it, report.
    Drive(Options),
    /// The server, with its sockets and files in this directory.
    Serve(PathBuf, Options),
    /// Tell what can be asked for.
    Help,
}

/// The settings of both modes; the demo passes the server's on to it.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Upgrades to run.
    pub(crate) upgrades: usize,
    /// Requests, lines and connections a second, all kinds together.
    pub(crate) rate: f64,
    /// How long a new generation is watched before the commit.
    pub(crate) probation: Duration,
    /// How long a drain asks clients to leave before it closes.
    pub(crate) lame_duck: Duration,
    /// The deadline of a drain.
    pub(crate) drain: Duration,
    /// From a commit to the next signal.
    pub(crate) pause: Duration,
    /// The drawing.
    pub(crate) svg: PathBuf,
    /// A copy of the server's log, if it is wanted.
    pub(crate) log: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            upgrades: 20,
            rate: 2000.0,
            probation: Duration::from_millis(400),
            lame_duck: Duration::from_millis(500),
            drain: Duration::from_secs(10),
            pause: Duration::from_millis(300),
            svg: PathBuf::from("heirloom-demo.svg"),
            log: None,
        }
    }
}

impl Options {
    /// Reads the arguments after the program's name; the error says which one is wrong.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Mode, String> {
        let mut options = Self::default();
        let mut dir = None;
        while let Some(flag) = args.next() {
            if flag == "--help" || flag == "-h" {
                return Ok(Mode::Help);
            }
            let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--serve" => dir = Some(PathBuf::from(&value)),
                "--upgrades" => options.upgrades = number(&flag, &value)?,
                "--rate" => options.rate = f64::from(number::<u32>(&flag, &value)?.max(1)),
                "--probation" => options.probation = millis(&flag, &value)?,
                "--lame-duck" => options.lame_duck = millis(&flag, &value)?,
                "--drain" => options.drain = millis(&flag, &value)?,
                "--pause" => options.pause = millis(&flag, &value)?,
                "--svg" => options.svg = PathBuf::from(&value),
                "--log" => options.log = Some(PathBuf::from(&value)),
                _ => return Err(format!("unknown option {flag}")),
            }
        }
        Ok(match dir {
            Some(dir) => Mode::Serve(dir, options),
            None => Mode::Drive(options),
        })
    }

    /// The settings that the server needs, as arguments for it.
    pub(crate) fn for_server(&self) -> Vec<String> {
        let settings = [
            ("--probation", self.probation),
            ("--lame-duck", self.lame_duck),
            ("--drain", self.drain),
        ];
        settings
            .iter()
            .flat_map(|(flag, value)| [(*flag).to_owned(), value.as_millis().to_string()])
            .collect()
    }
}

/// A whole number, or an error that names the flag.
fn number<N: std::str::FromStr>(flag: &str, value: &str) -> Result<N, String> {
    value.parse().map_err(|_| format!("{flag} {value}: not a whole number"))
}

/// Milliseconds.
fn millis(flag: &str, value: &str) -> Result<Duration, String> {
    Ok(Duration::from_millis(number(flag, value)?))
}
