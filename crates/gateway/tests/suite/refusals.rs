//! Steps 12 to 19: revocation, replay, the STS, the upstream's address and its failures.

use std::time::Duration;

use serde_json::json;

use crate::sts::{Plan, object, refusal};
use crate::upstream::Behaviour;
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_use_is_refused_and_recorded() {
    let world = World::new().await;
    let mandate = world.mandate();
    assert_eq!(world.get_with(&mandate).await.status, 200);
    let reply = world.get_with(&mandate).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (401, "invalid_token")
    );
    assert_eq!(world.counter("denials_jti_replay").await, 1);
    assert_eq!(world.sts.exchanged(), 1);
    let events = world.events(3).await;
    let replay = events
        .iter()
        .find(|event| event["event_type"] == "replay_detected")
        .unwrap();
    assert_eq!(replay["decision"], "deny");
    assert_eq!(replay["evaluation_status"], "anomaly");
    let metadata = object(&replay["metadata_json"]);
    let mut names: Vec<&str> = metadata.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["client_id", "jti", "request_id", "resource", "subject_fp"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mandate_that_may_have_been_used_before_the_restart_is_refused() {
    let world = World::new().await;
    let old = world.mandate_with(|claims| {
        // Made before the memory began.
        claims.jti = "019b76da-0000-7000-8000-000000000000".parse().unwrap();
    });
    let undated = world.mandate_with(|claims| claims.jti = "jti-1".parse().unwrap());
    for token in [old, undated] {
        let reply = world.get_with(&token).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (401, "invalid_token")
        );
    }
    assert_eq!(world.sts.exchanged(), 0);
    assert_eq!(
        world.events(2).await[0]["evaluation_status"],
        "mandate_invalid"
    );
}

async fn is_revoked(world: &World, token: &str) {
    let reply = world.get_with(token).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (401, "invalid_token")
    );
    let events = world.events(1).await;
    let last = events.last().unwrap();
    assert_eq!(last["event_type"], "gateway_request_denied");
    assert_eq!(last["evaluation_status"], "mandate_revoked");
    assert_eq!(world.sts.exchanged(), 0);
    assert!(world.counter("denials_revoked").await >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_session_stops_its_mandates_and_a_resumed_one_frees_them() {
    let world = World::new().await;
    let mandate = world.mandate();
    world.suspend_session().await;
    is_revoked(&world, &mandate).await;
    world.resume_session().await;
    assert_eq!(world.get_with(&mandate).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_session_ends_its_mandates() {
    let world = World::new().await;
    let mandate = world.mandate();
    world.terminate_session().await;
    is_revoked(&world, &mandate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_edge_ends_its_mandates() {
    let world = World::new().await;
    let mandate = world.mandate();
    world.revoke_edge(&world.edge).await;
    is_revoked(&world, &mandate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_ancestor_edge_ends_mandates_below_it() {
    let world = World::new().await;
    let mandate = world.mandate();
    world.revoke_edge(&world.root_edge).await;
    is_revoked(&world, &mandate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_root_record_ends_its_mandates() {
    let world = World::new().await;
    let mandate = world.mandate();
    world.revoke_record(&world.record).await;
    is_revoked(&world, &mandate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_record_of_its_own_ends_a_mandate() {
    let world = World::new().await;
    let claims = world.claims();
    let mandate = world.key.sign(&claims).unwrap();
    // The memory of changes begins with the zone's first call.
    world.suspend_session().await;
    is_revoked(&world, &mandate).await;
    world.resume_session().await;
    world.clock.advance_seconds(1);
    let later = world.mandate_with(|later| later.sid = claims.sid.clone());
    let mut unit = world.store.begin(&world.zone).await.unwrap();
    unit.insert_authority_record(&world.record(&claims.sid))
        .await
        .unwrap();
    unit.commit().await.unwrap();
    world.revoke_record(&claims.sid).await;
    is_revoked(&world, &later).await;
    let fresh = world.claims();
    let mandate = world.key.sign(&fresh).unwrap();
    let mut unit = world.store.begin(&world.zone).await.unwrap();
    unit.insert_authority_record(&world.record(&fresh.sid))
        .await
        .unwrap();
    unit.commit().await.unwrap();
    world.revoke_record(&fresh.sid).await;
    is_revoked(&world, &mandate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archived_zone_proxies_nothing() {
    let world = World::new().await;
    let mandate = world.mandate();
    let mut unit = world.store.begin(&world.zone).await.unwrap();
    let nobody = caracal_store::entity::Author {
        by: None,
        via_operator: false,
    };
    unit.archive_zone(&nobody).await.unwrap();
    unit.commit().await.unwrap();
    is_revoked(&world, &mandate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mandate_of_a_session_that_is_not_there_is_refused() {
    let world = World::new().await;
    let mandate = world.mandate_with(|claims| claims.agent_session_id = "nobody".parse().ok());
    is_revoked(&world, &mandate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mandate_that_names_another_applications_session_is_refused() {
    let world = World::new().await;
    let other = world.session_of_another_application().await;
    let mandate = world.mandate_with(|claims| claims.agent_session_id = Some(other));
    is_revoked(&world, &mandate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_state_can_not_be_read_nothing_is_decided() {
    let world = World::new().await;
    let mandate = world.mandate();
    world.store.close().await;
    let reply = world.get_with(&mandate).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (503, "sts_unavailable")
    );
    assert!(reply.header("retry-after").is_some());
    assert_eq!(world.counter("denials_revocation_stale").await, 1);
    assert_eq!(
        world.events(1).await[0]["evaluation_status"],
        "sts_unavailable"
    );
    assert_eq!(world.sts.exchanged(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denial_of_the_sts_is_passed_on_and_spends_the_mandate() {
    let world = World::new().await;
    let mandate = world.mandate();
    *world.sts.plan.lock() = Plan::Refuse(refusal(403, "operation_not_permitted"));
    let reply = world.get_with(&mandate).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (403, "operation_not_permitted")
    );
    assert_eq!(world.counter("sts_exchange_errors").await, 1);
    *world.sts.plan.lock() = Plan::Grant;
    assert_eq!(world.get_with(&mandate).await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relayed_answer_keeps_retry_after_and_further_members() {
    let world = World::new().await;
    let mut limited = refusal(429, "provider_rate_limited");
    limited.retry_after = Some(Duration::from_secs(7));
    limited.extension = object(&json!({ "limit": 1000, "requestId": "theirs" }));
    *world.sts.plan.lock() = Plan::Refuse(limited);
    let reply = world
        .raw(world.head("GET", "/", "X-Request-Id: req-9\r\n"))
        .await;
    assert_eq!(reply.status, 429);
    assert_eq!(reply.header("retry-after"), Some("7"));
    assert_eq!(reply.json()["limit"], 1000);
    assert_eq!(reply.json()["requestId"], "req-9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_sts_opens_the_circuit_which_spends_nothing() {
    let world = World::new().await;
    *world.sts.plan.lock() = Plan::Refuse(refusal(503, "sts_unavailable"));
    for _ in 0..3 {
        assert_eq!(world.get("/").await.status, 503);
    }
    assert_eq!(world.sts.exchanged(), 3);
    *world.sts.plan.lock() = Plan::Grant;
    let mandate = world.mandate();
    let reply = world.get_with(&mandate).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (503, "sts_unavailable")
    );
    assert!(reply.header("retry-after").is_some());
    assert_eq!(world.sts.exchanged(), 3);
    assert_eq!(world.counter("sts_circuit_opened").await, 1);
    assert_eq!(world.counter("sts_circuit_fast_fail").await, 1);
    assert_eq!(world.counter("sts_circuit_open").await, 1);
    let events = world.events(1).await;
    assert_eq!(events[0]["evaluation_status"], "sts_unavailable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_the_line_lost_do_not_open_the_zones_circuit() {
    let world = World::new().await;
    let mut lost = refusal(503, "sts_unavailable");
    lost.origin = caracal_roles::RefusalOrigin::Line;
    *world.sts.plan.lock() = Plan::Refuse(lost);
    for _ in 0..5 {
        assert_eq!(world.get("/").await.status, 503);
    }
    *world.sts.plan.lock() = Plan::Grant;
    assert_eq!(world.get("/").await.status, 200);
    let events = world.events(1).await;
    assert_eq!(events[0]["event_type"], "gateway_request_denied");
    assert_eq!(events[0]["evaluation_status"], "sts_unavailable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_line_is_down_nothing_is_spent() {
    let world = World::new().await;
    *world.sts.pause.lock() = Some(Duration::from_secs(7));
    let mandate = world.mandate();
    for _ in 0..2 {
        let reply = world.get_with(&mandate).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (503, "sts_unavailable")
        );
        assert_eq!(reply.header("retry-after"), Some("7"));
    }
    assert_eq!(world.counter("sts_circuit_opened").await, 1);
    assert_eq!(world.counter("sts_circuit_open").await, 1);
    assert_eq!(world.sts.exchanged(), 0);
    *world.sts.pause.lock() = None;
    assert_eq!(world.get_with(&mandate).await.status, 200);
    assert_eq!(world.counter("sts_circuit_open").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denials_do_not_open_the_circuit() {
    let world = World::new().await;
    *world.sts.plan.lock() = Plan::Refuse(refusal(502, "http_request_failed"));
    for _ in 0..5 {
        assert_eq!(world.get("/").await.status, 502);
    }
    assert_eq!(world.sts.exchanged(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_hangs_is_504() {
    let world = World::with(|options| options.sts_timeout = Duration::from_millis(100)).await;
    *world.sts.plan.lock() = Plan::Hang;
    let reply = world.get("/").await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (504, "sts_unavailable")
    );
    assert_eq!(
        world.events(1).await[0]["evaluation_status"],
        "sts_unavailable"
    );
}

async fn rejected(world: &World, status: u16, evaluation: &str, kind: &str) {
    let reply = world.get("/v1").await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (status, "internal_error")
    );
    let events = world.events(1).await;
    let last = events.last().unwrap();
    assert_eq!(last["event_type"], "gateway_resource_request");
    assert_eq!(last["evaluation_status"], evaluation);
    assert_eq!(last["metadata_json"]["error_kind"], kind);
    assert_eq!(last["metadata_json"]["gateway_status"], status);
    assert!(
        !events
            .iter()
            .any(|event| event["event_type"] == "gateway_request_started")
    );
    assert!(world.counter("upstream_errors").await >= 1);
    assert!(world.upstream.seen.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn step_16_metadata_addresses_and_own_listeners_are_no_upstreams() {
    let world = World::new().await;
    let own = format!("http://{}/", world.address);
    for bad in [
        "http://169.254.169.254/latest",
        "http://[fd00:ec2::254]/",
        own.as_str(),
        "ftp://x/",
    ] {
        *world.sts.upstream.lock() = bad.to_owned();
        rejected(&world, 502, "upstream_rejected", "upstream_not_addressable").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn step_17_a_credential_is_pinned_to_its_hosts() {
    let world = World::new().await;
    *world.sts.allowed_hosts.lock() = vec!["api.example".to_owned()];
    rejected(
        &world,
        502,
        "upstream_rejected",
        "provider_host_not_allowed",
    )
    .await;
    *world.sts.allowed_hosts.lock() = vec!["api.example".to_owned(), " 127.0.0.1 ".to_owned()];
    assert_eq!(world.get("/v1").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn step_18_a_credential_that_can_not_be_sent_is_400() {
    let world = World::new().await;
    world.sts.inject(|| caracal_roles::Credential::KeyHeader {
        header: "Host".to_owned(),
        scheme: None,
        value: caracal_core::Secret::new("k".to_owned()),
    });
    rejected(&world, 400, "build_failed", "request_build_failed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn step_19_an_upstream_that_refuses_is_502() {
    let world = World::new().await;
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    *world.sts.upstream.lock() = format!("http://{gone}/");
    let reply = world.get("/v1").await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (502, "internal_error")
    );
    let events = world.events(2).await;
    assert_eq!(events[0]["event_type"], "gateway_request_started");
    assert_eq!(events[1]["evaluation_status"], "upstream_error");
    assert_eq!(events[1]["metadata_json"]["error_kind"], "transport_error");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn step_19_an_upstream_that_says_nothing_is_504() {
    let world = World::with(|options| options.upstream_timeout = Duration::from_millis(150)).await;
    world.upstream.behaves(Behaviour::Silent);
    let reply = world.get("/v1").await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (504, "internal_error")
    );
    world.upstream.abandoned.notified().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_talks_nonsense_is_502() {
    let world = World::new().await;
    for nonsense in [
        "SSH-2.0-x\r\n\r\n",
        "HTTP/1.1 999999 x\r\n\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
    ] {
        world
            .upstream
            .behaves(Behaviour::AnswerAndClose(nonsense.as_bytes().to_vec()));
        assert_eq!(world.get("/v1").await.status, 502, "{nonsense}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_keeps_failing_is_left_alone_for_a_while() {
    let world = World::new().await;
    world
        .upstream
        .behaves(Behaviour::AnswerAndClose(b"nonsense\r\n\r\n".to_vec()));
    for _ in 0..5 {
        assert_eq!(world.get("/v1").await.status, 502);
    }
    let asked = world.upstream.seen.lock().len();
    let reply = world.get("/v1").await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (503, "internal_error")
    );
    assert!(reply.header("retry-after").is_some());
    assert_eq!(world.upstream.seen.lock().len(), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_replay_memory_refuses_with_evidence() {
    let world = World::with(|options| options.replay_capacity = 1).await;
    let mut refused = None;
    for _ in 0..200 {
        let reply = world.get("/").await;
        if reply.status != 200 {
            refused = Some(reply);
            break;
        }
    }
    let reply = refused.expect("a memory of 32 marks is full before 200 calls");
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (503, "sts_unavailable")
    );
    assert!(reply.header("retry-after").is_some());
    let passed = world.upstream.seen.lock().len();
    let events = world.events(passed * 2 + 1).await;
    let denied = events
        .iter()
        .find(|event| event["event_type"] == "gateway_request_denied");
    assert_eq!(
        denied.unwrap()["evaluation_status"],
        "replay_store_unavailable"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_panics_is_500_and_nothing_else_breaks() {
    let world = World::new().await;
    *world.sts.meanwhile.lock() = Box::new(|| panic!("by test"));
    let mut caller = world.caller().await;
    caller.send(world.head("GET", "/", "")).await;
    let reply = caller.reply().await;
    assert_eq!(
        (reply.status, reply.text().as_str()),
        (500, r#"{"error":"internal_error"}"#)
    );
    *world.sts.meanwhile.lock() = Box::new(|| {});
    caller.send(world.head("GET", "/", "")).await;
    assert_eq!(caller.reply().await.status, 200);
}
