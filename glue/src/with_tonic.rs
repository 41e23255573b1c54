//! tonic's own server, on the stream of our connections.

use futures_util::StreamExt;
use heirloom::{DrainPhase, Running, TcpListener};
use tonic::transport::Server;

use crate::Failure;

pub async fn serve(running: Running, listener: TcpListener) -> Result<(), Failure> {
    // tonic waits for its connections, and this guard for tonic: theirs are not needed.
    let guard = running.guard("tonic")?;
    let streams = listener.incoming().map(|conn| conn.map(|conn| conn.into_parts().0));
    let (_reporter, health) = tonic_health::server::health_reporter();
    Server::builder()
        .add_service(health)
        .serve_with_incoming_shutdown(streams, guard.reached(DrainPhase::Graceful))
        .await?;
    Ok(())
}
