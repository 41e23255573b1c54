//! A small disk that only the server sees, for its PID file.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where it is, in the test's directory.
pub(crate) const NAME: &str = "disk";

const FILLER: &str = "filler";

/// Starts the server with the disk mounted, in a mount namespace of its own.
pub(crate) fn command(directory: &Path) -> Command {
    fs::create_dir(directory.join(NAME)).unwrap();
    let mut command = Command::new("unshare");
    let script = format!("mount -t tmpfs -o size=16k none {NAME} && exec ./server");
    command.args(["--mount", "sh", "-c", &script]).arg("server");
    command
}

/// Whether one can be mounted here.
pub(crate) fn is_possible() -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "mount", "-t", "tmpfs", "none"]).arg(scratch.path());
    command.output().is_ok_and(|output| output.status.success())
}

/// Not one byte more fits.
pub(crate) fn fill(directory: &Path) {
    let mut filler = File::create(directory.join(NAME).join(FILLER)).unwrap();
    while filler.write(&[0; 256]).is_ok() {}
}

/// Makes room again.
pub(crate) fn clear(directory: &Path, pid: i32) {
    fs::remove_file(seen_by(pid, &directory.join(NAME).join(FILLER))).unwrap();
}

/// The path as the process sees it.
pub(crate) fn seen_by(pid: i32, path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    root.join(path.strip_prefix("/").unwrap_or(path))
}
