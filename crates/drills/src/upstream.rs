//! The service behind the Gateway. It keeps a book of the calls that reached it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Names the mandate of a call; an ordinary header, so the Gateway passes it on.
pub(crate) const MANDATE: &str = "x-drill-mandate";

#[derive(Debug, Default)]
struct Book {
    requests: usize,
    arrivals: BTreeMap<String, usize>,
}

/// A running upstream; ends when dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Starts on a free port of the loopback interface.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let book = Arc::new(Mutex::new(Book::default()));
        let shared = book.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let book = shared.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    write_down(&book, &request);
                    let answer = Response::new(Full::new(Bytes::from_static(b"ok")));
                    std::future::ready(Ok::<_, Infallible>(answer))
                });
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self {
            address,
            book,
            task,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests arrived.
    #[cfg(test)]
    pub(crate) fn requests(&self) -> usize {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.requests
    }

    /// How often a call with each mandate arrived.
    pub(crate) fn arrivals(&self) -> BTreeMap<String, usize> {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.arrivals.clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn write_down(book: &Mutex<Book>, request: &Request<Incoming>) {
    let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
    book.requests += 1;
    let mandate = request.headers().get(MANDATE);
    if let Some(mandate) = mandate.and_then(|value| value.to_str().ok()) {
        *book.arrivals.entry(mandate.to_owned()).or_default() += 1;
    }
}
