//! An idle process: descriptors, threads and wake-ups, beside the same process on plain tokio.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Builder;

use crate::table::Table;
use crate::{Failure, Options};

/// What a process has, and how often its threads have gone to sleep.
struct Seen {
    descriptors: usize,
    threads: usize,
    sleeps: u64,
}

pub(crate) fn measure(options: &Options, table: &mut Table) -> Result<(), Failure> {
    table.part("idle", "An idle server: one listener, a control socket, nobody connects");
    let mut seen = Vec::new();
    for kind in ["plain", "heirloom"] {
        let mut child = Sitting::start(kind)?;
        let before = child.look()?;
        sleep(Duration::from_secs(options.idle));
        let after = child.look()?;
        let rate = (after.sleeps - before.sleeps) as f64 / options.idle as f64;
        table.line(format!("{kind}: descriptors"), after.descriptors as f64, "");
        table.line(format!("{kind}: threads"), after.threads as f64, "");
        table.line(format!("{kind}: wake-ups"), rate, "/s");
        seen.push(after);
    }
    table.line("descriptors more", seen[1].descriptors as f64 - seen[0].descriptors as f64, "");
    Ok(())
}

/// A child that sits idle, and ends with this.
struct Sitting(Child);

impl Sitting {
    fn start(kind: &str) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--sit", kind]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Self(command.spawn()?);
        let output = child.0.stdout.take().ok_or("no output")?;
        // It has settled when it says so.
        BufReader::new(output).read_line(&mut String::new())?;
        Ok(child)
    }

    fn look(&mut self) -> Result<Seen, Failure> {
        let process = format!("/proc/{}", self.0.id());
        let mut seen = Seen {
            descriptors: fs::read_dir(format!("{process}/fd"))?.count(),
            threads: 0,
            sleeps: 0,
        };
        for task in fs::read_dir(format!("{process}/task"))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            let field = "voluntary_ctxt_switches:";
            let sleeps = status.lines().find_map(|line| line.strip_prefix(field));
            seen.sleeps += sleeps.ok_or("no such field")?.trim().parse::<u64>()?;
            seen.threads += 1;
        }
        Ok(seen)
    }
}

impl Drop for Sitting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The child: serves until its standard input ends.
pub(crate) fn sit(kind: Option<&str>) -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if kind == Some("heirloom") {
        let config =
            heirloom::Config::new("bench").control_socket_at(directory.path().join("control"));
        runtime.block_on(async {
            let start = config.start().await?;
            let listener = start.tcp("bench", "127.0.0.1:0").await?;
            start.ready().await?.accept_loop(listener, async |conn| {
                drop(conn);
                Ok::<(), std::io::Error>(())
            });
            Ok::<_, Failure>(())
        })?;
    } else {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        runtime.spawn(async move { while listener.accept().await.is_ok() {} });
    }
    sleep(Duration::from_millis(500));
    println!("settled");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
