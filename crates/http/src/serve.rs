//! The listener: bounded connections, bounded heads, bounded idle time, graceful drain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// The address of the connected peer, as a request extension.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Bounds of one listener.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// Most connections at a time; further ones wait in the operating system's queue.
    pub max_connections: usize,
    /// Longest time for a request head; also how long a kept-alive connection may be idle.
    pub header_read_timeout: Duration,
    /// Largest request head, bytes; over it the answer is 431.
    pub max_header_bytes: usize,
    /// How long running requests may take once shutdown has begun.
    pub drain: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            header_read_timeout: Duration::from_secs(75),
            max_header_bytes: 16 * 1024,
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves `router` on `listener` until `shutdown`, then drains.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    shutdown: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(options.max_connections));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((place, stream, peer)) => {
                serve_connection(place, (stream, peer), &router, &options, &graceful);
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(options.drain, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests outlasted the drain and were cut");
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let place = Arc::clone(places).acquire_owned().await;
    let place = place.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((place, stream, peer))
}

fn serve_connection(
    place: OwnedSemaphorePermit,
    (stream, peer): (TcpStream, SocketAddr),
    router: &Router,
    options: &ServeOptions,
    graceful: &GracefulShutdown,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let service = router
        .clone()
        .map_request(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            request.map(axum::body::Body::new)
        });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_read_timeout)
        .max_buf_size(options.max_header_bytes.max(8 * 1024))
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, %peer, "connection ended early");
        }
        drop(place);
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::routing::get;
    use http::StatusCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    /// A listener whose answers are counted.
    async fn served(options: ServeOptions) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&answers);
        let count = move || async move {
            count.fetch_add(1, Ordering::SeqCst);
            StatusCode::NO_CONTENT
        };
        let router = Router::new().route("/", get(count));
        tokio::spawn(serve(listener, router, options, CancellationToken::new()));
        (address, answers)
    }

    async fn sent(address: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    async fn answered(stream: &mut TcpStream) -> String {
        let mut answer = [0; 12];
        let read = stream.read_exact(&mut answer);
        let read = tokio::time::timeout(Duration::from_secs(10), read).await;
        read.expect("an answer in time").unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Asks and reads the whole answer, which is a head only.
    async fn asked(stream: &mut TcpStream) {
        stream.write_all(REQUEST).await.unwrap();
        let mut answer = Vec::new();
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
        }
        assert!(answer.starts_with(b"HTTP/1.1 204"));
    }

    #[tokio::test]
    async fn a_head_over_the_limit_is_431() {
        let options = ServeOptions::default();
        let (address, answers) = served(options).await;
        let filler = "y".repeat(options.max_header_bytes);
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX-A: {filler}\r\n\r\n");
        let mut stream = sent(address, head.as_bytes()).await;
        assert_eq!(answered(&mut stream).await, "HTTP/1.1 431");
        assert_eq!(answers.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_head_that_does_not_come_ends_the_connection() {
        let options = ServeOptions {
            header_read_timeout: Duration::from_millis(50),
            ..ServeOptions::default()
        };
        let (address, _) = served(options).await;
        let mut stream = sent(address, b"GET / HTTP/1.1\r\nHost:").await;
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest));
        end.await.expect("an end in time").unwrap();
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_for_a_place() {
        let options = ServeOptions {
            max_connections: 1,
            ..ServeOptions::default()
        };
        let (address, answers) = served(options).await;
        let mut first = sent(address, b"").await;
        asked(&mut first).await;
        let mut second = sent(address, REQUEST).await;
        for _ in 0..50 {
            asked(&mut first).await;
        }
        assert_eq!(answers.load(Ordering::SeqCst), 51);
        drop(first);
        assert_eq!(answered(&mut second).await, "HTTP/1.1 204");
    }
}
