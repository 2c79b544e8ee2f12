//! What an application mints for itself: lifecycle mandates.

use serde_json::json;

use crate::testing::{APP, ISSUER, LEDGER, POLICY, World, rows};

const LIFECYCLE: (&str, &str) = ("scope", "agent:lifecycle");

#[tokio::test]
async fn a_lifecycle_mandate_is_a_session_mandate_for_the_issuer() {
    let world = World::new().await;
    let answer = world.lifecycle().await;
    assert_eq!(answer.status.as_u16(), 200);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["cache-control"], "no-store");
    let mut body = answer.json();
    let token = body
        .as_object_mut()
        .unwrap()
        .remove("access_token")
        .unwrap();
    assert_eq!(
        body,
        json!({
            "token_type": "Bearer",
            "expires_in": 900,
            "scope": "agent:lifecycle",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "target_resources": [LEDGER],
        })
    );
    let mut claims = crate::testing::claims_of(token.as_str().unwrap());
    let claims = claims.as_object_mut().unwrap();
    let sid = claims.remove("sid").unwrap();
    assert!(claims.remove("jti").unwrap().is_string());
    assert_eq!(
        json!(claims),
        json!({
            "iss": ISSUER,
            "sub": APP,
            "aud": [ISSUER],
            "iat": 1_767_225_600,
            "exp": 1_767_226_500,
            "zone_id": "z-demo",
            "client_id": APP,
            "scope": "agent:lifecycle",
            "root_sid": sid,
            "use": "session",
            "sub_type": "application",
            "target": [LEDGER],
        })
    );
}

#[tokio::test]
async fn its_record_ends_with_it() {
    let world = World::new().await;
    let claims = world
        .token(&[LIFECYCLE, ("ttl_seconds", "120")])
        .await
        .claims();
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        120
    );
    let view = world.authority.fresh(&world.zone).await.unwrap();
    let sid = claims["sid"].as_str().unwrap().parse().unwrap();
    let record = view.authority_record(&sid).await.unwrap().unwrap();
    assert_eq!(record.expires_at, world.now().plus_seconds(120));
    assert_eq!(record.application_id.as_str(), APP);
    assert_eq!(record.subject_id, APP);
}

#[tokio::test]
async fn its_event_names_the_mandate() {
    let world = World::new().await;
    let claims = world.lifecycle().await.claims();
    let events = world.events().await;
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!(event["event_type"], "token_exchange");
    assert_eq!(
        (&event["decision"], &event["evaluation_status"]),
        (&json!("allow"), &json!("complete"))
    );
    assert_eq!(
        event["determining_policies_json"],
        json!([{ "policy": "caracal-bootstrap" }])
    );
    assert_eq!(event["policy_set_version_id"], "psv-0");
    assert!(event["manifest_sha"].is_string());
    let metadata = &event["metadata_json"];
    assert_eq!(metadata["jti"], claims["jti"]);
    assert_eq!(metadata["sid"], claims["sid"]);
    assert_eq!(metadata["use"], "session");
    assert_eq!(metadata["expires_at"], claims["exp"]);
    assert_eq!(metadata["resource"], LEDGER);
    assert_eq!(metadata["requested_scopes"], json!(["agent:lifecycle"]));
    assert_eq!(metadata["subject_kind"], "application");
    assert_eq!(metadata["application_id"], APP);
    assert_eq!(metadata["application_name"], "the app-7");
    assert_eq!(metadata["application_registration_method"], "managed");
}

#[tokio::test]
async fn of_two_resources_the_owned_one_is_granted() {
    let world = World::new().await;
    world
        .insert_resource(&rows::resource("resource://vault", &["vault:read"]))
        .await;
    let answer = world
        .token(&[
            LIFECYCLE,
            ("resource", "resource://vault"),
            ("resource", LEDGER),
        ])
        .await;
    assert_eq!(answer.json()["target_resources"], json!([LEDGER]));
    assert_eq!(world.verdicts().await, ["deny/complete", "allow/complete"]);
}

#[tokio::test]
async fn a_resource_may_be_named_by_its_row_id_and_counts_once() {
    let world = World::new().await;
    let answer = world
        .token(&[LIFECYCLE, ("resource", "res-ledger"), ("resource", LEDGER)])
        .await;
    assert_eq!(answer.json()["target_resources"], json!([LEDGER]));
    assert_eq!(world.verdicts().await.len(), 1);
}

#[tokio::test]
async fn lifecycle_beside_another_scope_is_denied() {
    let world = World::new().await;
    let answer = world
        .token(&[("scope", "agent:lifecycle ledger:read")])
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (403, "access_denied")
    );
    assert_eq!(answer.description(), "policy denied (no_rule_matched)");
    assert_eq!(
        world.verdicts().await,
        ["deny/complete", "deny/exchange_denied"]
    );
    assert_eq!(world.record_count().await, 0);
}

#[tokio::test]
async fn a_zone_without_policy_denies_everything_and_says_why() {
    let world = World::new().await;
    let mut unit = world.unit().await;
    let set = caracal_core::id::PolicySetId::parse("ps-0").unwrap();
    unit.archive_policy_set(&set, &Default::default())
        .await
        .unwrap();
    unit.commit().await.unwrap();
    let answer = world.lifecycle().await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (403, "access_denied")
    );
    assert_eq!(answer.description(), "policy denied (no_active_policy_set)");
    assert_eq!(world.record_count().await, 0);
}

#[tokio::test]
async fn an_activated_policy_decides_the_next_request() {
    let world = World::new().await;
    assert_eq!(world.lifecycle().await.status.as_u16(), 200);
    world.activate(&POLICY.replace("app-7", "app-8")).await;
    assert_eq!(world.lifecycle().await.status.as_u16(), 403);
    world.activate(POLICY).await;
    assert_eq!(world.lifecycle().await.status.as_u16(), 200);
}

#[tokio::test]
async fn concurrent_mints_are_different_mandates() {
    let world = World::new().await;
    let (one, two) = tokio::join!(world.lifecycle(), world.lifecycle());
    let (one, two) = (one.claims(), two.claims());
    assert_ne!(one["jti"], two["jti"]);
    assert_ne!(one["sid"], two["sid"]);
}

#[tokio::test]
async fn a_uniform_native_failure_has_its_own_code() {
    let world = World::new().await;
    let answer = world
        .token(&[LIFECYCLE, ("resource", "resource://nowhere")])
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (404, "resource_not_found")
    );
    let answer = world.token(&[("scope", "ledger:delete")]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (403, "scope_insufficient")
    );
    let mixed = [
        ("scope", "ledger:delete"),
        ("resource", "resource://nowhere"),
        ("resource", LEDGER),
    ];
    let answer = world.token(&mixed).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (403, "access_denied")
    );
    assert_eq!(
        world.verdicts().await,
        [
            "deny/resource_not_found",
            "deny/exchange_denied",
            "deny/scope_mismatch",
            "deny/exchange_denied",
            "deny/scope_mismatch",
            "deny/resource_not_found",
            "deny/exchange_denied",
        ]
    );
}

#[tokio::test]
async fn the_mint_limit_is_a_429_that_says_when_to_return() {
    let world = World::with_options(|options| options.mint_limit_per_minute = 2).await;
    for _ in 0..2 {
        assert_eq!(world.lifecycle().await.status.as_u16(), 200);
    }
    world.clock.advance_seconds(20);
    let answer = world.lifecycle().await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (429, "provider_rate_limited")
    );
    assert_eq!(answer.headers["retry-after"], "40");
    world.clock.advance_seconds(40);
    assert_eq!(world.lifecycle().await.status.as_u16(), 200);
    let verdicts = world.verdicts().await;
    assert_eq!(
        verdicts[2..4],
        ["deny/rate_limited", "deny/exchange_denied"]
    );
}

#[tokio::test]
async fn an_approval_that_nobody_gave_is_refused() {
    let world = World::new().await;
    let answer = world.token(&[LIFECYCLE, ("approval_id", "ap-1")]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (401, "access_denied")
    );
    assert_eq!(world.verdicts().await, ["deny/approval_invalid"]);
}

#[tokio::test]
async fn a_named_record_must_be_the_callers_own_and_alive() {
    let world = World::new().await;
    let mut unit = world.unit().await;
    unit.insert_application(&rows::application("app-8"))
        .await
        .unwrap();
    unit.insert_authority_record(&rows::record("rec-8", "app-8"))
        .await
        .unwrap();
    unit.commit().await.unwrap();
    let own = world.lifecycle().await.claims()["sid"]
        .as_str()
        .unwrap()
        .to_owned();
    let named = async |id: &str| {
        let answer = world.token(&[LIFECYCLE, ("session_id", id)]).await;
        (
            answer.status.as_u16(),
            answer.json()["error"].as_str().map(str::to_owned),
        )
    };
    assert_eq!(named(&own).await, (200, None));
    let denied = (403, Some("access_denied".to_owned()));
    assert_eq!(named("rec-8").await, denied);
    assert_eq!(named("rec-unknown").await, denied);
    world.clock.advance_seconds(900);
    assert_eq!(named(&own).await, denied);
    let verdicts = world.verdicts().await;
    assert_eq!(
        verdicts
            .iter()
            .filter(|v| *v == "deny/authority_record_invalid")
            .count(),
        3
    );
}

#[tokio::test]
async fn the_ordinary_channel_exchanges_no_subject_token() {
    let world = World::new().await;
    let token = world.lifecycle().await.token();
    let kind = (
        "subject_token_type",
        "urn:ietf:params:oauth:token-type:access_token",
    );
    let send = async |token: &str, more: (&str, &str)| {
        let answer = world.token(&[("subject_token", token), kind, more]).await;
        (answer.status.as_u16(), answer.code())
    };
    let nothing = ("x", "");
    assert_eq!(
        send(&token, nothing).await,
        (403, "access_denied".to_owned())
    );
    assert_eq!(
        send("a.b.c", nothing).await,
        (401, "invalid_token".to_owned())
    );
    assert_eq!(
        send(&token, ("session_id", "rec-1")).await,
        (403, "access_denied".to_owned())
    );
    assert_eq!(
        send(&token, ("agent_session_id", "as-1")).await,
        (403, "access_denied".to_owned())
    );
    assert_eq!(
        send(&token, ("ttl_seconds", "901")).await,
        (400, "invalid_request".to_owned())
    );
    assert_eq!(
        world.verdicts().await[1..],
        [
            "deny/exchange_denied",
            "deny/subject_token_invalid",
            "deny/subject_token_invalid",
            "deny/subject_token_invalid",
            "deny/ttl_invalid",
        ]
    );
}

#[tokio::test]
async fn a_federation_finds_no_trusted_issuer() {
    let world = World::new().await;
    let federate = async |more: (&str, &str)| {
        let kind = (
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:id_token",
        );
        let fields = [("resource", ""), ("subject_token", "a.b.c"), kind, more];
        let answer = world.token(&fields).await;
        (answer.status.as_u16(), answer.code())
    };
    assert_eq!(federate(("x", "")).await, (401, "invalid_token".to_owned()));
    assert_eq!(
        federate(("scope", "a")).await,
        (400, "invalid_request".to_owned())
    );
    assert_eq!(
        federate(("approval_id", "a")).await,
        (400, "invalid_request".to_owned())
    );
    assert_eq!(
        world.verdicts().await,
        [
            "deny/subject_federation_rejected",
            "deny/subject_federation_invalid",
            "deny/subject_federation_invalid",
        ]
    );
}

#[tokio::test]
async fn a_mandate_too_long_for_any_verifier_is_not_minted() {
    let world = World::new().await;
    let long = |n: usize| format!("resource://{}{n}", "a".repeat(110));
    let mut policy = String::from(
        "# caracal:data-document\npackage caracal.authz\nimport rego.v1\n\
         app_ids := {\"k\": \"app-7\"}\ngrants := {",
    );
    let names: Vec<String> = (0..60).map(long).collect();
    for name in &names {
        world
            .insert_resource(&rows::resource(name, &["a:read"]))
            .await;
        policy += &format!("\"{name}\": {{\"application\": \"k\", \"roles\": {{}}}},\n");
    }
    world.activate(&format!("{policy}}}\n")).await;
    let fields: Vec<(&str, &str)> = names
        .iter()
        .map(|name| ("resource", name.as_str()))
        .chain([LIFECYCLE])
        .collect();
    let answer = world.token(&fields).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (400, "invalid_request")
    );
    assert_eq!(world.verdicts().await, ["deny/exchange_denied"]);
    assert_eq!(world.record_count().await, 0);
    assert_eq!(world.token(&fields[50..]).await.status.as_u16(), 200);
}
