//! One worker: a connection to the STS, one to the Gateway, and a loop.

use std::time::Instant;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::tour::{Endpoints, RESOURCE};

/// What a worker counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Microseconds of each governed call that was answered 200.
    pub(crate) latencies: Vec<u32>,
    /// Calls that were not.
    pub(crate) failures: u64,
    /// The first failure, for people.
    pub(crate) first_failure: Option<String>,
}

impl Tally {
    pub(crate) fn merge(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.failures += other.failures;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
}

/// A call of a lane failed.
pub(crate) type LaneError = Box<dyn std::error::Error + Send + Sync>;

/// A worker's connections and its mint request.
pub(crate) struct Lane {
    sts: SendRequest<Full<Bytes>>,
    gateway: SendRequest<Full<Bytes>>,
    form: Bytes,
}

impl Lane {
    pub(crate) async fn connect(endpoints: &Endpoints, form: String) -> Result<Self, LaneError> {
        Ok(Self {
            sts: connect(&endpoints.sts).await?,
            gateway: connect(&endpoints.gateway).await?,
            form: Bytes::from(form),
        })
    }

    /// Calls until the deadline; the lane comes back for another run.
    pub(crate) async fn run_until(mut self, until: Instant) -> (Self, Tally) {
        let mut tally = Tally::default();
        while Instant::now() < until {
            let began = Instant::now();
            match self.governed_call().await {
                Ok(()) => {
                    let micros = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
                    tally.latencies.push(micros);
                }
                Err(error) => {
                    tally.failures += 1;
                    tally.first_failure.get_or_insert_with(|| error.to_string());
                    if self.sts.is_closed() || self.gateway.is_closed() {
                        break;
                    }
                }
            }
        }
        (self, tally)
    }

    async fn governed_call(&mut self) -> Result<(), LaneError> {
        let mint = Request::post("/oauth/2/token")
            .header(HOST, "sts")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(self.form.clone()))?;
        let body = send(&mut self.sts, mint, "mint").await?;
        let token: TokenAnswer = serde_json::from_slice(&body)?;
        let bearer = HeaderValue::from_str(&format!("Bearer {}", token.access_token))?;
        let call = Request::get("/v1/items")
            .header(HOST, "gateway")
            .header(AUTHORIZATION, bearer)
            .header("x-caracal-resource", RESOURCE)
            .body(Full::new(Bytes::new()))?;
        send(&mut self.gateway, call, "call").await.map(|_| ())
    }
}

async fn connect(url: &str) -> Result<SendRequest<Full<Bytes>>, LaneError> {
    let address = url
        .strip_prefix("http://")
        .unwrap_or(url)
        .replace("localhost", "127.0.0.1");
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    step: &str,
) -> Result<Bytes, LaneError> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status == StatusCode::OK {
        return Ok(body);
    }
    let body = crate::logging::scrub(&String::from_utf8_lossy(&body));
    Err(format!("{step} answered {status}: {body}").into())
}
