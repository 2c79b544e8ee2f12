//! Every reason for which the Gateway itself answers, and what follows from it: status, code,
//! counters, evidence. This is the only place that knows.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use caracal_core::RequestId;
use caracal_core::path::PathRejected;
use caracal_crypto::MandateError;
use caracal_roles::ExchangeRefusal;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::exchange::is_failure;
use crate::meter::{Count, Meter};
use crate::respond::REQUEST_ID;

/// Which of the four anchors no longer carries authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Fallen {
    /// The zone is archived or unknown.
    #[error("the zone is not active")]
    Zone,
    /// The authority record `sid`, or `root_sid`.
    #[error("the authority record has been revoked")]
    Record,
    /// The governed Session.
    #[error("the session is not active")]
    Session,
    /// The delegation, or one it descends from.
    #[error("the delegation is not active")]
    Delegation,
    /// The mandate's `exp` came while the call was running.
    #[error("the mandate has expired")]
    Mandate,
    /// The STS would not grant the call any more.
    #[error("the authority for this call has been withdrawn")]
    Grant,
}

/// Why the Gateway answers instead of the upstream.
#[derive(Debug, Clone, Error)]
pub(crate) enum Refusal {
    /// The request head is over the limit.
    #[error("the request head is larger than {0} bytes")]
    HeadTooLarge(usize),
    /// The method reflects headers or opens a tunnel.
    #[error("this method is not forwarded")]
    MethodNotForwarded,
    /// Step 2.
    #[error("no bearer token: send the gateway mandate as Authorization: Bearer")]
    BearerMissing,
    /// Step 3.
    #[error("the bearer token is larger than {0} bytes")]
    BearerTooLarge(usize),
    /// Step 4.
    #[error("the bearer token is not a mandate")]
    BearerMalformed,
    /// Step 5.
    #[error("the mandate has expired or is about to: mint a new one")]
    Expiring,
    /// Step 6.
    #[error("the application is read from the mandate: do not send X-Caracal-Client-ID")]
    ClientIdHeader,
    /// Step 7.
    #[error("X-Caracal-Resource is missing: name the resource to call")]
    ResourceHeader,
    /// Step 8.
    #[error("the mandate names no zone")]
    ZoneClaim,
    /// Step 9.
    #[error("the mandate names no application")]
    ClientClaim,
    /// Step 10.
    #[error("the request path is refused: {0}")]
    Path(#[from] PathRejected),
    /// The body is over `MAX_REQUEST_BYTES`, declared or sent.
    #[error("the request body is larger than {0} bytes")]
    BodyTooLarge(u64),
    /// Step 11: no verdict is possible.
    #[error("the zone's keys are unavailable")]
    KeysUnavailable,
    /// Step 11.
    #[error("the mandate's signature does not verify")]
    Signature,
    /// The signature holds but a claim does not.
    #[error("the mandate is not accepted here: {0}")]
    Mandate(#[from] MandateError),
    /// The mandate was minted for another resource.
    #[error("the mandate was not minted for this resource")]
    TargetMismatch,
    /// The freshness barrier did not answer.
    #[error("the current state of the zone is unavailable")]
    BarrierUnavailable,
    /// Step 13.
    #[error("the mandate has been revoked: {0}")]
    Revoked(Fallen),
    /// Step 14.
    #[error("the token service is failing; calls pause")]
    CircuitOpen(Duration),
    /// Step 12: nothing says when the mandate was minted, or it was before the replay memory began.
    #[error("the mandate predates this gateway's replay memory: mint a new one")]
    Predates,
    /// Step 12.
    #[error("the mandate has been used already: mint one for every request")]
    Replayed,
    /// Step 12: no verdict is possible.
    #[error("the replay memory is unavailable")]
    MarksUnavailable,
    /// Step 15: the STS refused.
    #[error("the token service refused the call")]
    Exchange(Box<ExchangeRefusal>),
    /// Step 15: no answer within `STS_TIMEOUT`.
    #[error("the token service did not answer in time")]
    ExchangeTimedOut,
    /// The event that must precede the effect could not be logged.
    #[error("the audit log is unavailable")]
    AuditUnavailable,
    /// Step 16.
    #[error("the resource's upstream cannot be addressed")]
    NotAddressable,
    /// Step 17.
    #[error("the provider's credential may not be sent to the resource's upstream")]
    HostNotAllowed,
    /// Step 18.
    #[error("the upstream request cannot be built")]
    BuildFailed,
    /// Step 19: too many requests run at the upstream, or it keeps failing.
    #[error("the upstream is overloaded or failing")]
    UpstreamBusy(Duration),
    /// Step 19: connecting or the response head took too long.
    #[error("the upstream did not answer in time")]
    UpstreamTimedOut,
    /// Step 19.
    #[error("the upstream could not be reached")]
    UpstreamFailed,
    /// Step 19: the caller's body stopped coming.
    #[error("the request body did not arrive in time")]
    BodyTimedOut,
    /// Step 19: the caller's body broke off.
    #[error("the request body broke off")]
    BodyBroken,
    /// The authority ended while the call was running and nothing had been answered.
    #[error("the call was stopped: {0}")]
    Interrupted(Fallen),
}

/// What is recorded of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// Nobody is identified yet, or the STS has recorded it.
    None,
    /// `gateway_request_denied` with this status.
    Denied(&'static str),
    /// `replay_detected`.
    Replay,
    /// `gateway_resource_request` with this status and error kind.
    Forwarding(&'static str, Option<&'static str>),
}

/// How a refusal is told to the caller.
struct Answer<'a> {
    status: StatusCode,
    code: Cow<'a, str>,
    retry_after: Option<Duration>,
}

const RETRY_SOON: Duration = Duration::from_secs(1);

impl Refusal {
    fn answer(&self) -> Answer<'_> {
        use StatusCode as S;
        let (status, code, retry_after) = match self {
            Self::HeadTooLarge(_) => (
                S::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "payload_too_large",
                None,
            ),
            Self::MethodNotForwarded => (S::METHOD_NOT_ALLOWED, "invalid_request", None),
            Self::BearerMissing
            | Self::BearerTooLarge(_)
            | Self::BearerMalformed
            | Self::ZoneClaim
            | Self::ClientClaim
            | Self::Signature
            | Self::Mandate(_)
            | Self::Revoked(_)
            | Self::Interrupted(_)
            | Self::Predates
            | Self::Replayed => (S::UNAUTHORIZED, "invalid_token", None),
            Self::Expiring => (S::UNAUTHORIZED, "credential_expired_not_renewable", None),
            Self::ClientIdHeader | Self::ResourceHeader | Self::Path(_) => {
                (S::BAD_REQUEST, "invalid_token", None)
            }
            Self::BodyTooLarge(_) => (S::PAYLOAD_TOO_LARGE, "payload_too_large", None),
            Self::TargetMismatch => (S::FORBIDDEN, "access_denied", None),
            Self::KeysUnavailable
            | Self::BarrierUnavailable
            | Self::MarksUnavailable
            | Self::AuditUnavailable => {
                (S::SERVICE_UNAVAILABLE, "sts_unavailable", Some(RETRY_SOON))
            }
            Self::CircuitOpen(left) => (S::SERVICE_UNAVAILABLE, "sts_unavailable", Some(*left)),
            Self::ExchangeTimedOut => (S::GATEWAY_TIMEOUT, "sts_unavailable", Some(RETRY_SOON)),
            Self::Exchange(refusal) => return relayed(refusal),
            Self::NotAddressable | Self::HostNotAllowed | Self::UpstreamFailed => {
                (S::BAD_GATEWAY, "internal_error", None)
            }
            Self::BuildFailed => (S::BAD_REQUEST, "internal_error", None),
            Self::UpstreamBusy(left) => (S::SERVICE_UNAVAILABLE, "internal_error", Some(*left)),
            Self::UpstreamTimedOut => (S::GATEWAY_TIMEOUT, "internal_error", None),
            Self::BodyTimedOut => (S::REQUEST_TIMEOUT, "invalid_request", None),
            Self::BodyBroken => (S::BAD_REQUEST, "invalid_request", None),
        };
        Answer {
            status,
            code: Cow::Borrowed(code),
            retry_after,
        }
    }

    /// The HTTP status that the caller gets.
    pub(crate) fn status(&self) -> StatusCode {
        self.answer().status
    }

    /// What is recorded.
    pub(crate) fn evidence(&self) -> Evidence {
        const UPSTREAM: Evidence = Evidence::Forwarding("upstream_error", Some("transport_error"));
        match self {
            Self::Mandate(_) | Self::Predates => Evidence::Denied("mandate_invalid"),
            Self::TargetMismatch => Evidence::Denied("target_mismatch"),
            Self::Revoked(_) => Evidence::Denied("mandate_revoked"),
            Self::BarrierUnavailable | Self::CircuitOpen(_) | Self::ExchangeTimedOut => {
                Evidence::Denied("sts_unavailable")
            }
            // The STS records its verdicts; that there was none is only known here.
            Self::Exchange(refusal) if is_failure(refusal) => Evidence::Denied("sts_unavailable"),
            Self::MarksUnavailable => Evidence::Denied("replay_store_unavailable"),
            Self::Replayed => Evidence::Replay,
            Self::NotAddressable => {
                Evidence::Forwarding("upstream_rejected", Some("upstream_not_addressable"))
            }
            Self::HostNotAllowed => {
                Evidence::Forwarding("upstream_rejected", Some("provider_host_not_allowed"))
            }
            Self::BuildFailed => Evidence::Forwarding("build_failed", Some("request_build_failed")),
            Self::UpstreamBusy(_)
            | Self::UpstreamTimedOut
            | Self::UpstreamFailed
            | Self::BodyTimedOut
            | Self::BodyBroken
            | Self::BodyTooLarge(_) => UPSTREAM,
            Self::Interrupted(_) => Evidence::Forwarding("executed", None),
            _ => Evidence::None,
        }
    }

    /// Counts it.
    pub(crate) fn count(&self, meter: &Meter, forwarding: bool) {
        match self {
            Self::Interrupted(_) => return meter.revoked.add(),
            _ if forwarding => return meter.upstream_errors.add(),
            _ => {}
        }
        meter.denied.add();
        for counter in self.counters(meter) {
            counter.add();
        }
    }

    fn counters<'a>(&self, meter: &'a Meter) -> Vec<&'a Count> {
        match self {
            Self::BearerMissing => vec![&meter.missing_auth],
            Self::BearerTooLarge(_) | Self::BearerMalformed | Self::Mandate(_) => {
                vec![&meter.bad_bearer]
            }
            Self::Expiring => vec![&meter.expiring],
            Self::MethodNotForwarded
            | Self::ClientIdHeader
            | Self::ResourceHeader
            | Self::ZoneClaim
            | Self::ClientClaim
            | Self::TargetMismatch => vec![&meter.bad_routing],
            Self::Path(_) => vec![&meter.path_traversal],
            Self::Signature => vec![&meter.signature],
            Self::Replayed | Self::Predates => vec![&meter.jti_replay],
            Self::Revoked(_) => vec![&meter.revoked],
            Self::BarrierUnavailable => vec![&meter.revocation_stale],
            Self::CircuitOpen(_) => vec![&meter.exchange_errors, &meter.circuit_fast_fail],
            Self::Exchange(_) | Self::ExchangeTimedOut | Self::KeysUnavailable => {
                vec![&meter.exchange_errors]
            }
            _ => Vec::new(),
        }
    }

    /// The name of this refusal in metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::HeadTooLarge(_) => "head_too_large",
            Self::MethodNotForwarded => "method_not_forwarded",
            Self::BearerMissing => "bearer_missing",
            Self::BearerTooLarge(_) => "bearer_too_large",
            Self::BearerMalformed => "bearer_malformed",
            Self::Expiring => "expiring",
            Self::ClientIdHeader => "client_id_header",
            Self::ResourceHeader => "resource_header",
            Self::ZoneClaim | Self::ClientClaim => "claim_missing",
            Self::Path(_) => "path_traversal",
            Self::BodyTooLarge(_) => "payload_too_large",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Signature => "signature",
            Self::Mandate(_) | Self::Predates => "mandate_invalid",
            Self::TargetMismatch => "target_mismatch",
            Self::BarrierUnavailable => "barrier_unavailable",
            Self::Revoked(_) => "revoked",
            Self::CircuitOpen(_) => "circuit_open",
            Self::Replayed => "replayed",
            Self::MarksUnavailable => "marks_unavailable",
            Self::Exchange(_) => "exchange_refused",
            Self::ExchangeTimedOut => "exchange_timed_out",
            Self::AuditUnavailable => "audit_unavailable",
            Self::NotAddressable => "upstream_not_addressable",
            Self::HostNotAllowed => "provider_host_not_allowed",
            Self::BuildFailed => "request_build_failed",
            Self::UpstreamBusy(_) => "upstream_busy",
            Self::UpstreamTimedOut => "upstream_timed_out",
            Self::UpstreamFailed => "upstream_failed",
            Self::BodyTimedOut => "body_timed_out",
            Self::BodyBroken => "body_broken",
            Self::Interrupted(_) => "revoked_in_flight",
        }
    }

    /// The whole answer.
    pub(crate) fn render(&self, request_id: &RequestId) -> Response<Bytes> {
        let answer = self.answer();
        let description = match self {
            Self::Exchange(refusal) => refusal.description.clone(),
            other => other.to_string(),
        };
        let extension = match self {
            Self::Exchange(refusal) => Some(&refusal.extension),
            _ => None,
        };
        let mut response = Response::new(body(&answer.code, &description, request_id, extension));
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(id) = HeaderValue::from_str(request_id.as_str()) {
            headers.insert(REQUEST_ID.clone(), id);
        }
        if let Some(after) = answer.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if answer.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, self.challenge());
        }
        response
    }

    /// RFC 6750 §3: without a token the challenge carries no error.
    fn challenge(&self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::BearerMissing => "Bearer realm=\"caracal-gateway\"",
            _ => "Bearer realm=\"caracal-gateway\", error=\"invalid_token\"",
        })
    }
}

fn relayed(refusal: &ExchangeRefusal) -> Answer<'_> {
    let status = StatusCode::from_u16(refusal.status)
        .ok()
        .filter(|status| status.is_client_error() || status.is_server_error())
        .unwrap_or(StatusCode::BAD_GATEWAY);
    Answer {
        status,
        code: Cow::Borrowed(&refusal.code),
        retry_after: refusal.retry_after,
    }
}

/// The error object: own members first, and no extension may replace them.
fn body(
    code: &str,
    description: &str,
    request_id: &RequestId,
    extension: Option<&Map<String, Value>>,
) -> Bytes {
    const OWN: [&str; 4] = ["error", "error_description", "requestId", "request_id"];
    #[derive(Serialize)]
    struct Body<'a> {
        error: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        error_description: &'a str,
        #[serde(rename = "requestId")]
        request_id_camel: &'a RequestId,
        request_id: &'a RequestId,
        #[serde(flatten)]
        extension: Map<String, Value>,
    }
    let extension = extension
        .map(|members| {
            members
                .iter()
                .filter(|(name, _)| !OWN.contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        })
        .unwrap_or_default();
    let body = Body {
        error: code,
        error_description: description,
        request_id_camel: request_id,
        request_id,
        extension,
    };
    serde_json::to_vec(&body).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_core::{SystemClock, SystemRandom};
    use serde_json::json;

    fn rendered(refusal: &Refusal) -> (Response<Bytes>, Value) {
        let id = RequestId::accept(Some("req-1"), &SystemClock, &SystemRandom);
        let response = refusal.render(&id);
        let body = serde_json::from_slice(response.body()).unwrap();
        (response, body)
    }

    #[test]
    fn a_relayed_refusal_keeps_its_members_but_not_its_request_id() {
        let extension = json!({"approval_id": "a-1", "requestId": "theirs", "error": "other"});
        let refusal = Refusal::Exchange(Box::new(ExchangeRefusal {
            status: 429,
            code: "provider_rate_limited".into(),
            description: "wait".to_owned(),
            retry_after: Some(Duration::from_millis(1_500)),
            extension: extension.as_object().cloned().unwrap(),
            origin: caracal_roles::RefusalOrigin::Sts,
        }));
        let (response, body) = rendered(&refusal);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(body["error"], "provider_rate_limited");
        assert_eq!(body["approval_id"], "a-1");
        assert_eq!(body["requestId"], "req-1");
    }

    #[test]
    fn a_relayed_status_that_is_no_error_becomes_502() {
        let refusal = Refusal::Exchange(Box::new(ExchangeRefusal {
            status: 200,
            code: "odd".into(),
            description: String::new(),
            retry_after: None,
            extension: Map::new(),
            origin: caracal_roles::RefusalOrigin::Sts,
        }));
        let (response, body) = rendered(&refusal);
        assert_eq!(response.status(), 502);
        assert_eq!(body.get("error_description"), None);
    }

    #[test]
    fn a_401_carries_a_challenge() {
        let (missing, _) = rendered(&Refusal::BearerMissing);
        assert!(
            !missing.headers()[WWW_AUTHENTICATE]
                .to_str()
                .unwrap()
                .contains("error")
        );
        let (bad, _) = rendered(&Refusal::Signature);
        assert!(
            bad.headers()[WWW_AUTHENTICATE]
                .to_str()
                .unwrap()
                .contains("invalid_token")
        );
    }
}
