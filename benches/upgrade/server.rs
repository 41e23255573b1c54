//! The server that is upgraded.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use heirloom::{Config, DrainPhase, Role, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Failure, now};

/// The server's program: `DIRECTORY LISTENERS MEGABYTES ELDERS`. When it accepts no longer it says so on
/// standard output: the time, in nanoseconds of the monotonic clock, as eight bytes.
pub(crate) fn serve(mut args: impl Iterator<Item = String>) -> ExitCode {
    let directory = PathBuf::from(args.next().unwrap_or_default());
    let mut number = || args.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let (listeners, megabytes, elders): (usize, usize, usize) = (number(), number(), number());
    let config = Config::new("bench")
        .probation(Duration::ZERO)
        .pid_file(directory.join("pid"))
        .max_draining(elders + 1);
    heirloom::run(config, async move |start| -> Result<_, Failure> {
        let main = start.tcp("main", "127.0.0.1:0").await?;
        let idle = start.tcp("idle", "127.0.0.1:0").await?;
        let stays = start.tcp("stays", "127.0.0.1:0").await?;
        let addresses = [main.local_addr()?, idle.local_addr()?, stays.local_addr()?];
        let mut others = Vec::new();
        for number in 1..listeners {
            others.push(start.tcp(&format!("other-{number}"), "127.0.0.1:0").await?);
        }
        start.on_yield(async || -> Result<(), Failure> {
            let closed = u64::try_from(now().as_nanos())?;
            std::io::stdout().write_all(&closed.to_ne_bytes())?;
            Ok(std::io::stdout().flush()?)
        });
        let running = start.ready().await?;
        let first = tokio::spawn(async move {
            // The first connection of this generation, and no other.
            if let Some(mut connection) = main.accept().await? {
                connection.write_all(&[0]).await?;
            }
            Ok::<_, Failure>(main)
        });
        running.accept_loop(idle, move |connection| async move {
            connection.guard().reached(DrainPhase::LameDuck).await;
        });
        running.accept_loop(stays, |mut connection| async move {
            // Its client keeps this generation as long as it likes.
            connection.write_all(&[0]).await?;
            connection.read(&mut [0]).await
        });
        for listener in others {
            // A client that has gone is no concern of a benchmark: the result is dropped.
            running.accept_loop(listener, move |mut connection| async move {
                connection.write_all(&[0]).await
            });
        }
        // Only when the predecessor has gone: its memory is measured, not ours.
        let mut status = running.watch_status();
        let settled = |status: &Status| status.role == Role::Owner && status.elders.len() <= elders;
        status.wait_for(settled).await?;
        let memory = vec![1_u8; megabytes << 20];
        let settled = directory.join(format!("settled-{}", running.generation()));
        let text = addresses.map(|address| address.to_string()).join(" ");
        std::fs::write(directory.join("settled"), text)?;
        std::fs::rename(directory.join("settled"), settled)?;
        let outcome = running.finished().await?;
        drop((memory, first));
        Ok(outcome)
    })
}
