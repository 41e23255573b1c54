//! Checks that are real processes: what they get, how they end, and what is left of them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use super::*;

/// More than any of these steps takes, on any machine.
const LONG: Duration = Duration::from_secs(20);

/// The next generation's program: a shell in this directory.
fn next(dir: &Path) -> Program {
    Program {
        exe: "/bin/sh".into(),
        file: None,
        args: vec!["sh".into(), "-c".into(), "exit 99".into()],
        env: vec![("PATH".into(), "/bin:/usr/bin".into()), ("A".into(), "of the next".into())],
        cwd: Some(dir.into()),
    }
}

fn script(text: &str) -> Preflight {
    Preflight::arguments(["-c", text]).deadline(LONG)
}

async fn preflight(check: &Preflight, next: &Program) -> Result<()> {
    super::preflight(check, check.program(next)).await
}

async fn refused(check: &Preflight, next: &Program) -> String {
    let error = preflight(check, next).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Preflight);
    error.chain()
}

#[tokio::test]
async fn a_check_that_exits_with_0_has_passed() {
    let dir = tempfile::tempdir().unwrap();
    let check = script("echo \"$0 $A $B\" > out; echo noise; echo noise >&2");
    preflight(&check.env("B", "its own"), &next(dir.path())).await.unwrap();
    let said = fs::read_to_string(dir.path().join("out")).unwrap();
    assert_eq!(said, "sh of the next its own\n");
    let check = script("echo $A > out").env("A", "other");
    preflight(&check, &next(dir.path())).await.unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("out")).unwrap(), "other\n");
}

#[tokio::test]
async fn p5_a_check_has_its_streams_and_nothing_else_and_no_predecessor() {
    let dir = tempfile::tempdir().unwrap();
    let list = "for fd in /proc/$$/fd/*; do [ -e $fd ] || [ -L $fd ] && list=\"$list ${fd##*/}\"; \
                done; echo $list $HEIRLOOM_LINK $HEIRLOOM_EXECUTED $(readlink /proc/$$/fd/0) > out; \
                read line || echo ended >> out; ps -o pgid= -p $$ >/dev/null 2>&1; \
                cut -d' ' -f5 /proc/$$/stat >> out; echo $$ >> out";
    let mut program = next(dir.path());
    program.env.push(("HEIRLOOM_LINK".into(), "3:1:1:1".into()));
    program.file = Some(Arc::new(File::open("/bin/sh").unwrap().into()));
    preflight(&script(list), &program).await.unwrap();
    let said = fs::read_to_string(dir.path().join("out")).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[..2], ["0 1 2 /dev/null", "ended"]);
    assert_eq!(lines[2], lines[3], "a process group of its own");
}

#[tokio::test]
async fn a_check_that_fails_is_told_with_its_status_and_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let check = script("echo out; printf 'no \\033[31mdatabase\\n' >&2; exit 3");
    let text = refused(&check, &next(dir.path())).await;
    assert!(text.starts_with("preflight \"/bin/sh\" with arguments [\"-c\", "), "{text}");
    assert!(text.ends_with(": exited with status 3; it wrote: out\nno  [31mdatabase"), "{text}");
    let text = refused(&script("kill -KILL $$"), &next(dir.path())).await;
    assert!(text.ends_with(": killed by SIGKILL; it wrote nothing"), "{text}");
}

#[tokio::test]
async fn of_much_output_the_end_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    // More than the pipe holds at the end, too.
    let check = script("yes ünder | head -n 400000; echo last words; exit 1");
    let text = refused(&check, &next(dir.path())).await;
    let (_, said) = text.split_once("; it wrote: …").unwrap();
    assert!(said.ends_with("\nlast words") && said.len() <= LAST_WORDS, "{text}");
    assert!(said.len() > LAST_WORDS - 10 && !said.contains('\u{fffd}'), "{text}");
}

#[test]
fn last_words_begin_with_a_whole_character() {
    for length in LAST_WORDS..LAST_WORDS + 5 {
        let mut said = LastWords::default();
        let text = format!("{}{}", "€".repeat(100), "x".repeat(length - 6));
        text.as_bytes().chunks(100).for_each(|chunk| said.add(chunk));
        assert!(said.to_string().starts_with("; it wrote: …"));
        assert!(!said.to_string().contains('\u{fffd}'));
        assert_eq!(said.bytes.len(), LAST_WORDS);
    }
    let mut whole = LastWords::default();
    whole.add(&[b'x'; LAST_WORDS]);
    assert!(!whole.cut);
    // What is no text at all is shown, and stays bounded.
    let mut noise = LastWords::default();
    noise.add(&[0x80; 3 * LAST_WORDS]);
    assert!(noise.to_string().len() <= 3 * LAST_WORDS + 20);
}

#[tokio::test]
async fn p4_a_check_that_hangs_is_killed_at_its_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let (fifo, mut witness) = witness(dir.path());
    let check = script(&format!("exec 9>{fifo}; echo waiting; sleep 600 & echo >&9; wait"));
    // Its deadline passes when it has come so far.
    let deadline = async {
        let started = witness.read_u8();
        tokio::time::timeout(LONG, started).await.unwrap().unwrap();
    };
    let error = until(deadline, &check, check.program(&next(dir.path()))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Preflight);
    let text = error.chain();
    assert!(text.contains(": it did not end within 20s and was killed; it wrote"), "{text}");
    ended(witness).await;
}

#[tokio::test]
async fn p4_a_deadline_passes_by_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let check = script("exec sleep 600").deadline(Duration::from_millis(1));
    let text = refused(&check, &next(dir.path())).await;
    assert!(text.contains(" within 1ms and was killed"), "{text}");
}

/// A named pipe that a check and its children hold open for writing: it ends with the last of them.
fn witness(dir: &Path) -> (String, pipe::Receiver) {
    let path = dir.join("witness");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    let receiver = pipe::OpenOptions::new().open_receiver(&path).unwrap();
    (path.to_str().unwrap().to_owned(), receiver)
}

/// Waits until nobody holds the witness any more.
async fn ended(mut witness: pipe::Receiver) {
    let mut rest = Vec::new();
    tokio::time::timeout(LONG, witness.read_to_end(&mut rest)).await.unwrap().unwrap();
}

#[tokio::test]
async fn p5_a_cancelled_check_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let (fifo, mut witness) = witness(dir.path());
    let check = script(&format!("exec 9>{fifo}; sleep 600 & echo >&9; wait"));
    let program = next(dir.path());
    assert_eq!(check.longest(), LONG);
    let run = tokio::spawn(async move { preflight(&check, &program).await });
    tokio::time::timeout(LONG, witness.read_u8()).await.unwrap().unwrap();
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    ended(witness).await;
}

#[tokio::test]
async fn p4_a_grandchild_that_keeps_the_pipe_is_not_waited_for_and_goes_with_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let (fifo, witness) = witness(dir.path());
    for status in [0, 4] {
        let check = script(&format!("exec 9>{fifo}; sleep 600 & echo gone; exit {status}"));
        let run = tokio::time::timeout(LONG, preflight(&check, &next(dir.path()))).await.unwrap();
        assert_eq!(run.is_ok(), status == 0);
    }
    ended(witness).await;
}

#[tokio::test]
async fn p4_a_process_that_has_left_the_group_and_writes_for_ever_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let check = script("setsid sh -c 'echo $$ > pid; exec yes' & while ! [ -s pid ]; do :; done");
    preflight(&check, &next(dir.path())).await.unwrap();
    // The reader is gone, and so is what it wrote to: nothing to end by hand.
    let pid = fs::read_to_string(dir.path().join("pid")).unwrap();
    let gone = async {
        while Path::new("/proc").join(pid.trim()).join("exe").exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, gone).await.unwrap();
}

#[tokio::test]
async fn a_command_is_looked_up_in_the_path_of_the_next_generation() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = next(dir.path());
    // A command is not the file that is held.
    program.file = Some(Arc::new(File::open("/bin/false").unwrap().into()));
    for name in ["true", "/bin/true"] {
        preflight(&Preflight::command(name, ["-x"]), &program).await.unwrap();
    }
    let check = Preflight::command("sh", ["-c", "pwd > out"]);
    preflight(&check, &program).await.unwrap();
    let said = fs::read_to_string(dir.path().join("out")).unwrap();
    assert_eq!(Path::new(said.trim()), dir.path().canonicalize().unwrap());
    let text = refused(&Preflight::command("false", [""; 0]), &program).await;
    assert!(text.contains("exited with status 1; it wrote nothing"), "{text}");
}

#[tokio::test]
async fn a_program_that_is_missing_is_named_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = next(dir.path());
    program.exe = dir.path().join("missing");
    let text = refused(&script(""), &program).await;
    assert!(text.contains("it could not be started: program "), "{text}");
    assert!(text.contains("missing\"") && text.contains("does not exist"), "{text}");
    let text = refused(&Preflight::command("no such command", [""; 0]), &program).await;
    assert!(text.contains("no such command") && text.contains("does not exist"), "{text}");
}

/// The disposition of `SIGCHLD` is the whole process's, so this takes one of its own.
#[test]
fn a_check_whose_status_nobody_can_tell_has_not_passed() {
    let name = "executable::preflight::tests::with_sigchld_ignored";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "started in a process of its own by the test above"]
async fn with_sigchld_ignored() {
    crate::sys::signal::ignore(Signal::SIGCHLD).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("go");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    // Alive until we let it go: else its end could come before its start was seen.
    let check = script("read line < go");
    let program = next(dir.path());
    let go = tokio::task::spawn_blocking(move || fs::write(&fifo, "go\n").unwrap());
    let text = refused(&check, &program).await;
    assert!(text.contains("taken by another"), "{text}");
    go.await.unwrap();
}

#[test]
fn values_of_variables_are_not_shown() {
    let check = Preflight::arguments(["--check"]).env("TOKEN", "secret");
    let text = format!("{check:?}");
    assert!(text.contains("TOKEN") && !text.contains("secret"), "{text}");
}
