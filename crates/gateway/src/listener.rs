//! Callers' connections: bounded in number, head, idle time and write time; drained at the end.

mod link;
mod stream;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use link::{Engaged, Link};
use stream::{Breakable, CallerStream, Deadlines};

use crate::gateway::Gateway;
use crate::options::{GatewayOptions, TlsFiles};

/// What a head may exceed the limit by and still be answered with the JSON error; beyond it the
/// answer is a bare 431.
const HEAD_SLACK: usize = 4 * 1024;

/// Longest time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long final events may take to reach the log after the last connection.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(4);

/// The configured key pair can't be used.
#[derive(Debug, Error)]
#[error("the TLS key pair cannot be used: {0}")]
pub struct TlsUnusable(String);

/// Where a request came from.
#[derive(Debug, Clone)]
pub(crate) struct CallerConnection {
    pub(crate) peer: SocketAddr,
    pub(crate) tls: bool,
    pub(crate) link: Arc<Link>,
}

/// One listener's connections.
pub(crate) struct Acceptor {
    gateway: Arc<Gateway>,
    server: http1::Builder,
    deadlines: Deadlines,
    tls: Option<TlsAcceptor>,
    places: Arc<Semaphore>,
    connections: TaskTracker,
    /// No further request on any connection.
    draining: CancellationToken,
    /// Running requests are cut.
    cutting: CancellationToken,
}

impl Acceptor {
    /// Prepares to serve.
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        draining: CancellationToken,
    ) -> Result<Self, TlsUnusable> {
        let options = gateway.options();
        let mut server = http1::Builder::new();
        server.max_buf_size(options.max_header_bytes.max(8 * 1024) + HEAD_SLACK);
        Ok(Self {
            server,
            deadlines: Deadlines {
                head: options.read_header_timeout,
                idle: options.idle_timeout,
                write: options.write_timeout,
            },
            tls: tls_acceptor(options)?,
            places: Arc::new(Semaphore::new(options.max_connections)),
            connections: TaskTracker::new(),
            draining,
            cutting: CancellationToken::new(),
            gateway,
        })
    }

    /// Accepts until the drain begins, then lets running requests finish.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener) {
        while let Some((stream, peer, place)) = self.next(&listener).await {
            let acceptor = Arc::clone(&self);
            self.connections.spawn(async move {
                acceptor.connection(stream, peer).await;
                drop(place);
            });
        }
        drop(listener);
        self.drain().await;
    }

    async fn next(
        &self,
        listener: &TcpListener,
    ) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        loop {
            let place = tokio::select! {
                place = Arc::clone(&self.places).acquire_owned() => place.ok()?,
                () = self.draining.cancelled() => return None,
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.draining.cancelled() => return None,
            };
            match accepted {
                Ok((stream, peer)) => return Some((stream, peer, place)),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    // Out of file descriptors, most likely: give running connections time to end.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    async fn drain(&self) {
        self.connections.close();
        let limit = self.gateway.options().drain_timeout;
        if tokio::time::timeout(limit, self.connections.wait())
            .await
            .is_err()
        {
            tracing::warn!("requests outlasted the drain and are cut");
            self.cutting.cancel();
            self.connections.wait().await;
        }
        let settled = tokio::time::timeout(SETTLE_TIMEOUT, self.gateway.settle()).await;
        if settled.is_err() {
            tracing::error!("final audit events did not reach the log in time");
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let Some(tls) = &self.tls else {
            return self.serve(stream, peer, false).await;
        };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(secured)) => self.serve(secured, peer, true).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
        }
    }

    async fn serve<S>(&self, stream: S, peer: SocketAddr, tls: bool)
    where
        S: AsyncRead + AsyncWrite + Breakable + Unpin,
    {
        let link = Link::new();
        let caller = CallerConnection {
            peer,
            tls,
            link: Arc::clone(&link),
        };
        let stream = CallerStream::new(stream, link, self.deadlines);
        let service = service_fn(|request: Request<Incoming>| {
            let gateway = Arc::clone(&self.gateway);
            let caller = caller.clone();
            async move { Ok::<_, Infallible>(gateway.answer(request, caller).await) }
        });
        let connection = self.server.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.draining.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = self.cutting.cancelled() => return caller.link.abandon(),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "connection ended early");
        }
    }
}

fn tls_acceptor(options: &GatewayOptions) -> Result<Option<TlsAcceptor>, TlsUnusable> {
    let Some(files) = &options.tls else {
        return Ok(None);
    };
    let config = server_config(files).map_err(|error| TlsUnusable(error.to_string()))?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn server_config(files: &TlsFiles) -> Result<ServerConfig, io::Error> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .map_err(io::Error::other)?
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
