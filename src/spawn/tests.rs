//! Real children: what they get, how they end, and what is said when they cannot start.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::*;

mod by_descriptor;

/// More than any of these steps takes, on any machine.
const LONG: Duration = Duration::from_secs(20);

fn program(exe: &str, args: &[&str]) -> Program {
    Program {
        exe: exe.into(),
        file: None,
        args: [exe].iter().chain(args).map(OsString::from).collect(),
        env: vec![("PATH".into(), "/bin:/usr/bin".into())],
        cwd: None,
    }
}

/// As an upgrade starts its successor.
async fn spawn(program: &Program, extra: &Extra) -> Result<(Child, OwnedFd)> {
    let (program, extra) = (program.clone(), extra.clone());
    beside(move |_| super::spawn(&program, &extra)).await
}

fn sh(script: &str) -> Program {
    program("/bin/sh", &["-c", script])
}

async fn run(program: &Program, extra: &Extra) -> Exit {
    let (mut child, _link) = spawn(program, extra).await.unwrap();
    tokio::time::timeout(LONG, child.ended()).await.unwrap()
}

/// Runs a shell script in `dir` and returns what it wrote to the file `out` there.
async fn output(dir: &Path, script: &str, extra: &Extra) -> String {
    let mut program = sh(script);
    program.cwd = Some(dir.into());
    assert_eq!(run(&program, extra).await, Exit::Code(0));
    fs::read_to_string(dir.join("out")).unwrap()
}

async fn refused(program: &Program) -> String {
    let error = spawn(program, &Extra::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Spawn);
    error.chain()
}

/// Descriptors without `CLOEXEC`, as a shell or a C library leaves them, low and high.
fn strays() -> Vec<OwnedFd> {
    let fds: Vec<OwnedFd> = (0..4).map(|_| std::io::pipe().unwrap().0.into()).collect();
    for fd in &fds {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    }
    let high = nix::fcntl::fcntl(&fds[0], FcntlArg::F_DUPFD(700)).unwrap();
    assert!(high >= 700);
    // Not closed again: it is a stray.
    fds
}

/// Lists the shell's own descriptors into `out`, without opening any: the glob is expanded with
/// the file not yet open, and the directory's own descriptor is the one that is gone afterwards.
const LIST: &str = "for fd in /proc/$$/fd/*; do [ -e $fd ] || [ -L $fd ] && list=\"$list ${fd##*/}\"; done; echo $list > out";

#[tokio::test]
async fn p5_a_successor_has_its_streams_and_the_link_and_nothing_else() {
    let _strays = strays();
    let dir = tempfile::tempdir().unwrap();
    let list = output(dir.path(), LIST, &Extra::default()).await;
    assert_eq!(list, "0 1 2 3\n");
}

#[tokio::test]
async fn p5_listed_descriptors_get_their_numbers_and_gaps_are_closed() {
    let _strays = strays();
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let writer: Arc<OwnedFd> = Arc::new(writer.into());
    let descriptors = vec![(Arc::clone(&writer), 9), (Arc::clone(&writer), 4)];
    let extra = Extra { descriptors, blocked: None };
    let list = output(dir.path(), &format!("{LIST}; echo hi >&9; echo ho >&4"), &extra).await;
    let mut numbers: Vec<u32> = list.split_whitespace().map(|n| n.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 9]);
    let flags = fcntl(writer.as_fd(), FcntlArg::F_GETFD).unwrap();
    assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
    drop((extra, writer));
    let mut text = String::new();
    std::fs::File::from(OwnedFd::from(reader)).read_to_string(&mut text).unwrap();
    assert_eq!(text, "hi\nho\n");
}

#[tokio::test]
async fn a_descriptor_number_that_is_taken_is_refused() {
    let fd: Arc<OwnedFd> = Arc::new(std::io::pipe().unwrap().0.into());
    for numbers in [&[3][..], &[-1], &[0], &[1024], &[5, 5]] {
        let descriptors = numbers.iter().map(|number| (Arc::clone(&fd), *number)).collect();
        let extra = Extra { descriptors, blocked: None };
        let error = spawn(&sh("exit 0"), &extra).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Spawn, "{numbers:?}");
    }
}

#[tokio::test]
async fn the_link_is_what_the_variable_says() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo $HEIRLOOM_LINK $(readlink /proc/$$/fd/3) > out";
    let mut program = sh(script);
    program.env.push((origin::VARIABLE.into(), "3:1:1:1".into()));
    program.cwd = Some(dir.path().into());
    assert_eq!(run(&program, &Extra::default()).await, Exit::Code(0));
    let text = fs::read_to_string(dir.path().join("out")).unwrap();
    let (variable, target) = text.trim().split_once(' ').unwrap();
    let origin: Origin = variable.parse().unwrap();
    assert_eq!((origin.descriptor, origin.pid), (3, std::process::id().cast_signed()));
    assert_eq!(origin.start, origin::start_time(origin.pid).unwrap());
    assert_eq!(target, format!("socket:[{}]", origin.inode));
}

#[tokio::test]
async fn the_link_carries_bytes_and_ends_with_the_child() {
    let (mut child, link) = spawn(&sh("echo hello >&3"), &Extra::default()).await.unwrap();
    let mut link = UnixStream::from(link);
    link.set_read_timeout(Some(LONG)).unwrap();
    let mut text = String::new();
    link.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello\n");
    assert_eq!(child.ended().await, Exit::Code(0));
}

/// The masks of a process as `/proc/PID/status` tells them.
fn mask(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
}

#[tokio::test]
async fn only_the_upgrade_signal_is_blocked_and_none_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    // The test's own process ignores SIGPIPE, as every Rust program does.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    assert_ne!(mask(&own, "SigIgn") & (1 << (libc::SIGPIPE - 1)), 0);
    for blocked in [None, Some(Signal::SIGHUP)] {
        let extra = Extra { descriptors: Vec::new(), blocked };
        let mut program = program("/bin/cp", &["/proc/self/status", "out"]);
        program.cwd = Some(dir.path().into());
        assert_eq!(run(&program, &extra).await, Exit::Code(0));
        let status = fs::read_to_string(dir.path().join("out")).unwrap();
        fs::remove_file(dir.path().join("out")).unwrap();
        let expected = blocked.map_or(0, |signal| 1 << (signal as i32 - 1));
        assert_eq!(mask(&status, "SigBlk"), expected);
        // Before the exec, glibc ignores the two signals that it keeps for itself, 32 and 33.
        assert_eq!(mask(&status, "SigIgn") & !(0b11 << 31), 0);
    }
}

#[tokio::test]
async fn arguments_and_environment_need_not_be_utf_8() {
    use std::os::unix::ffi::OsStringExt;
    let dir = tempfile::tempdir().unwrap();
    let odd = OsString::from_vec(b"a\xff\xfeb".to_vec());
    let mut program = sh("printf '%s|%s' \"$1\" \"$ODD\" > out");
    program.args.extend(["sh".into(), odd.clone()]);
    program.env.push(("ODD".into(), odd.clone()));
    program.cwd = Some(dir.path().join(&odd));
    fs::create_dir(dir.path().join(&odd)).unwrap();
    assert_eq!(run(&program, &Extra::default()).await, Exit::Code(0));
    let text = fs::read(dir.path().join(&odd).join("out")).unwrap();
    assert_eq!(text, b"a\xff\xfeb|a\xff\xfeb");
}

#[tokio::test]
async fn a_program_that_cannot_start_is_named_with_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        // Written by another process: a child that some other test starts meanwhile would hold our
        // descriptor for a moment, and the file would be busy.
        let shell = std::process::Command::new("/bin/sh")
            .args(["-c", "printf '%s' \"$1\" > \"$0\"", path.to_str().unwrap(), text])
            .status();
        assert!(shell.unwrap().success());
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let missing = dir.path().join("missing");
    let cases = [
        (missing.to_str().unwrap().to_owned(), "does not exist"),
        (file("data", "text", 0o600), "may not be executed"),
        (file("noise", "\x01\x02 noise", 0o700), "no program for this machine"),
        (file("script", "#!/nowhere/sh\n", 0o700), "interpreter"),
        (dir.path().to_str().unwrap().to_owned(), "may not be executed"),
    ];
    for (exe, expected) in cases {
        let text = refused(&program(&exe, &[])).await;
        assert!(text.contains(&format!("{exe:?}")) && text.contains(expected), "{text}");
    }
    let busy = file("busy", "#!/bin/sh\n", 0o700);
    fs::copy("/bin/true", &busy).unwrap();
    let writing = fs::OpenOptions::new().write(true).open(&busy).unwrap();
    let text = refused(&program(&busy, &[])).await;
    assert!(text.contains("being written"), "{text}");
    drop(writing);
}

#[tokio::test]
async fn a_missing_directory_and_a_nul_byte_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = sh("exit 0");
    for (name, create) in [("gone", false), ("file", true)] {
        let cwd = dir.path().join(name);
        if create {
            fs::write(&cwd, "").unwrap();
        }
        program.cwd = Some(cwd.clone());
        let text = refused(&program).await;
        let expected = format!("working directory {cwd:?} cannot be entered");
        assert!(text.contains(&expected), "{text}");
    }
    for odd in [
        Program { args: vec!["a\0b".into()], ..sh("") },
        Program { env: vec![("A".into(), "\0".into())], ..sh("") },
        Program { exe: "/bin/\0".into(), ..sh("") },
        Program { cwd: Some("/\0".into()), ..sh("") },
    ] {
        let text = refused(&odd).await;
        assert!(text.contains("NUL byte"), "{text}");
    }
}

#[tokio::test]
async fn a_killed_child_is_known_to_have_ended_and_is_reaped() {
    let (mut child, _link) =
        spawn(&program("/bin/sleep", &["60"]), &Extra::default()).await.unwrap();
    assert!(tokio::time::timeout(Duration::ZERO, child.ended()).await.is_err());
    child.kill(Signal::SIGKILL).unwrap();
    let killed = Instant::now();
    let exit = tokio::time::timeout(LONG, child.ended()).await.unwrap();
    assert_eq!(exit, Exit::Signal(libc::SIGKILL));
    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
    assert_eq!(child.ended().await, exit);
    assert!(!Path::new(&format!("/proc/{}", child.pid())).exists());
    child.kill(Signal::SIGKILL).unwrap();
}

/// Waits for the end of a process that somebody else reaps, then until it is no zombie.
async fn gone(pid: i32, process: &Process) {
    tokio::time::timeout(LONG, process.ended()).await.unwrap();
    let gone = async {
        while Path::new(&format!("/proc/{pid}")).exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, gone).await.unwrap();
}

fn process_of(child: &Child) -> Process {
    Process::from_pidfd(child.pidfd().try_clone().unwrap()).unwrap()
}

#[tokio::test]
async fn p5_a_dropped_child_is_killed_and_leaves_no_zombie() {
    for _ in 0..10 {
        let (child, _link) =
            spawn(&program("/bin/sleep", &["60"]), &Extra::default()).await.unwrap();
        let (pid, process) = (child.pid(), process_of(&child));
        drop(child);
        gone(pid, &process).await;
    }
}

#[tokio::test]
async fn p5_a_child_dropped_outside_of_the_runtime_is_reaped_by_it() {
    let (child, _link) = spawn(&program("/bin/sleep", &["60"]), &Extra::default()).await.unwrap();
    let (pid, process) = (child.pid(), process_of(&child));
    std::thread::spawn(move || drop(child)).join().unwrap();
    gone(pid, &process).await;
}

#[tokio::test]
async fn p5_a_cancelled_spawn_leaves_no_process() {
    let program = program("/bin/sleep", &["60"]);
    for _ in 0..20 {
        // A pipe is the witness: it ends only when no process holds its other end.
        let (reader, writer) = std::io::pipe().unwrap();
        let descriptors = vec![(Arc::new(writer.into()), 4)];
        let extra = Extra { descriptors, blocked: None };
        let mut future = Box::pin(spawn(&program, &extra));
        let polled =
            std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await;
        drop((polled, future));
        drop(extra);
        let mut file = fs::File::from(OwnedFd::from(reader));
        let end = tokio::task::spawn_blocking(move || file.read(&mut [0; 1]).unwrap());
        assert_eq!(tokio::time::timeout(LONG, end).await.unwrap().unwrap(), 0);
    }
}

/// The disposition of `SIGCHLD` is the whole process's, so this takes one of its own.
#[test]
fn a_parent_that_ignores_sigchld_learns_of_the_end_without_the_status() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "spawn::tests::with_sigchld_ignored", "--ignored"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "started in a process of its own by the test above"]
async fn with_sigchld_ignored() {
    crate::sys::signal::ignore(Signal::SIGCHLD).unwrap();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    assert_ne!(mask(&own, "SigIgn") & (1 << (libc::SIGCHLD - 1)), 0);
    let sleep = program("/bin/sleep", &["60"]);
    let (mut child, _link) = spawn(&sleep, &Extra::default()).await.unwrap();
    child.kill(Signal::SIGKILL).unwrap();
    let exit = tokio::time::timeout(LONG, child.ended()).await.unwrap();
    assert_eq!(exit, Exit::Unknown);
    let (child, _link) = spawn(&sleep, &Extra::default()).await.unwrap();
    let (pid, process) = (child.pid(), process_of(&child));
    drop(child);
    gone(pid, &process).await;
}

#[tokio::test]
async fn end_waits_then_kills_then_reaps_and_goes_on_when_dropped() {
    let (child, _link) = spawn(&sh("exit 7"), &Extra::default()).await.unwrap();
    assert_eq!(child.end(LONG).await, Exit::Code(7));
    let sleep = program("/bin/sleep", &["60"]);
    let (child, _link) = spawn(&sleep, &Extra::default()).await.unwrap();
    let exit = child.end(Duration::from_millis(1)).await;
    assert_eq!(exit, Exit::Signal(libc::SIGKILL));
    let (child, _link) = spawn(&sleep, &Extra::default()).await.unwrap();
    let (pid, process) = (child.pid(), process_of(&child));
    drop(child.end(Duration::ZERO));
    gone(pid, &process).await;
}

#[tokio::test]
async fn a_process_by_pidfd_may_be_signalled_and_is_seen_to_end() {
    let (mut child, _link) =
        spawn(&program("/bin/sleep", &["60"]), &Extra::default()).await.unwrap();
    let process = process_of(&child);
    assert!(process.may_signal() && child.may_signal());
    assert_ne!(process.pidfd().as_raw_fd(), child.pidfd().as_raw_fd());
    process.signal(Signal::SIGTERM).unwrap();
    tokio::time::timeout(LONG, process.ended()).await.unwrap();
    // Twice, and after it was reaped.
    assert_eq!(child.ended().await, Exit::Signal(libc::SIGTERM));
    process.ended().await;
    process.signal(Signal::SIGTERM).unwrap();
    let late = process_of(&child);
    tokio::time::timeout(LONG, late.ended()).await.unwrap();
}

#[tokio::test]
async fn p9_what_is_no_pidfd_is_no_process() {
    let file: OwnedFd = tempfile::tempfile().unwrap().into();
    let (pipe, _writer) = std::io::pipe().unwrap();
    for fd in [file, pipe.into()] {
        assert_eq!(Process::from_pidfd(fd).unwrap_err().kind(), ErrorKind::Descriptor);
    }
}
