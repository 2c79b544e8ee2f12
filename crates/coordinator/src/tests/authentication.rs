//! Who is let in, and to what.

use caracal_crypto::MandateUse;
use http::Method;
use serde_json::json;

use super::world::{LIFECYCLE, Mint, OPERATOR, World};

#[tokio::test]
async fn a_caller_without_a_usable_token_is_told_so_before_its_body_is_read() {
    let world = World::new().await;
    let long = format!("Bearer {}", "x".repeat(4_097));
    for value in [
        None,
        Some("Bearer "),
        Some("bearer abc"),
        Some("Basic abc"),
        Some(&*long),
    ] {
        let mut call = world.plain("POST", "/zones/z1/agents").text("{not json");
        if let Some(value) = value {
            call = call.header("authorization", value);
        }
        call.send().await.assert(401, "missing_token");
    }
}

#[tokio::test]
async fn tokens_that_are_no_lifecycle_mandates_are_refused() {
    let world = World::new().await;
    let good = world.claims(&Mint::default());
    let mut other_issuer = good.clone();
    other_issuer.iss = "http://elsewhere".into();
    let mut other_audience = good.clone();
    other_audience.aud = vec!["resource://notes".into()];
    let gateway = world.claims(&Mint {
        mandate_use: MandateUse::Gateway,
        ..Mint::default()
    });
    let resource = world.claims(&Mint {
        mandate_use: MandateUse::Resource,
        ..Mint::default()
    });
    let expired = world.claims(&Mint {
        lives_for: 0,
        ..Mint::default()
    });
    let mut early = good.clone();
    early.iat = early.iat.plus_seconds(61);
    let unknown_zone = world.claims(&Mint {
        zone: "z9",
        ..Mint::default()
    });
    let mut tokens: Vec<String> = [
        other_issuer,
        other_audience,
        gateway,
        resource,
        expired,
        early,
        unknown_zone,
    ]
    .iter()
    .map(|claims| world.sign(claims))
    .collect();
    let mut forged = world.sign(&good);
    forged.truncate(forged.len() - 4);
    tokens.extend([forged, "abc".to_owned(), "a.b.c".to_owned()]);
    for token in tokens {
        let answer = world
            .plain("GET", "/zones/z1/agents")
            .bearer(&token)
            .send()
            .await;
        answer.assert(401, "invalid_token");
    }
}

#[tokio::test]
async fn a_mandate_needs_the_lifecycle_scope() {
    let world = World::new().await;
    for scope in ["", "agent:lifecycles", "Agent:lifecycle", "notes:read"] {
        let token = world.token_with("app", scope);
        let answer = world
            .plain("GET", "/zones/z1/agents")
            .bearer(&token)
            .send()
            .await;
        answer.assert(403, "missing_scope");
    }
    let more = world.token_with("app", &format!("notes:read {LIFECYCLE}"));
    world
        .plain("GET", "/zones/z1/agents")
        .bearer(&more)
        .send()
        .await
        .ok(200);
}

#[tokio::test]
async fn another_zone_is_refused_before_the_syntax_of_the_path() {
    let world = World::new().await;
    for path in [
        "/zones/z2/agents",
        "/zones/z%201/agents",
        "/zones/z2/agents/a%20b",
    ] {
        let token = world.token("app");
        world
            .plain("GET", path)
            .bearer(&token)
            .send()
            .await
            .assert(403, "zone_mismatch");
    }
    let path = "/zones/z1/agents/a%20b";
    let token = world.token("app");
    world
        .plain("GET", path)
        .bearer(&token)
        .send()
        .await
        .assert(400, "invalid_params");
}

#[tokio::test]
async fn identities_that_are_gone_are_refused_at_once() {
    let world = World::new().await;
    let token = world.token("app");
    let list = async || {
        world
            .plain("GET", "/zones/z1/agents")
            .bearer(&token)
            .send()
            .await
    };
    list().await.ok(200);
    world.revoke_record("rec-app").await;
    list().await.assert(401, "identity_revoked");

    let unknown = world.mint(&Mint {
        record: "rec-none",
        ..Mint::default()
    });
    let answer = world
        .plain("GET", "/zones/z1/agents")
        .bearer(&unknown)
        .send()
        .await;
    answer.assert(401, "identity_revoked");

    let dcr = world.token("dcr");
    world
        .plain("GET", "/zones/z1/agents")
        .bearer(&dcr)
        .send()
        .await
        .ok(200);
    world.clock.advance_seconds(86_400);
    let dcr = world.token("dcr");
    let answer = world
        .plain("GET", "/zones/z1/agents")
        .bearer(&dcr)
        .send()
        .await;
    answer.assert(401, "identity_revoked");
}

#[tokio::test]
async fn an_archived_zone_knows_nobody() {
    let world = World::new().await;
    let mut unit = world.store.begin(&world.zone).await.unwrap();
    unit.archive_zone(&caracal_store::entity::Author::default())
        .await
        .unwrap();
    unit.commit().await.unwrap();
    let answer = world.call("app", "GET", "/agents").send().await;
    answer.assert(401, "identity_revoked");
}

#[tokio::test]
async fn missing_keys_are_a_dependency_failure_not_a_verdict() {
    let world = World::new().await;
    world.fail_keys(true);
    let answer = world.call("app", "GET", "/agents").send().await;
    answer.assert(503, "authentication_unavailable");
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn the_operator_does_what_is_listed_and_nothing_else() {
    let world = World::new().await;
    let id = world.start("app", json!({})).await;
    let allowed = [
        (Method::GET, "/agents".to_owned()),
        (Method::GET, format!("/agents/{id}")),
        (Method::GET, format!("/agents/{id}/children")),
        (Method::GET, format!("/agents/{id}/effective-authority")),
        (Method::GET, "/delegations/active".to_owned()),
        (Method::GET, format!("/delegations/inbound/{id}")),
        (Method::GET, format!("/delegations/outbound/{id}")),
        (Method::GET, "/delegations/none/traverse".to_owned()),
        (Method::PATCH, format!("/agents/{id}/suspend")),
        (Method::PATCH, format!("/agents/{id}/resume")),
        (Method::DELETE, format!("/agents/{id}")),
    ];
    for (method, path) in allowed {
        let answer = world.operate(method.as_str(), &path).send().await;
        assert!(
            answer.status.is_success(),
            "{method} {path}: {}",
            answer.text
        );
    }
    let refused = [
        (Method::POST, "/agents".to_owned()),
        (Method::POST, format!("/agents/{id}/lease")),
        (Method::POST, format!("/agents/{id}/heartbeat")),
        (Method::POST, "/delegations".to_owned()),
        (Method::HEAD, "/agents".to_owned()),
    ];
    for (method, path) in refused {
        let answer = world.operate(method.as_str(), &path).send().await;
        assert_eq!(answer.status.as_u16(), 401, "{method} {path}");
    }
    world
        .operate("GET", "/agent-services")
        .send()
        .await
        .assert(404, "not_found");
    let path = "/zones/z%201/agents";
    let answer = world.plain("GET", path).bearer(OPERATOR).send().await;
    answer.assert(401, "invalid_token");
}

#[tokio::test]
async fn without_an_operator_token_nobody_is_the_operator() {
    let world = World::with(|options| options.operator_tokens.clear()).await;
    let answer = world.operate("GET", "/agents").send().await;
    answer.assert(401, "invalid_token");
}

#[tokio::test]
async fn unknown_routes_and_methods_are_answered_after_authentication() {
    let world = World::new().await;
    world
        .plain("GET", "/nowhere")
        .send()
        .await
        .assert(401, "missing_token");
    for path in ["/agent-services", "/invocations", "/agents/", "/Agents"] {
        world
            .call("app", "GET", path)
            .send()
            .await
            .assert(404, "not_found");
    }
    world
        .call("app", "PUT", "/agents")
        .send()
        .await
        .assert(405, "method_not_allowed");
    world
        .plain("PUT", "/zones/z1/agents")
        .send()
        .await
        .assert(401, "missing_token");
}

#[tokio::test]
async fn every_answer_carries_the_request_id() {
    let world = World::new().await;
    let call = world
        .call("app", "GET", "/agents/none")
        .header("x-request-id", "req-9");
    let answer = call.send().await;
    answer.assert(404, "session_not_found");
    assert_eq!(answer.headers["x-request-id"], "req-9");
    assert_eq!(
        (answer.str("request_id"), answer.str("requestId")),
        ("req-9", "req-9")
    );
    let call = world
        .call("app", "GET", "/agents")
        .header("x-request-id", "not ok");
    let answer = call.send().await;
    assert_ne!(answer.headers["x-request-id"], "not ok");
}

#[tokio::test]
async fn a_flood_from_one_address_is_slowed_down() {
    let world = World::with(|options| options.requests_per_minute = 2).await;
    world.operate("GET", "/agents").send().await.ok(200);
    world
        .plain("GET", "/nowhere")
        .send()
        .await
        .assert(401, "missing_token");
    let answer = world.operate("GET", "/agents").send().await;
    answer.assert(429, "rate_limited");
    assert_eq!(answer.headers["retry-after"], "60");
    world.plain("GET", "/health").send().await.ok(200);
    world.clock.advance_seconds(60);
    world.operate("GET", "/agents").send().await.ok(200);
}
