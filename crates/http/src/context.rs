//! What is known about a request before its handler runs.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use caracal_core::RequestId;
use http::HeaderMap;
use http::request::Parts;

/// Longest `traceparent` that is looked at, bytes.
const MAX_TRACEPARENT: usize = 256;

/// A W3C trace context (Trace Context Level 1 §3.2) that the caller sent.
#[derive(Debug, Clone, Default)]
pub struct TraceContext {
    /// The valid inbound `traceparent`, verbatim.
    pub traceparent: Option<Arc<str>>,
}

impl TraceContext {
    /// Reads the headers; an invalid `traceparent` counts as absent.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let traceparent = headers
            .get("traceparent")
            .and_then(|value| value.to_str().ok())
            .filter(|text| is_valid_traceparent(text))
            .map(Arc::from);
        Self { traceparent }
    }

    /// The 32 hex digits of the trace id.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.traceparent.as_deref().and_then(|text| text.get(3..35))
    }
}

/// Whether `text` is a usable `traceparent`: lower-case hex, version not `ff`, ids not zero; version
/// 00 has exactly four fields, later versions may have more.
#[must_use]
pub fn is_valid_traceparent(text: &str) -> bool {
    if text.len() > MAX_TRACEPARENT {
        return false;
    }
    let fields: Vec<&str> = text.split('-').collect();
    let [version, trace, span, flags, more @ ..] = fields.as_slice() else {
        return false;
    };
    let hex = |field: &str, length: usize| {
        field.len() == length
            && field
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let not_zero = |field: &str| field.bytes().any(|b| b != b'0');
    hex(version, 2)
        && *version != "ff"
        && hex(trace, 32)
        && not_zero(trace)
        && hex(span, 16)
        && not_zero(span)
        && hex(flags, 2)
        && (*version != "00" || more.is_empty())
}

/// The request's id, trace and peer. Put there by [`crate::observe`]; a handler takes it as an
/// extractor.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// Correlation id: the caller's when well formed, else a fresh UUIDv7.
    pub request_id: RequestId,
    /// The caller's trace context.
    pub trace: TraceContext,
    /// The peer's address; what rate limits and throttles key on.
    pub peer: IpAddr,
}

impl<S: Send + Sync> FromRequestParts<S> for RequestContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts
            .extensions
            .get::<Self>()
            .cloned()
            .unwrap_or_else(|| Self {
                request_id: RequestId::accept(
                    parts
                        .headers
                        .get("x-request-id")
                        .and_then(|value| value.to_str().ok()),
                    &caracal_core::SystemClock,
                    &caracal_core::SystemRandom,
                ),
                trace: TraceContext::from_headers(&parts.headers),
                peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            }))
    }
}

#[cfg(test)]
mod tests {
    use super::is_valid_traceparent;

    #[test]
    fn accepts_what_the_recommendation_accepts() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let span = "00f067aa0ba902b7";
        assert!(is_valid_traceparent(&format!("00-{trace}-{span}-01")));
        assert!(is_valid_traceparent(&format!(
            "cc-{trace}-{span}-01-more-parts"
        )));
        assert!(!is_valid_traceparent(&format!("00-{trace}-{span}-01-more")));
        assert!(!is_valid_traceparent(&format!("ff-{trace}-{span}-01")));
        assert!(!is_valid_traceparent(&format!(
            "00-{}-{span}-01",
            trace.to_uppercase()
        )));
        assert!(!is_valid_traceparent(&format!(
            "00-{}-{span}-01",
            "0".repeat(32)
        )));
        assert!(!is_valid_traceparent(&format!(
            "00-{trace}-{}-01",
            "0".repeat(16)
        )));
        assert!(!is_valid_traceparent(""));
    }
}
