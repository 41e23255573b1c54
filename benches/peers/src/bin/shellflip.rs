//! shellflip, with listeners that the child inherits (it leaves them to the application), and
//! hyper's `GracefulShutdown`.

use std::sync::Arc;

use heirloom_peers::arguments::Arguments;
use heirloom_peers::inherit::{DESCRIPTORS, listeners};
use heirloom_peers::plain::{Plain, Speaks};
use heirloom_peers::{Failure, tls};
use shellflip::RestartConfig;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse()?;
    let mut stop = signal(SignalKind::terminate())?;
    let mut addresses = vec![arguments.tls(), arguments.http2()];
    addresses.extend(arguments.http());
    let (sockets, numbers) = listeners(&addresses)?;
    let restart = RestartConfig {
        restart_signal: SignalKind::hangup(),
        environment: vec![(DESCRIPTORS.into(), numbers.into())],
        exit_on_error: false,
        ..RestartConfig::default()
    };
    let restarted = restart.try_into_restart_task()?;
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
    arguments.occupy();
    tokio::select! {
        _ = stop.recv() => {}
        restarted = restarted => drop(restarted),
    }
    server.finish().await;
    Ok(())
}
