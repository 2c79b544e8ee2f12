//! The Gateway's exchanges when the Gateway runs elsewhere: the same two questions, asked over HTTP.
//!
//! A request is heard only with the shared key's signature over time, nonce, method, path and body,
//! signed within a minute, its nonce never seen before. All failures of that are one answer. What the
//! Gateway verified counts for nothing here: the mandate is verified again, on the same view of the
//! zone that the call is judged on. So a captured request is useless, and so is a Gateway without
//! the mandate of a caller.
//!
//! The answer holds the upstream's credential: it is written once, wiped when it is sent, and stored
//! nowhere. The Gateway says how long it waits; work that nobody waits for is dropped.

mod form;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use caracal_core::{Secret, Timestamp};
use caracal_crypto::request_signature::{
    NONCE_HEADER, PresentedSignature, SIGNATURE_HEADER, SignedRequest, TIMESTAMP_HEADER, verify,
};
use caracal_crypto::{Expectation, HmacKey, MandateError, MandateUse};
use caracal_evidence::Metadata;
use caracal_http::body::{BodyError, read_limited};
use caracal_http::{Failure, Reason, RequestContext};
use caracal_roles::wire;
use caracal_roles::{ExchangeGrant, ExchangeRefusal, ExchangeRequest};
use caracal_store::ZoneView;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::Sts;
use crate::audit::Trail;
use crate::error::Refusal;
use crate::form::{FormRefused, MAX_BODY_BYTES, MalformedForm, judge_head};
use crate::nonces::{NonceStore, Spent};
use crate::subject::LEEWAY_SECONDS;
use form::CallForm;

/// The headers that say "I am the Gateway". One of them is enough to be held to all of them.
pub(crate) const HEADERS: [&str; 3] = [TIMESTAMP_HEADER, NONCE_HEADER, SIGNATURE_HEADER];

/// Longest time that an exchange is worked on, whatever the Gateway says.
const LONGEST_WORK: Duration = Duration::from_secs(30);

/// What the STS needs to hear Gateways in other processes. Without one it hears none.
pub struct GatewayLeg {
    /// `GATEWAY_STS_HMAC_KEY`.
    pub key: HmacKey,
    /// `GATEWAY_STS_HMAC_KEY_PREVIOUS`: still heard while Gateways change to the new one.
    pub previous: Option<HmacKey>,
    /// Which requests were seen.
    pub nonces: Arc<dyn NonceStore>,
}

impl fmt::Debug for GatewayLeg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayLeg").finish_non_exhaustive()
    }
}

/// Whether the request claims to come from a Gateway.
pub(crate) fn is_claimed(headers: &HeaderMap) -> bool {
    HEADERS.iter().any(|name| headers.contains_key(*name))
}

/// Which of the two questions is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// May this call be made, and with which credential?
    Exchange,
    /// May this running call go on?
    StillGranted,
}

/// A request that a Gateway signed, heard for the first time. Only [`GatewayLeg::hear`] makes one.
struct Heard {
    head: Parts,
    body: Bytes,
    nonce: String,
}

/// Why nothing is answered in the form of an answer.
enum Unheard {
    /// Not a request of this route.
    Malformed(MalformedForm),
    /// Not signed by a Gateway, signed too long ago, changed on the way, or heard before.
    Signature,
    /// It can't be known.
    Unavailable(String),
}

impl Unheard {
    /// The name of this in metrics.
    fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Signature => "signature",
            Self::Unavailable(_) => "nonces_unavailable",
        }
    }
}

impl From<MalformedForm> for Unheard {
    fn from(malformed: MalformedForm) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Unheard> for Refusal {
    fn from(unheard: Unheard) -> Self {
        match unheard {
            Unheard::Malformed(malformed) => malformed.into(),
            Unheard::Signature => Self::Form(FormRefused::GatewaySignature),
            Unheard::Unavailable(cause) => Self::Unavailable(cause),
        }
    }
}

impl GatewayLeg {
    /// Reads and proves a request. Cheap checks come first; the nonce is spent last, by a request
    /// that would otherwise be heard.
    async fn hear(&self, sts: &Sts, request: Request) -> Result<Heard, Unheard> {
        let (head, body) = request.into_parts();
        judge_head(head.uri.query(), &head.headers)?;
        let body = read_limited(body, MAX_BODY_BYTES)
            .await
            .map_err(|error| match error {
                BodyError::TooLarge(_) => MalformedForm::TooLarge,
                BodyError::Broken => MalformedForm::Unreadable,
            })?;
        let presented = presented(&head.headers).ok_or(Unheard::Signature)?;
        let signed = SignedRequest {
            method: head.method.as_str(),
            path: head.uri.path(),
            body: &body,
        };
        let now = sts.clock.now();
        let under = |key| verify(key, &signed, &presented, now);
        let proven = under(&self.key);
        let proven = match (proven, &self.previous) {
            (Err(_), Some(previous)) => under(previous),
            (proven, _) => proven,
        };
        let nonce = proven.map_err(|error| {
            tracing::warn!(%error, "a Gateway's signature was refused");
            Unheard::Signature
        })?;
        let signed_at = signed_at(&presented).ok_or(Unheard::Signature)?;
        match self.nonces.spend(&nonce, signed_at, now).await {
            Ok(Spent::First) => Ok(Heard {
                nonce: nonce.as_str().to_owned(),
                head,
                body,
            }),
            Ok(Spent::Again) => {
                tracing::warn!("a Gateway's request was heard before");
                Err(Unheard::Signature)
            }
            // That says something of the memory and nothing of the Gateway: it asks again.
            Ok(Spent::Predates) => Err(Unheard::Unavailable(
                "the request is older than the memory of nonces".to_owned(),
            )),
            Err(error) => Err(Unheard::Unavailable(error.to_string())),
        }
    }
}

fn presented(headers: &HeaderMap) -> Option<PresentedSignature<'_>> {
    Some(PresentedSignature {
        timestamp: only(headers, TIMESTAMP_HEADER)?,
        nonce: only(headers, NONCE_HEADER)?,
        signature: only(headers, SIGNATURE_HEADER)?,
    })
}

/// The value of a header that is there exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok()
}

fn signed_at(presented: &PresentedSignature<'_>) -> Option<Timestamp> {
    presented
        .timestamp
        .parse()
        .ok()
        .map(Timestamp::from_seconds)
}

/// Answers a Gateway.
pub(crate) async fn answer(
    sts: &Arc<Sts>,
    leg: &GatewayLeg,
    context: &RequestContext,
    question: Question,
    request: Request,
) -> Response {
    let heard = match leg.hear(sts, request).await {
        Ok(heard) => heard,
        Err(unheard) => {
            metrics::counter!("caracal_sts_gateway_unheard_total", "reason" => unheard.reason())
                .increment(1);
            return refuse(sts, context, unheard.into());
        }
    };
    let form = match CallForm::parse(&heard.head.headers, &heard.body, context) {
        Ok(form) => form,
        Err(refused) => return refuse(sts, context, refused.into()),
    };
    let limit = form.deadline.min(LONGEST_WORK);
    let work = Box::pin(sts.decide_for_gateway(&form, question));
    let decided = match tokio::time::timeout(limit, work).await {
        Ok(decided) => decided,
        Err(_) => Err(sts.relay_refusal(
            &form.request_id,
            Refusal::unavailable("not decided before the Gateway's deadline"),
        )),
    };
    written(&decided, &heard.nonce)
}

/// What is not heard is answered like any refused request, not as a verdict on a call.
fn refuse(sts: &Sts, context: &RequestContext, refusal: Refusal) -> Response {
    sts.log_cause(&context.request_id, &refusal);
    with_no_store(Failure::from(refusal).into_response())
}

/// The decision on a heard request.
enum Decision {
    Granted(Box<ExchangeGrant>),
    Standing,
}

fn written(decided: &Result<Decision, ExchangeRefusal>, nonce: &str) -> Response {
    let (status, reason, bytes) = match decided {
        Ok(Decision::Granted(grant)) => (StatusCode::OK, "", wire::encode_grant(grant, nonce)),
        Ok(Decision::Standing) => (StatusCode::OK, "", wire::encode_standing(nonce)),
        Err(refusal) => (
            StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            "exchange_refused",
            wire::encode_refusal(refusal, nonce),
        ),
    };
    let Ok(bytes) = bytes else {
        return with_no_store(Failure::internal().into_response());
    };
    let mut response = Response::new(Body::from(Bytes::from_owner(Wiped(bytes))));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.extensions_mut().insert(Reason(reason));
    with_no_store(response)
}

fn with_no_store(mut response: Response) -> Response {
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}

/// Bytes of an answer, wiped when the connection has taken them.
struct Wiped(Secret<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

impl Sts {
    /// Verifies the mandate and judges the call, both on one view taken after the request arrived.
    async fn decide_for_gateway(
        &self,
        form: &CallForm,
        question: Question,
    ) -> Result<Decision, ExchangeRefusal> {
        let relayed = |refusal| self.relay_refusal(&form.request_id, refusal);
        let _turn = self
            .turns
            .request(Some(&form.zone))
            .await
            .map_err(relayed)?;
        let proven = self.prove_call(form, question).await;
        let (request, view) = proven.map_err(relayed)?;
        match question {
            Question::Exchange => {
                let grant = self.exchange_on(view, &request).await?;
                Ok(Decision::Granted(Box::new(grant)))
            }
            Question::StillGranted => {
                self.still_granted_on(view, &request).await?;
                Ok(Decision::Standing)
            }
        }
    }

    async fn prove_call(
        &self,
        form: &CallForm,
        question: Question,
    ) -> Result<(ExchangeRequest, ZoneView), Refusal> {
        let view = self.authority.fresh(&form.zone).await?;
        let now = self.clock.now();
        let keys = self.keys.of_view(&view, now).await?;
        let expect = Expectation {
            issuer: &self.options.issuer,
            audience: &self.options.issuer,
            zone: &form.zone,
            uses: &[MandateUse::Gateway],
            now,
            leeway_seconds: LEEWAY_SECONDS,
        };
        let verified = caracal_crypto::verify(form.token.expose(), keys.set(), &expect);
        let verified = verified.and_then(|mandate| {
            if mandate.claims().client_id == form.application {
                Ok(mandate)
            } else {
                Err(MandateError::ClaimInvalid("client_id"))
            }
        });
        match verified {
            Ok(mandate) => Ok((form.request(mandate), view)),
            Err(error) => {
                let refusal = Refusal::SubjectToken(error);
                if question == Question::Exchange {
                    self.record_unproven(form, &refusal).await?;
                }
                Err(refusal)
            }
        }
    }

    /// The Gateway says whose call it is, so a mandate that does not hold here leaves evidence.
    async fn record_unproven(&self, form: &CallForm, refusal: &Refusal) -> Result<(), Refusal> {
        let mut about = Metadata::new();
        about.set("resource", form.resource.as_str());
        about.set("method", &form.method);
        about.set("path", form.path.raw());
        let mut trail = Trail::of_id(self, &form.zone, &form.application, &form.request_id);
        trail.refuse(refusal, &about);
        trail.write(&self.journal).await
    }
}
