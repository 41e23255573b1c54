//! The path of a Unix socket: who may put it there, and who may take it away.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use socket2::{Domain, SockAddr, Socket, Type};

/// The longest path of a Unix socket, in bytes (`unix(7)`: 108 with the closing zero).
pub(crate) const MAX_PATH: usize = 107;

/// So many temporary names are tried.
const MAX_TRIES: u32 = 100;

/// Device and inode of a path: what is compared before anything is unlinked.
pub(crate) type Inode = (u64, u64);

/// What is found at a path where a socket is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Occupant {
    /// Nothing: the path is free.
    Nobody,
    /// A socket of our own uid that nobody has open any more.
    Dead,
    /// Anything else, in words.
    Other(&'static str),
}

/// The path of one Unix socket, with the inode that proves it is still this socket's.
///
/// A new socket is bound to a temporary name in the same directory and renamed into place when
/// its turn has come, so the path never shows a socket that nobody answers, and a socket that
/// must go away again leaves no trace. Dropping removes a temporary name that is still there.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    inode: Option<Inode>,
    temporary: Mutex<Option<PathBuf>>,
    owned: AtomicBool,
}

impl Place {
    /// The path of an inherited socket. Without an inode it belongs to someone else (a service
    /// manager) and is never unlinked.
    pub(crate) fn inherited(path: PathBuf, inode: Option<Inode>) -> Self {
        Self { path, inode, temporary: Mutex::new(None), owned: AtomicBool::new(false) }
    }

    /// The path of a socket that is bound to `temporary` for now.
    pub(crate) fn bound(path: PathBuf, temporary: PathBuf) -> io::Result<Self> {
        let inode = inode_of(&temporary)?;
        Ok(Self {
            path,
            inode: Some(inode),
            temporary: Mutex::new(Some(temporary)),
            owned: AtomicBool::new(false),
        })
    }

    /// The final path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Device and inode of the socket at the path.
    pub(crate) fn inode(&self) -> Option<Inode> {
        self.inode
    }

    /// Renames the socket into place if the final path is free; nothing there is disturbed.
    /// Says whether the socket is in its place now.
    pub(crate) fn settle(&self) -> io::Result<bool> {
        let mut temporary = self.temporary();
        let Some(from) = temporary.as_deref() else {
            return Ok(true);
        };
        match rename_to_free(from, &self.path) {
            Ok(()) => {
                *temporary = None;
                self.owned.store(true, Ordering::Relaxed);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Renames the socket into place, over a dead socket of our own if one is there.
    pub(crate) fn take(&self) -> io::Result<()> {
        if self.settle()? {
            return Ok(());
        }
        match occupant(&self.path)? {
            Occupant::Other(what) => Err(io::Error::new(io::ErrorKind::AddrInUse, what)),
            Occupant::Nobody | Occupant::Dead => {
                let mut temporary = self.temporary();
                if let Some(from) = temporary.as_deref() {
                    fs::rename(from, &self.path)?;
                }
                *temporary = None;
                self.owned.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// Whether the path is gone, or leads to something else, though this socket was put there. One
    /// that belongs to a service manager is not looked at.
    pub(crate) fn is_lost(&self) -> bool {
        self.inode.is_some()
            && self.temporary().is_none()
            && inode_of(&self.path).ok() != self.inode
    }

    /// From now on the path is ours to unlink.
    pub(crate) fn own(&self) {
        self.owned.store(true, Ordering::Relaxed);
    }

    /// From now on the path is another generation's.
    pub(crate) fn disown(&self) {
        self.owned.store(false, Ordering::Relaxed);
    }

    /// Unlinks the path if it is ours and still leads to this socket. A path that is gone or
    /// leads elsewhere is left alone, so there is nothing that could fail and matter.
    pub(crate) fn unlink(&self) {
        if let Some(temporary) = self.temporary().take() {
            unlink_if(&temporary, self.inode);
        }
        if self.owned.swap(false, Ordering::Relaxed) {
            unlink_if(&self.path, self.inode);
        }
    }

    fn temporary(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.temporary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary().take() {
            unlink_if(&temporary, self.inode);
        }
    }
}

/// Unlinks `path` if it has this inode.
pub(crate) fn unlink_if(path: &Path, inode: Option<Inode>) {
    if inode.is_some() && inode_of(path).ok() == inode {
        // Whoever removed it in between has done what was wanted.
        let _ = fs::remove_file(path);
    }
}

/// Device and inode at `path`, symbolic links not followed (`lstat(2)`).
pub(crate) fn inode_of(path: &Path) -> io::Result<Inode> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// A short, unused name in the directory of `path`, of at most [`MAX_PATH`] bytes.
///
/// Process ids repeat, in containers all the time: what a process of the same id left behind when
/// it was killed is removed.
pub(crate) fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    for _ in 0..MAX_TRIES {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = path.with_file_name(format!(".h{}-{number}", std::process::id()));
        fits(&name)?;
        match occupant(&name)? {
            Occupant::Nobody => return Ok(name),
            Occupant::Dead => {
                fs::remove_file(&name)?;
                return Ok(name);
            }
            Occupant::Other(_) => {}
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no temporary name beside it is free"))
}

/// Whether this is a name that [`temporary_name`] gives: the socket was renamed since, and the
/// kernel still calls it so.
pub(crate) fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let numbers = name.and_then(|name| name.strip_prefix(".h")?.split_once('-'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(pid, number)| is_number(pid) && is_number(number))
}

/// An error that says so when `path` is too long for a Unix socket.
pub(crate) fn fits(path: &Path) -> io::Result<()> {
    let length = path.as_os_str().len();
    if length > MAX_PATH {
        let text =
            format!("{} has {length} bytes, a Unix socket may have {MAX_PATH}", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

/// Looks at what is at `path`, without disturbing it.
///
/// The question is asked with a datagram socket: a living stream socket answers EPROTOTYPE
/// (`unix(7)`) and never sees a connection, a dead socket answers ECONNREFUSED.
pub(crate) fn occupant(path: &Path) -> io::Result<Occupant> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::Nobody),
        Err(error) => return Err(error),
    };
    if found.file_type().is_symlink() {
        return Ok(Occupant::Other("a symbolic link is there; remove it"));
    }
    if !found.file_type().is_socket() {
        return Ok(Occupant::Other("something that is no socket is there; remove it"));
    }
    let probe = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            if found.uid() == nix::unistd::geteuid().as_raw() {
                Ok(Occupant::Dead)
            } else {
                Ok(Occupant::Other("a dead socket of another user is there; remove it"))
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Occupant::Nobody),
        _ => Ok(Occupant::Other(
            "a process has a socket there; stop it, or, if it is the predecessor, let both \
             generations ask for the path before they are ready",
        )),
    }
}

/// `rename(2)` that refuses to replace anything.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // The file system does not know the flag; a hard link refuses to replace as well.
        Err(nix::Error::EINVAL | nix::Error::ENOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_living_socket_is_told_from_a_dead_one_without_a_connection() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert_eq!(occupant(&path).unwrap(), Occupant::Nobody);
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        assert!(matches!(occupant(&path).unwrap(), Occupant::Other(_)));
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(listener);
        assert_eq!(occupant(&path).unwrap(), Occupant::Dead);
        let datagram = dir.path().join("d");
        let _living = UnixDatagram::bind(&datagram).unwrap();
        assert!(matches!(occupant(&datagram).unwrap(), Occupant::Other(_)));
    }

    #[test]
    fn a_link_or_a_file_is_never_taken_for_a_dead_socket() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link, socket) =
            (dir.path().join("f"), dir.path().join("l"), dir.path().join("s"));
        fs::write(&file, b"x").unwrap();
        drop(UnixListener::bind(&socket).unwrap());
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        assert!(
            matches!(occupant(&file).unwrap(), Occupant::Other(what) if what.contains("no socket"))
        );
        assert!(matches!(occupant(&link).unwrap(), Occupant::Other(what) if what.contains("link")));
    }

    #[test]
    fn a_place_is_taken_by_rename_and_left_only_when_it_is_still_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let temporary = temporary_name(&path).unwrap();
        let _listener = UnixListener::bind(&temporary).unwrap();
        let place = Place::bound(path.clone(), temporary.clone()).unwrap();
        assert!(!path.exists());
        assert!(place.settle().unwrap());
        assert!(UnixStream::connect(&path).is_ok());
        assert!(!temporary.exists());
        fs::remove_file(&path).unwrap();
        let _foreign = UnixListener::bind(&path).unwrap();
        place.unlink();
        assert!(path.exists(), "someone else's socket is not touched");
    }

    #[test]
    fn a_temporary_name_is_free_or_made_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let process = std::process::id();
        let name = temporary_name(&path).unwrap();
        let text = name.file_name().unwrap().to_str().unwrap().to_owned();
        let number: u64 = text.rsplit('-').next().unwrap().parse().unwrap();
        let left = |ahead: u64| dir.path().join(format!(".h{process}-{}", number + ahead));
        // Other tests take numbers as well, so a whole row is left behind.
        let living = UnixListener::bind(left(1)).unwrap();
        (2..60).for_each(|ahead| drop(UnixListener::bind(left(ahead)).unwrap()));
        let next = temporary_name(&path).unwrap();
        assert!(!next.exists() && next != left(1));
        drop(living);
    }

    #[test]
    fn a_place_that_was_never_taken_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _old = UnixListener::bind(&path).unwrap();
        let temporary = temporary_name(&path).unwrap();
        let _listener = UnixListener::bind(&temporary).unwrap();
        let place = Place::bound(path.clone(), temporary.clone()).unwrap();
        assert!(!place.settle().unwrap(), "a living socket stays");
        assert!(place.take().is_err());
        drop(place);
        assert!(!temporary.exists());
        assert!(path.exists());
    }
}
