//! The service, and what protoc's plugin would generate for it, written by hand: so that the
//! example builds where no protoc is installed. In an application `tonic-prost-build` makes it of
//!
//! ```proto
//! package heirloom.example;
//! service Counter {
//!   rpc Generation(google.protobuf.StringValue) returns (google.protobuf.UInt64Value);
//!   rpc Count(google.protobuf.UInt64Value) returns (stream google.protobuf.UInt64Value);
//! }
//! ```

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_util::stream::unfold;
use heirloom::{DrainPhase, Generation, Guard};
use hyper::body::Bytes;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower_service::Service;

pub(crate) const GENERATION: &str = "/heirloom.example.Counter/Generation";
pub(crate) const COUNT: &str = "/heirloom.example.Counter/Count";

/// Between two numbers.
const PAUSE: Duration = Duration::from_millis(20);

type Numbers = Pin<Box<dyn Stream<Item = Result<u64, Status>> + Send>>;

/// Says which generation answers, and counts without end.
#[derive(Clone, Copy)]
pub(crate) struct Counter {
    generation: u64,
}

impl Counter {
    pub(crate) fn new(generation: Generation) -> Self {
        Self { generation: generation.get() }
    }
}

impl UnaryService<String> for Counter {
    type Response = u64;
    type Future = Ready<Result<Response<u64>, Status>>;

    fn call(&mut self, _: Request<String>) -> Self::Future {
        ready(Ok(Response::new(self.generation)))
    }
}

/// The numbers from the one that was asked for, until the connection is told to go, or until there is
/// no next one.
struct Count;

impl ServerStreamingService<u64> for Count {
    type Response = u64;
    type ResponseStream = Numbers;
    type Future = Ready<Result<Response<Numbers>, Status>>;

    fn call(&mut self, request: Request<u64>) -> Self::Future {
        // The wing puts the connection's guard there.
        let Some(guard) = request.extensions().get::<Guard>().cloned() else {
            return ready(Err(Status::internal("the connection has no guard")));
        };
        let first = Some(request.into_inner());
        let numbers = unfold((guard, first), async |(guard, number)| {
            let number = number?;
            tokio::select! {
                biased;
                () = guard.reached(DrainPhase::Graceful) => return None,
                () = tokio::time::sleep(PAUSE) => {}
            }
            let next = number.checked_add(1);
            // A client may ask for any number.
            let none = || Status::out_of_range("there is no number after it to go on with");
            Some((next.map(|_| number).ok_or_else(none), (guard, next)))
        });
        ready(Ok(Response::new(Box::pin(numbers))))
    }
}

impl NamedService for Counter {
    const NAME: &'static str = "heirloom.example.Counter";
}

impl<B> Service<hyper::Request<B>> for Counter
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = hyper::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<hyper::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: hyper::Request<B>) -> Self::Future {
        let counter = *self;
        Box::pin(async move {
            Ok(match request.uri().path() {
                GENERATION => {
                    Grpc::new(ProstCodec::<u64, String>::default()).unary(counter, request).await
                }
                COUNT => {
                    let codec = ProstCodec::<u64, u64>::default();
                    Grpc::new(codec).server_streaming(Count, request).await
                }
                _ => Status::unimplemented("there is no such call").into_http(),
            })
        })
    }
}
