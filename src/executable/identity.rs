//! What a file is, as the system says.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::stat::{FileStat, SFlag, fstat, stat};

use super::hash::{THREAD, hash};
use crate::wire::Identity;

impl Identity {
    /// The identity of the file that a path leads to, symbolic links followed; without its hash.
    /// Does not open it.
    ///
    /// # Errors
    ///
    /// Those of `stat(2)`, and `InvalidInput` if it is no regular file.
    pub(crate) fn of_path(path: &Path) -> io::Result<Self> {
        Self::of(&stat(path)?)
    }

    /// As [`of_path`](Self::of_path), with its hash: then a second copy of a program is known as
    /// that program. Takes as long as it takes to open and read the file, on a thread of its own.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub(crate) async fn of_path_hashed(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        let looking = crate::task::beside(THREAD, move |wanted| {
            let file = open(&path)?;
            let identity = Self::of_file(&file)?;
            Ok(Self { hash: Some(hash(&file, wanted)?), ..identity })
        });
        looking.await?
    }

    /// The identity of an open file, without its hash.
    pub(super) fn of_file(file: impl AsFd) -> io::Result<Self> {
        Self::of(&fstat(file)?)
    }

    fn of(found: &FileStat) -> io::Result<Self> {
        if !is_regular(found) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Self {
            // Neither is ever negative.
            size: found.st_size.cast_unsigned(),
            mtime: (found.st_mtime, found.st_mtime_nsec as u32),
            dev: found.st_dev,
            ino: found.st_ino,
            hash: None,
        })
    }
}

fn is_regular(found: &FileStat) -> bool {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG
}

/// Opens a file for reading; does not wait for a writer if it is a pipe.
fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[tokio::test]
    async fn a_copy_is_another_file_and_the_same_program() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, "program").unwrap();
        std::fs::copy(&one, &two).unwrap();
        symlink("one", dir.path().join("current")).unwrap();
        let current = Identity::of_path(&dir.path().join("current")).unwrap();
        let found = std::fs::metadata(&one).unwrap();
        assert_eq!((current.dev, current.ino), (found.dev(), found.ino()));
        assert_eq!(current.mtime.0, found.mtime());
        assert_eq!((current.size, current.hash), (7, None));
        assert!(!current.is_same_program(&Identity::of_path(&two).unwrap()));
        let current = Identity::of_path_hashed(&one).await.unwrap();
        assert!(current.is_same_program(&Identity::of_path_hashed(&two).await.unwrap()));
    }

    #[test]
    fn what_is_no_file_has_no_identity() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [dir.path(), pipe.as_path()] {
            let error = Identity::of_path(path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        let missing = Identity::of_path(&dir.path().join("missing")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
