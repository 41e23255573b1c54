//! TLS: handshakes are in-flight work.

use std::io;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional, duplex};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::app::soon;
use super::client::Client;
use super::generation::{Generation, ms, server, settings};
use crate::drain::DrainOutcome;

/// The two ends of TLS that trust each other.
pub(super) fn tls() -> (TlsAcceptor, TlsConnector) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([String::from("localhost")]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)))
}

/// A generation that speaks TLS.
pub(super) fn secure() -> (Generation, TlsConnector) {
    let (acceptor, connector) = tls();
    let generation = Generation::bound();
    let server = server(&generation.app).tls(move |stream| acceptor.accept(stream));
    generation.serve(server, settings().lame_duck, None);
    (generation, connector)
}

pub(super) fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

#[tokio::test]
async fn p6_fifty_handshakes_half_done_when_the_drain_begins_all_finish() {
    let (generation, connector) = secure();
    let (go, gone) = watch::channel(false);
    let mut clients = JoinSet::new();
    for _ in 0..50 {
        let (ours, mut theirs) = duplex(64 * 1024);
        let mut stream = TcpStream::connect(generation.address).await.unwrap();
        let mut gone = gone.clone();
        tokio::spawn(async move {
            // Half of the client's first word, and the rest when the drain has long begun.
            let mut half = [0; 100];
            theirs.read_exact(&mut half).await?;
            stream.write_all(&half).await?;
            let _ = gone.wait_for(|gone| *gone).await;
            copy_bidirectional(&mut theirs, &mut stream).await?;
            io::Result::Ok(())
        });
        let connector = connector.clone();
        clients.spawn(async move {
            let mut client = Client::on(connector.connect(localhost(), ours).await?);
            let answer = client.get("/").await?;
            io::Result::Ok((answer.status, answer.says_close()))
        });
    }
    generation.has(50).await;
    let drain = generation.drain(settings());
    tokio::time::sleep(ms(250)).await;
    go.send(true).unwrap();
    for answer in soon(clients.join_all()).await {
        assert_eq!(answer.unwrap(), (200, true));
    }
    let report = soon(drain).await.unwrap();
    assert_eq!((report.outcome, report.drained), (DrainOutcome::Drained, 50));
}

#[tokio::test]
async fn idle_connections_are_closed_as_on_plain_ones() {
    let (generation, connector) = secure();
    let stream = TcpStream::connect(generation.address).await.unwrap();
    let mut client = Client::on(connector.connect(localhost(), stream).await.unwrap());
    assert!(!client.get("/").await.unwrap().says_close());
    let drain = generation.drain(settings());
    soon(client.closed()).await.unwrap();
    drop(client);
    assert_eq!(soon(drain).await.unwrap().outcome, DrainOutcome::Drained);
}

#[tokio::test]
async fn a_handshake_has_its_own_time() {
    let (acceptor, _) = tls();
    let generation = Generation::bound();
    let server = server(&generation.app).tls(move |stream| acceptor.accept(stream));
    generation.serve(server.handshake_timeout(ms(50)), ms(10), None);
    let mut client = Client::connect(generation.address).await.unwrap();
    soon(client.closed()).await.unwrap();
    generation.has(0).await;
}
