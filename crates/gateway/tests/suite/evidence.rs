//! What the audit log holds, and when.

use std::sync::Arc;
use std::time::Duration;

use caracal_core::Secret;
use caracal_roles::Credential;
use serde_json::Value;

use crate::upstream::Behaviour;
use crate::world::{RESOURCE, World};

fn names(event: &Value) -> Vec<String> {
    let mut names: Vec<String> = event["metadata_json"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_leaves_a_start_and_an_end_with_exactly_these_members() {
    let world = World::new().await;
    let trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    let mandate = world.mandate();
    let head = world.head_with(
        &mandate,
        "GET",
        "/v1/items",
        &format!("X-Request-Id: req-1\r\n{trace}"),
    );
    world.raw(head).await;
    let events = world.events(2).await;
    assert_eq!(events.len(), 2);
    let (started, ended) = (&events[0], &events[1]);
    assert_eq!(started["event_type"], "gateway_request_started");
    assert_eq!(started["evaluation_status"], "dispatched");
    assert_eq!(ended["event_type"], "gateway_resource_request");
    assert_eq!(ended["evaluation_status"], "executed");
    for event in &events {
        assert_eq!(event["decision"], "allow");
        assert_eq!(event["request_id"], "req-1");
        assert_eq!(event["zone_id"], world.zone.as_str());
    }
    assert_eq!(
        names(started),
        [
            "application_id",
            "auth_mode",
            "jti",
            "method",
            "operation",
            "provider_id",
            "resource",
            "subject_fingerprint",
            "subject_kind",
            "trace_id",
            "upstream_host",
        ]
    );
    assert_eq!(
        names(ended),
        [
            "application_id",
            "auth_mode",
            "gateway_status",
            "jti",
            "latency_ms",
            "method",
            "operation",
            "provider_id",
            "resource",
            "response_bytes",
            "result_class",
            "subject_fingerprint",
            "subject_kind",
            "trace_id",
            "upstream_host",
            "upstream_status",
        ]
    );
    let metadata = &ended["metadata_json"];
    assert_eq!(metadata["application_id"], world.application.as_str());
    assert_eq!(metadata["auth_mode"], "none");
    assert_eq!(metadata["gateway_status"], 200);
    assert_eq!(metadata["operation"], "GET /v1/items");
    assert_eq!(metadata["provider_id"], "prov-5");
    assert_eq!(metadata["resource"], RESOURCE);
    assert_eq!(metadata["response_bytes"], 2);
    assert_eq!(metadata["result_class"], "success");
    assert_eq!(metadata["subject_kind"], "application");
    assert_eq!(metadata["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(
        metadata["upstream_host"],
        world.upstream.address.to_string()
    );
    let fingerprint = caracal_crypto::mandate::fingerprint(&mandate);
    assert_eq!(metadata["subject_fingerprint"], fingerprint);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_and_no_answer_holds_a_secret_or_a_path() {
    let world = World::new().await;
    world.sts.inject(|| Credential::KeyQuery {
        parameter: "key".to_owned(),
        value: Secret::new("upstream-secret".to_owned()),
    });
    let mandate = world.mandate();
    let request = world.head_with(
        &mandate,
        "GET",
        "/private-path?private=query",
        "X-Private: header\r\n",
    );
    let mut said = world.raw(request).await.text();
    *world.sts.upstream.lock() = "http://127.0.0.1:1/".to_owned();
    said += &world
        .raw(world.head("GET", "/private-path?private=query", ""))
        .await
        .text();
    for event in world.events(4).await {
        said += &event.to_string();
    }
    for secret in [
        "upstream-secret",
        "private",
        "resource.mandate.token",
        &mandate,
    ] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_start_is_logged_before_the_upstream_gets_a_byte() {
    let world = Arc::new(World::new().await);
    world.upstream.behaves(Behaviour::Silent);
    let calling = Arc::clone(&world);
    let call = tokio::spawn(async move { calling.get("/v1").await });
    world.upstream.arrived.notified().await;
    // The head has just arrived at the upstream; the event must be there already.
    let last = world.journal.last();
    assert!(last.get() >= 1);
    assert_eq!(
        world.events(1).await[0]["event_type"],
        "gateway_request_started"
    );
    call.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_log_nothing_is_sent() {
    let world = World::new().await;
    world.journal.close().await;
    let reply = world.get("/v1").await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (503, "sts_unavailable")
    );
    assert!(world.upstream.seen.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_ends_the_call_upstream_and_in_the_log() {
    let world = World::new().await;
    world.upstream.behaves(Behaviour::Silent);
    let mut caller = world.caller().await;
    caller.send(world.head("GET", "/v1", "")).await;
    world.upstream.arrived.notified().await;
    drop(caller);
    let abandoned =
        tokio::time::timeout(Duration::from_secs(5), world.upstream.abandoned.notified());
    abandoned.await.expect("the upstream call is cancelled");
    let events = world.events(2).await;
    assert_eq!(events[1]["event_type"], "gateway_resource_request");
    assert_eq!(events[1]["evaluation_status"], "upstream_error");
    assert_eq!(events[1]["metadata_json"]["gateway_status"], 499);
    assert_eq!(
        events[1]["metadata_json"]["error_kind"],
        "response_copy_failed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_answer_is_recorded_as_such() {
    let world = World::new().await;
    let short = b"HTTP/1.1 500 Oops\r\nContent-Length: 10\r\n\r\nabc".to_vec();
    world.upstream.behaves(Behaviour::AnswerAndClose(short));
    world.get("/v1").await;
    let ended = world.events(2).await.pop().unwrap();
    assert_eq!(ended["evaluation_status"], "upstream_error");
    assert_eq!(ended["metadata_json"]["error_kind"], "response_copy_failed");
    assert_eq!(ended["metadata_json"]["result_class"], "server_error");
    assert_eq!(ended["metadata_json"]["response_bytes"], 3);
}
