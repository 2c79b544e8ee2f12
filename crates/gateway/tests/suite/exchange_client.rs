//! The exchange over HTTP, from the Gateway's end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use caracal_core::id::{KeyId, MandateId, ZoneId};
use caracal_core::path::RequestPath;
use caracal_core::{
    ManualClock, Mode, RequestId, ResourceIdentifier, SeededRandom, SubjectType, SystemClock,
};
use caracal_crypto::request_signature::{
    PresentedSignature, SignedRequest, verify as verify_signature,
};
use caracal_crypto::{
    Claims, Expectation, HmacKey, KeySet, MandateUse, SigningKey, VerifiedMandate, verify,
};
use caracal_gateway::{HttpExchange, HttpExchangeDeps, HttpExchangeOptions, Resolve, StsUrl};
use caracal_roles::{Exchange, ExchangeRefusal, ExchangeRequest};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::distant_sts::{DistantSts, Play, reply};
use crate::world::{ISSUER, RESOURCE, START};

const TIMEOUT: Duration = Duration::from_millis(600);

fn key() -> HmacKey {
    HmacKey::from_secret_bytes(&[5; 32])
}

fn exchange(url: &str, change: impl FnOnce(&mut HttpExchangeOptions)) -> Arc<HttpExchange> {
    exchange_by(url, None, change)
}

fn exchange_by(
    url: &str,
    resolver: Option<Arc<dyn Resolve>>,
    change: impl FnOnce(&mut HttpExchangeOptions),
) -> Arc<HttpExchange> {
    let mut options = HttpExchangeOptions::new(StsUrl::parse(url, Mode::Stable).unwrap(), TIMEOUT);
    change(&mut options);
    let deps = HttpExchangeDeps {
        key: key(),
        clock: Arc::new(ManualClock::at(START)),
        random: Arc::new(SeededRandom::new(3)),
        resolver,
    };
    HttpExchange::new(options, deps)
}

fn to(sts: &DistantSts) -> Arc<HttpExchange> {
    exchange(&format!("http://{}", sts.address), |_| {})
}

fn request() -> ExchangeRequest {
    request_of("zone-9")
}

fn request_of(zone: &str) -> ExchangeRequest {
    ExchangeRequest {
        mandate: mandate(&ZoneId::parse(zone).unwrap()),
        resource: ResourceIdentifier::new(RESOURCE),
        method: "PATCH".to_owned(),
        path: RequestPath::parse("/v1/a%2Fb;x").unwrap(),
        request_id: RequestId::accept(Some("req-1"), &SystemClock, &SeededRandom::new(1)),
    }
}

fn mandate(zone: &ZoneId) -> VerifiedMandate {
    let claims = Claims {
        iss: ISSUER.into(),
        sub: "app-77".into(),
        aud: vec![ISSUER.into()],
        exp: START.plus_seconds(900),
        iat: START,
        jti: MandateId::parse("jti-1").unwrap(),
        zone_id: zone.clone(),
        client_id: "app-77".parse().unwrap(),
        scope: Some("ledger:read".into()),
        sid: "rec-1".parse().unwrap(),
        root_sid: "rec-0".parse().unwrap(),
        mandate_use: MandateUse::Gateway,
        sub_type: SubjectType::Application,
        target: vec![ResourceIdentifier::new(RESOURCE)],
        agent_session_id: None,
        delegation_edge_id: None,
        source_session_id: None,
        target_session_id: None,
        delegation_path: Vec::new(),
        delegation_chain: Vec::new(),
        hop_count: 0,
        delegation_graph_epoch: 0,
    };
    let signer = SigningKey::generate(KeyId::parse("k1").unwrap()).unwrap();
    let keys: KeySet = [signer.verifying_key().clone()].into_iter().collect();
    let expect = Expectation {
        issuer: ISSUER,
        audience: ISSUER,
        zone,
        uses: &[MandateUse::Gateway],
        now: START,
        leeway_seconds: 60,
    };
    verify(&signer.sign(&claims).unwrap(), &keys, &expect).unwrap()
}

fn is_unavailable(refusal: &ExchangeRefusal) -> bool {
    refusal.status == 503 && refusal.code == "sts_unavailable" && refusal.retry_after.is_some()
}

async fn is_lost(exchange: &HttpExchange) -> bool {
    is_unavailable(&exchange.exchange(&request()).await.unwrap_err())
}

#[tokio::test]
async fn a_question_says_everything_and_is_signed() {
    let sts = DistantSts::start().await;
    let request = request();
    let url = format!("http://{}/base/", sts.address);
    exchange(&url, |_| {}).exchange(&request).await.unwrap();
    let asked = sts.heard().remove(0);
    assert_eq!(asked.line, "POST /base/oauth/2/token HTTP/1.1");
    assert_eq!(asked.headers["host"], sts.address.to_string());
    assert_eq!(asked.headers["x-request-id"], "req-1");
    assert_eq!(asked.headers["user-agent"], "caracal-gateway");
    assert_eq!(asked.field("zone_id"), "zone-9");
    assert_eq!(asked.field("application_id"), "app-77");
    assert_eq!(asked.field("subject_token"), **request.mandate.token());
    assert_eq!(asked.field("resource"), RESOURCE);
    assert_eq!(asked.field("request_method"), "PATCH");
    assert_eq!(asked.field("request_path"), "/v1/a%2Fb;x");
    assert_eq!(asked.field("gateway_request_id"), "req-1");
    let signed = SignedRequest {
        method: "POST",
        path: "/base/oauth/2/token",
        body: asked.body.as_bytes(),
    };
    let presented = PresentedSignature {
        timestamp: &asked.headers["x-caracal-gateway-timestamp"],
        nonce: &asked.headers["x-caracal-gateway-request"],
        signature: &asked.headers["x-caracal-gateway-signature"],
    };
    assert!(verify_signature(&key(), &signed, &presented, START).is_ok());
}

#[tokio::test]
async fn the_sts_is_told_to_give_up_before_the_gateway_does() {
    let sts = DistantSts::start().await;
    to(&sts).exchange(&request()).await.unwrap();
    let told: u128 = sts.heard()[0].field("deadline_ms").parse().unwrap();
    assert!(told > 0 && told < TIMEOUT.as_millis() * 9 / 10, "{told}");
}

#[tokio::test]
async fn grants_verdicts_and_leave_to_go_on_are_passed_on() {
    let sts = DistantSts::start().await;
    let exchange = to(&sts);
    let grant = exchange.exchange(&request()).await.unwrap();
    assert_eq!(grant.directive.credential.auth_mode(), "provider_apikey");
    sts.plays([Play::Refuse(403), Play::Standing, Play::Refuse(401)]);
    let refusal = exchange.exchange(&request()).await.unwrap_err();
    assert_eq!((refusal.status, &*refusal.code), (403, "access_denied"));
    assert!(exchange.still_granted(&request()).await.is_ok());
    let refusal = exchange.still_granted(&request()).await.unwrap_err();
    assert_eq!(refusal.status, 401);
    let paths: Vec<String> = sts.heard().into_iter().map(|asked| asked.line).collect();
    assert_eq!(paths[0], "POST /oauth/2/token HTTP/1.1");
    assert_eq!(paths[2], "POST /internal/gateway/still-granted HTTP/1.1");
}

#[tokio::test]
async fn an_answer_to_the_other_question_is_none() {
    let sts = DistantSts::start().await;
    let exchange = to(&sts);
    sts.plays([Play::Standing, Play::Grant]);
    assert!(is_lost(&exchange).await);
    let refusal = exchange.still_granted(&request()).await.unwrap_err();
    assert!(is_unavailable(&refusal));
}

#[tokio::test]
async fn questions_follow_each_other_on_one_connection_each_with_its_own_nonce() {
    let sts = DistantSts::start().await;
    let exchange = to(&sts);
    for _ in 0..5 {
        exchange.exchange(&request()).await.unwrap();
    }
    assert_eq!(sts.connections.load(Ordering::SeqCst), 1);
    let nonces: std::collections::HashSet<String> = sts
        .heard()
        .iter()
        .map(crate::distant_sts::Question::nonce)
        .collect();
    assert_eq!(nonces.len(), 5);
}

#[tokio::test]
async fn an_idle_connection_that_closed_costs_nothing() {
    let sts = DistantSts::start().await;
    let exchange = to(&sts);
    sts.plays([Play::GrantAndClose]);
    exchange.exchange(&request()).await.unwrap();
    sts.closed.notified().await;
    exchange.exchange(&request()).await.unwrap();
    assert_eq!(sts.heard().len(), 2);
}

#[tokio::test]
async fn a_kept_connection_that_closes_without_answer_is_asked_again_once_with_a_fresh_nonce() {
    let sts = DistantSts::start().await;
    let exchange = to(&sts);
    exchange.exchange(&request()).await.unwrap();
    sts.plays([Play::Close]);
    exchange.exchange(&request()).await.unwrap();
    let heard = sts.heard();
    assert_eq!(heard.len(), 3);
    assert_ne!(heard[1].nonce(), heard[2].nonce());
    assert_eq!(heard[1].connection, 0);
    assert_eq!(heard[2].connection, 1);
}

#[tokio::test]
async fn a_fresh_connection_that_closes_without_answer_is_not_asked_again() {
    let sts = DistantSts::start().await;
    sts.plays([Play::Close]);
    assert!(is_lost(&to(&sts)).await);
    assert_eq!(sts.heard().len(), 1);
}

#[tokio::test]
async fn a_question_is_never_sent_three_times() {
    let sts = DistantSts::start().await;
    let exchange = to(&sts);
    let (one, other) = (request(), request());
    let both = tokio::join!(exchange.exchange(&one), exchange.exchange(&other));
    assert!(both.0.is_ok() && both.1.is_ok());
    assert_eq!(sts.connections.load(Ordering::SeqCst), 2);
    sts.plays([Play::Close, Play::Close]);
    assert!(is_lost(&exchange).await);
    assert_eq!(sts.heard().len(), 4);
}

#[tokio::test]
async fn whatever_is_no_answer_is_503() {
    let sts = DistantSts::start().await;
    let url = format!("http://{}", sts.address);
    let envelope = |body: &str| Play::Raw(reply(200, body.as_bytes()));
    let big = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1 << 20);
    let mut big = big.into_bytes();
    big.extend(std::iter::repeat_n(b' ', 1 << 20));
    for (case, play) in [
        ("another request's", Play::Misdirect),
        ("not JSON", envelope("granted")),
        ("another version", envelope(r#"{"version":2}"#)),
        ("nothing", envelope("")),
        (
            "a success by status only",
            envelope(r#"{"access_token":"a"}"#),
        ),
        ("too long", Play::Raw(big)),
        (
            "a redirect",
            Play::Raw(
                b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
                    .to_vec(),
            ),
        ),
        (
            "an unsigned refusal",
            Play::Raw(reply(401, br#"{"error":"access_denied"}"#)),
        ),
        ("a proxy's page", Play::Raw(reply(403, b"<html>"))),
        ("no HTTP", Play::Raw(b"\0\0\0\0\r\n\r\n".to_vec())),
    ] {
        sts.plays([play]);
        let heard = sts.heard().len();
        assert!(is_lost(&exchange(&url, |_| {})).await, "{case}");
        assert_eq!(sts.heard().len(), heard + 1, "{case}: asked once");
    }
}

#[tokio::test]
async fn an_address_that_takes_no_connection_is_503_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let began = Instant::now();
    assert!(is_lost(&exchange(&url, |_| {})).await);
    assert!(began.elapsed() < TIMEOUT / 2);
}

/// The kernel completes the handshake of a listener that nobody accepts from.
#[tokio::test]
async fn a_connection_that_opens_and_says_nothing_is_bounded_then_left_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let exchange = exchange(
        &format!("http://{}", listener.local_addr().unwrap()),
        |_| {},
    );
    assert_eq!(exchange.pause(), None);
    for _ in 0..3 {
        let began = Instant::now();
        assert!(is_lost(&exchange).await);
        assert!(began.elapsed() < TIMEOUT);
    }
    assert!(exchange.pause().is_some());
    let began = Instant::now();
    assert!(is_lost(&exchange).await);
    assert!(began.elapsed() < TIMEOUT / 4, "it is not waited for again");
    assert!(!exchange.reachable().await);
}

#[tokio::test(start_paused = true)]
async fn after_the_pause_one_question_passes_and_closes_the_circuit() {
    let sts = DistantSts::start().await;
    let exchange = to(&sts);
    sts.plays([Play::Close, Play::Close, Play::Close]);
    for _ in 0..3 {
        assert!(is_lost(&exchange).await);
    }
    let pause = exchange.pause().unwrap();
    assert!(is_lost(&exchange).await);
    assert_eq!(sts.heard().len(), 3, "nothing is asked during the pause");
    tokio::time::advance(pause).await;
    assert_eq!(exchange.pause(), None);
    assert!(exchange.exchange(&request()).await.is_ok());
    assert!(exchange.exchange(&request()).await.is_ok());
}

#[tokio::test]
async fn refusals_are_answers_and_open_nothing() {
    let sts = DistantSts::start().await;
    let exchange = to(&sts);
    sts.plays(vec![Play::Refuse(503); 6]);
    for _ in 0..6 {
        assert!(exchange.exchange(&request()).await.is_err());
    }
    assert_eq!(exchange.pause(), None);
}

/// A name with these addresses.
struct Names(Mutex<Vec<IpAddr>>);

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let addresses = self.0.lock().clone();
        if addresses.is_empty() {
            return Err(io::Error::other("by test"));
        }
        Ok(addresses)
    }
}

fn names(addresses: &[[u8; 4]]) -> Arc<Names> {
    let addresses = addresses.iter().map(|octets| IpAddr::from(*octets));
    Arc::new(Names(Mutex::new(addresses.collect())))
}

/// Two addresses with one port.
async fn twins() -> (Arc<DistantSts>, Arc<DistantSts>) {
    let first = DistantSts::start().await;
    let second = SocketAddr::from(([127, 0, 0, 2], first.address.port()));
    (first, DistantSts::start_on(&second.to_string()).await)
}

#[tokio::test]
async fn questions_spread_over_all_addresses_of_the_name() {
    let (first, second) = twins().await;
    let resolver = names(&[[127, 0, 0, 1], [127, 0, 0, 2]]);
    let url = format!("http://sts:{}", first.address.port());
    let exchange = exchange_by(&url, Some(resolver), |_| {});
    for _ in 0..10 {
        exchange.exchange(&request()).await.unwrap();
    }
    assert_eq!((first.heard().len(), second.heard().len()), (5, 5));
}

#[tokio::test]
async fn a_dead_address_behind_the_name_loses_no_question() {
    let sts = DistantSts::start().await;
    let resolver = names(&[[127, 0, 0, 9], [127, 0, 0, 1]]);
    let url = format!("http://sts:{}", sts.address.port());
    let exchange = exchange_by(&url, Some(resolver), |_| {});
    for _ in 0..20 {
        exchange.exchange(&request()).await.unwrap();
    }
    assert_eq!(sts.heard().len(), 20);
    assert_eq!(exchange.pause(), None);
}

#[tokio::test]
async fn a_silent_address_behind_the_name_costs_three_questions() {
    let sts = DistantSts::start().await;
    let port = sts.address.port();
    let _silent = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let resolver = names(&[[127, 0, 0, 2], [127, 0, 0, 1]]);
    let exchange = exchange_by(&format!("http://sts:{port}"), Some(resolver), |_| {});
    let mut lost = 0;
    for _ in 0..20 {
        lost += usize::from(exchange.exchange(&request()).await.is_err());
    }
    assert_eq!(lost, 3);
}

#[tokio::test]
async fn a_name_that_resolves_later_is_found_later_and_new_addresses_are_taken() {
    let sts = DistantSts::start().await;
    let resolver = names(&[]);
    let url = format!("http://sts:{}", sts.address.port());
    let shared: Arc<dyn Resolve> = Arc::clone(&resolver) as Arc<dyn Resolve>;
    let exchange = exchange_by(&url, Some(shared), |options| {
        options.dns_ttl = Duration::ZERO;
    });
    assert!(is_lost(&exchange).await);
    *resolver.0.lock() = vec![IpAddr::from([127, 0, 0, 1])];
    exchange.exchange(&request()).await.unwrap();
    assert!(exchange.reachable().await);
    // A name that stops resolving changes nothing.
    resolver.0.lock().clear();
    exchange.exchange(&request()).await.unwrap();
    exchange.exchange(&request()).await.unwrap();
}

#[tokio::test]
async fn a_zone_whose_questions_hang_leaves_connections_to_others() {
    let sts = DistantSts::start().await;
    let url = format!("http://{}", sts.address);
    let exchange = exchange(&url, |options| {
        options.concurrency = 8;
        options.timeout = Duration::from_secs(20);
    });
    sts.plays(vec![Play::Silence; 4]);
    let hanging: Vec<_> = (0..50)
        .map(|_| {
            let exchange = Arc::clone(&exchange);
            tokio::spawn(async move { exchange.exchange(&request_of("slow")).await.is_ok() })
        })
        .collect();
    while sts.heard().len() < 4 {
        tokio::task::yield_now().await;
    }
    for _ in 0..50 {
        let quick = tokio::time::timeout(Duration::from_secs(2), async {
            exchange.exchange(&request_of("quick")).await.is_ok()
        });
        assert!(quick.await.expect("no waiting behind the slow zone"));
    }
    for call in hanging {
        call.abort();
    }
}

#[tokio::test]
async fn https_trusts_the_extra_roots_and_nobody_else() {
    let sts = DistantSts::start().await;
    let port = crate::tls::secured(sts.address).await;
    let url = format!("https://localhost:{port}");
    let trusting = exchange(&url, |options| {
        options.extra_ca_file = Some(crate::tls::fixture("ca.pem"));
    });
    trusting.exchange(&request()).await.unwrap();
    assert!(is_lost(&exchange(&url, |_| {})).await);
}

#[test]
fn its_debug_output_shows_no_key() {
    let shown = format!("{:?}", exchange("http://sts:8080", |_| {}));
    assert!(shown.starts_with("HttpExchange"), "{shown}");
    assert!(!shown.contains("05050505"));
}
