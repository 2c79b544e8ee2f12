//! The upstream request headers: which of the caller's pass, and what the Gateway adds.

use std::net::IpAddr;

use caracal_core::random::bytes;
use caracal_core::{Random, RequestId};
use caracal_http::context::is_valid_traceparent;
use http::HeaderMap;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};

use crate::call::Correlation;
use crate::preflight::Framing;
use crate::respond::REQUEST_ID;

/// Names that hold between two neighbours only (RFC 9110 §7.6.1).
pub(crate) const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Names that the Gateway takes away: its own, those it sets itself, and those that make a server
/// act on another method or path than the one that was authorised.
const TAKEN: [&str; 15] = [
    "authorization",
    "baggage",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "traceparent",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
];

const TAKEN_PREFIXES: [&str; 2] = ["x-caracal-", "x-forwarded-"];

/// What the caller's connection says about the caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallerSide {
    pub(crate) peer: IpAddr,
    pub(crate) tls: bool,
    pub(crate) trust_proxy: bool,
}

/// The caller's headers that pass, without `credential_header`.
pub(super) fn passing(caller: &HeaderMap, credential_header: Option<&HeaderName>) -> HeaderMap {
    let named = named_by_connection(caller);
    let mut passed = HeaderMap::with_capacity(caller.len() + 8);
    for (name, value) in caller {
        let canonical = canonical(name.as_str());
        let dropped = is_taken(&canonical)
            || named.contains(&canonical)
            || credential_header.is_some_and(|header| header.as_str() == canonical);
        if !dropped {
            passed.append(name.clone(), value.clone());
        }
    }
    passed
}

/// Some servers read `_` in a header name as `-`, so both spellings are judged as one.
fn canonical(name: &str) -> String {
    name.replace('_', "-")
}

fn is_taken(name: &str) -> bool {
    TAKEN.contains(&name)
        || HOP_BY_HOP.contains(&name)
        || TAKEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The header names that `Connection` lists, lower case.
pub(crate) fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(|name| canonical(&name.trim().to_ascii_lowercase()))
        .filter(|name| !name.is_empty())
        .collect()
}

/// Adds what every upstream request carries.
pub(super) fn add_own(
    headers: &mut HeaderMap,
    caller: &HeaderMap,
    authority: &HeaderValue,
    correlation: &Correlation,
    side: CallerSide,
    random: &dyn Random,
) {
    headers.insert(HOST, authority.clone());
    if let Some(baggage) = baggage(caller) {
        headers.insert(HeaderName::from_static("baggage"), baggage);
    }
    if let Some(id) = request_id(&correlation.request_id) {
        headers.insert(REQUEST_ID.clone(), id);
    }
    if let Some(trace) = traceparent(correlation, random) {
        headers.insert(HeaderName::from_static("traceparent"), trace);
    }
    forwarded(headers, caller, side);
}

fn request_id(id: &RequestId) -> Option<HeaderValue> {
    HeaderValue::from_str(id.as_str()).ok()
}

/// The caller's trace context when it is valid, else a new sampled one (Trace Context §3.2).
fn traceparent(correlation: &Correlation, random: &dyn Random) -> Option<HeaderValue> {
    if let Some(sent) = correlation.trace.traceparent.as_deref() {
        return HeaderValue::from_str(sent).ok();
    }
    let mut trace = bytes::<16>(random);
    let mut span = bytes::<8>(random);
    // All-zero ids are invalid.
    trace[0] |= 1;
    span[0] |= 1;
    let text = format!("00-{}-{}-01", hex::encode(trace), hex::encode(span));
    debug_assert!(is_valid_traceparent(&text));
    HeaderValue::from_str(&text).ok()
}

/// The caller's baggage members that are not ours (W3C Baggage §3.3).
fn baggage(caller: &HeaderMap) -> Option<HeaderValue> {
    let members: Vec<&str> = caller
        .get_all("baggage")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .filter(|member| !member.is_empty() && !is_own_baggage(member))
        .collect();
    if members.is_empty() {
        None
    } else {
        HeaderValue::from_str(&members.join(",")).ok()
    }
}

fn is_own_baggage(member: &str) -> bool {
    let key = member
        .split(['=', ';'])
        .next()
        .unwrap_or_default()
        .trim()
        .as_bytes();
    key.get(..8)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"caracal."))
}

fn forwarded(headers: &mut HeaderMap, caller: &HeaderMap, side: CallerSide) {
    let address = trusted_address(caller, side).unwrap_or(side.peer);
    if let Ok(value) = HeaderValue::from_str(&address.to_canonical().to_string()) {
        headers.insert(HeaderName::from_static("x-forwarded-for"), value);
    }
    headers.insert(
        HeaderName::from_static("x-forwarded-proto"),
        scheme(caller, side),
    );
    if let Some(host) = caller.get(HOST).filter(|host| !host.is_empty()) {
        headers.insert(HeaderName::from_static("x-forwarded-host"), host.clone());
    }
}

/// The right-most entry: the one that the nearest proxy wrote.
fn trusted_address(caller: &HeaderMap, side: CallerSide) -> Option<IpAddr> {
    if !side.trust_proxy {
        return None;
    }
    let last = caller
        .get_all("x-forwarded-for")
        .iter()
        .next_back()?
        .to_str()
        .ok()?;
    last.rsplit(',').next()?.trim().parse().ok()
}

fn scheme(caller: &HeaderMap, side: CallerSide) -> HeaderValue {
    let sent = caller.get("x-forwarded-proto").map(HeaderValue::as_bytes);
    HeaderValue::from_static(match sent {
        Some(b"https") if side.trust_proxy => "https",
        Some(b"http") if side.trust_proxy => "http",
        _ if side.tls => "https",
        _ => "http",
    })
}

/// Delimits the body as the caller did.
pub(super) fn frame(headers: &mut HeaderMap, framing: Framing) {
    match framing {
        Framing::None => {}
        Framing::Length(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Framing::Chunked => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_core::{SeededRandom, SystemClock};
    use proptest::prelude::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect()
    }

    fn side(trust_proxy: bool) -> CallerSide {
        CallerSide {
            peer: IpAddr::from([192, 0, 2, 7]),
            tls: false,
            trust_proxy,
        }
    }

    fn own(caller: &HeaderMap, trust_proxy: bool) -> HeaderMap {
        let random = SeededRandom::new(1);
        let correlation = Correlation::of(caller, side(false).peer, &SystemClock, &random);
        let mut out = HeaderMap::new();
        let authority = HeaderValue::from_static("ledger.example");
        add_own(
            &mut out,
            caller,
            &authority,
            &correlation,
            side(trust_proxy),
            &random,
        );
        out
    }

    #[test]
    fn hop_headers_own_headers_and_overrides_do_not_pass() {
        let caller = headers(&[
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("authorization", "Bearer t"),
            ("x-caracal-resource", "r"),
            ("x_caracal_identity", "forged"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-anything", "1"),
            ("forwarded", "for=1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("x-http-method-override", "DELETE"),
            ("x_http_method_override", "DELETE"),
            ("x-method-override", "DELETE"),
            ("x-http-method", "DELETE"),
            ("x-original-url", "/admin"),
            ("x-rewrite-url", "/admin"),
            ("expect", "100-continue"),
            ("x-key", "mine"),
            ("x_key", "mine"),
            ("cookie", "a=b"),
            ("accept", "text/plain"),
            ("tracestate", "a=b"),
            ("x-custom", "1"),
            ("x-custom", "2"),
        ]);
        let passed = passing(&caller, Some(&HeaderName::from_static("x-key")));
        let names: Vec<&str> = passed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["cookie", "accept", "tracestate", "x-custom", "x-custom"]
        );
    }

    #[test]
    fn only_foreign_baggage_passes() {
        let caller = headers(&[
            (
                "baggage",
                "caracal.agent_session=s, team=blue;p=1 ,CARACAL.hop=1",
            ),
            ("baggage", "x=1"),
        ]);
        assert_eq!(own(&caller, false)["baggage"], "team=blue;p=1,x=1");
        assert!(!own(&headers(&[("baggage", "caracal.hop=1")]), false).contains_key("baggage"));
    }

    #[test]
    fn a_valid_trace_is_kept_and_an_invalid_one_replaced() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(
            own(&headers(&[("traceparent", valid)]), false)["traceparent"],
            valid
        );
        let fresh = own(&headers(&[("traceparent", "00-bad")]), false);
        assert!(is_valid_traceparent(fresh["traceparent"].to_str().unwrap()));
    }

    #[test]
    fn forwarding_headers_come_from_the_connection_unless_the_proxy_is_trusted() {
        let caller = headers(&[
            ("host", "gateway.example"),
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2"),
            ("x-forwarded-proto", "https"),
        ]);
        let untrusted = own(&caller, false);
        assert_eq!(untrusted["x-forwarded-for"], "192.0.2.7");
        assert_eq!(untrusted["x-forwarded-proto"], "http");
        assert_eq!(untrusted["x-forwarded-host"], "gateway.example");
        let trusted = own(&caller, true);
        assert_eq!(trusted["x-forwarded-for"], "2.2.2.2");
        assert_eq!(trusted["x-forwarded-proto"], "https");
    }

    proptest! {
        #[test]
        fn no_caller_header_named_like_ours_ever_passes(
            middle in "[a-z_-]{0,12}",
            dash in "[-_]",
            other in "[-_]",
        ) {
            let name = format!("x{dash}caracal{other}{middle}");
            let caller = headers(&[(&name, "v")]);
            prop_assert!(passing(&caller, None).is_empty());
        }
    }
}
