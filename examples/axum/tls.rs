//! TLS with a certificate of our own, made at each start.

use std::error::Error;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// An acceptor that offers HTTP/2 and HTTP/1.1.
pub(crate) fn acceptor() -> Result<TlsAcceptor, Box<dyn Error + Send + Sync>> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([String::from("localhost")])?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)?;
    // A client that names none of them (RFC 7301) is refused.
    config.alpn_protocols = [&b"h2"[..], b"http/1.1", b"http/1.0"].map(<[u8]>::to_vec).to_vec();
    Ok(TlsAcceptor::from(Arc::new(config)))
}
