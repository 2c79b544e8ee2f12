//! A connection to one address of the STS.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::endpoint::StsUrl;
use crate::trust::{RootsUnreadable, Trust};

/// Buffer of one connection, bytes.
const BUFFER: usize = 32 * 1024;

/// Why there is no connection. Nothing was sent.
#[derive(Debug, Error)]
pub(super) enum DialError {
    /// Connecting or the TLS handshake took too long.
    #[error("connecting timed out")]
    TimedOut,
    /// The address does not take connections.
    #[error("the address takes no connection: {0}")]
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
pub(super) struct Dialer {
    tls_name: Option<String>,
    timeout: Duration,
    trust: Trust,
}

/// An open connection; dropping it closes it.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Full<Bytes>>,
    /// Whether it has carried a question before: the STS may be closing it.
    pub(super) reused: bool,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Dialer {
    pub(super) fn new(url: &StsUrl, timeout: Duration, extra_ca: Option<PathBuf>) -> Self {
        Self {
            tls_name: url.is_tls().then(|| url.host().to_owned()),
            timeout,
            trust: Trust::new(extra_ca),
        }
    }

    pub(super) async fn connect(&self, address: SocketAddr) -> Result<Connection, DialError> {
        let stream = self.within(TcpStream::connect(address)).await?;
        let stream = stream.map_err(DialError::Connect)?;
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        match &self.tls_name {
            Some(name) => self.secure(stream, name).await,
            None => speak_http(stream).await,
        }
    }

    async fn secure(&self, stream: TcpStream, name: &str) -> Result<Connection, DialError> {
        let connector = self.trust.connector().await?;
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| DialError::Tls(io::Error::other(error)))?;
        let secured = self.within(connector.connect(name, stream)).await?;
        speak_http(secured.map_err(DialError::Tls)?).await
    }

    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, DialError> {
        tokio::time::timeout(self.timeout, work)
            .await
            .map_err(|_| DialError::TimedOut)
    }
}

async fn speak_http<S>(stream: S) -> Result<Connection, DialError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(DialError::Http)?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the token service ended early");
        }
    });
    Ok(Connection {
        sender,
        reused: false,
        task: task.abort_handle(),
    })
}
