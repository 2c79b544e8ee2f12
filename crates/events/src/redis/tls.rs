//! TLS to Redis: the system's roots and those of one more file, always verified.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::error::RedisError;

/// Reads the roots and makes the client's side of TLS. Blocks on files: call it at start.
pub(super) fn client_config(extra_ca: Option<&Path>) -> Result<ClientConfig, RedisError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    let (_, unusable) = roots.add_parsable_certificates(system.certs);
    if unusable > 0 || !system.errors.is_empty() {
        tracing::warn!(unusable, errors = ?system.errors, "some system roots are unusable");
    }
    if let Some(file) = extra_ca {
        add_extra(&mut roots, file)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RedisError::Roots(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn add_extra(roots: &mut RootCertStore, file: &Path) -> Result<(), RedisError> {
    let failed =
        |error: &dyn std::fmt::Display| RedisError::Roots(format!("{}: {error}", file.display()));
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))? {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    Ok(())
}
