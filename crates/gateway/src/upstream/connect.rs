//! Connections to judged addresses.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::origin::Connection;
use crate::host_guard::{HostGuard, Target};
use crate::options::GatewayOptions;
use crate::trust::{RootsUnreadable, Trust};
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
    #[error(transparent)]
    Roots(#[from] RootsUnreadable),
    /// The HTTP connection could not be set up.
    #[error("the HTTP connection could not be set up: {0}")]
    Http(#[source] hyper::Error),
}

/// Opens connections.
pub(super) struct Connector {
    guard: Arc<HostGuard>,
    timeout: Duration,
    trust: Trust,
}

impl Connector {
    /// Nothing is read yet.
    pub(super) fn new(options: &GatewayOptions, guard: Arc<HostGuard>) -> Self {
        Self {
            guard,
            timeout: options.connect_timeout,
            trust: Trust::new(options.extra_ca_file.clone()),
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
        let connector = self.trust.connector().await?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| DialError::Tls(io::Error::other(error)))?;
        match tokio::time::timeout(self.timeout, connector.connect(name, stream)).await {
            Ok(secured) => secured.map_err(DialError::Tls),
            Err(_) => Err(DialError::TimedOut),
        }
    }
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
