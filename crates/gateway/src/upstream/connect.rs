//! Connections to judged addresses.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use super::origin::Connection;
use crate::host_guard::{HostGuard, Target};
use crate::options::GatewayOptions;
use crate::upload::Upload;

/// Buffer of one upstream connection, bytes.
const BUFFER: usize = 64 * 1024;

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum DialError {
    /// Connecting or the TLS handshake took too long.
    #[error("connecting timed out")]
    TimedOut,
    /// The address leads back to this process.
    #[error("the address is one of this process's own listeners")]
    Own,
    /// No address took the connection.
    #[error("no address accepts connections: {0}")]
    Connect(#[source] io::Error),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    /// The trusted roots could not be read.
    #[error("the trusted roots could not be read: {0}")]
    Roots(String),
    /// The HTTP connection could not be set up.
    #[error("the HTTP connection could not be set up: {0}")]
    Http(#[source] hyper::Error),
}

/// Opens connections.
pub(super) struct Connector {
    guard: Arc<HostGuard>,
    timeout: Duration,
    extra_ca: Option<PathBuf>,
    /// Reading the system's roots takes a while; only an https upstream needs them.
    tls: OnceCell<TlsConnector>,
}

impl Connector {
    /// Nothing is read yet.
    pub(super) fn new(options: &GatewayOptions, guard: Arc<HostGuard>) -> Self {
        Self {
            guard,
            timeout: options.connect_timeout,
            extra_ca: options.extra_ca_file.clone(),
            tls: OnceCell::new(),
        }
    }

    /// Connects to the first of the target's addresses that answers.
    pub(super) async fn connect(&self, target: &Target) -> Result<Connection, DialError> {
        let stream = self.dial(&target.addresses).await?;
        if target.origin.tls {
            let stream = self.secure(stream, &target.origin.host).await?;
            speak_http(stream).await
        } else {
            speak_http(stream).await
        }
    }

    async fn dial(&self, addresses: &[SocketAddr]) -> Result<TcpStream, DialError> {
        let mut last = DialError::Connect(io::Error::other("no address"));
        for address in addresses {
            match tokio::time::timeout(self.timeout, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return self.accept(stream),
                Ok(Err(error)) => last = DialError::Connect(error),
                Err(_) => last = DialError::TimedOut,
            }
        }
        Err(last)
    }

    fn accept(&self, stream: TcpStream) -> Result<TcpStream, DialError> {
        let ends = (stream.local_addr(), stream.peer_addr());
        let (Ok(local), Ok(peer)) = ends else {
            return Err(DialError::Own);
        };
        if self.guard.is_own_connection(local, peer) {
            return Err(DialError::Own);
        }
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        Ok(stream)
    }

    async fn secure(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, DialError> {
        let connector = self.tls.get_or_try_init(|| self.load_tls()).await?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| DialError::Tls(io::Error::other(error)))?;
        match tokio::time::timeout(self.timeout, connector.connect(name, stream)).await {
            Ok(secured) => secured.map_err(DialError::Tls),
            Err(_) => Err(DialError::TimedOut),
        }
    }

    async fn load_tls(&self) -> Result<TlsConnector, DialError> {
        let extra = self.extra_ca.clone();
        let loaded = tokio::task::spawn_blocking(move || client_config(extra.as_deref())).await;
        let config = loaded.map_err(|error| DialError::Roots(error.to_string()))??;
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn client_config(extra_ca: Option<&Path>) -> Result<ClientConfig, DialError> {
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
        .map_err(|error| DialError::Roots(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn add_extra(roots: &mut RootCertStore, file: &Path) -> Result<(), DialError> {
    let failed =
        |error: &dyn std::fmt::Display| DialError::Roots(format!("{}: {error}", file.display()));
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    Ok(())
}

async fn speak_http<S>(stream: S) -> Result<Connection, DialError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER)
        .handshake::<_, Upload>(TokioIo::new(stream))
        .await
        .map_err(DialError::Http)?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended early");
        }
    });
    Ok(Connection::new(sender, task.abort_handle()))
}
