//! One signed request, and what became of it.

use std::sync::Arc;

use bytes::Bytes;
use caracal_core::{Clock, Random, Secret};
use caracal_crypto::HmacKey;
use caracal_crypto::request_signature::{
    NONCE_HEADER, SIGNATURE_HEADER, SignedRequest, TIMESTAMP_HEADER, sign,
};
use caracal_roles::ExchangeRequest;
use caracal_roles::wire::{self, Answer, MAX_ANSWER_BYTES, UnreadableAnswer};
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::Instant;

use super::dial::{Connection, DialError};
use super::endpoint::StsUrl;

const FORM: &str = "application/x-www-form-urlencoded";

/// Why a question has no answer.
#[derive(Debug, Error)]
pub(super) enum Lost {
    /// There was no connection: nothing was sent.
    #[error(transparent)]
    NotConnected(DialError),
    /// The kept-alive connection had closed: nothing was sent.
    #[error("the connection had closed")]
    Unsent,
    /// The connection closed before any byte of an answer.
    #[error("the connection closed without an answer: {cause}")]
    ClosedUnanswered {
        /// It had carried questions before, so the STS may have been closing it.
        reused: bool,
        /// What the connection says.
        cause: hyper::Error,
    },
    /// No answer in time.
    #[error("no answer in time")]
    Silent,
    /// The STS does not take this Gateway's signature.
    #[error(
        "it refuses this Gateway's signature: compare GATEWAY_STS_HMAC_KEY and the clocks of both"
    )]
    NotHeard,
    /// Something else than an answer came.
    #[error("status {status}: {cause}")]
    Unreadable {
        /// The status that it came with.
        status: StatusCode,
        /// What is wrong with it.
        cause: UnreadableAnswer,
    },
    /// The answer broke off, or is too long.
    #[error("the answer broke off or is too long")]
    Broken,
    /// The request could not be built.
    #[error("the request could not be built: {0}")]
    Unbuilt(http::Error),
}

impl Lost {
    /// Whether it says that the address, or the way to it, is broken. A connection that was idle and
    /// is closed says nothing.
    pub(super) fn is_failure(&self) -> bool {
        !matches!(
            self,
            Self::Unsent | Self::Unbuilt(_) | Self::ClosedUnanswered { reused: true, .. }
        )
    }

    /// The name of this in metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NotConnected(_) => "not_connected",
            Self::Unsent => "idle_connection_closed",
            Self::ClosedUnanswered { .. } => "closed_unanswered",
            Self::Silent => "timed_out",
            Self::NotHeard => "signature_refused",
            Self::Unreadable { .. } => "unreadable",
            Self::Broken => "broken",
            Self::Unbuilt(_) => "unbuilt",
        }
    }

    /// Whether the question may be put once more.
    pub(super) fn may_be_put_again(&self) -> bool {
        matches!(
            self,
            Self::NotConnected(_) | Self::Unsent | Self::ClosedUnanswered { reused: true, .. }
        )
    }

    /// Whether the STS may have seen the question.
    pub(super) fn was_sent(&self) -> bool {
        !matches!(
            self,
            Self::NotConnected(_) | Self::Unsent | Self::Unbuilt(_)
        )
    }
}

/// What became of a question, and the connection if it can carry the next one.
pub(super) struct Asked {
    pub(super) outcome: Result<Answer, Lost>,
    pub(super) connection: Option<Connection>,
}

impl Asked {
    pub(super) fn lost(lost: Lost) -> Self {
        Self {
            outcome: Err(lost),
            connection: None,
        }
    }
}

/// Signs questions.
pub(super) struct Signer {
    pub(super) key: HmacKey,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    /// The `Host` header.
    pub(super) authority: String,
    pub(super) base_path: String,
}

/// Form bytes, wiped when the connection has taken them: they hold the caller's mandate.
struct Wiped(Secret<String>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.expose().as_bytes()
    }
}

impl Signer {
    /// Signs the question, sends it, reads the answer.
    pub(super) async fn put(
        &self,
        mut connection: Connection,
        path: &str,
        request: &ExchangeRequest,
        deadline: Instant,
    ) -> Asked {
        let (nonce, signed) = match self.signed(path, request, deadline) {
            Ok(signed) => signed,
            Err(error) => return Asked::lost(Lost::Unbuilt(error)),
        };
        let sent = connection.sender.try_send_request(signed);
        let response = match tokio::time::timeout_at(deadline, sent).await {
            Err(_) => return Asked::lost(Lost::Silent),
            Ok(Ok(response)) => response,
            Ok(Err(mut error)) => {
                let lost = match error.take_message() {
                    Some(_) => Lost::Unsent,
                    None => lost_by(error.into_error(), connection.reused),
                };
                return Asked::lost(lost);
            }
        };
        match tokio::time::timeout_at(deadline, read(response, &nonce)).await {
            Err(_) => Asked::lost(Lost::Silent),
            Ok(outcome) => Asked {
                connection: outcome.is_ok().then_some(connection),
                outcome,
            },
        }
    }

    fn signed(
        &self,
        path: &str,
        request: &ExchangeRequest,
        deadline: Instant,
    ) -> Result<(String, Request<Full<Bytes>>), http::Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        let form = wire::encode_form(request, left - left / 10);
        let path = format!("{}{path}", self.base_path);
        let what = SignedRequest {
            method: "POST",
            path: &path,
            body: form.expose().as_bytes(),
        };
        let signature = sign(&self.key, &what, self.clock.now(), self.random.as_ref());
        let body = Bytes::from_owner(Wiped(form));
        let signed = Request::post(&path)
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, FORM)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "caracal-gateway")
            .header("x-request-id", request.request_id.as_str())
            .header(TIMESTAMP_HEADER, &signature.timestamp)
            .header(NONCE_HEADER, &signature.nonce)
            .header(SIGNATURE_HEADER, &signature.signature)
            .body(Full::new(body))?;
        Ok((signature.nonce, signed))
    }
}

fn lost_by(cause: hyper::Error, reused: bool) -> Lost {
    if cause.is_parse() {
        Lost::Broken
    } else {
        Lost::ClosedUnanswered { reused, cause }
    }
}

async fn read(response: Response<Incoming>, nonce: &str) -> Result<Answer, Lost> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|_| Lost::Broken)?.to_bytes();
    match wire::decode(&body, nonce) {
        Ok(answer) => Ok(answer),
        Err(UnreadableAnswer::Malformed(_)) if head.status == StatusCode::UNAUTHORIZED => {
            Err(Lost::NotHeard)
        }
        Err(cause) => Err(Lost::Unreadable {
            status: head.status,
            cause,
        }),
    }
}

/// Whether something that speaks HTTP, and does not say that it is broken, answers.
pub(super) async fn greet(connection: &mut Connection, url: &StsUrl) -> bool {
    let request = Request::get(format!("{}/health", url.base_path()))
        .header(HOST, url.authority())
        .header(USER_AGENT, "caracal-gateway")
        .body(Full::new(Bytes::new()));
    let Ok(request) = request else { return false };
    let answered = connection.sender.send_request(request).await;
    answered.is_ok_and(|response| !response.status().is_server_error())
}
