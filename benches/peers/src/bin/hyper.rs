//! Plain hyper with `GracefulShutdown`, and listeners that a child inherits: what one writes by
//! hand in an afternoon.

use std::process::Stdio;
use std::sync::Arc;

use heirloom_peers::arguments::Arguments;
use heirloom_peers::inherit::{DESCRIPTORS, listeners};
use heirloom_peers::plain::{Plain, Speaks};
use heirloom_peers::{Failure, tls};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse()?;
    let mut upgrade = signal(SignalKind::hangup())?;
    let mut stop = signal(SignalKind::terminate())?;
    let mut addresses = vec![arguments.tls(), arguments.http2()];
    addresses.extend(arguments.http());
    let (sockets, numbers) = listeners(&addresses)?;
    let mut server = Plain::default();
    let mut first = true;
    for socket in sockets {
        let socket = Arc::new(TcpListener::from_std(socket)?);
        let speaks = match std::mem::take(&mut first) {
            true => Speaks::Tls(tls::acceptor(&arguments.directory)?),
            false => Speaks::Http,
        };
        server.serve(speaks, move || {
            let socket = Arc::clone(&socket);
            async move { socket.accept().await.ok().map(|(stream, _)| stream) }
        });
    }
    ready()?;
    arguments.occupy();
    tokio::select! {
        _ = stop.recv() => {}
        () = succeeded(&mut upgrade, &numbers) => {}
    }
    server.finish().await;
    Ok(())
}

/// Returns when a successor is ready.
async fn succeeded(upgrade: &mut tokio::signal::unix::Signal, numbers: &str) {
    while upgrade.recv().await.is_some() {
        let mut command = Command::new("/proc/self/exe");
        command.args(std::env::args().skip(1)).env(DESCRIPTORS, numbers).stdout(Stdio::piped());
        let Ok(mut child) = command.spawn() else { continue };
        let mut word = [0];
        if let Some(mut told) = child.stdout.take()
            && told.read_exact(&mut word).await.is_ok()
        {
            return;
        }
    }
}

/// Tells the predecessor, which reads our standard output.
fn ready() -> Result<(), Failure> {
    use std::io::Write;
    let mut out = std::io::stdout();
    out.write_all(b"!")?;
    out.flush()?;
    Ok(())
}
