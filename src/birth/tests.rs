//! A table of ways to be born. The environment is a function, so nothing is set for real.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::*;

fn us() -> Process {
    let pid = std::process::id().cast_signed();
    Process { pid, parent: std::os::unix::process::parent_id().cast_signed() }
}

fn born(process: Process, variables: &[(&str, &str)]) -> Result<Birth> {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    birth_of(&process, |name| variables.get(name).map(OsString::from))
}

/// An end of a socket pair as it was inherited: without `CLOEXEC`, owned by nobody.
fn inherited_end(end: UnixStream) -> (RawFd, u64) {
    fcntl(&end, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let inode = socket::inode(end.as_fd()).unwrap();
    (end.into_raw_fd(), inode)
}

/// The variable as our parent would have written it.
fn from_parent(descriptor: RawFd, inode: u64) -> String {
    let pid = us().parent;
    Origin { descriptor, inode, pid, start: origin::start_time(pid).unwrap() }.to_string()
}

fn refusal(process: Process, variables: &[(&str, &str)]) -> String {
    let error = born(process, variables).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Birth);
    error.chain()
}

#[test]
fn without_variables_a_birth_is_fresh() {
    assert!(matches!(born(us(), &[]).unwrap(), Birth::Fresh));
    assert!(matches!(born(us(), &[("LISTEN_FDS", "2")]).unwrap(), Birth::Fresh));
}

#[test]
fn a_link_is_inherited_whoever_the_parent_is_by_now() {
    for start in [1, 0, origin::start_time(us().parent).unwrap()] {
        for pid in [us().parent, us().pid, i32::MAX] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let (descriptor, inode) = inherited_end(ours);
            let text = Origin { descriptor, inode, pid, start }.to_string();
            let variables = [(origin::VARIABLE, text.as_str()), ("LISTEN_PID", "nonsense")];
            let Birth::Inherited { link } = born(us(), &variables).unwrap() else {
                panic!("{text}")
            };
            assert_eq!(link.as_raw_fd(), descriptor);
            let flags = FdFlag::from_bits_retain(fcntl(&link, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
            theirs.write_all(b"x").unwrap();
        }
    }
}

#[test]
fn p3_a_link_that_a_wrapper_closed_is_an_error_and_not_a_fresh_start() {
    let (other, _far) = UnixStream::pair().unwrap();
    let (pipe, _writer) = std::io::pipe().unwrap();
    let inode = socket::inode(other.as_fd()).unwrap();
    let pipe_inode = socket::inode(pipe.as_fd()).unwrap();
    let cases = [
        (other.as_raw_fd(), inode + 1),
        (pipe.as_raw_fd(), pipe_inode),
        (i32::MAX, inode),
        (0, socket::inode(std::io::stdin().as_fd()).unwrap()),
    ];
    for (descriptor, inode) in cases {
        let text = from_parent(descriptor, inode);
        let refusal = refusal(us(), &[(origin::VARIABLE, &text)]);
        assert!(refusal.contains(&format!("descriptor {descriptor} is not the link")), "{refusal}");
        assert!(refusal.contains("wrapper"), "{refusal}");
    }
    // Nothing that was not ours has been closed.
    assert!(socket::is_open(other.as_raw_fd()) && socket::is_open(pipe.as_raw_fd()));
}

#[test]
fn p9_a_variable_that_was_meant_for_an_ancestor_is_stale() {
    let (other, _far) = UnixStream::pair().unwrap();
    let inode = socket::inode(other.as_fd()).unwrap() + 1;
    let start = origin::start_time(us().parent).unwrap();
    let stale = [
        // Another process, one that had our parent's pid before it, and ourselves.
        Origin { descriptor: other.as_raw_fd(), inode, pid: i32::MAX, start },
        Origin { descriptor: other.as_raw_fd(), inode, pid: us().parent, start: start + 1 },
        Origin { descriptor: other.as_raw_fd(), inode, pid: us().pid, start },
    ];
    for origin in stale {
        let text = origin.to_string();
        let birth = born(us(), &[(origin::VARIABLE, &text)]).unwrap();
        assert!(matches!(birth, Birth::Fresh), "{text}");
        assert!(socket::is_open(other.as_raw_fd()));
    }
}

#[test]
fn p9_nonsense_in_the_variable_is_an_error_with_a_remedy() {
    for text in ["", "3", "3:1:1:1:1", "a:b:c:d", "-3:1:1:1", &"9".repeat(1 << 20)] {
        let refusal = refusal(us(), &[(origin::VARIABLE, text)]);
        assert!(refusal.contains("unset it"), "{refusal}");
    }
}

fn activation<'a>(pid: &'a str, count: &'a str, names: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("LISTEN_PID", pid), ("LISTEN_FDS", count), ("LISTEN_FDNAMES", names)]
}

#[test]
fn an_activation_for_another_process_is_ignored() {
    for pid in ["1", "0", "99999999999"] {
        let birth = born(us(), &activation(pid, "1", "http")).unwrap();
        assert!(matches!(birth, Birth::Fresh), "{pid}");
    }
    let own = us().pid.to_string();
    assert!(matches!(born(us(), &activation(&own, "0", "")).unwrap(), Birth::Fresh));
    assert!(matches!(born(us(), &[("LISTEN_PID", own.as_str())]).unwrap(), Birth::Fresh));
}

#[test]
fn an_activation_for_a_process_that_had_our_pid_is_ignored() {
    let own = us().pid.to_string();
    let Some(id) = pidfd::unique_id(us().pid) else {
        return;
    };
    let other = (id + 1).to_string();
    let mut variables = activation(&own, "4000", "http");
    variables.push(("LISTEN_PIDFDID", &other));
    assert!(matches!(born(us(), &variables).unwrap(), Birth::Fresh));
    // With our own id it goes on to look at the count of names.
    let same = id.to_string();
    variables.pop();
    variables.push(("LISTEN_PIDFDID", &same));
    assert!(refusal(us(), &variables).contains("1 names for the 4000"));
}

#[test]
fn p9_an_activation_that_contradicts_itself_is_an_error_and_closes_nothing() {
    let own = us().pid.to_string();
    let many = vec!["a"; 4096].join(":");
    let cases = [
        (own.as_str(), "-1", "", "decimal"),
        (&own, "", "", "decimal"),
        (&own, "1x", "", "decimal"),
        ("x", "1", "", "decimal"),
        ("", "1", "", "decimal"),
        (&own, "4097", "", "at most 4096"),
        (&own, "18446744073709551615", "", "at most 4096"),
        (&own, "18446744073709551616", "", "decimal"),
        (&own, "2", "one", "1 names for the 2"),
        (&own, "1", "one:two", "2 names for the 1"),
        (&own, "2", "good:b\u{7}d", "unusable name"),
        (&own, "4096", &many, "is not open"),
    ];
    let (pipe, _writer) = std::io::pipe().unwrap();
    for (pid, fds, names, expected) in cases {
        let refusal = refusal(us(), &activation(pid, fds, names));
        assert!(refusal.contains(expected), "{refusal}");
    }
    // With 4096 of them this one was among the numbers, and it still works.
    assert!(pipe.as_raw_fd() >= FIRST_PASSED && pipe.as_raw_fd() < 4096);
    assert!(fcntl(&pipe, FcntlArg::F_GETFD).is_ok());
}

/// Takes over descriptors 3 and 4, so it takes a process of its own, as a service manager starts
/// one: by a shell that passes them and then becomes the process.
#[test]
fn p5_activation_passes_descriptors_with_their_names() {
    let script = "exec 3</dev/null 4</dev/null; LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=http:unknown exec \"$0\" \"$@\"";
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "birth::tests::activated", "--ignored", "--test-threads=1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "started with descriptors by the test above"]
fn activated() {
    let Birth::Activated { descriptors } = birth(Unnamed::Ignored).unwrap() else {
        panic!("not activated")
    };
    let told: Vec<_> = descriptors
        .iter()
        .map(|(name, fd)| {
            let flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
            (name.as_ref().map(Name::as_str), fd.as_raw_fd())
        })
        .collect();
    assert_eq!(told, [(Some("http"), 3), (None, 4)]);
}
