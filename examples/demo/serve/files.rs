//! The files that the demo and its server share, all in one directory of their own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::load::Addresses;

/// The PID file of the owner.
pub(crate) fn pid(dir: &Path) -> PathBuf {
    dir.join("demo.pid")
}

/// The Unix socket.
pub(crate) fn socket(dir: &Path) -> PathBuf {
    dir.join("echo.sock")
}

/// The addresses, before anyone listens.
pub(crate) fn nowhere(dir: &Path) -> Addresses {
    let none = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Addresses { http: none, echo: none, unix: socket(dir) }
}

/// Writes down which ports the first generation was given; later ones inherit them.
pub(crate) fn write_addresses(dir: &Path, http: SocketAddr, echo: SocketAddr) -> io::Result<()> {
    let path = dir.join("addresses");
    if path.exists() {
        return Ok(());
    }
    std::fs::write(path, format!("{http}\n{echo}\n"))
}

/// Reads where the server listens.
pub(crate) fn addresses(dir: &Path) -> Result<Addresses, Failure> {
    let text = std::fs::read_to_string(dir.join("addresses"))?;
    let mut lines = text.lines();
    let mut next = || lines.next().ok_or("the file of addresses is too short");
    Ok(Addresses { http: next()?.parse()?, echo: next()?.parse()?, unix: socket(dir) })
}
