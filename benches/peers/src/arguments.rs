//! The command line of every server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::Failure;

/// What a server is to do. All of it is written on the command line, so that a generation that is
/// started with the arguments of its predecessor does the same.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// Where certificate, key and whatever files the server needs are.
    pub directory: PathBuf,
    /// The first of three ports: HTTP/1.1, HTTP/2 with prior knowledge, TLS.
    pub port: u16,
    /// HTTP listeners besides the first.
    pub more: u16,
    /// Memory in use, in MiB.
    pub resident: usize,
    /// How long heirloom watches over a successor.
    pub probation: Duration,
    /// pingora only: take the listeners over.
    pub upgrade: bool,
}

/// The address of a listener: they differ in their address, not in their port.
pub fn address(port: u16, number: u16) -> SocketAddr {
    if number == 0 {
        return (Ipv4Addr::LOCALHOST, port).into();
    }
    let [high, low] = number.to_be_bytes();
    (Ipv4Addr::new(127, 2, high, low), port).into()
}

/// How long after it is ready a server takes its memory into use.
pub const OCCUPIES_AFTER: Duration = Duration::from_millis(100);

impl Arguments {
    /// # Errors
    ///
    /// An unknown flag, or one without its value.
    pub fn parse() -> Result<Self, Failure> {
        let mut arguments = Self {
            directory: PathBuf::new(),
            port: 0,
            more: 0,
            resident: 0,
            probation: Duration::ZERO,
            upgrade: false,
        };
        let mut words = std::env::args().skip(1);
        while let Some(flag) = words.next() {
            if flag == "--upgrade" {
                arguments.upgrade = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--directory" => arguments.directory = value.into(),
                "--port" => arguments.port = value.parse()?,
                "--more" => arguments.more = value.parse()?,
                "--resident" => arguments.resident = value.parse()?,
                "--probation" => arguments.probation = Duration::from_millis(value.parse()?),
                _ => return Err(format!("unknown option {flag}").into()),
            }
        }
        Ok(arguments)
    }

    /// The words that [`parse`](Self::parse) reads.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![
            String::from("--directory"),
            self.directory.display().to_string(),
            String::from("--port"),
            self.port.to_string(),
            String::from("--more"),
            self.more.to_string(),
            String::from("--resident"),
            self.resident.to_string(),
            String::from("--probation"),
            self.probation.as_millis().to_string(),
        ];
        if self.upgrade {
            words.push(String::from("--upgrade"));
        }
        words
    }

    /// Where HTTP is spoken: first the one that is always there.
    pub fn http(&self) -> Vec<SocketAddr> {
        (0..=self.more).map(|number| address(self.port, number)).collect()
    }

    /// Where HTTP/2 with prior knowledge is spoken.
    pub fn http2(&self) -> SocketAddr {
        address(self.port + 1, 0)
    }

    /// Where TLS is spoken.
    pub fn tls(&self) -> SocketAddr {
        address(self.port + 2, 0)
    }

    /// Takes memory into use, for as long as the process lives. To be called when the server is
    /// ready: it is the predecessor's memory that an upgrade may depend on, not the time that a new
    /// generation needs to get as much. So it comes after the first answers, which it would hold up.
    pub fn occupy(&self) {
        let bytes = self.resident << 20;
        std::thread::spawn(move || {
            std::thread::sleep(OCCUPIES_AFTER);
            // Other bytes than zero, or the kernel would give no pages.
            let memory = std::hint::black_box(vec![1_u8; bytes]);
            loop {
                std::thread::park();
                std::hint::black_box(&memory);
            }
        });
    }
}
