//! How do TLS sessions and certificates live through an upgrade?
//!
//! A client that comes back shows its ticket and is spared the long handshake, if whoever answers
//! has the key that the ticket was sealed with. Here the keys go to the next generation as a state;
//! otherwise each upgrade is followed by a long handshake for every client there is. The
//! certificate does not go along: each generation reads its files, so an upgrade is also how a
//! renewed one is taken into use.
//!
//! ```text
//! cargo run --features axum --example tls
//! curl -ik https://localhost:8443/
//! kill -HUP $(cat /tmp/heirloom-tls.pid)
//! cargo run --features axum --example tls -- check    # does all of this by itself
//! ```
//!
//! Flags: `--listen ADDR`, `--cert FILE` and `--key FILE` (PEM; without them each generation makes
//! a certificate for `localhost`), `--pid-file PATH`.

mod check;
#[path = "../checking/mod.rs"]
mod checking;
mod tickets;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use axum::middleware::map_response;
use axum::response::Response;
use axum::{Router, routing::get};
use checking::Failure;
use heirloom::{Config, Outcome};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tickets::Tickets;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The version of the format that the keys travel in.
const FORMAT: u32 = 1;

struct Options {
    listen: String,
    pid_file: PathBuf,
    /// Certificate and key.
    files: Option<(PathBuf, PathBuf)>,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().log_internal_errors(false).with_writer(std::io::stderr).init();
    if std::env::args().nth(1).as_deref() == Some("check") {
        return check::main();
    }
    let Some(options) = options() else {
        tracing::error!(
            "usage: tls [check | --listen ADDR --cert FILE --key FILE --pid-file PATH]"
        );
        return ExitCode::from(2);
    };
    let config =
        Config::new("tls").pid_file(&options.pid_file).probation(Duration::from_millis(500));
    heirloom::run(config, async move |start| -> Result<Outcome, Failure> {
        // Whoever cannot read the keys starts with its own: then handshakes are long, and no more.
        let tickets = match start.take_versions("tickets", FORMAT..=FORMAT).await? {
            Some(state) => Tickets::read(&state),
            None => Tickets::default(),
        };
        let tickets = Arc::new(tickets);
        let keys = Arc::clone(&tickets);
        start.provide("tickets", FORMAT, move |writer| keys.write(writer))?;

        // An unusable certificate fails the upgrade here, and the old generation serves on.
        let acceptor = acceptor(options.files, tickets)?;
        let listener = start.tcp("https", options.listen).await?;
        let running = start.ready().await?;
        let generation = HeaderValue::from(running.generation().get());
        let app = Router::new().route("/", get(async || "hello\n")).layer(map_response(
            move |mut response: Response| {
                response.headers_mut().insert("x-generation", generation.clone());
                async { response }
            },
        ));
        running.serve(listener, heirloom::axum(app).tls(move |stream| acceptor.accept(stream)));
        Ok(running.finished().await?)
    })
}

fn options() -> Option<Options> {
    let mut listen = String::from("127.0.0.1:8443");
    let mut pid_file = std::env::temp_dir().join("heirloom-tls.pid");
    let (mut cert, mut key) = (None, None);
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next()?;
        match flag.as_str() {
            "--listen" => listen = value,
            "--pid-file" => pid_file = value.into(),
            "--cert" => cert = Some(value.into()),
            "--key" => key = Some(value.into()),
            _ => return None,
        }
    }
    let files = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return None,
    };
    Some(Options { listen, pid_file, files })
}

fn acceptor(
    files: Option<(PathBuf, PathBuf)>,
    tickets: Arc<Tickets>,
) -> Result<TlsAcceptor, Failure> {
    let (chain, key) = if let Some((cert, key)) = files {
        let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
        (chain, PrivateKeyDer::from_pem_file(key)?)
    } else {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([String::from("localhost")])?;
        let key = PrivateKeyDer::from_pem_slice(signing_key.serialize_pem().as_bytes())?;
        (vec![cert.der().clone()], key)
    };
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    // A client that names none of them (RFC 7301) is refused.
    config.alpn_protocols = [&b"h2"[..], b"http/1.1", b"http/1.0"].map(<[u8]>::to_vec).to_vec();
    config.ticketer = tickets;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
