//! The HTTP client of the command line: probes, the guided tour, the bench.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use thiserror::Error;

/// Largest answer that is read, bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// A request got no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    #[error("{0}: timeout")]
    /// Within the timeout.
    Timeout(String),
    #[error("{0}: unreachable")]
    /// Nobody listens, or the connection broke.
    Unreachable(String),
    #[error("{0}: the answer could not be read")]
    /// The body was cut or too large.
    Broken(String),
    #[error("{0}: not a URL")]
    /// The URL or a header is malformed.
    BadUrl(String),
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// A pooled HTTP/1.1 client for plain http.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    timeout: Duration,
    largest: usize,
}

impl Client {
    /// With this timeout for each whole exchange; reads at most 4 MiB of an answer.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self::with_limit(timeout, MAX_ANSWER)
    }

    /// Reads at most `largest` bytes of an answer.
    #[must_use]
    pub fn with_limit(timeout: Duration, largest: usize) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool = Pool::builder(TokioExecutor::new()).build(connector);
        Self {
            pool,
            timeout,
            largest,
        }
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// [`ClientError`] when no answer came or it could not be read.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|_| ClientError::BadUrl(url.to_owned()))?;
        let exchange = async {
            let response = self.pool.request(request).await;
            let response = response.map_err(|_| ClientError::Unreachable(url.to_owned()))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, self.largest).collect().await;
            let body = body
                .map_err(|_| ClientError::Broken(url.to_owned()))?
                .to_bytes();
            Ok(Answer {
                status: parts.status,
                headers: parts.headers,
                body,
            })
        };
        tokio::time::timeout(self.timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(ClientError::Timeout(url.to_owned())))
    }

    /// A GET without further headers.
    ///
    /// # Errors
    /// [`ClientError`] when no answer came or it could not be read.
    pub async fn get(&self, url: &str) -> Result<Answer, ClientError> {
        self.send(Method::GET, url, &[], Bytes::new()).await
    }
}
