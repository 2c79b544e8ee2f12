//! The order of the checks, seen from outside: status, code, counter, and what was not touched.

use std::sync::atomic::Ordering;
use std::time::Duration;

use caracal_core::{Clock, Timestamp};
use caracal_crypto::MandateUse;

use crate::world::{RESOURCE, World};

/// A request line and these header lines.
fn raw(method: &str, target: &str, headers: &[String]) -> String {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_2_to_10_answer_in_order_and_touch_nothing() {
    let world = World::new().await;
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let client = "X-Caracal-Client-ID: app".to_owned();
    let resource = format!("X-Caracal-Resource: {RESOURCE}");
    let mandate = world.mandate();
    let expiring = world.mandate_with(|claims| claims.exp = world.clock.now().plus_seconds(34));
    let expired = world.mandate_with(|claims| claims.exp = Timestamp::from_seconds(1));
    let payload = |json: &str| {
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
        format!("e30.{encoded}.c2ln")
    };
    let far = world.clock.now().seconds() + 900;
    let zoneless = payload(&format!(r#"{{"exp":{far},"client_id":"a"}}"#));
    let clientless = payload(&format!(r#"{{"exp":{far},"zone_id":"z"}}"#));
    // Every request also breaks all later steps, so only the order explains the answer.
    let bad = "/a/%2e%2e/b";
    let cases: Vec<(&str, Vec<String>, u16, &str, &str)> = vec![
        (
            bad,
            vec![client.clone()],
            401,
            "invalid_token",
            "denials_missing_auth",
        ),
        (
            bad,
            vec!["Authorization: Basic x".into()],
            401,
            "invalid_token",
            "denials_missing_auth",
        ),
        (
            bad,
            vec![bearer(&"a".repeat(8_193)), client.clone()],
            401,
            "invalid_token",
            "denials_bad_bearer",
        ),
        (
            bad,
            vec![bearer("a.b"), client.clone()],
            401,
            "invalid_token",
            "denials_bad_bearer",
        ),
        (
            bad,
            vec![bearer(&payload("{}")), client.clone()],
            401,
            "invalid_token",
            "denials_bad_bearer",
        ),
        (
            bad,
            vec![bearer(&expiring), client.clone()],
            401,
            "credential_expired_not_renewable",
            "denials_expiring",
        ),
        (
            bad,
            vec![bearer(&expired), client.clone()],
            401,
            "credential_expired_not_renewable",
            "denials_expiring",
        ),
        (
            bad,
            vec![bearer(&mandate), client.clone()],
            400,
            "invalid_token",
            "denials_bad_routing",
        ),
        (
            bad,
            vec![bearer(&zoneless)],
            400,
            "invalid_token",
            "denials_bad_routing",
        ),
        (
            bad,
            vec![bearer(&zoneless), "X-Caracal-Resource:  ".into()],
            400,
            "invalid_token",
            "denials_bad_routing",
        ),
        (
            bad,
            vec![bearer(&zoneless), resource.clone()],
            401,
            "invalid_token",
            "denials_bad_routing",
        ),
        (
            bad,
            vec![bearer(&clientless), resource.clone()],
            401,
            "invalid_token",
            "denials_bad_routing",
        ),
        (
            bad,
            vec![bearer(&mandate), resource.clone()],
            400,
            "invalid_token",
            "denials_path_traversal",
        ),
    ];
    for (target, headers, status, code, counter) in cases {
        let (before, denied) = (
            world.counter(counter).await,
            world.counter("requests_denied").await,
        );
        let reply = world.raw(raw("GET", target, &headers)).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (status, code),
            "{headers:?}"
        );
        assert!(!reply.header("x-request-id").unwrap().is_empty());
        assert_eq!(
            reply.json()["requestId"].as_str(),
            reply.header("x-request-id")
        );
        assert_eq!(reply.header("www-authenticate").is_some(), status == 401);
        assert_eq!(world.counter(counter).await, before + 1, "{counter}");
        assert_eq!(world.counter("requests_denied").await, denied + 1);
    }
    assert_eq!(world.sts.exchanged(), 0);
    assert_eq!(world.sts.key_lookups.load(Ordering::SeqCst), 0);
    assert!(world.upstream.seen.lock().is_empty());
    // Nothing was burned.
    assert_eq!(world.get_with(&mandate).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_that_two_servers_could_read_differently_are_refused() {
    let world = World::new().await;
    for bad in [
        "/a/../b",
        "/a/./b",
        "/a/%2e%2e/b",
        "/a/%252e%252e/b",
        "/a/..%2fb",
        "/a/%5cb",
        "/a/%255cb",
        "/a/..;/b",
        "/a/..;x=1/b",
        "/a%00",
        "/a%0d%0ab",
        "/%zz",
        "/..",
    ] {
        let reply = world.get(bad).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, "invalid_token"),
            "{bad}"
        );
    }
    for good in [
        "/.env",
        "/foo..bar",
        "/a/...",
        "/50%25",
        "/a%2Fb",
        "/a//b",
        "//x",
        "/a;v=1",
        "/",
    ] {
        let reply = world.get(good).await;
        assert_eq!(reply.status, 200, "{good}");
        let seen = world.upstream.seen.lock().pop().unwrap();
        assert_eq!(seen.line, format!("GET {good} HTTP/1.1"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn step_11_a_signature_that_does_not_hold_leaves_no_evidence() {
    let world = World::new().await;
    let mandate = world.mandate();
    let at = mandate.len() - 20;
    let flipped = if &mandate[at..=at] == "A" { "B" } else { "A" };
    let mut forged = mandate.clone();
    forged.replace_range(at..=at, flipped);
    let stranger = world.mandate_with(|claims| claims.zone_id = "other".parse().unwrap());
    for token in [&forged, &stranger] {
        let reply = world.get_with(token).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (401, "invalid_token")
        );
    }
    assert_eq!(world.counter("denials_signature").await, 2);
    assert_eq!(world.sts.exchanged(), 0);
    world.get_with(&mandate).await;
    assert_eq!(
        world.events(2).await[0]["event_type"],
        "gateway_request_started"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn step_11_without_keys_there_is_no_verdict() {
    let world = World::new().await;
    *world.sts.keys_available.lock() = false;
    let mandate = world.mandate();
    let reply = world.get_with(&mandate).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (503, "sts_unavailable")
    );
    assert!(reply.header("retry-after").is_some());
    *world.sts.keys_available.lock() = true;
    assert_eq!(world.get_with(&mandate).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn step_11_keys_that_do_not_come_in_time_are_no_verdict() {
    let world = World::with(|options| options.sts_timeout = Duration::from_millis(100)).await;
    world.sts.hangs.store(true, Ordering::SeqCst);
    let mandate = world.mandate();
    let reply = world.get_with(&mandate).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (503, "sts_unavailable")
    );
    world.sts.hangs.store(false, Ordering::SeqCst);
    assert_eq!(world.get_with(&mandate).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_that_do_not_fit_here_are_refused_with_evidence_and_nothing_is_spent() {
    let world = World::new().await;
    let now = world.clock.now();
    let wrong = [
        world.mandate_with(|claims| claims.iss = "https://sts.example/".into()),
        world.mandate_with(|claims| claims.aud = vec!["other".into()]),
        world.mandate_with(|claims| claims.iat = now.plus_seconds(61)),
        world.mandate_with(|claims| claims.mandate_use = MandateUse::Session),
        world.mandate_with(|claims| claims.mandate_use = MandateUse::Resource),
    ];
    for token in &wrong {
        let reply = world.get_with(token).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (401, "invalid_token")
        );
    }
    let events = world.events(5).await;
    for event in &events {
        assert_eq!(event["event_type"], "gateway_request_denied");
        assert_eq!(event["decision"], "deny");
        assert_eq!(event["evaluation_status"], "mandate_invalid");
        assert_eq!(
            event["metadata_json"]["application_id"],
            world.application.as_str()
        );
        assert_eq!(event["metadata_json"]["resource"], RESOURCE);
    }
    assert_eq!(world.counter("denials_bad_bearer").await, 5);
    assert_eq!(world.sts.exchanged(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mandate_for_another_resource_is_403_and_not_spent() {
    let world = World::new().await;
    let mandate = world.mandate();
    let other = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {mandate}\r\n\
         X-Caracal-Resource: resource://other\r\n\r\n"
    );
    let reply = world.raw(other).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (403, "access_denied")
    );
    assert_eq!(world.counter("denials_bad_routing").await, 1);
    let events = world.events(1).await;
    assert_eq!(events[0]["evaluation_status"], "target_mismatch");
    assert_eq!(events[0]["metadata_json"]["gateway_status"], 403);
    assert_eq!(world.get_with(&mandate).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_that_reflect_or_tunnel_are_refused() {
    let world = World::new().await;
    let reply = world.raw(world.head("TRACE", "/v1", "")).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (405, "invalid_request")
    );
    assert!(world.upstream.seen.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exchange_sees_what_the_upstream_sees() {
    let world = World::new().await;
    world.raw(world.head("GET", "/v1/a%2Fb/?q=1", "")).await;
    let seen = world.sts.seen.lock().clone();
    assert_eq!(seen, [("GET".to_owned(), "/v1/a%2Fb/".to_owned())]);
    assert_eq!(world.upstream.only().line, "GET /v1/a%2Fb/?q=1 HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_call_asks_nothing_of_the_store() {
    let world = World::new().await;
    assert_eq!(world.get("/v1").await.status, 200);
    world.clock.advance_seconds(1);
    world.store.close().await;
    assert_eq!(world.get("/v1").await.status, 200);
}
