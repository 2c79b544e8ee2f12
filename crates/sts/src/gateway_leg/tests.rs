//! What the Gateway's leg hears, and what it does not.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use caracal_core::{SeededRandom, Timestamp};
use caracal_crypto::HmacKey;
use caracal_crypto::request_signature::{
    NONCE_HEADER, SIGNATURE_HEADER, SignedRequest, TIMESTAMP_HEADER, UnspentNonce, sign,
};
use caracal_roles::wire::{self, Answer, EXCHANGE_PATH, STILL_GRANTED_PATH};
use caracal_store::entity::ProviderKind;
use futures_util::FutureExt;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;
use tower::ServiceExt;

use super::*;
use crate::testing::{APP, LEDGER, World, ZONE, encode, gateway_key, rows};
use crate::{NoncesUnavailable, ProcessNonces};

const REQUEST_ID: &str = "req-gateway";

/// A world whose STS hears Gateways, with a mandate to ask about.
struct Bench {
    world: World,
    router: Router,
    token: String,
    random: SeededRandom,
}

/// A request on its way: every part can be changed after it was signed.
#[derive(Clone)]
struct Sent {
    method: String,
    path: String,
    body: String,
    timestamp: String,
    nonce: String,
    signature: String,
    request_id: String,
    content_type: String,
}

type Change<'a> = &'a dyn Fn(&mut Sent);

struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Got {
    fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        body["error"].as_str().unwrap_or_default().to_owned()
    }

    fn answer(&self, nonce: &str) -> Answer {
        wire::decode(&self.body, nonce).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&self.body));
        })
    }

    fn is_not_heard(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED && self.code() == "access_denied"
    }
}

impl Bench {
    async fn new() -> Self {
        let world = World::new().await;
        let nonces = Arc::new(ProcessNonces::new(&*world.clock, 1_000));
        Self::with(world, nonces).await
    }

    async fn with(world: World, nonces: Arc<dyn NonceStore>) -> Self {
        Self::between(world, nonces, None).await
    }

    /// In the midst of a change of keys.
    async fn between(world: World, nonces: Arc<dyn NonceStore>, previous: Option<HmacKey>) -> Self {
        world.clock.advance_seconds(1);
        world.delegate(|_, _, _| {}).await;
        let token = world.gateway(&[]).await.token();
        let leg = GatewayLeg {
            key: gateway_key(),
            previous,
            nonces,
        };
        Self {
            router: world.sts.router_for_gateways(leg),
            world,
            token,
            random: SeededRandom::new(11),
        }
    }

    fn form(&self, change: &[(&str, Option<&str>)]) -> String {
        let version = wire::VERSION.to_string();
        let mut fields: Vec<(&str, &str)> = vec![
            ("exchange_version", &version),
            ("grant_type", wire::GRANT_TYPE),
            ("zone_id", ZONE),
            ("application_id", APP),
            ("subject_token", &self.token),
            ("subject_token_type", wire::ACCESS_TOKEN),
            ("resource", LEDGER),
            ("request_method", "GET"),
            ("request_path", "/entries"),
            ("gateway_request_id", REQUEST_ID),
            ("deadline_ms", "4500"),
        ];
        for (name, value) in change {
            fields.retain(|(field, _)| field != name);
            fields.extend(value.map(|value| (*name, value)));
        }
        let pairs = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)));
        pairs.collect::<Vec<_>>().join("&")
    }

    fn signed_with(&self, key: &HmacKey, path: &str, body: String, at: Timestamp) -> Sent {
        let what = SignedRequest {
            method: "POST",
            path,
            body: body.as_bytes(),
        };
        let signature = sign(key, &what, at, &self.random);
        Sent {
            method: "POST".to_owned(),
            path: path.to_owned(),
            body,
            timestamp: signature.timestamp,
            nonce: signature.nonce,
            signature: signature.signature,
            request_id: REQUEST_ID.to_owned(),
            content_type: "application/x-www-form-urlencoded".to_owned(),
        }
    }

    fn signed(&self, path: &str, body: String) -> Sent {
        self.signed_with(&gateway_key(), path, body, self.world.now())
    }

    /// The usual question.
    fn asks(&self) -> Sent {
        self.signed(EXCHANGE_PATH, self.form(&[]))
    }

    async fn send(&self, sent: &Sent) -> Got {
        let request = Request::builder()
            .method(sent.method.as_str())
            .uri(&sent.path)
            .header("content-type", &sent.content_type)
            .header("x-request-id", &sent.request_id)
            .header(TIMESTAMP_HEADER, &sent.timestamp)
            .header(NONCE_HEADER, &sent.nonce)
            .header(SIGNATURE_HEADER, &sent.signature)
            .body(Body::from(sent.body.clone()))
            .unwrap();
        self.request(request).await
    }

    async fn request(&self, request: Request<Body>) -> Got {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Got {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes().to_vec(),
        }
    }
}

#[tokio::test]
async fn a_signed_question_is_answered_with_the_directive_and_never_stored() {
    let bench = Bench::new().await;
    let mut provider = rows::provider("prov-key");
    provider.kind = ProviderKind::ApiKey;
    provider.config = json!({ "header_name": "X-Key" })
        .as_object()
        .unwrap()
        .clone();
    bench
        .world
        .provide(provider, json!({ "api_key": "k-123" }))
        .await;
    let sent = bench.asks();
    let got = bench.send(&sent).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.headers[CACHE_CONTROL], "no-store");
    assert_eq!(got.headers[CONTENT_TYPE], "application/json");
    let Answer::Granted(grant) = got.answer(&sent.nonce) else {
        panic!("not granted");
    };
    assert_eq!(grant.directive.credential.auth_mode(), "provider_apikey");
    assert!(String::from_utf8_lossy(&got.body).contains("k-123"));
    let events = bench.world.events().await;
    assert!(!serde_json::to_string(&events).unwrap().contains("k-123"));
}

#[tokio::test]
async fn each_signed_part_is_bound() {
    let bench = Bench::new().await;
    let other_path = |sent: &mut Sent| sent.path = STILL_GRANTED_PATH.to_owned();
    let other_body = |sent: &mut Sent| {
        sent.body = sent
            .body
            .replace("request_method=GET", "request_method=PUT");
    };
    let later =
        |sent: &mut Sent| sent.timestamp = (sent.timestamp.parse::<i64>().unwrap() + 1).to_string();
    let other_nonce = |sent: &mut Sent| sent.nonce = "0".repeat(64);
    let other_signature = |sent: &mut Sent| sent.signature = "0".repeat(64);
    let changes: [(&str, Change<'_>); 8] = [
        ("path", &other_path),
        ("body", &other_body),
        ("timestamp", &later),
        ("nonce", &other_nonce),
        ("signature", &other_signature),
        ("no signature", &|sent| sent.signature.clear()),
        ("no timestamp", &|sent| sent.timestamp.clear()),
        ("no nonce", &|sent| sent.nonce.clear()),
    ];
    for (part, change) in changes {
        let mut sent = bench.asks();
        change(&mut sent);
        assert!(bench.send(&sent).await.is_not_heard(), "{part}");
    }
    let verdicts = bench.world.verdicts().await;
    assert_eq!(
        verdicts.len(),
        1,
        "only the mint left an event: {verdicts:?}"
    );
}

#[tokio::test]
async fn a_request_is_heard_once() {
    let bench = Bench::new().await;
    let sent = bench.asks();
    assert_eq!(bench.send(&sent).await.status, StatusCode::OK);
    assert!(bench.send(&sent).await.is_not_heard());
    assert_eq!(bench.send(&bench.asks()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_refused_request_does_not_spend_its_nonce() {
    let bench = Bench::new().await;
    let sent = bench.asks();
    let mut tampered = sent.clone();
    tampered.body.push_str("&x=1");
    assert!(bench.send(&tampered).await.is_not_heard());
    assert_eq!(bench.send(&sent).await.status, StatusCode::OK);
}

#[tokio::test]
async fn clocks_may_differ_by_a_minute_and_no_more() {
    let bench = Bench::new().await;
    bench.world.clock.advance_seconds(120);
    for (off, heard) in [(-60, true), (60, true), (-61, false), (61, false)] {
        let at = bench.world.now().plus_seconds(off);
        let sent = bench.signed_with(&gateway_key(), EXCHANGE_PATH, bench.form(&[]), at);
        let got = bench.send(&sent).await;
        assert_eq!(got.status == StatusCode::OK, heard, "{off} s");
    }
}

#[tokio::test]
async fn another_key_is_not_heard() {
    let bench = Bench::new().await;
    let other = HmacKey::from_secret_bytes(&[9; 32]);
    let sent = bench.signed_with(&other, EXCHANGE_PATH, bench.form(&[]), bench.world.now());
    assert!(bench.send(&sent).await.is_not_heard());
}

#[tokio::test]
async fn while_keys_change_the_previous_one_is_heard_and_its_requests_once() {
    let world = World::new().await;
    let nonces = Arc::new(ProcessNonces::new(&*world.clock, 1_000));
    let previous = || HmacKey::from_secret_bytes(&[9; 32]);
    let bench = Bench::between(world, nonces, Some(previous())).await;
    let now = bench.world.now();
    let old = bench.signed_with(&previous(), EXCHANGE_PATH, bench.form(&[]), now);
    assert_eq!(bench.send(&old).await.status, StatusCode::OK);
    assert!(bench.send(&old).await.is_not_heard());
    assert_eq!(bench.send(&bench.asks()).await.status, StatusCode::OK);
    let third = HmacKey::from_secret_bytes(&[8; 32]);
    let third = bench.signed_with(&third, EXCHANGE_PATH, bench.form(&[]), now);
    assert!(bench.send(&third).await.is_not_heard());
}

#[tokio::test]
async fn a_header_that_comes_twice_is_not_heard() {
    let bench = Bench::new().await;
    for doubled in HEADERS {
        let sent = bench.asks();
        let mut request = Request::post(EXCHANGE_PATH)
            .header("content-type", &sent.content_type)
            .header("x-request-id", &sent.request_id);
        for (name, value) in [
            (TIMESTAMP_HEADER, &sent.timestamp),
            (NONCE_HEADER, &sent.nonce),
            (SIGNATURE_HEADER, &sent.signature),
        ] {
            request = request.header(name, value);
            if name == doubled {
                request = request.header(name, value);
            }
        }
        let request = request.body(Body::from(sent.body.clone())).unwrap();
        assert!(bench.request(request).await.is_not_heard(), "{doubled}");
    }
}

#[tokio::test]
async fn the_correlation_id_is_the_same_in_header_and_form() {
    let bench = Bench::new().await;
    for other in ["req-other", "not an id"] {
        let mut sent = bench.asks();
        sent.request_id = other.to_owned();
        assert!(bench.send(&sent).await.is_not_heard(), "{other}");
    }
}

#[tokio::test]
async fn without_a_nonce_memory_nothing_is_heard_and_it_is_no_verdict() {
    struct Down;
    #[async_trait]
    impl NonceStore for Down {
        async fn spend(
            &self,
            _: &UnspentNonce,
            _: Timestamp,
            _: Timestamp,
        ) -> Result<Spent, NoncesUnavailable> {
            Err(NoncesUnavailable("by test".to_owned()))
        }
    }
    let bench = Bench::with(World::new().await, Arc::new(Down)).await;
    let got = bench.send(&bench.asks()).await;
    assert_eq!(got.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(got.code(), "sts_unavailable");
    assert!(got.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn the_form_is_exactly_the_known_fields() {
    let bench = Bench::new().await;
    for name in wire::field::ALL {
        let sent = bench.signed(EXCHANGE_PATH, bench.form(&[(name, None)]));
        assert_eq!(
            bench.send(&sent).await.status,
            StatusCode::BAD_REQUEST,
            "{name}"
        );
        let mut twice = bench.form(&[]);
        twice.push_str(&format!("&{name}=x"));
        let sent = bench.signed(EXCHANGE_PATH, twice);
        assert_eq!(
            bench.send(&sent).await.status,
            StatusCode::BAD_REQUEST,
            "{name} twice"
        );
    }
    for (name, value) in [
        ("scope", "ledger:read"),
        ("client_secret", ""),
        ("exchange_version", "2"),
        ("grant_type", "client_credentials"),
        (
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:id_token",
        ),
        ("zone_id", "a b"),
        ("application_id", ""),
        ("resource", ""),
        ("request_method", "G T"),
        ("request_path", "entries"),
        ("request_path", "/a/../b"),
        ("deadline_ms", "-1"),
        ("deadline_ms", "soon"),
    ] {
        let sent = bench.signed(EXCHANGE_PATH, bench.form(&[(name, Some(value))]));
        let got = bench.send(&sent).await;
        assert_eq!(
            (got.status, got.code().as_str()),
            (StatusCode::BAD_REQUEST, "invalid_request"),
            "{name}={value}"
        );
    }
}

#[tokio::test]
async fn an_oversized_or_wrongly_typed_body_is_refused_before_anything() {
    let bench = Bench::new().await;
    let sent = bench.signed(EXCHANGE_PATH, "x".repeat(MAX_BODY_BYTES + 1));
    assert_eq!(
        bench.send(&sent).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let mut sent = bench.asks();
    sent.content_type = "application/json".to_owned();
    assert_eq!(
        bench.send(&sent).await.status,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    let mut sent = bench.signed("/oauth/2/token", bench.form(&[]));
    sent.path.push_str("?x=1");
    assert_eq!(bench.send(&sent).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_gateways_word_on_a_mandate_counts_for_nothing() {
    let bench = Bench::new().await;
    let lifecycle = bench.world.lifecycle().await.token();
    let (head, _) = bench.token.rsplit_once('.').unwrap();
    let unsigned = format!("{head}.{}", "A".repeat(86));
    for (name, value) in [
        ("subject_token", lifecycle.as_str()),
        ("subject_token", &unsigned),
        ("subject_token", "aaa.bbb.ccc"),
        ("application_id", "app-8"),
        ("zone_id", "z-other"),
    ] {
        let before = bench.world.events().await.len();
        let sent = bench.signed(EXCHANGE_PATH, bench.form(&[(name, Some(value))]));
        let got = bench.send(&sent).await;
        assert_eq!(got.status, StatusCode::UNAUTHORIZED, "{name}={value}");
        let Answer::Refused(refusal) = got.answer(&sent.nonce) else {
            panic!("{name}={value}: not refused");
        };
        assert_eq!(refusal.code, "invalid_token");
        let events = bench.world.events().await;
        let event = events.last().unwrap();
        assert_eq!(events.len(), before + 1);
        assert_eq!(event["evaluation_status"], "subject_token_invalid");
        assert_eq!(event["request_id"], REQUEST_ID);
    }
}

#[tokio::test]
async fn an_expired_mandate_is_refused_whatever_the_gateways_clock_said() {
    let bench = Bench::new().await;
    bench.world.clock.advance_seconds(900);
    let sent = bench.asks();
    let Answer::Refused(refusal) = bench.send(&sent).await.answer(&sent.nonce) else {
        panic!("not refused");
    };
    assert_eq!((refusal.status, &*refusal.code), (401, "invalid_token"));
}

#[tokio::test]
async fn a_running_call_is_judged_without_event_or_credential() {
    let bench = Bench::new().await;
    let before = bench.world.events().await.len();
    let sent = bench.signed(STILL_GRANTED_PATH, bench.form(&[]));
    let got = bench.send(&sent).await;
    assert!(matches!(got.answer(&sent.nonce), Answer::Standing));
    assert!(!String::from_utf8_lossy(&got.body).contains("directive"));
    assert_eq!(bench.world.events().await.len(), before);
}

#[tokio::test]
async fn work_that_nobody_waits_for_is_dropped() {
    let bench = Bench::new().await;
    let zone = bench.world.zone.clone();
    let turns = (0..1_000).map(|_| Box::pin(bench.world.sts.turns.request(Some(&zone))));
    let mut busy = futures_util::future::join_all(turns);
    assert!((&mut busy).now_or_never().is_none());
    let before = bench.world.events().await.len();
    let sent = bench.signed(EXCHANGE_PATH, bench.form(&[("deadline_ms", Some("20"))]));
    let Answer::Refused(refusal) = bench.send(&sent).await.answer(&sent.nonce) else {
        panic!("not refused");
    };
    assert_eq!((refusal.status, &*refusal.code), (503, "sts_unavailable"));
    assert!(refusal.retry_after.is_some());
    drop(busy);
    assert_eq!(bench.world.events().await.len(), before);
}

#[tokio::test]
async fn without_the_key_neither_route_is_of_use() {
    let bench = Bench::new().await;
    let router = bench.world.sts.router();
    let bench = Bench { router, ..bench };
    assert!(bench.send(&bench.asks()).await.is_not_heard());
    let sent = bench.signed(STILL_GRANTED_PATH, bench.form(&[]));
    assert_eq!(bench.send(&sent).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_unsigned_request_reaches_neither_question() {
    let bench = Bench::new().await;
    let request = Request::post(STILL_GRANTED_PATH)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(bench.form(&[])))
        .unwrap();
    assert!(bench.request(request).await.is_not_heard());
    let request = Request::post(EXCHANGE_PATH)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(bench.form(&[])))
        .unwrap();
    let got = bench.request(request).await;
    assert_eq!(
        got.status,
        StatusCode::UNAUTHORIZED,
        "an ordinary client without a secret"
    );
}
