//! Any environment: what is made of it must be what its documentation says.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::*;

/// The variables that birth reads, each with the letter that stands for it.
const VARIABLES: [(u8, &str); 6] = [
    (b'L', origin::VARIABLE),
    (b'P', "LISTEN_PID"),
    (b'I', "LISTEN_PIDFDID"),
    (b'F', "LISTEN_FDS"),
    (b'N', "LISTEN_FDNAMES"),
    (b'X', origin::EXECUTED),
];

/// A descriptor that is a Unix stream socket, and its inode. Standard input is the same socket.
const LINK: (RawFd, u64) = (3, 40_991);

/// Variables, each a letter and its value, with a zero byte between them.
///
/// In a value `$p` stands for our pid, `$q` for our parent's, `$s` for our parent's start time and
/// `$i` for our own pidfd's inode, `$d` for device and inode of our program, so that an environment
/// can be meant for this process.
pub fn environment(bytes: &[u8]) {
    let process = Process {
        pid: std::process::id().cast_signed(),
        parent: std::os::unix::process::parent_id().cast_signed(),
    };
    let mut variables = BTreeMap::new();
    for part in bytes.split(|byte| *byte == 0) {
        if let Some((letter, value)) = part.split_first()
            && let Some((_, name)) = VARIABLES.iter().find(|(of, _)| of == letter)
        {
            variables.insert(*name, OsString::from_vec(filled_in(value, &process)));
        }
    }
    let lookup = |name: &str| variables.get(name).cloned();
    let longest = variables.values().map(|value| value.as_bytes().len()).max().unwrap_or(0);

    let inode = |number| (number == 0 || number == LINK.0).then_some(LINK.1);
    let link = left_for(&process, lookup, inode).map_err(|error| refused(&error, longest));
    assert_eq!(link, expected_link(&process, lookup), "{variables:?}");
    let passed = passed_to(&process, lookup).map_err(|error| refused(&error, longest));
    let passed = passed.map(|names| names.into_iter().map(|name| name.map(String::from)).collect());
    assert_eq!(passed, expected_names(&process, lookup), "{variables:?}");
    let executed = lookup(origin::EXECUTED);
    let path = origin::executed(executed.as_deref()).map(|path| path.into_os_string().into_vec());
    assert_eq!(path, executed.and_then(expected_path), "{variables:?}");
}

/// Device and inode of the file that this process runs.
fn program() -> String {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata("/proc/self/exe").expect("a program has a file");
    format!("{}:{}", file.dev(), file.ino())
}

/// The rule for `HEIRLOOM_EXECUTED`, told once more.
fn expected_path(value: OsString) -> Option<Vec<u8>> {
    let value = value.as_bytes();
    let colon = value.iter().enumerate().filter(|(_, byte)| **byte == b':').nth(1)?.0;
    let (file, path) = (&value[..colon], &value[colon + 1..]);
    (file == program().as_bytes() && path.starts_with(b"/")).then(|| path.to_vec())
}

fn filled_in(value: &[u8], process: &Process) -> Vec<u8> {
    let mut filled = Vec::new();
    let mut rest = value.iter();
    while let Some(byte) = rest.next() {
        let number = match (*byte, rest.as_slice().first()) {
            (b'$', Some(b'p')) => process.pid.to_string(),
            (b'$', Some(b'q')) => process.parent.to_string(),
            (b'$', Some(b's')) => origin::start_time(process.parent).unwrap_or(0).to_string(),
            (b'$', Some(b'i')) => pidfd::unique_id(process.pid).unwrap_or(0).to_string(),
            (b'$', Some(b'd')) => program(),
            _ => {
                filled.push(*byte);
                continue;
            }
        };
        rest.next();
        filled.extend(number.into_bytes());
    }
    filled
}

/// A refusal says what to do, and no more than the value that it is about.
fn refused(error: &Error, longest: usize) {
    assert_eq!(error.kind(), ErrorKind::Birth);
    let text = error.chain();
    assert!(text.len() <= 6 * longest + 400, "{} bytes for a value of {longest}", text.len());
    assert!(!text.contains(char::is_control), "{text:?}");
}

/// Digits and nothing else, within 64 bits.
fn digits(text: &[u8]) -> Option<u64> {
    let mut value: u64 = 0;
    for byte in text {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    (!text.is_empty()).then_some(value)
}

type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The rule for `HEIRLOOM_LINK`, told once more.
fn expected_link(
    process: &Process,
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Origin>, ()> {
    let Some(value) = lookup(origin::VARIABLE) else { return Ok(None) };
    let value = value.as_bytes();
    let numbers: Vec<u64> = value.split(|byte| *byte == b':').map_while(digits).collect();
    let colons = value.iter().filter(|byte| **byte == b':').count();
    let [descriptor, inode, pid, start] = numbers[..] else { return Err(()) };
    let (Ok(descriptor), Ok(pid)) = (i32::try_from(descriptor), i32::try_from(pid)) else {
        return Err(());
    };
    if colons != 3 || value.len() > 83 {
        return Err(());
    }
    if (descriptor, inode) == LINK {
        return Ok(Some(Origin { descriptor, inode, pid, start }));
    }
    let parents = origin::start_time(process.parent).unwrap_or(start);
    if pid == process.parent && (start == 0 || start == parents) { Err(()) } else { Ok(None) }
}

/// The rules of `sd_listen_fds_with_names(3)`, told once more.
fn expected_names(
    process: &Process,
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<Option<String>>, ()> {
    let lookup: Lookup<'_> = &lookup;
    let number = |name: &str| match lookup(name) {
        Some(value) => digits(value.as_bytes()).map(Some).ok_or(()),
        None => Ok(None),
    };
    if number("LISTEN_PID")? != Some(u64::from(process.pid.cast_unsigned())) {
        return Ok(Vec::new());
    }
    let id = pidfd::unique_id(process.pid);
    if number("LISTEN_PIDFDID")?.is_some_and(|meant| id.is_some_and(|own| own != meant)) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS")?.unwrap_or(0);
    if count > 4096 {
        return Err(());
    }
    let count = usize::try_from(count).map_err(|_| ())?;
    let Some(names) = lookup("LISTEN_FDNAMES").filter(|_| count > 0) else {
        return Ok(vec![None; count]);
    };
    let names: Vec<&[u8]> = names.as_bytes().split(|byte| *byte == b':').collect();
    let printable = |name: &&[u8]| name.len() <= 255 && name.iter().all(|b| matches!(b, 32..=126));
    if names.len() != count || !names.iter().all(printable) {
        return Err(());
    }
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let named = |name: &[u8]| !name.is_empty() && name != b"unknown";
    Ok(names.into_iter().map(|name| named(name).then(|| text(name))).collect())
}
