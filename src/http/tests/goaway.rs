//! What a client has on the way when it is told to go, byte by byte.

use super::app::soon;
use super::client::Client;
use super::generation::{Generation, ms, settings};
use super::http2::{headers, preface_and_request};
use crate::drain::DrainOutcome;

/// The answer to the ping of a graceful shutdown (h2's `Ping::SHUTDOWN`).
const PONG: [u8; 17] = [0, 0, 8, 6, 1, 0, 0, 0, 0, 0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];

/// A frame from the server.
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

const HEADERS: u8 = 1;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

async fn frame(client: &mut Client) -> std::io::Result<Frame> {
    let head = client.take(9).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Ok(Frame { kind: head[3], stream, payload: client.take(length).await? })
}

/// The next frame of this kind.
async fn until(client: &mut Client, kind: u8) -> Frame {
    loop {
        let frame = soon(frame(client)).await.unwrap();
        if frame.kind == kind {
            return frame;
        }
    }
}

/// The last stream of a GOAWAY.
fn last(goaway: &Frame) -> u32 {
    u32::from_be_bytes(goaway.payload[..4].try_into().unwrap())
}

/// A client that had one answer, and has been told to go and asked for a pong.
async fn told(generation: &Generation) -> (Client, impl Future<Output = DrainOutcome> + use<>) {
    let mut client = Client::connect(generation.address).await.unwrap();
    client.send(preface_and_request("/")).await.unwrap();
    until(&mut client, HEADERS).await;
    let drain = generation.drain(settings());
    assert_eq!(last(&until(&mut client, GOAWAY).await), i32::MAX.cast_unsigned());
    assert_eq!(until(&mut client, PING).await.payload, PONG[9..]);
    (client, async { soon(drain).await.unwrap().outcome })
}

/// Reads to the end: the streams that were answered, and the last one of the last GOAWAY.
async fn rest(client: &mut Client) -> (Vec<u32>, u32) {
    let (mut answered, mut end) = (Vec::new(), 0);
    while let Ok(frame) = soon(frame(client)).await {
        match frame.kind {
            HEADERS => answered.push(frame.stream),
            GOAWAY => end = last(&frame),
            _ => {}
        }
    }
    answered.sort_unstable();
    (answered, end)
}

#[tokio::test]
async fn requests_behind_the_pong_are_answered() {
    let generation = Generation::first();
    let (mut client, drain) = told(&generation).await;
    client.send(PONG).await.unwrap();
    for stream in [3, 5, 7] {
        client.send(headers(stream, "/")).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(rest(&mut client).await, (vec![3, 5, 7], 7));
    drop(client);
    assert_eq!(drain.await, DrainOutcome::Drained);
}

/// In two pieces, cut anywhere: pong, a request, a header block of two frames, another request.
#[tokio::test]
async fn pong_and_requests_may_come_in_any_two_pieces() {
    let mut block = headers(5, "/");
    // Without END_HEADERS; the rest of the block comes in a CONTINUATION with it.
    let rest_of_it = block.split_off(9 + 6);
    block[2] = 6;
    block[4] = 1;
    block.extend([0, 0, u8::try_from(rest_of_it.len()).unwrap(), 9, 4, 0, 0, 0, 5]);
    block.extend(rest_of_it);
    let other_ping = [0, 0, 8, 6, 1, 0, 0, 0, 0, 0x0b, 0x7b, 0xa2, 0, 0, 0, 0, 0];
    let bytes =
        [&other_ping[..], &PONG, &headers(3, "/"), &block, &headers(7, "/"), &PONG].concat();
    for cut in 0..=bytes.len() {
        let generation = Generation::first();
        let (mut client, drain) = told(&generation).await;
        client.send(&bytes[..cut]).await.unwrap();
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        client.send(&bytes[cut..]).await.unwrap();
        assert_eq!(rest(&mut client).await, (vec![3, 5, 7], 7), "{cut}");
        drop(client);
        assert_eq!(drain.await, DrainOutcome::Drained);
    }
}

#[tokio::test]
async fn a_header_block_in_its_middle_is_waited_for() {
    let generation = Generation::first();
    let (mut client, drain) = told(&generation).await;
    let request = headers(3, "/");
    client.send([&PONG, &request[..12]].concat()).await.unwrap();
    // Longer than a client has to be quiet.
    tokio::time::sleep(ms(300)).await;
    client.send(&request[12..]).await.unwrap();
    assert_eq!(rest(&mut client).await, (vec![3], 3));
    drop(client);
    assert_eq!(drain.await, DrainOutcome::Drained);
}

#[tokio::test]
async fn a_client_that_goes_on_talking_is_told_the_last_stream_all_the_same() {
    let generation = Generation::first();
    let (mut client, _drain) = told(&generation).await;
    client.send(PONG).await.unwrap();
    let mut streams = (3..).step_by(2);
    let talks = async {
        loop {
            client.send(headers(streams.next().unwrap(), "/")).await.unwrap();
            loop {
                let frame = soon(frame(&mut client)).await.unwrap();
                match frame.kind {
                    GOAWAY => return last(&frame),
                    HEADERS => break,
                    _ => {}
                }
            }
        }
    };
    assert!(soon(talks).await > 3);
}

#[tokio::test]
async fn a_client_that_acknowledges_and_closes_its_side_has_ended() {
    let generation = Generation::first();
    let (mut client, drain) = told(&generation).await;
    client.send(PONG).await.unwrap();
    tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.unwrap();
    assert!(rest(&mut client).await.0.is_empty());
    drop(client);
    assert_eq!(drain.await, DrainOutcome::Drained);
}
