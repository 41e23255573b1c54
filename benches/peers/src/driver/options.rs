//! The command line.

use std::path::PathBuf;

use crate::Failure;
use crate::peer::{PEERS, Peer};

pub(crate) const HELP: &str = "\
usage: peers [options] [suites]
  suites           loss, short, disturbance, steady, latency         [all of them]
                   'plots' measures nothing and draws what is there
  --out DIR        where results and plots go                       [target/peers]
  --only A,B       heirloom, hyper, ecdysis, shellflip, pingora,
                   nginx-hup, nginx-usr2, haproxy                    [all of them]
  --upgrades N     upgrades (or rounds) in each measurement
  --help           this text";

/// One kind of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    Loss,
    Short,
    Disturbance,
    Steady,
    Latency,
}

const SUITES: [(&str, Suite); 5] = [
    ("loss", Suite::Loss),
    ("short", Suite::Short),
    ("disturbance", Suite::Disturbance),
    ("steady", Suite::Steady),
    ("latency", Suite::Latency),
];

pub(crate) struct Options {
    pub(crate) suites: Vec<Suite>,
    pub(crate) out: PathBuf,
    pub(crate) peers: Vec<Peer>,
    pub(crate) upgrades: Option<usize>,
}

impl Options {
    /// `None`: the help text is wanted.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, Failure> {
        let mut options = Self {
            suites: Vec::new(),
            out: PathBuf::from("target/peers"),
            peers: PEERS.to_vec(),
            upgrades: None,
        };
        let mut plots = false;
        while let Some(word) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--out" => options.out = value()?.into(),
                "--upgrades" => options.upgrades = Some(value()?.parse()?),
                "--only" => options.peers = only(&value()?)?,
                "plots" => plots = true,
                name => match SUITES.iter().find(|(suite, _)| *suite == name) {
                    Some((_, suite)) => options.suites.push(*suite),
                    None => return Err(format!("unknown word {name}\n\n{HELP}").into()),
                },
            }
        }
        if options.suites.is_empty() && !plots {
            options.suites = SUITES.map(|(_, suite)| suite).to_vec();
        }
        Ok(Some(options))
    }
}

fn only(names: &str) -> Result<Vec<Peer>, Failure> {
    let find = |name: &str| {
        let peer = PEERS.iter().find(|peer| peer.id() == name);
        peer.copied().ok_or_else(|| format!("no peer is called {name}").into())
    };
    names.split(',').map(find).collect()
}
