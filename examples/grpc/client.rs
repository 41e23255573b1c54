//! A client that counts along, through every upgrade.

use hyper::http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::checking::Failure;
use crate::service::{COUNT, GENERATION};

/// What protoc's plugin would generate.
#[derive(Clone)]
pub(crate) struct Client(Grpc<Channel>);

impl Client {
    /// It connects when it is first used, and again whenever it has to.
    pub(crate) fn new(url: String) -> Result<Self, Failure> {
        Ok(Self(Grpc::new(Endpoint::from_shared(url)?.connect_lazy())))
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.0.ready().await.map_err(|error| Status::unavailable(error.to_string()))
    }

    /// The generation that answers.
    pub(crate) async fn generation(&mut self) -> Result<u64, Status> {
        loop {
            self.ready().await?;
            let path = PathAndQuery::from_static(GENERATION);
            let codec = ProstCodec::<String, u64>::default();
            match self.0.unary(Request::new(String::new()), path, codec).await {
                Err(status) if was_not_seen(&status) => {}
                answer => return Ok(answer?.into_inner()),
            }
        }
    }

    /// The numbers from this one on.
    pub(crate) async fn count(&mut self, from: u64) -> Result<Streaming<u64>, Status> {
        loop {
            self.ready().await?;
            let path = PathAndQuery::from_static(COUNT);
            let codec = ProstCodec::<u64, u64>::default();
            match self.0.server_streaming(Request::new(from), path, codec).await {
                Err(status) if was_not_seen(&status) => {}
                answer => return Ok(answer?.into_inner()),
            }
        }
    }
}

/// Whether no server has seen the call, so that it may be made again whatever it does: the
/// connection was told to go away, or had ended, when it was about to be sent (RFC 9113, section
/// 6.8). Other libraries for gRPC make it again by themselves; tonic leaves it to its caller.
fn was_not_seen(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
            || error.downcast_ref::<h2::Error>().is_some_and(h2::Error::is_go_away)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Counts until it is ended, and says whenever another generation goes on.
pub(crate) async fn follow(url: String) -> Result<(), Failure> {
    let mut client = Client::new(url)?;
    let mut next = 0;
    loop {
        let generation = client.generation().await?;
        tracing::info!(generation, next, "counting");
        let mut numbers = client.count(next).await?;
        while let Some(number) = numbers.message().await? {
            if number % 50 == 0 {
                tracing::info!(number);
            }
            next = number + 1;
        }
    }
}
