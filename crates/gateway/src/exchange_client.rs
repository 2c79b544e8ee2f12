//! The STS when it runs elsewhere: the exchange over signed HTTP.
//!
//! One question is one signed request with a nonce of its own, on a kept-alive connection to one of
//! the STS's addresses. A question is put a second time, signed anew, only when the first was not
//! taken (nothing could be sent) or when a kept-alive connection closed before any byte of an answer:
//! an exchange writes nothing but its own events and spends nothing, so at worst a decision that
//! nobody received stands twice in the log. Whatever else goes wrong is 503 `sts_unavailable`; no
//! failure is ever an answer.
//!
//! | file | what |
//! |---|---|
//! | `endpoint` | `STS_URL` |
//! | `replicas` | the STS's addresses, each with its circuit and its idle connections |
//! | `dial` | a connection |
//! | `question` | a signed request, and what became of it |
//!
//! The STS is told a deadline that is a little earlier than the Gateway's own. So an STS that works
//! always answers in time, if only "not yet", and silence means that the STS or the way to it is
//! broken: only that opens an address's circuit. One zone's slow decisions never do.

mod dial;
mod endpoint;
mod question;
mod replicas;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use caracal_core::id::ZoneId;
use caracal_core::{Clock, Random};
use caracal_crypto::HmacKey;
use caracal_http::FairShare;
use caracal_roles::wire::{self, Answer};
use caracal_roles::{Exchange, ExchangeGrant, ExchangeRefusal, ExchangeRequest, RefusalOrigin};
use serde_json::Map;
use tokio::time::Instant;

use crate::host_guard::Resolve;
use dial::Dialer;
use question::{Asked, Lost, Signer};
use replicas::{Replicas, ReplicasOptions};

pub use endpoint::{StsUrl, StsUrlError};

/// How often a question is put, at most.
const MAX_SENDINGS: u32 = 2;

/// How many connections are tried for one question: closed ones from the pool cost a try each.
const MAX_TRIES: u32 = 8;

const RETRY_SOON: Duration = Duration::from_secs(1);

/// How the STS is reached.
#[derive(Debug, Clone)]
pub struct HttpExchangeOptions {
    /// `STS_URL`.
    pub url: StsUrl,
    /// `STS_TIMEOUT`: one question, from its asking to the end of its answer.
    pub timeout: Duration,
    /// One TCP connect, one TLS handshake.
    pub connect_timeout: Duration,
    /// `CARACAL_TLS_EXTRA_CA_FILE`.
    pub extra_ca_file: Option<PathBuf>,
    /// Questions, and so connections, at a time, shared fairly between zones.
    pub concurrency: usize,
    /// Questions of one zone that may wait for a place.
    pub queue: usize,
    /// Idle connections kept to one address.
    pub idle_connections: usize,
    /// How long an idle connection is kept; shorter than the STS keeps it.
    pub idle_timeout: Duration,
    /// How long the addresses of the name are used before they are looked up again.
    pub dns_ttl: Duration,
}

impl HttpExchangeOptions {
    /// The defaults for this URL and `STS_TIMEOUT`.
    #[must_use]
    pub fn new(url: StsUrl, timeout: Duration) -> Self {
        Self {
            url,
            timeout,
            connect_timeout: Duration::from_secs(2).min(timeout),
            extra_ca_file: None,
            concurrency: 512,
            queue: 4_096,
            idle_connections: 128,
            idle_timeout: Duration::from_secs(30),
            dns_ttl: Duration::from_secs(5),
        }
    }
}

/// What [`HttpExchange`] works with.
pub struct HttpExchangeDeps {
    /// `GATEWAY_STS_HMAC_KEY`.
    pub key: HmacKey,
    /// Signatures carry this clock's time; the STS allows 60 s between its clock and this.
    pub clock: Arc<dyn Clock>,
    /// Makes nonces.
    pub random: Arc<dyn Random>,
    /// Where the STS's name resolves; `None` for the operating system's resolver.
    pub resolver: Option<Arc<dyn Resolve>>,
}

/// The STS in another process.
pub struct HttpExchange {
    timeout: Duration,
    signer: Signer,
    replicas: Arc<Replicas>,
    places: FairShare<ZoneId>,
}

impl HttpExchange {
    /// Connects to nothing yet: the STS need not be up.
    #[must_use]
    pub fn new(options: HttpExchangeOptions, deps: HttpExchangeDeps) -> Arc<Self> {
        let dialer = Dialer::new(
            &options.url,
            options.connect_timeout,
            options.extra_ca_file.clone(),
        );
        let limits = ReplicasOptions {
            dns_ttl: options.dns_ttl,
            idle_connections: options.idle_connections,
            idle_timeout: options.idle_timeout,
        };
        Arc::new(Self {
            timeout: options.timeout,
            signer: Signer {
                key: deps.key,
                clock: deps.clock,
                random: deps.random,
                authority: options.url.authority(),
                base_path: options.url.base_path().to_owned(),
            },
            replicas: Replicas::new(options.url, limits, dialer, deps.resolver),
            places: FairShare::new(options.concurrency, options.queue),
        })
    }

    /// The Gateway gives up a twentieth before `STS_TIMEOUT`, and tells the STS to give up a tenth
    /// before that.
    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout - self.timeout / 20
    }

    async fn ask(&self, path: &str, request: &ExchangeRequest) -> Result<Answer, Unavailable> {
        let deadline = self.deadline();
        let zone = &request.mandate.claims().zone_id;
        let place = tokio::time::timeout_at(deadline, self.places.place(zone)).await;
        let Ok(Ok(_place)) = place else {
            return Err(Unavailable::Crowded);
        };
        let mut sent = 0;
        for _ in 0..MAX_TRIES {
            let attempt = Box::pin(self.attempt(path, request, deadline));
            let lost = match attempt.await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Unreachable(unavailable)) => return Err(unavailable),
                Err(Failed::Lost(lost)) => lost,
            };
            sent += u32::from(lost.was_sent());
            let again = lost.may_be_put_again() && sent < MAX_SENDINGS && Instant::now() < deadline;
            if !again {
                return Err(Unavailable::Lost);
            }
        }
        Err(Unavailable::Lost)
    }

    async fn attempt(
        &self,
        path: &str,
        request: &ExchangeRequest,
        deadline: Instant,
    ) -> Result<Answer, Failed> {
        let chosen = self.replicas.choose(deadline).await;
        let mut line = chosen.map_err(Failed::Unreachable)?;
        let asked = match line.connect(deadline).await {
            Ok(connection) => self.signer.put(connection, path, request, deadline).await,
            Err(error) => Asked::lost(Lost::NotConnected(error)),
        };
        line.close(asked).map_err(|lost| {
            metrics::counter!("caracal_gateway_sts_lost_total", "reason" => lost.reason())
                .increment(1);
            tracing::warn!(
                request_id = %request.request_id, sts = %line.address(), error = %lost,
                "the token service did not answer"
            );
            Failed::Lost(lost)
        })
    }
}

/// Why one attempt brought no answer.
enum Failed {
    /// There is no address to ask.
    Unreachable(Unavailable),
    /// The question or its answer was lost.
    Lost(Lost),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unavailable {
    /// The name of the STS does not resolve.
    Unresolved,
    /// Every address keeps failing; the first is tried again after this.
    Paused(Duration),
    /// The zone's share of connections is taken.
    Crowded,
    /// No address answered.
    Lost,
}

impl From<Unavailable> for ExchangeRefusal {
    fn from(unavailable: Unavailable) -> Self {
        let (description, after) = match unavailable {
            Unavailable::Paused(left) => ("the token service is failing; calls pause", left),
            Unavailable::Crowded => (
                "too many calls of this zone wait for a decision",
                RETRY_SOON,
            ),
            Unavailable::Unresolved | Unavailable::Lost => {
                ("the token service cannot be reached; try again", RETRY_SOON)
            }
        };
        unavailable_because(description, after)
    }
}

fn unavailable_because(description: &str, after: Duration) -> ExchangeRefusal {
    ExchangeRefusal {
        status: 503,
        code: "sts_unavailable".into(),
        description: description.to_owned(),
        retry_after: Some(after),
        extension: Map::new(),
        origin: RefusalOrigin::Line,
    }
}

/// An answer to the other question is no answer to this one.
fn beside_the_point() -> ExchangeRefusal {
    unavailable_because("the token service gave no decision; try again", RETRY_SOON)
}

#[async_trait]
impl Exchange for HttpExchange {
    async fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeGrant, ExchangeRefusal> {
        match self.ask(wire::EXCHANGE_PATH, request).await? {
            Answer::Granted(grant) => Ok(*grant),
            Answer::Refused(refusal) => Err(*refusal),
            Answer::Standing => Err(beside_the_point()),
        }
    }

    async fn still_granted(&self, request: &ExchangeRequest) -> Result<(), ExchangeRefusal> {
        match self.ask(wire::STILL_GRANTED_PATH, request).await? {
            Answer::Standing => Ok(()),
            Answer::Refused(refusal) => Err(*refusal),
            Answer::Granted(_) => Err(beside_the_point()),
        }
    }

    fn pause(&self) -> Option<Duration> {
        self.replicas.pause()
    }

    async fn reachable(&self) -> bool {
        self.replicas.reachable(self.deadline()).await
    }
}

impl fmt::Debug for HttpExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpExchange")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
