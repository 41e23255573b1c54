//! A client that comes back after an upgrade is known, and a new one sees the new certificate.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, RootCertStore};

use crate::checking::{Failure, Server};

/// What a client sees.
#[derive(Debug, PartialEq)]
struct Seen {
    handshake: Option<HandshakeKind>,
    generation: u64,
    /// Of the session: one that is resumed keeps the certificate that it began with.
    certificate: Option<CertificateDer<'static>>,
}

pub(crate) fn main() -> ExitCode {
    let checked = tokio::runtime::Runtime::new()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(check()));
    match checked {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the check has failed");
            ExitCode::FAILURE
        }
    }
}

async fn check() -> Result<(), Failure> {
    let mut old = None;
    let server = Server::start(|directory| {
        old = Some(issue(directory));
        ["--cert", "--key"]
            .iter()
            .flat_map(|flag| {
                let file = directory.join(flag.trim_start_matches('-')).display().to_string();
                [(*flag).to_owned(), file]
            })
            .collect()
    })
    .await?;
    let mut roots = RootCertStore::empty();
    let old = old.transpose()?.ok_or("no certificate")?;
    roots.add(old.clone())?;

    // As `curl --http1.0` does: whoever names a version of HTTP that is spoken is answered.
    ask(&client_of(roots.clone(), &[b"http/1.0"]), &server).await?;
    let client = client(roots.clone());
    expect(&client, &server, HandshakeKind::Full, 0, &old).await?;
    expect(&client, &server, HandshakeKind::Resumed, 0, &old).await?;
    tracing::info!("a client that comes back is known");

    let renewed = issue(&server.path(""))?;
    for generation in 1..=2 {
        server.upgrade().await?;
        expect(&client, &server, HandshakeKind::Resumed, generation, &old).await?;
        tracing::info!(generation, "it is known to the next generation as well");
    }
    roots.add(renewed.clone())?;
    let stranger = self::client(roots);
    expect(&stranger, &server, HandshakeKind::Full, 2, &renewed).await?;
    tracing::info!("a new client sees the new certificate");
    Ok(())
}

/// A new certificate and its key, as files.
fn issue(directory: &Path) -> Result<CertificateDer<'static>, Failure> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([String::from("localhost")])?;
    fs::write(directory.join("cert"), cert.pem())?;
    fs::write(directory.join("key"), signing_key.serialize_pem())?;
    Ok(cert.der().clone())
}

/// A client with a memory of its own.
fn client(roots: RootCertStore) -> TlsConnector {
    client_of(roots, &[])
}

/// One that names these protocols (ALPN, RFC 7301).
fn client_of(roots: RootCertStore, protocols: &[&[u8]]) -> TlsConnector {
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

async fn expect(
    client: &TlsConnector,
    server: &Server,
    handshake: HandshakeKind,
    generation: u64,
    certificate: &CertificateDer<'static>,
) -> Result<(), Failure> {
    let seen = ask(client, server).await?;
    let certificate = Some(certificate.clone());
    let expected = Seen { handshake: Some(handshake), generation, certificate };
    if seen == expected {
        return Ok(());
    }
    let Seen { handshake, generation, .. } = seen;
    let other = if seen.certificate == expected.certificate { "the" } else { "another" };
    Err(format!(
        "{handshake:?} with generation {generation} and {other} certificate, instead of {:?} with \
         generation {}",
        expected.handshake, expected.generation
    )
    .into())
}

/// One connection, one request.
async fn ask(client: &TlsConnector, server: &Server) -> Result<Seen, Failure> {
    let stream = TcpStream::connect(server.address()).await?;
    let mut stream = client.connect(ServerName::try_from("localhost")?, stream).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let generation = answer.lines().find_map(|line| line.strip_prefix("x-generation: "));
    let generation = generation.ok_or_else(|| io::Error::other(answer.clone()))?.parse()?;
    let session = stream.get_ref().1;
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    Ok(Seen {
        handshake: session.handshake_kind(),
        generation,
        certificate: certificate.map(|certificate| certificate.clone().into_owned()),
    })
}
