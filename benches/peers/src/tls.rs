//! TLS with a certificate that the driver has made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::Failure;

/// The certificate's file.
pub fn certificate(directory: &Path) -> PathBuf {
    directory.join("certificate.pem")
}

/// The file with certificate and key, as HAProxy wants it.
pub fn both(directory: &Path) -> PathBuf {
    directory.join("both.pem")
}

/// The key's file.
pub fn key(directory: &Path) -> PathBuf {
    directory.join("key.pem")
}

/// Makes a certificate.
///
/// # Errors
///
/// When the files cannot be written.
pub fn make(directory: &Path) -> Result<(), Failure> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([String::from("localhost")])?;
    std::fs::write(certificate(directory), cert.pem())?;
    std::fs::write(key(directory), signing_key.serialize_pem())?;
    std::fs::write(both(directory), format!("{}{}", cert.pem(), signing_key.serialize_pem()))?;
    Ok(())
}

/// An acceptor that speaks HTTP/1.1.
///
/// # Errors
///
/// When the files are not there.
pub fn acceptor(directory: &Path) -> Result<TlsAcceptor, Failure> {
    let chain = CertificateDer::pem_file_iter(certificate(directory))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key(directory))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
