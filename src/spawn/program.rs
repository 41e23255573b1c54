//! What this process is, in terms that start it again: the program of the next generation.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{AccessFlags, access};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::origin;

/// Variables that speak of one process only and would mislead the next.
const PERSONAL: [&str; 7] = [
    origin::VARIABLE,
    origin::EXECUTED,
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "WATCHDOG_PID",
];

/// Where a shell looks without `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A program with everything that it is started with.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The file, absolute, with symbolic links as they are: a `current` link is followed at the
    /// upgrade, not now.
    pub(crate) exe: PathBuf,
    /// The file itself, executed instead of what [`exe`](Self::exe) leads to now.
    pub(crate) file: Option<Arc<OwnedFd>>,
    /// All arguments, beginning with the program's own name.
    pub(crate) args: Vec<OsString>,
    /// The environment, without what speaks of one process only.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The working directory, symbolic links as they are; none if it has been deleted.
    pub(crate) cwd: Option<PathBuf>,
}

impl Program {
    /// This process as it was started.
    ///
    /// To be called at birth: later the directory may have changed and the file been replaced.
    pub(crate) fn of_this_process() -> Result<Self> {
        let args: Vec<_> = std::env::args_os().collect();
        let cwd = working_directory(std::env::var_os("PWD"));
        let running = identity(Path::new("/proc/self/exe"));
        let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        let called = args.first().map(OsString::as_os_str).unwrap_or_default();
        let exe = origin::executed(std::env::var_os(origin::EXECUTED).as_deref())
            .or_else(|| {
                candidates(called, &path, cwd.as_deref())
                    .find(|candidate| is_running(candidate, running))
            })
            .or_else(|| std::fs::read_link("/proc/self/exe").ok().map(without_deleted))
            .ok_or_else(|| {
                let text = format!("the file of this program, called as {called:?}, was not found");
                Error::new(ErrorKind::Spawn, text)
            })?;
        let env = std::env::vars_os().filter(|(name, _)| !is_personal(name)).collect();
        Ok(Self { exe, file: None, args, env, cwd })
    }

    /// A value of its environment.
    fn variable(&self, name: &str) -> Option<&OsStr> {
        self.env.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_os_str())
    }

    /// The file that a name leads to in this program's directory and with its `PATH`, as a shell
    /// would look for a command; the name itself if there is none.
    pub(crate) fn command(&self, name: &Path) -> PathBuf {
        let path = self.variable("PATH").unwrap_or(OsStr::new(DEFAULT_PATH));
        let mut found = candidates(name.as_os_str(), path, self.cwd.as_deref());
        found
            .find(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok())
            .unwrap_or_else(|| name.to_owned())
    }
}

/// Whether a variable speaks of one process only.
fn is_personal(name: &OsStr) -> bool {
    PERSONAL.iter().any(|personal| name == *personal)
}

/// Where the name under which a program was called may lead, as `execvp(3)` looks.
fn candidates<'a>(
    called: &'a OsStr,
    path: &'a OsStr,
    cwd: Option<&'a Path>,
) -> impl Iterator<Item = PathBuf> + 'a {
    let direct = called.as_bytes().contains(&b'/');
    let here = direct.then(|| PathBuf::from(called));
    let searched = std::env::split_paths(path)
        .filter(move |_| !direct && !called.is_empty())
        .map(move |directory| directory.join(called));
    // Relative ones begin at the working directory, and an empty entry of PATH is that directory.
    here.into_iter().chain(searched).filter_map(move |found| {
        if found.is_absolute() { Some(found) } else { Some(cwd?.join(found)) }
    })
}

/// Whether a path leads to the running file; if that is not known, to any file.
fn is_running(candidate: &Path, running: Option<(u64, u64)>) -> bool {
    match running {
        Some(_) => identity(candidate) == running,
        None => candidate.is_file(),
    }
}

/// Device and inode of what a path leads to.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// The working directory as the shell names it (`PWD`), if that is where we are.
///
/// The kernel's own name has every symbolic link resolved, which would tie the next generation to
/// the directory of this release.
fn working_directory(pwd: Option<OsString>) -> Option<PathBuf> {
    let here = identity(Path::new("."));
    pwd.map(PathBuf::from)
        .filter(|pwd| {
            pwd.is_absolute() && pwd.components().all(|part| part != Component::ParentDir)
        })
        .filter(|pwd| here.is_some() && identity(pwd) == here)
        .or_else(|| std::env::current_dir().ok())
}

/// Takes away what `/proc/self/exe` says of a file that was replaced; the new one is at the path.
fn without_deleted(exe: PathBuf) -> PathBuf {
    let bytes = exe.as_os_str().as_bytes();
    match bytes.strip_suffix(b" (deleted)") {
        // A file could really be called so.
        Some(path) if exe.symlink_metadata().is_err() => OsString::from_vec(path.to_vec()).into(),
        _ => exe,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn found(called: &str, path: &str, cwd: Option<&Path>, running: &Path) -> Option<PathBuf> {
        let running = identity(running);
        assert!(running.is_some());
        let mut all = candidates(OsStr::new(called), OsStr::new(path), cwd);
        all.find(|candidate| is_running(candidate, running))
    }

    #[test]
    fn a_current_link_is_kept_for_the_next_generation_to_follow() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir(root.join("v1")).unwrap();
        std::fs::write(root.join("v1/app"), "").unwrap();
        symlink("v1", root.join("current")).unwrap();
        let (running, current) = (root.join("v1/app"), root.join("current/app"));
        let text = current.to_str().unwrap();
        assert_eq!(found(text, "", None, &running), Some(current.clone()));
        assert_eq!(found("current/app", "", Some(root), &running), Some(current.clone()));
        let relative = root.join("./current/app");
        assert_eq!(found("./current/app", "", Some(root), &running), Some(relative));
        assert_eq!(found("current/app", "", None, &running), None);
    }

    #[test]
    fn a_bare_name_is_looked_up_in_path_and_must_be_the_running_file() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in ["one", "two"] {
            std::fs::create_dir(root.join(name)).unwrap();
            std::fs::write(root.join(name).join("app"), "").unwrap();
        }
        let path = format!("/nowhere:{0}/one:{0}/two", root.display());
        for name in ["one", "two"] {
            let running = root.join(name).join("app");
            assert_eq!(found("app", &path, None, &running), Some(running.clone()));
        }
        let two = root.join("two");
        let running = two.join("app");
        // An empty entry and a relative one begin at the working directory.
        assert_eq!(found("app", "/nowhere:", Some(&two), &running), Some(running.clone()));
        let relative = found("app", "two", Some(root), &running);
        assert_eq!(relative, Some(running.clone()));
        for called in ["", "other", "-app"] {
            assert_eq!(found(called, &path, Some(&two), &running), None, "{called:?}");
        }
    }

    #[test]
    fn a_replaced_binary_leads_to_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("app");
        let replaced = dir.path().join("app (deleted)");
        assert_eq!(without_deleted(replaced.clone()), plain);
        assert_eq!(without_deleted(plain.clone()), plain);
        std::fs::write(&replaced, "").unwrap();
        assert_eq!(without_deleted(replaced.clone()), replaced);
    }

    #[test]
    fn the_working_directory_keeps_its_links_and_a_stale_pwd_is_not_believed() {
        let physical = std::env::current_dir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("here");
        symlink(&physical, &link).unwrap();
        assert_eq!(working_directory(Some(link.clone().into())), Some(link.clone()));
        let up = link.join("x/..");
        for stale in [dir.path().as_os_str(), up.as_os_str(), "here".as_ref(), "".as_ref()] {
            assert_eq!(working_directory(Some(stale.into())), Some(physical.clone()), "{stale:?}");
        }
        assert_eq!(working_directory(None), Some(physical));
    }

    #[test]
    fn this_process_is_found_and_its_personal_variables_are_left_out() {
        let program = Program::of_this_process().unwrap();
        let own = std::fs::metadata("/proc/self/exe").unwrap();
        assert_eq!(identity(&program.exe), Some((own.dev(), own.ino())));
        assert!(program.exe.is_absolute());
        assert_eq!(program.args, std::env::args_os().collect::<Vec<_>>());
        assert!(program.env.iter().all(|(name, _)| !is_personal(name)));
        assert!(is_personal(OsStr::new("HEIRLOOM_LINK")) && !is_personal(OsStr::new("PATH")));
    }
}
