//! Which certificates the Gateway's own connections trust: the system's roots and the operator's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

/// The trusted roots could not be read.
#[derive(Debug, Clone, Error)]
#[error("the trusted roots could not be read: {0}")]
pub(crate) struct RootsUnreadable(String);

/// TLS for outgoing connections. Reading the system's roots takes a while, so they are read when the
/// first https connection is made.
pub(crate) struct Trust {
    extra_ca: Option<PathBuf>,
    connector: OnceCell<TlsConnector>,
}

impl Trust {
    /// Trusts the system's roots and those of the PEM file (`CARACAL_TLS_EXTRA_CA_FILE`).
    pub(crate) fn new(extra_ca: Option<PathBuf>) -> Self {
        Self {
            extra_ca,
            connector: OnceCell::new(),
        }
    }

    /// The connector.
    pub(crate) async fn connector(&self) -> Result<&TlsConnector, RootsUnreadable> {
        self.connector.get_or_try_init(|| self.load()).await
    }

    async fn load(&self) -> Result<TlsConnector, RootsUnreadable> {
        let extra = self.extra_ca.clone();
        let loaded = tokio::task::spawn_blocking(move || client_config(extra.as_deref())).await;
        let config = loaded.map_err(|error| RootsUnreadable(error.to_string()))??;
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn client_config(extra_ca: Option<&Path>) -> Result<ClientConfig, RootsUnreadable> {
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
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RootsUnreadable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn add_extra(roots: &mut RootCertStore, file: &Path) -> Result<(), RootsUnreadable> {
    let failed =
        |error: &dyn std::fmt::Display| RootsUnreadable(format!("{}: {error}", file.display()));
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    Ok(())
}
