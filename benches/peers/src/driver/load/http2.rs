//! HTTP/2 with prior knowledge: a few streams at once on each connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use hyper::Request;

use super::fault::Fault;
use super::tally::{Counts, Kind, Run, Sample};
use super::wire::connect;

/// How long a thought lasts between two requests of one stream's client.
const THOUGHT: Duration = Duration::from_millis(2);

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// One connection after the other, with so many requests at once.
pub(crate) async fn http2(to: SocketAddr, streams: usize, run: Arc<Run>) {
    while run.goes_on() {
        let mut counts = Counts::default();
        match open(to).await {
            Ok(sender) => {
                counts.connections += 1;
                let clients: Vec<_> = (0..streams)
                    .map(|_| tokio::spawn(client(sender.clone(), Arc::clone(&run))))
                    .collect();
                drop(sender);
                for client in clients {
                    let _ = client.await;
                }
            }
            Err(fault) => {
                counts.fault(fault);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        run.ended(Kind::Http2, &counts, Vec::new());
    }
}

async fn open(to: SocketAddr) -> Result<SendRequest<Bytes>, Fault> {
    let stream = connect(to, None).await?;
    let (sender, connection) = h2::client::handshake(stream).await.map_err(|_| Fault::Stream)?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// Asks until the connection takes no more.
async fn client(mut sender: SendRequest<Bytes>, run: Arc<Run>) {
    let mut counts = Counts::default();
    let mut samples = Vec::new();
    while run.goes_on() {
        // GOAWAY has come: nothing was sent, nothing is lost.
        let Ok(ready) = sender.ready().await else {
            counts.told += 1;
            break;
        };
        sender = ready;
        let began = Instant::now();
        let number = run.number();
        let answer = tokio::time::timeout(PATIENCE, ask(&mut sender, number)).await;
        match answer.unwrap_or(Err(Fault::Late)) {
            Ok(()) => {
                counts.answered += 1;
                run.answer();
                samples.push(Sample { at: began.duration_since(run.began), took: began.elapsed() });
                tokio::time::sleep(THOUGHT).await;
            }
            Err(fault) => {
                counts.fault(fault);
                break;
            }
        }
    }
    run.ended(Kind::Http2, &counts, samples);
}

async fn ask(sender: &mut SendRequest<Bytes>, number: u64) -> Result<(), Fault> {
    let id = number.to_string();
    let post = number.is_multiple_of(2);
    let request = Request::builder()
        .method(if post { "POST" } else { "GET" })
        .uri("http://peers/")
        .header("x-id", &id)
        .body(())
        .map_err(|_| Fault::Wrong)?;
    let lost = |_| Fault::Stream;
    let (response, mut body) = sender.send_request(request, !post).map_err(lost)?;
    if post {
        body.send_data(Bytes::from(id.clone()), true).map_err(lost)?;
    }
    let mut body = response.await.map_err(lost)?.into_body();
    let mut answer = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(lost)?;
        let _ = body.flow_control().release_capacity(chunk.len());
        answer.extend_from_slice(&chunk);
    }
    if answer == id.as_bytes() { Ok(()) } else { Err(Fault::Wrong) }
}
