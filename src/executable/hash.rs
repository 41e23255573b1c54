//! The hash of a file's bytes: it tells programs apart, and is no security measure.
//!
//! SipHash 1-3 of 128 bits with a key of zeroes. Two generations, built by different compilers, must
//! come to the same number, which the standard library's hasher does not promise.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::uio::pread;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::wire::Hash;

/// What a thread that reads programs is called.
pub(super) const THREAD: &str = "heirloom-hash";

/// Bytes that are read at a time.
const CHUNK: usize = 256 * 1024;

/// Hashes what a descriptor has open, from its beginning. Waits for the disk. When it is not wanted
/// any more it ends after the chunk that it is reading, with a hash of nothing in particular.
///
/// Read, not mapped: a file that is cut meanwhile would end a process that has it mapped.
pub(super) fn hash(file: impl AsFd, wanted: &dyn Fn() -> bool) -> io::Result<Hash> {
    use std::hash::Hasher;
    let mut hasher = SipHasher13::new();
    let mut chunk = vec![0; CHUNK];
    let mut at = 0_i64;
    while wanted() {
        let read = match pread(&file, &mut chunk, at) {
            Ok(0) => break,
            Ok(read) => read,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        hasher.write(&chunk[..read]);
        at += read as i64;
    }
    Ok(Hash(hasher.finish128().as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    fn hash_of(bytes: &[u8]) -> Hash {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        // Wherever the descriptor stands: it is shared with others.
        file.seek(SeekFrom::Start(bytes.len() as u64 / 2)).unwrap();
        hash(file, &|| true).unwrap()
    }

    #[test]
    fn p8_the_hash_is_the_same_in_every_version() {
        for (bytes, expected) in [
            (vec![], "0db4d9615d9334210333fb31d05e1cb9"),
            (b"heirloom".to_vec(), "b7c37d5d04ccfc2d9e27330097e25bfc"),
            (vec![7; 3 * CHUNK + 5], "815b989337373cd8fc727814d6f8cf7d"),
        ] {
            let json = serde_json::to_string(&hash_of(&bytes)).unwrap();
            assert_eq!(json, format!("\"{expected}\""));
        }
    }

    #[test]
    fn one_byte_makes_another_hash_also_beyond_the_first_chunk() {
        let mut bytes = vec![0; CHUNK + 10];
        let before = hash_of(&bytes);
        assert_eq!(before, hash_of(&bytes));
        bytes[CHUNK + 3] = 1;
        assert_ne!(before, hash_of(&bytes));
        assert_ne!(hash_of(&[0; 1]), hash_of(&[0; 2]));
    }

    #[test]
    fn what_cannot_be_read_has_no_hash() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(hash(reader, &|| true).is_err());
    }
}
