//! Programs that are executed by a descriptor: what they get, what they are called, and that it is
//! the open file that runs, whatever has become of its path.

use super::*;

/// A file of its own with the bytes of another, opened and written by nobody else: a child that
/// another test starts meanwhile would hold our descriptor, and the file would be busy.
fn copy(from: &str, to: &Path) -> Arc<OwnedFd> {
    let copied = std::process::Command::new("/bin/cp").args([from.as_ref(), to]).status();
    assert!(copied.unwrap().success());
    open(to)
}

fn open(path: &Path) -> Arc<OwnedFd> {
    Arc::new(fs::File::open(path).unwrap().into())
}

/// Another descriptor of the same file, with this number or the next free one.
fn high(fd: &OwnedFd, number: RawFd) -> Arc<OwnedFd> {
    Arc::new(rustix::io::fcntl_dupfd_cloexec(fd, number).unwrap())
}

async fn list(dir: &Path, file: Arc<OwnedFd>, extra: &Extra) -> Vec<u32> {
    let mut program = sh(LIST);
    program.exe = dir.join("gone");
    program.file = Some(file);
    program.cwd = Some(dir.into());
    assert_eq!(run(&program, extra).await, Exit::Code(0));
    let text = fs::read_to_string(dir.join("out")).unwrap();
    let mut numbers: Vec<_> = text.split_whitespace().map(|n| n.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn p5_a_deleted_program_starts_and_has_its_streams_and_the_link_and_nothing_else() {
    let _strays = strays();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    let file = copy("/bin/sh", &path);
    fs::remove_file(&path).unwrap();
    for file in [Arc::clone(&file), high(&file, 300), high(&file, 800)] {
        assert_eq!(list(dir.path(), file, &Extra::default()).await, [0, 1, 2, 3]);
    }
}

#[tokio::test]
async fn p5_the_file_is_in_nobody_s_way_whichever_number_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let pipe: Arc<OwnedFd> = Arc::new(std::io::pipe().unwrap().0.into());
    // Below, between, on and above the listed numbers.
    let file = open(Path::new("/bin/sh"));
    let number = high(&file, 600).as_raw_fd();
    for listed in [number + 1, number, number - 1] {
        let file = high(&file, 600);
        let extra = Extra {
            descriptors: vec![(Arc::clone(&pipe), listed), (Arc::clone(&pipe), 4)],
            blocked: None,
        };
        let expected = [0, 1, 2, 3, 4, u32::try_from(listed).unwrap()];
        assert_eq!(list(dir.path(), file, &extra).await, expected);
    }
}

#[tokio::test]
async fn the_open_file_runs_and_not_what_its_path_leads_to_now() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    let file = copy("/bin/true", &path);
    let newer = dir.path().join("newer");
    copy("/bin/false", &newer);
    fs::rename(&newer, &path).unwrap();
    let path = path.to_str().unwrap();
    let mut program = program(path, &[]);
    assert_eq!(run(&program, &Extra::default()).await, Exit::Code(1));
    program.file = Some(file);
    assert_eq!(run(&program, &Extra::default()).await, Exit::Code(0));
}

#[tokio::test]
async fn a_script_that_only_a_descriptor_leads_to_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    fs::write(&path, "#!/bin/sh\n").unwrap();
    let mut program = program(path.to_str().unwrap(), &[]);
    program.file = Some(open(&path));
    let text = refused(&program).await;
    assert!(text.contains("is a script") && text.contains(&format!("{path:?}")), "{text}");
    assert!(!text.contains("  "), "{text}");
}

#[tokio::test]
async fn what_is_no_program_is_refused_as_it_is_by_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let (text, path) = (dir.path().join("text"), dir.path().join("noise"));
    fs::write(&text, "\x01\x02 noise").unwrap();
    let mut program = program(path.to_str().unwrap(), &[]);
    program.file = Some(copy(text.to_str().unwrap(), &path));
    let text = refused(&program).await;
    assert!(text.contains("may not be executed"), "{text}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let text = refused(&program).await;
    assert!(text.contains("no program for this machine"), "{text}");
}

#[tokio::test]
async fn a_program_is_told_by_which_path_it_is_meant_and_only_then() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = sh("echo $HEIRLOOM_EXECUTED > out");
    program.cwd = Some(dir.path().into());
    program.env.push((origin::EXECUTED.into(), "1:2:/stale".into()));
    let said = || fs::read_to_string(dir.path().join("out")).unwrap();
    assert_eq!(run(&program, &Extra::default()).await, Exit::Code(0));
    assert_eq!(said(), "\n");
    let file = open(Path::new("/bin/sh"));
    let value = origin::executed_as(file.as_fd(), Path::new("/srv/current/app")).unwrap();
    program.exe = "/srv/current/app".into();
    program.file = Some(file);
    assert_eq!(run(&program, &Extra::default()).await, Exit::Code(0));
    assert_eq!(said(), format!("{}\n", value.to_str().unwrap()));
}

#[tokio::test]
async fn a_program_that_was_executed_by_a_descriptor_finds_its_path_and_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("current-app");
    let name = "spawn::tests::by_descriptor::as_executed_by_a_descriptor";
    let mut program = program(path.to_str().unwrap(), &["--exact", name, "--ignored"]);
    program.file = Some(open(Path::new("/proc/self/exe")));
    program.env.push(("EXPECTED".into(), path.clone().into()));
    assert_eq!(run(&program, &Extra::default()).await, Exit::Code(0));
    assert_eq!(fs::read_to_string(dir.path().join("current-app")).unwrap(), "seen");
}

#[test]
#[ignore = "started in a process of its own by the test above"]
fn as_executed_by_a_descriptor() {
    let expected = std::env::var_os("EXPECTED").unwrap();
    let comm = || fs::read_to_string("/proc/self/comm").unwrap();
    assert!(comm().trim().parse::<u32>().is_ok(), "{}", comm());
    let _link = crate::birth::birth(crate::birth::Unnamed::Ignored).unwrap();
    assert_eq!(comm(), "current-app\n");
    let found = Program::of_this_process().unwrap();
    assert_eq!(found.exe, Path::new(&expected));
    assert!(found.env.iter().all(|(name, _)| name != origin::EXECUTED));
    fs::write(expected, "seen").unwrap();
}
