//! Programs that are held: taken over, verified, and started whatever has become of their files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::spawn::{Exit, Extra, beside, spawn};

/// More than any of these steps takes, on any machine.
const LONG: Duration = Duration::from_secs(20);

/// A copy that no descriptor of this process was ever open for writing on: a child that another
/// test starts meanwhile would hold it, and the file would be busy.
fn copy(from: &str, to: &Path) {
    let copied = std::process::Command::new("/bin/cp").args([from.as_ref(), to]).status();
    assert!(copied.unwrap().success());
}

/// Writes over a file in place, as `cp` does.
fn overwrite(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

fn record(path: &Path) -> ExecutableRecord {
    ExecutableRecord {
        of: Which::Previous,
        generation: Generation::FIRST.next(),
        version: "1.0".into(),
        path: path.to_owned(),
        args: vec!["program".into()],
        cwd: None,
        identity: Identity::of_path(path).unwrap(),
    }
}

fn held(path: &Path) -> Executable {
    Executable::adopt(record(path), File::open(path).unwrap().into()).unwrap()
}

async fn run(executable: &Executable) -> Exit {
    let program = executable.program(vec![]);
    let started = beside(move |_| spawn(&program, &Extra::default())).await;
    let (mut child, _link) = started.unwrap();
    tokio::time::timeout(LONG, child.ended()).await.unwrap()
}

#[tokio::test]
async fn the_running_program_is_held_with_all_that_starts_it_again() {
    let program = Program::of_this_process().unwrap();
    let executable = Executable::of_this_process(&program, Generation::FIRST, "1.2").unwrap();
    assert_eq!((executable.generation(), executable.version()), (Generation::FIRST, "1.2"));
    let own = Identity::of_path(Path::new("/proc/self/exe")).unwrap();
    assert_eq!(executable.identity(), own);
    executable.verify().await.unwrap();
    let again = executable.program(vec![("A".into(), "b".into())]);
    assert_eq!((again.exe, again.args, again.cwd), (program.exe, program.args, program.cwd));
    assert_eq!(again.env, [("A".into(), "b".into())]);
    assert!(again.file.is_none());
    let record = executable.record(Which::Running).unwrap();
    assert_eq!((record.of, record.identity), (Which::Running, own));
}

#[tokio::test]
async fn a_program_starts_after_its_file_was_deleted_or_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    copy("/bin/true", &path);
    let executable = held(&path);
    executable.hashed().await.unwrap();
    assert!(executable.program(vec![]).file.is_none());
    assert_eq!(run(&executable).await, Exit::Code(0));

    let newer = dir.path().join("newer");
    copy("/bin/false", &newer);
    fs::rename(&newer, &path).unwrap();
    executable.verify().await.unwrap();
    assert!(executable.program(vec![]).file.is_some());
    assert_eq!(run(&executable).await, Exit::Code(0));

    fs::remove_file(&path).unwrap();
    executable.verify().await.unwrap();
    assert_eq!(run(&executable).await, Exit::Code(0));
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_by_now_does_not_lead_to_another_program() {
    let dir = tempfile::tempdir().unwrap();
    let current = dir.path().join("current");
    symlink("/bin/true", &current).unwrap();
    let executable = held(&current);
    fs::remove_file(&current).unwrap();
    symlink("/bin/false", &current).unwrap();
    assert_eq!(run(&executable).await, Exit::Code(0));
}

#[tokio::test]
async fn what_was_overwritten_in_place_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    let refused = async |executable: &Executable| {
        let error = executable.verify().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Spawn);
        let text = error.to_string();
        assert!(
            text.contains("overwritten in place") && text.contains(&format!("{path:?}")),
            "{text}"
        );
        assert!(text.contains("generation 1"), "{text}");
    };
    let set_time = |seconds: u64| {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    overwrite(&path, "first");
    set_time(1_000);
    let (plain, hashed) = (held(&path), held(&path));
    let hash = hashed.hashed().await.unwrap();

    // The same bytes again are the same program, if the hash is known.
    set_time(2_000);
    hashed.verify().await.unwrap();
    refused(&plain).await;
    assert!(plain.hashed().await.is_err());

    // Other bytes, of the same length and with the same time.
    overwrite(&path, "other");
    set_time(1_000);
    refused(&hashed).await;
    assert_eq!(hashed.hashed().await.unwrap(), hash);

    overwrite(&path, "longer than before");
    for executable in [&plain, &hashed] {
        refused(executable).await;
    }
}

#[tokio::test]
async fn a_hash_that_was_taken_travels_and_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    overwrite(&path, "first");
    let executable = held(&path);
    assert_eq!(executable.record(Which::Previous).unwrap().identity.hash, None);
    let hash = executable.hashed().await.unwrap();
    let record = executable.record(Which::Running).unwrap();
    assert_eq!((record.of, record.identity.hash), (Which::Running, Some(hash)));
    let file = executable.file().unwrap().try_clone().unwrap();
    let next = Executable::adopt(record, file).unwrap();
    assert_eq!(next.identity().hash, Some(hash));
    next.verify().await.unwrap();
}

#[tokio::test]
async fn p9_a_descriptor_that_is_no_program_s_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    overwrite(&path, "first");
    let refused = |file: OwnedFd, path: PathBuf, expected: &str| {
        let record = ExecutableRecord { path, ..record(&dir.path().join("program")) };
        let error = Executable::adopt(record, file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Descriptor);
        let text = error.to_string();
        assert!(text.starts_with("executable ") && text.contains(expected), "{text}");
    };
    let (pipe, _writer) = std::io::pipe().unwrap();
    refused(pipe.into(), path.clone(), "not the file");
    refused(File::open(dir.path()).unwrap().into(), path.clone(), "not the file");
    let writable = File::options().read(true).write(true).open(&path).unwrap();
    refused(writable.into(), path.clone(), "reading alone");
    let named =
        nix::fcntl::open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty());
    refused(named.unwrap(), path.clone(), "reading alone");
    refused(File::open(&path).unwrap().into(), "program".into(), "not absolute");
}

#[tokio::test]
async fn what_is_too_long_is_not_handed_on_and_starts_all_the_same() {
    let path = Path::new("/bin/true");
    let args = vec!["x".repeat(100).into(); 250];
    let long = ExecutableRecord { args, ..record(path) };
    let executable = Executable::adopt(long, File::open(path).unwrap().into()).unwrap();
    assert!(executable.record(Which::Running).is_none());
    assert_eq!(run(&executable).await, Exit::Code(0));
}

#[tokio::test]
async fn a_program_without_arguments_is_started_by_its_name() {
    let path = Path::new("/bin/true");
    let bare = ExecutableRecord { args: vec![], ..record(path) };
    let executable = Executable::adopt(bare, File::open(path).unwrap().into()).unwrap();
    assert_eq!(executable.program(vec![]).args, ["/bin/true"]);
}
