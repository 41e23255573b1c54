//! Where a control socket is, and whether that is a safe place.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// The default place of the service's socket, by this process's environment:
/// `$RUNTIME_DIRECTORY/NAME.sock` (systemd.exec(5); the first, if there are several), else
/// `$XDG_RUNTIME_DIR/heirloom/NAME.sock`.
///
/// # Errors
///
/// [`ErrorKind::Config`] if neither is set, or if the service's name is no file name.
pub(crate) fn default_path(service: &str) -> Result<PathBuf> {
    place(service, |name| std::env::var_os(name))
}

pub(super) fn place(service: &str, variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let config = |why: &str| {
        let text = format!("control socket of {service:?}: {why}; name a path");
        Err(Error::new(ErrorKind::Config, text))
    };
    if service.is_empty() || service.contains('/') {
        return config("the service's name is no file name");
    }
    let file = format!("{service}.sock");
    let first = |list: OsString| {
        let first = list.as_bytes().split(|byte| *byte == b':').next().map(<[u8]>::to_vec);
        first.map(|first| PathBuf::from(OsStr::from_bytes(&first)))
    };
    let usable = |path: &PathBuf| path.is_absolute();
    if let Some(directory) = variable("RUNTIME_DIRECTORY").and_then(first).filter(usable) {
        return Ok(directory.join(file));
    }
    match variable("XDG_RUNTIME_DIR").map(PathBuf::from).filter(usable) {
        Some(directory) => Ok(directory.join("heirloom").join(file)),
        None => config("neither RUNTIME_DIRECTORY nor XDG_RUNTIME_DIR is set"),
    }
}

/// The path, made absolute, after a look at its directory: it is made (0700) if only it is missing,
/// and nobody but its owner may replace what is in it.
///
/// # Errors
///
/// [`ErrorKind::Config`] with the reason.
pub(crate) fn checked(path: &Path) -> Result<PathBuf> {
    let wrong = |why: &str| {
        let text = format!("control socket {}: {why}", path.display());
        Error::new(ErrorKind::Config, text)
    };
    let path = std::path::absolute(path).map_err(|error| wrong("no path").with_source(error))?;
    let Some(directory) = path.parent().filter(|_| path.file_name().is_some()) else {
        return Err(wrong("it names no file"));
    };
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            let text = format!("its directory cannot be made: {}", directory.display());
            return Err(wrong(&text).with_source(error));
        }
    }
    // A link in the way is followed here: whoever could put it there is judged by what follows.
    let found = fs::metadata(directory)
        .map_err(|error| wrong("its directory cannot be looked at").with_source(error))?;
    if !found.is_dir() {
        return Err(wrong("what should be its directory is none"));
    }
    let ours = found.uid() == nix::unistd::geteuid().as_raw() || found.uid() == 0;
    let (others, sticky) = (found.mode() & 0o022 != 0, found.mode() & 0o1000 != 0);
    if !ours || others && !sticky {
        return Err(wrong(
            "its directory belongs to another user or others may write to it; use one of mode 0700",
        ));
    }
    Ok(path)
}
