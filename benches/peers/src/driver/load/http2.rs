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
            Ok(Asked::Answered) => {
                counts.answered += 1;
                run.answer();
                samples.push(Sample { at: began.duration_since(run.began), took: began.elapsed() });
                tokio::time::sleep(THOUGHT).await;
            }
            Ok(Asked::Unsent) => {
                counts.told += 1;
                break;
            }
            Ok(Asked::Unprocessed) => {
                counts.unprocessed += 1;
                break;
            }
            Err(fault) => {
                counts.fault(fault);
                break;
            }
        }
    }
    run.ended(Kind::Http2, &counts, samples);
}

enum Asked {
    Answered,
    /// GOAWAY came before there was a stream: nothing was sent, nothing is lost.
    Unsent,
    /// The last GOAWAY says that this stream was not looked at, and that it may be sent again (RFC
    /// 9113, section 6.8). h2's client acknowledges the first one ahead of requests that it holds.
    Unprocessed,
}

async fn ask(sender: &mut SendRequest<Bytes>, number: u64) -> Result<Asked, Fault> {
    let id = number.to_string();
    let post = number.is_multiple_of(2);
    let request = Request::builder()
        .method(if post { "POST" } else { "GET" })
        .uri("http://peers/")
        .header("x-id", &id)
        .body(())
        .map_err(|_| Fault::Wrong)?;
    let Ok((response, mut body)) = sender.send_request(request, !post) else {
        return Ok(Asked::Unsent);
    };
    if post {
        // What went wrong is told by the answer.
        let _ = body.send_data(Bytes::from(id.clone()), true);
    }
    let mut answer = Vec::new();
    let read = async {
        let mut body = response.await?.into_body();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            let _ = body.flow_control().release_capacity(chunk.len());
            answer.extend_from_slice(&chunk);
        }
        Ok::<_, h2::Error>(())
    };
    match read.await {
        Ok(()) => {}
        Err(error) if unprocessed(&error) => return Ok(Asked::Unprocessed),
        Err(_) => return Err(Fault::Stream),
    }
    if answer == id.as_bytes() { Ok(Asked::Answered) } else { Err(Fault::Wrong) }
}

/// Whether a GOAWAY without an error has excluded the stream.
fn unprocessed(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
}
