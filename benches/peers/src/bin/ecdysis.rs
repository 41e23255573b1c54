//! ecdysis, with hyper's `GracefulShutdown`.

use std::sync::Arc;

use ecdysis::tokio_ecdysis::{SignalKind, StopOnShutdown, TokioEcdysisBuilder};
use futures_util::StreamExt;
use heirloom_peers::arguments::Arguments;
use heirloom_peers::plain::{Plain, Speaks};
use heirloom_peers::{Failure, tls};
use tokio::sync::Mutex;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse()?;
    let mut builder = TokioEcdysisBuilder::new(SignalKind::hangup())?;
    builder.stop_on_signal(SignalKind::terminate())?;
    let mut server = Plain::default();
    let mut addresses = vec![arguments.tls(), arguments.http2()];
    addresses.extend(arguments.http());
    for address in addresses {
        let stream =
            builder.build_listen_tcp(StopOnShutdown::Yes, address, |socket, address| {
                socket.set_reuse_address(true)?;
                socket.bind(&address.into())?;
                socket.listen(1024)?;
                Ok(socket.into())
            })?;
        let speaks = match address == arguments.tls() {
            true => Speaks::Tls(tls::acceptor(&arguments.directory)?),
            false => Speaks::Http,
        };
        let stream = Arc::new(Mutex::new(stream));
        server.serve(speaks, move || {
            let stream = Arc::clone(&stream);
            async move { stream.lock().await.next().await?.ok() }
        });
    }
    let (_ecdysis, ended) = builder.ready()?;
    arguments.occupy();
    drop(ended.await);
    server.ended().await;
    Ok(())
}
