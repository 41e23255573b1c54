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
        self.ready().await?;
        let path = PathAndQuery::from_static(GENERATION);
        let codec = ProstCodec::<String, u64>::default();
        Ok(self.0.unary(Request::new(String::new()), path, codec).await?.into_inner())
    }

    /// The numbers from this one on.
    pub(crate) async fn count(&mut self, from: u64) -> Result<Streaming<u64>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(COUNT);
        let codec = ProstCodec::<u64, u64>::default();
        Ok(self.0.server_streaming(Request::new(from), path, codec).await?.into_inner())
    }
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
