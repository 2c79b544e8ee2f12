//! Mints through a Delegation.

use caracal_core::id::{ApplicationId, AuthorityRecordId, DelegationId, SessionId};
use caracal_core::{Secret, SubjectType};
use caracal_store::ZoneUnit;
use caracal_store::entity::{Delegation, Lease, Lifecycle, Session, SessionStatus};
use serde_json::json;

use crate::testing::{APP, Answer, ISSUER, LEDGER, World, rows};

pub(super) fn outcome(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.code())
}

pub(super) fn denied() -> (u16, String) {
    (403, "access_denied".to_owned())
}

pub(super) fn edge_id(text: &str) -> DelegationId {
    DelegationId::parse(text).unwrap()
}

#[tokio::test]
async fn a_session_with_its_delegation_gets_a_one_shot_gateway_mandate() {
    let world = World::new().await;
    world.delegate(|_, _, _| {}).await;
    let answer = world.gateway(&[("ttl_seconds", "300")]).await;
    let mut claims = answer.claims();
    let claims = claims.as_object_mut().unwrap();
    let (jti, sid) = (claims.remove("jti").unwrap(), claims.remove("sid").unwrap());
    assert!(caracal_core::id::uuid_v7_millis(jti.as_str().unwrap()).is_some());
    assert_ne!(sid, "rec-7");
    assert_eq!(
        json!(claims),
        json!({
            "iss": ISSUER, "sub": APP, "aud": [ISSUER],
            "iat": 1_767_225_600, "exp": 1_767_225_900,
            "zone_id": "z-demo", "client_id": APP, "scope": "ledger:read",
            "root_sid": "rec-7", "use": "gateway", "sub_type": "application",
            "target": [LEDGER], "agent_session_id": "as-2", "delegation_edge_id": "de-1",
            "source_session_id": "as-1", "target_session_id": "as-2",
            "delegation_path": ["de-1"],
            "delegation_chain": [
                { "application_id": APP, "agent_session_id": "as-1", "delegation_edge_id": "de-1" },
                { "application_id": APP, "agent_session_id": "as-2" },
            ],
            "hop_count": 1,
        })
    );
}

#[tokio::test]
async fn a_gateway_mandate_writes_nothing_to_the_store() {
    let world = World::new().await;
    world.delegate(|_, _, _| {}).await;
    world.gateway(&[]).await.token();
    assert_eq!(world.record_count().await, 1);
}

#[tokio::test]
async fn its_event_describes_the_line() {
    let world = World::new().await;
    world
        .delegate(|_, target, _| target.labels = vec!["closer".to_owned(), "night".to_owned()])
        .await;
    let claims = world.gateway(&[]).await.claims();
    let events = world.events().await;
    let metadata = &events[0]["metadata_json"];
    assert_eq!(
        events[0]["determining_policies_json"],
        json!([{ "policy": "caracal-books-mint" }])
    );
    assert_eq!(metadata["agent_session_id"], "as-2");
    assert_eq!(metadata["agent_lifecycle"], "task");
    assert_eq!(metadata["agent_labels"], json!(["closer", "night"]));
    assert_eq!(metadata["agent_depth"], 0);
    assert_eq!(metadata["delegation_edge_id"], "de-1");
    assert_eq!(metadata["delegation_chain"], claims["delegation_chain"]);
    assert_eq!(metadata["delegation_hop_count"], 1);
    assert_eq!(metadata["delegation_graph_epoch"], 0);
    assert_eq!(metadata["use"], "gateway");
    assert_eq!(metadata["jti"], claims["jti"]);
}

#[tokio::test]
async fn a_session_without_a_delegation_mints_nothing() {
    let world = World::new().await;
    world.delegate(|_, _, _| {}).await;
    for scope in ["ledger:read", "agent:lifecycle"] {
        let answer = world
            .token(&[("scope", scope), ("agent_session_id", "as-2")])
            .await;
        assert_eq!(outcome(&answer), denied(), "{scope}");
    }
    let unknown = [
        ("scope", "ledger:read"),
        ("agent_session_id", "as-2"),
        ("resource", "resource://x"),
    ];
    assert_eq!(outcome(&world.token(&unknown).await), denied());
    assert_eq!(world.record_count().await, 1);
}

#[tokio::test]
async fn a_delegation_without_a_session_is_denied() {
    let world = World::new().await;
    world.delegate(|_, _, _| {}).await;
    assert_eq!(
        outcome(&world.gateway(&[("agent_session_id", "")]).await),
        denied()
    );
    assert_eq!(world.verdicts().await, ["deny/delegation_invalid"]);
}

#[tokio::test]
async fn references_that_do_not_hold_are_denied_with_their_status() {
    type Change = fn(&mut Session, &mut Session, &mut Delegation);
    let cases: [(&str, Change, &str); 9] = [
        (
            "the target is suspended",
            |_, t, _| t.status = SessionStatus::Suspended,
            "session_invalid",
        ),
        (
            "the source is suspended",
            |s, _, _| s.status = SessionStatus::Suspended,
            "delegation_invalid",
        ),
        (
            "the target's time is over",
            |_, t, _| t.lifecycle = Lifecycle::Task { ttl_seconds: 10 },
            "session_invalid",
        ),
        (
            "the source's time is over",
            |s, _, _| s.lifecycle = Lifecycle::Task { ttl_seconds: 10 },
            "delegation_invalid",
        ),
        (
            "the edge's time is over",
            |_, _, e| e.expires_at = rows::START.plus_seconds(10),
            "delegation_invalid",
        ),
        (
            "the edge is for another Session",
            |s, t, e| (e.source_session_id, e.target_session_id) = (t.id.clone(), s.id.clone()),
            "delegation_invalid",
        ),
        (
            "the edge names another issuer",
            |_, _, e| e.issuer_application_id = ApplicationId::parse("app-8").unwrap(),
            "delegation_invalid",
        ),
        (
            "the edge names another receiver",
            |_, _, e| e.receiver_application_id = ApplicationId::parse("app-8").unwrap(),
            "delegation_invalid",
        ),
        (
            "the scope is not delegated",
            |_, _, e| e.scopes = caracal_core::ScopeSet::parse("ledger:write"),
            "delegation_invalid",
        ),
    ];
    for (case, change, status) in cases {
        let world = World::new().await;
        let mut unit = world.unit().await;
        unit.insert_application(&rows::application("app-8"))
            .await
            .unwrap();
        unit.commit().await.unwrap();
        world.delegate(change).await;
        world.clock.advance_seconds(20);
        assert_eq!(outcome(&world.gateway(&[]).await), denied(), "{case}");
        assert_eq!(world.verdicts().await, [format!("deny/{status}")], "{case}");
        let event = &world.events().await[0]["metadata_json"];
        assert_eq!(event["resource"], LEDGER, "{case}");
        assert!(event["reason"].is_string(), "{case}");
    }
}

#[tokio::test]
async fn a_delegation_that_another_session_received_is_told_as_such() {
    let world = World::new().await;
    world.delegate(|_, _, _| {}).await;
    let answer = world.gateway(&[("agent_session_id", "as-1")]).await;
    assert_eq!(outcome(&answer), denied());
    let event = world.events().await.pop().unwrap();
    assert_eq!(
        event["metadata_json"]["reason"],
        "the Delegation was given to another Session"
    );
}

#[tokio::test]
async fn unknown_references_are_denied() {
    let world = World::new().await;
    world.delegate(|_, _, _| {}).await;
    assert_eq!(
        outcome(&world.gateway(&[("agent_session_id", "as-none")]).await),
        denied()
    );
    assert_eq!(
        outcome(&world.gateway(&[("delegation_edge_id", "de-none")]).await),
        denied()
    );
    assert_eq!(
        outcome(&world.gateway(&[("agent_session_id", "as-1")]).await),
        denied()
    );
}

#[tokio::test]
async fn another_applications_session_is_not_ones_own() {
    let world = World::new().await;
    let mut other = rows::application("app-8");
    let secret = Secret::new("cs_eight".to_owned());
    other.secret_hash = Some(world.secrets.peppers().hash_generated(&secret));
    let mut unit = world.unit().await;
    unit.insert_application(&other).await.unwrap();
    unit.commit().await.unwrap();
    world.delegate(|_, _, _| {}).await;
    let answer = world
        .gateway(&[("application_id", "app-8"), ("client_secret", "cs_eight")])
        .await;
    assert_eq!(outcome(&answer), denied());
    assert_eq!(world.verdicts().await, ["deny/session_invalid"]);
}

#[tokio::test]
async fn a_resource_outside_the_delegation_is_denied() {
    let world = World::new().await;
    world
        .delegate(|_, _, edge| {
            let other = caracal_core::ResourceIdentifier::new("resource://other");
            edge.constraints.resources = Some(vec![other]);
        })
        .await;
    assert_eq!(outcome(&world.gateway(&[]).await), denied());
    assert_eq!(
        world.verdicts().await,
        ["deny/resource_outside_delegation", "deny/exchange_denied"]
    );
    assert_eq!(
        world.events().await[0]["metadata_json"]["delegation_edge_id"],
        "de-1"
    );
}

#[tokio::test]
async fn policys_reason_is_told_and_written() {
    let world = World::new().await;
    world
        .delegate(|_, target, _| target.labels = vec!["viewer".to_owned()])
        .await;
    let answer = world.gateway(&[("scope", "ledger:write")]).await;
    assert_eq!(outcome(&answer), denied());
    assert_eq!(answer.description(), "policy denied (role_scope_mismatch)");
    let events = world.events().await;
    assert_eq!(
        events[0]["diagnostics_json"],
        json!([{ "reason": "role_scope_mismatch" }])
    );
    assert_eq!(events[0]["metadata_json"]["policy_gate"], "role");
    assert!(events[0]["metadata_json"].get("jti").is_none());
}

#[tokio::test]
async fn a_gated_mint_is_denied_and_no_hold_is_promised() {
    let world = World::new().await;
    let gates = r#"
risk := [{"scope": "ledger:write", "tier": "high"}]
approval_tiers := [{"tier": "high"}]
"#;
    world
        .activate(&format!("{}{gates}", crate::testing::POLICY))
        .await;
    world.delegate(|_, _, _| {}).await;
    let answer = world.gateway(&[("scope", "ledger:write")]).await;
    assert_eq!(outcome(&answer), denied());
    assert_eq!(answer.description(), "policy denied (approval_unavailable)");
    assert_eq!(world.verdicts().await, ["deny/approval_unavailable"]);
    assert_eq!(world.gateway(&[]).await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_mandate_ends_with_the_first_of_its_ancestors() {
    type Change = fn(&mut Session, &mut Session, &mut Delegation);
    let cases: [(&str, Change, i64); 6] = [
        (
            "target",
            |_, t, _| t.lifecycle = Lifecycle::Task { ttl_seconds: 100 },
            100,
        ),
        (
            "source",
            |s, _, _| s.lifecycle = Lifecycle::Task { ttl_seconds: 110 },
            110,
        ),
        (
            "edge",
            |_, _, e| e.expires_at = rows::START.plus_seconds(120),
            120,
        ),
        (
            "constraint",
            |_, _, e| e.constraints.ttl_seconds = Some(130),
            130,
        ),
        (
            "constraint instant",
            |_, _, e| e.constraints.expires_at = Some(rows::START.plus_seconds(140)),
            140,
        ),
        (
            "a lease is no end",
            |s, t, _| {
                for session in [s, t] {
                    session.lifecycle = Lifecycle::Service(Lease {
                        last_heartbeat_at: rows::START,
                        heartbeat_deadline_at: rows::START.plus_seconds(60),
                    });
                    session.lease_generation = 1;
                }
            },
            900,
        ),
    ];
    for (case, change, seconds) in cases {
        let world = World::new().await;
        world.delegate(change).await;
        let answer = world.gateway(&[]).await;
        assert_eq!(answer.json()["expires_in"], seconds, "{case}");
        let claims = answer.claims();
        assert_eq!(
            claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
            seconds,
            "{case}"
        );
    }
}

#[tokio::test]
async fn an_applications_record_does_not_bound_its_sessions() {
    let world = World::new().await;
    world.delegate(|_, _, _| {}).await;
    world.clock.advance_seconds(1_000);
    assert_eq!(world.gateway(&[]).await.json()["expires_in"], 900);
}

async fn user_record(unit: &mut ZoneUnit) {
    let mut record = rows::record("rec-user", APP);
    record.kind = SubjectType::User;
    record.subject_id = "user-42".to_owned();
    record.issuer = Some("https://idp.example".to_owned());
    record.expires_at = rows::START.plus_seconds(200);
    unit.insert_authority_record(&record).await.unwrap();
}

#[tokio::test]
async fn a_users_record_bounds_its_sessions_and_ends_them() {
    let world = World::new().await;
    let mut unit = world.unit().await;
    user_record(&mut unit).await;
    unit.commit().await.unwrap();
    world
        .delegate(|_, target, _| {
            target.subject_authority_record_id = AuthorityRecordId::parse("rec-user").unwrap();
            target.lifecycle = Lifecycle::Task { ttl_seconds: 3_600 };
        })
        .await;
    let answer = world.gateway(&[]).await;
    assert_eq!(answer.json()["expires_in"], 200);
    assert_eq!(answer.claims()["root_sid"], "rec-user");
    world.clock.advance_seconds(200);
    assert_eq!(outcome(&world.gateway(&[]).await), denied());
    assert_eq!(world.verdicts().await[1..], ["deny/session_invalid"]);
}

#[tokio::test]
async fn a_revoked_user_ends_what_was_delegated_in_their_name() {
    let world = World::new().await;
    let mut unit = world.unit().await;
    user_record(&mut unit).await;
    unit.insert_authority_record(&rows::record("rec-7", APP))
        .await
        .unwrap();
    unit.commit().await.unwrap();
    let record = AuthorityRecordId::parse("rec-user").unwrap();
    world
        .delegate(|source, _, _| source.subject_authority_record_id = record.clone())
        .await;
    assert_eq!(world.gateway(&[]).await.json()["expires_in"], 200);
    let mut unit = world.unit().await;
    unit.revoke_authority_records(&[record], "admin")
        .await
        .unwrap();
    unit.commit().await.unwrap();
    assert_eq!(outcome(&world.gateway(&[]).await), denied());
    assert_eq!(world.verdicts().await[1..], ["deny/delegation_invalid"]);
}

#[tokio::test]
async fn less_than_a_second_of_authority_mints_nothing() {
    let world = World::new().await;
    world
        .delegate(|_, _, edge| edge.expires_at = rows::START.plus_seconds(100))
        .await;
    world.clock.set(caracal_core::Timestamp::from_micros(
        rows::START.micros() + 99_500_000,
    ));
    assert_eq!(outcome(&world.gateway(&[]).await), denied());
    assert_eq!(world.verdicts().await, ["deny/ttl_invalid"]);
}

#[tokio::test]
async fn a_lifetime_above_the_delegations_is_denied() {
    let world = World::new().await;
    world
        .delegate(|_, _, edge| edge.constraints.ttl_seconds = Some(60))
        .await;
    assert_eq!(
        outcome(&world.gateway(&[("ttl_seconds", "61")]).await),
        denied()
    );
    assert_eq!(
        world.gateway(&[("ttl_seconds", "60")]).await.json()["expires_in"],
        60
    );
}

#[tokio::test]
async fn a_revoke_that_was_answered_stops_the_next_mint() {
    for _ in 0..20 {
        let world = World::new().await;
        world.delegate(|_, _, _| {}).await;
        assert_eq!(world.gateway(&[]).await.status.as_u16(), 200);
        let mut unit = world.unit().await;
        unit.revoke_delegations(&[edge_id("de-1")]).await.unwrap();
        unit.bump_delegation_epoch().await.unwrap();
        unit.commit().await.unwrap();
        assert_eq!(outcome(&world.gateway(&[]).await), denied());
    }
}

#[tokio::test]
async fn a_suspended_and_resumed_session_mints_again() {
    let world = World::new().await;
    world.delegate(|_, _, _| {}).await;
    let target = [SessionId::parse("as-2").unwrap()];
    let mut unit = world.unit().await;
    unit.suspend_sessions(&target).await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(outcome(&world.gateway(&[]).await), denied());
    let mut unit = world.unit().await;
    unit.resume_sessions(&target, world.now().plus_seconds(120))
        .await
        .unwrap();
    unit.commit().await.unwrap();
    assert_eq!(world.gateway(&[]).await.status.as_u16(), 200);
}

#[tokio::test]
async fn the_epoch_is_in_mandates_minted_after_it_rose() {
    let world = World::new().await;
    world.delegate(|_, _, _| {}).await;
    assert!(
        world
            .gateway(&[])
            .await
            .claims()
            .get("delegation_graph_epoch")
            .is_none()
    );
    let mut unit = world.unit().await;
    unit.bump_delegation_epoch().await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(
        world.gateway(&[]).await.claims()["delegation_graph_epoch"],
        1
    );
}

#[tokio::test]
async fn a_parent_sessions_end_ends_its_children() {
    let world = World::new().await;
    let mut parent = rows::session("as-0", APP);
    parent.lifecycle = Lifecycle::Task { ttl_seconds: 50 };
    let mut unit = world.unit().await;
    unit.insert_authority_record(&rows::record("rec-7", APP))
        .await
        .unwrap();
    unit.commit().await.unwrap();
    world.insert_session(&parent).await;
    world
        .delegate(|_, target, _| {
            target.parent_id = Some(SessionId::parse("as-0").unwrap());
            target.depth = 1;
        })
        .await;
    assert_eq!(world.gateway(&[]).await.json()["expires_in"], 50);
    world.clock.advance_seconds(50);
    assert_eq!(outcome(&world.gateway(&[]).await), denied());
}

#[tokio::test]
async fn a_budget_is_counted_and_used_up() {
    let world = World::new().await;
    world
        .delegate(|_, _, edge| edge.constraints.budget = Some(2))
        .await;
    for _ in 0..2 {
        assert_eq!(world.gateway(&[]).await.status.as_u16(), 200);
    }
    let answer = world.gateway(&[]).await;
    assert_eq!(
        outcome(&answer),
        (403, "delegation_budget_exhausted".to_owned())
    );
    assert_eq!(
        world.verdicts().await,
        [
            "allow/complete",
            "allow/complete",
            "deny/delegation_budget_exhausted"
        ]
    );
}

#[tokio::test]
async fn concurrent_mints_never_exceed_a_budget() {
    let world = World::new().await;
    world
        .delegate(|_, _, edge| edge.constraints.budget = Some(3))
        .await;
    let mints = (0..8).map(|_| async { world.gateway(&[]).await.status.as_u16() });
    let mut granted = 0;
    let mut pending: Vec<_> = mints.map(Box::pin).collect();
    let results = tokio::join!(
        pending.pop().unwrap(),
        pending.pop().unwrap(),
        pending.pop().unwrap(),
        pending.pop().unwrap(),
        pending.pop().unwrap(),
        pending.pop().unwrap(),
        pending.pop().unwrap(),
        pending.pop().unwrap(),
    );
    let (a, b, c, d, e, f, g, h) = results;
    for status in [a, b, c, d, e, f, g, h] {
        granted += u32::from(status == 200);
    }
    assert_eq!(granted, 3);
}

#[tokio::test]
async fn a_denied_mint_uses_up_no_budget() {
    let world = World::new().await;
    world
        .delegate(|_, _, edge| edge.constraints.budget = Some(1))
        .await;
    assert_eq!(
        outcome(&world.gateway(&[("resource", "resource://x")]).await).0,
        404
    );
    assert_eq!(
        outcome(&world.gateway(&[("scope", "ledger:delete")]).await).0,
        403
    );
    assert_eq!(world.gateway(&[]).await.status.as_u16(), 200);
}
