//! A trivial round robin before the replicas of a role: request by request, HTTP/1.1. A backend that
//! refuses the connection is passed over, as a service does with replicas that are gone; nothing else
//! is hidden, and what the balancer says itself carries [`OWN_WORD`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Marks an answer of the balancer's own.
pub(crate) const OWN_WORD: &str = "x-drill-balancer";

type Pool = Client<HttpConnector, Full<Bytes>>;

/// A running balancer; ends when dropped.
#[derive(Debug)]
pub(crate) struct Balancer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

struct Backends {
    addresses: Vec<SocketAddr>,
    next: AtomicUsize,
    pool: Pool,
}

impl Balancer {
    /// Starts on a free port of the loopback interface.
    pub(crate) async fn start(addresses: Vec<SocketAddr>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let backends = Arc::new(Backends {
            addresses,
            next: AtomicUsize::new(0),
            pool: Client::builder(TokioExecutor::new()).build(connector),
        });
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let backends = backends.clone();
                let service = service_fn(move |request| {
                    let backends = backends.clone();
                    async move { Ok::<_, Infallible>(backends.pass(request).await) }
                });
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { address, task })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backends {
    async fn pass(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return own_word("the request broke");
        };
        let body = body.to_bytes();
        for _ in 0..self.addresses.len() {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.addresses.len();
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            let Ok(uri) = format!("http://{}{path}", self.addresses[turn]).parse::<Uri>() else {
                return own_word("no target");
            };
            let mut sent = Request::new(Full::new(body.clone()));
            *sent.method_mut() = parts.method.clone();
            *sent.uri_mut() = uri;
            *sent.headers_mut() = parts.headers.clone();
            match self.pool.request(sent).await {
                Ok(response) => return whole(response).await,
                Err(error) if error.is_connect() => {}
                Err(_) => return own_word("the replica broke off"),
            }
        }
        own_word("no replica")
    }
}

async fn whole(response: Response<Incoming>) -> Response<Full<Bytes>> {
    let (mut parts, body) = response.into_parts();
    let Ok(body) = body.collect().await else {
        return own_word("the replica broke off");
    };
    parts.headers.remove(http::header::TRANSFER_ENCODING);
    Response::from_parts(parts, Full::new(body.to_bytes()))
}

fn own_word(why: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    let value = HeaderValue::from_static(why);
    response.headers_mut().insert(OWN_WORD, value);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Upstream;
    use caracal::client::Client as Caller;
    use std::time::Duration;

    #[tokio::test]
    async fn requests_go_round_and_pass_over_who_is_gone() {
        let (one, two) = (
            Upstream::start().await.unwrap(),
            Upstream::start().await.unwrap(),
        );
        let gone = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let addresses = vec![one.address(), gone, two.address()];
        let balancer = Balancer::start(addresses).await.unwrap();
        let caller = Caller::new(Duration::from_secs(5));
        let url = format!("http://{}/x", balancer.address());
        for _ in 0..6 {
            assert_eq!(caller.get(&url).await.unwrap().status, 200);
        }
        assert!(one.requests() >= 2);
        assert!(two.requests() >= 2);
        assert_eq!(one.requests() + two.requests(), 6);
    }

    #[tokio::test]
    async fn without_a_replica_it_says_so_itself() {
        let balancer = Balancer::start(Vec::new()).await.unwrap();
        let caller = Caller::new(Duration::from_secs(5));
        let url = format!("http://{}/x", balancer.address());
        let answer = caller.get(&url).await.unwrap();
        assert!(answer.headers.contains_key(OWN_WORD));
    }
}
