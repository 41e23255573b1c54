//! warp's own server takes tokio's listener and no other, and cannot be told to pause. But it
//! accepts in a future that can be left alone: see [`Pausable`](crate::pause::Pausable). Its filters
//! can also be served by the wing, which needs none of this: see [`crate::with_wing::warp`].

use heirloom::{DrainPhase, Running, TcpListener};
use warp::hyper::body::Bytes;
use warp::{Filter, Reply};

use crate::Failure;
use crate::pause::pausable;

pub async fn serve(running: Running, listener: TcpListener) -> Result<(), Failure> {
    let guard = running.guard("warp")?;
    let (pause, pausable) = pausable();
    let socket = tokio::net::TcpListener::from_std(listener.into_raw_with(pause)?)?;
    let signal = guard.clone();
    let server = warp::serve(app())
        .incoming(socket)
        .graceful(async move { signal.reached(DrainPhase::Graceful).await })
        .run();
    pausable.run(server, guard.reached(DrainPhase::Graceful)).await;
    Ok(())
}

pub fn app() -> impl Filter<Extract = (impl Reply,), Error = warp::Rejection> + Clone {
    let hello = warp::path::end().and(warp::get()).map(|| "hello\n".into_response());
    let echo = warp::path("echo")
        .and(warp::post())
        .and(warp::body::bytes())
        .map(|body: Bytes| warp::http::Response::new(body).into_response());
    hello.or(echo)
}
