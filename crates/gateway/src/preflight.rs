//! Steps 2 to 10: what can be refused by looking at the request head alone.
//!
//! Nothing here touches the STS, a store or a key, and nothing may be allowed on what it returns:
//! the claims in a [`Preflight`] are what the caller wrote. The order of the checks is part of the
//! contract.

use caracal_core::id::{ApplicationId, ZoneId};
use caracal_core::path::RequestPath;
use caracal_core::{ResourceIdentifier, Timestamp};
use caracal_crypto::mandate::MAX_TOKEN_BYTES;
use caracal_crypto::peek;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use crate::refusal::Refusal;

/// A mandate with less life than this can't be used: the call could outlive it.
const MIN_SECONDS_LEFT: i64 = 35;

/// The longest resource identifier that can be declared, bytes.
const MAX_RESOURCE_BYTES: usize = 512;

/// The bounds of a request head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLimits {
    pub(crate) head_bytes: usize,
    pub(crate) body_bytes: u64,
}

/// A request whose head is well formed. Its claims are unverified.
#[derive(Debug)]
pub(crate) struct Preflight {
    bearer: HeaderValue,
    pub(crate) zone: ZoneId,
    pub(crate) application: ApplicationId,
    pub(crate) resource: ResourceIdentifier,
    pub(crate) path: RequestPath,
    pub(crate) framing: Framing,
}

/// How the caller delimits the request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Neither length nor chunks: no body.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

impl Preflight {
    /// The presented token.
    pub(crate) fn token(&self) -> &str {
        token(&self.bearer).unwrap_or_default()
    }
}

/// Checks a request head.
pub(crate) fn check(
    head: &Parts,
    limits: HeadLimits,
    now: Timestamp,
) -> Result<Preflight, Refusal> {
    within_head_limit(head, limits.head_bytes)?;
    let (bearer, token) = bearer(&head.headers)?;
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Refusal::BearerTooLarge(MAX_TOKEN_BYTES));
    }
    let claims = peek(token).map_err(|_| Refusal::BearerMalformed)?;
    if claims.exp < now.plus_seconds(MIN_SECONDS_LEFT) {
        return Err(Refusal::Expiring);
    }
    no_client_id_header(&head.headers)?;
    let resource = resource(&head.headers)?;
    let zone = claims.zone_id.ok_or(Refusal::ZoneClaim)?;
    let application = claims.client_id.ok_or(Refusal::ClientClaim)?;
    let path = RequestPath::parse(head.uri.path())?;
    forwardable(&head.method)?;
    let framing = framing(&head.headers);
    if let Framing::Length(declared) = framing
        && declared > limits.body_bytes
    {
        return Err(Refusal::BodyTooLarge(limits.body_bytes));
    }
    Ok(Preflight {
        bearer: bearer.clone(),
        zone,
        application,
        resource,
        path,
        framing,
    })
}

fn within_head_limit(head: &Parts, limit: usize) -> Result<(), Refusal> {
    let target = head
        .uri
        .path_and_query()
        .map_or(1, |target| target.as_str().len());
    let fields: usize = head
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if head.method.as_str().len() + target + 12 + fields > limit {
        Err(Refusal::HeadTooLarge(limit))
    } else {
        Ok(())
    }
}

fn bearer(headers: &HeaderMap) -> Result<(&HeaderValue, &str), Refusal> {
    let value = headers.get(AUTHORIZATION).ok_or(Refusal::BearerMissing)?;
    let token = token(value).ok_or(Refusal::BearerMissing)?;
    Ok((value, token))
}

/// The token after `Bearer` (any case) and one space, trimmed and not empty.
fn token(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn no_client_id_header(headers: &HeaderMap) -> Result<(), Refusal> {
    let sent = headers
        .get_all("x-caracal-client-id")
        .iter()
        .any(|value| !value.is_empty());
    if sent {
        Err(Refusal::ClientIdHeader)
    } else {
        Ok(())
    }
}

fn resource(headers: &HeaderMap) -> Result<ResourceIdentifier, Refusal> {
    headers
        .get("x-caracal-resource")
        .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
        .map(str::trim)
        .filter(|name| (1..=MAX_RESOURCE_BYTES).contains(&name.len()))
        .map(ResourceIdentifier::new)
        .ok_or(Refusal::ResourceHeader)
}

/// TRACE would show the injected credential to the caller, CONNECT would open a tunnel.
fn forwardable(method: &Method) -> Result<(), Refusal> {
    if *method == Method::TRACE || *method == Method::CONNECT {
        Err(Refusal::MethodNotForwarded)
    } else {
        Ok(())
    }
}

fn framing(headers: &HeaderMap) -> Framing {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Framing::Chunked;
    }
    headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().parse().ok())
        .map_or(Framing::None, Framing::Length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use http::Request;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const NOW: i64 = 1_767_225_600;
    const LIMITS: HeadLimits = HeadLimits {
        head_bytes: 16 * 1024,
        body_bytes: 1_000,
    };

    fn unsigned(claims: &Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn good() -> Value {
        json!({"exp": NOW + 900, "zone_id": "zone-9", "client_id": "app-77"})
    }

    fn request(token: &str) -> http::request::Builder {
        Request::builder()
            .uri("/v1/items")
            .header("authorization", format!("Bearer {token}"))
            .header("x-caracal-resource", "resource://ledger")
    }

    fn refused(request: http::request::Builder) -> Refusal {
        check_it(request).expect_err("must be refused")
    }

    fn check_it(request: http::request::Builder) -> Result<Preflight, Refusal> {
        let (head, ()) = request.body(()).unwrap().into_parts();
        check(&head, LIMITS, Timestamp::from_seconds(NOW))
    }

    #[test]
    fn a_well_formed_head_passes() {
        let passed = check_it(request(&unsigned(&good()))).unwrap();
        assert_eq!(passed.zone.as_str(), "zone-9");
        assert_eq!(passed.application.as_str(), "app-77");
        assert_eq!(passed.resource.as_str(), "resource://ledger");
        assert_eq!(passed.token(), unsigned(&good()));
    }

    #[test]
    fn the_first_failing_step_answers() {
        // Everything is wrong at once; repairing one step after the other shows the order.
        let bad = Request::builder()
            .uri("/a/%2e%2e/b")
            .header("x-caracal-client-id", "x");
        assert!(matches!(refused(bad), Refusal::BearerMissing));
        let wrong = |token: &str| {
            Request::builder()
                .uri("/a/%2e%2e/b")
                .header("x-caracal-client-id", "x")
                .header("authorization", format!("Bearer {token}"))
        };
        assert!(matches!(
            refused(wrong(&"a".repeat(8_193))),
            Refusal::BearerTooLarge(8_192)
        ));
        assert!(matches!(refused(wrong("a.b")), Refusal::BearerMalformed));
        let dying = unsigned(&json!({"exp": NOW + 34}));
        assert!(matches!(refused(wrong(&dying)), Refusal::Expiring));
        let alive = unsigned(&json!({"exp": NOW + 35}));
        assert!(matches!(refused(wrong(&alive)), Refusal::ClientIdHeader));
        let without = |token: &str| {
            Request::builder()
                .uri("/a/%2e%2e/b")
                .header("authorization", format!("Bearer {token}"))
        };
        assert!(matches!(refused(without(&alive)), Refusal::ResourceHeader));
        let named = |token: &str| without(token).header("x-caracal-resource", "resource://ledger");
        assert!(matches!(refused(named(&alive)), Refusal::ZoneClaim));
        let zoned = unsigned(&json!({"exp": NOW + 35, "zone_id": "zone-9"}));
        assert!(matches!(refused(named(&zoned)), Refusal::ClientClaim));
        assert!(matches!(
            refused(named(&unsigned(&good()))),
            Refusal::Path(_)
        ));
    }

    #[test]
    fn a_blank_bearer_or_resource_counts_as_missing() {
        let blank = Request::builder()
            .uri("/")
            .header("authorization", "Bearer   ");
        assert!(matches!(refused(blank), Refusal::BearerMissing));
        let basic = Request::builder()
            .uri("/")
            .header("authorization", "Basic abc");
        assert!(matches!(refused(basic), Refusal::BearerMissing));
        let token = unsigned(&good());
        let nameless = Request::builder()
            .uri("/")
            .header("authorization", format!("bearer {token}"))
            .header("x-caracal-resource", "  ");
        assert!(matches!(refused(nameless), Refusal::ResourceHeader));
    }

    #[test]
    fn an_empty_client_id_header_is_ignored() {
        assert!(check_it(request(&unsigned(&good())).header("x-caracal-client-id", "")).is_ok());
    }

    #[test]
    fn claims_outside_the_id_alphabet_are_refused() {
        let zone = unsigned(&json!({"exp": NOW + 900, "zone_id": "a b", "client_id": "app"}));
        assert!(matches!(refused(request(&zone)), Refusal::ZoneClaim));
        let client = unsigned(&json!({"exp": NOW + 900, "zone_id": "z", "client_id": 7}));
        assert!(matches!(refused(request(&client)), Refusal::ClientClaim));
    }

    #[test]
    fn a_declared_length_over_the_limit_is_refused_before_anything_is_spent() {
        let token = unsigned(&good());
        let over = request(&token).header("content-length", "1001");
        assert!(matches!(refused(over), Refusal::BodyTooLarge(1_000)));
        let at = check_it(request(&token).header("content-length", "1000")).unwrap();
        assert_eq!(at.framing, Framing::Length(1_000));
    }

    #[test]
    fn methods_that_reflect_or_tunnel_are_not_forwarded() {
        let trace = request(&unsigned(&good())).method(Method::TRACE);
        assert!(matches!(refused(trace), Refusal::MethodNotForwarded));
    }

    #[test]
    fn a_head_over_the_limit_is_refused_first() {
        let mut big = request("x");
        for n in 0..40 {
            big = big.header(format!("x-filler-{n}"), "v".repeat(500));
        }
        assert!(matches!(refused(big), Refusal::HeadTooLarge(_)));
    }

    proptest! {
        #[test]
        fn no_token_and_no_path_makes_it_panic(token in "[ -~]{0,80}", path in "/[!-~]{0,40}") {
            if let Ok(uri) = path.parse::<http::Uri>()
                && let Ok(value) = HeaderValue::from_str(&format!("Bearer {token}")) {
                let request = Request::builder().uri(uri).header("authorization", value);
                let _ = check_it(request);
            }
        }
    }
}
