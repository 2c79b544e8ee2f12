//! Starting, suspending, resuming and ending Sessions.

use caracal_core::SubjectType;
use caracal_core::id::ApplicationId;
use serde_json::{Value, json};

use super::world::{LIFECYCLE, Mint, World};

#[tokio::test]
async fn a_task_starts_with_documented_fields() {
    let world = World::new().await;
    let answer = world
        .try_start(
            "app",
            json!({ "labels": [" indexer "], "metadata": { "task": "x" } }),
        )
        .await
        .ok(201);
    let id = answer["agent_session_id"].as_str().unwrap();
    assert_eq!(
        answer,
        json!({
            "agent_session_id": id, "zone_id": "z1", "application_id": "app", "parent_id": null,
            "subject_authority_record_id": "rec-app", "lifecycle": "task", "labels": ["indexer"],
            "status": "active", "depth": 0, "ttl_seconds": 3600,
            "started_at": "2026-07-29T10:00:00.000Z", "last_heartbeat_at": null,
            "heartbeat_deadline_at": null, "lease_generation": 0, "delegation_edge_id": null,
        })
    );
}

#[tokio::test]
async fn a_service_starts_with_a_lease_of_the_first_generation() {
    let world = World::new().await;
    let answer = world
        .try_start("app", json!({ "lifecycle": "service" }))
        .await
        .ok(201);
    assert_eq!(answer["lease_generation"], 1);
    assert_eq!(answer["ttl_seconds"], Value::Null);
    assert_eq!(answer["heartbeat_deadline_at"], "2026-07-29T10:02:00.000Z");
}

#[tokio::test]
async fn nobody_starts_for_another_application() {
    let world = World::new().await;
    let call = world.call("app", "POST", "/agents");
    let answer = call
        .json(&json!({ "application_id": "other" }))
        .send()
        .await;
    answer.assert(403, "application_ownership_required");
    let admin = world.token_with("app", &format!("{LIFECYCLE} coordinator.admin"));
    let call = world.plain("POST", "/zones/z1/agents").bearer(&admin);
    let answer = call
        .json(&json!({ "application_id": "other" }))
        .send()
        .await;
    answer.assert(403, "application_ownership_required");
}

#[tokio::test]
async fn a_right_to_start_for_an_application_is_honoured() {
    let world = World::new().await;
    let token = world.token_with("app", &format!("{LIFECYCLE} coordinator.spawn_for:other"));
    let call = world.plain("POST", "/zones/z1/agents").bearer(&token);
    call.json(&json!({ "application_id": "other" }))
        .send()
        .await
        .ok(201);
}

#[tokio::test]
async fn the_application_must_be_live() {
    let world = World::new().await;
    let token = world.token_with("app", &format!("{LIFECYCLE} coordinator.spawn_for:gone"));
    let call = world.plain("POST", "/zones/z1/agents").bearer(&token);
    let answer = call.json(&json!({ "application_id": "gone" })).send().await;
    answer.assert(404, "application_not_found");
}

#[tokio::test]
async fn a_self_registered_application_runs_one_root_task() {
    let world = World::new().await;
    let service = world
        .try_start("dcr", json!({ "lifecycle": "service" }))
        .await;
    service.assert(409, "dcr_application_cannot_host_service");
    let child = world.try_start("dcr", json!({ "parent_id": "any" })).await;
    child.assert(409, "dcr_application_cannot_be_child");
    let root = world.start("dcr", json!({})).await;
    let second = world.try_start("dcr", json!({})).await;
    second.assert(409, "dcr_application_already_bound");
    let token = world.token_with("app", &format!("{LIFECYCLE} coordinator.spawn_under:dcr"));
    let call = world.plain("POST", "/zones/z1/agents").bearer(&token);
    let body = json!({ "application_id": "app", "parent_id": root });
    let answer = call.json(&body).send().await;
    answer.assert(409, "dcr_application_cannot_start_child");
}

#[tokio::test]
async fn the_zone_and_the_application_have_limits() {
    let world = World::with(|options| {
        options.max_sessions_per_zone = 3;
        options.max_sessions_per_application = 2;
    })
    .await;
    world.start("app", json!({})).await;
    world.start("app", json!({ "lifecycle": "service" })).await;
    let full = world.try_start("app", json!({})).await;
    full.assert(429, "session_limit_exceeded");
    assert!(full.headers.contains_key("retry-after"));
    world.start("other", json!({})).await;
    let full = world.try_start("other", json!({})).await;
    full.assert(429, "session_zone_limit_exceeded");
}

#[tokio::test]
async fn a_lapsed_session_gives_its_place_back_before_any_sweep() {
    let world = World::with(|options| options.max_sessions_per_zone = 1).await;
    world.start("app", json!({ "ttl_seconds": 60 })).await;
    world.clock.advance_seconds(60);
    world.start("app", json!({})).await;
}

#[tokio::test]
async fn the_parent_must_be_live_up_to_its_root() {
    let world = World::new().await;
    let unknown = world.try_start("app", json!({ "parent_id": "none" })).await;
    unknown.assert(404, "parent_not_found");
    let root = world.start("app", json!({ "ttl_seconds": 60 })).await;
    let child = world.start("app", json!({ "parent_id": root })).await;
    world.clock.advance_seconds(60);
    let lapsed = world.try_start("app", json!({ "parent_id": root })).await;
    lapsed.assert(404, "parent_not_found");
    let below = world.try_start("app", json!({ "parent_id": child })).await;
    below.assert(404, "parent_not_found");
}

#[tokio::test]
async fn a_service_whose_lease_lapsed_has_no_children() {
    let world = World::new().await;
    let service = world.start("app", json!({ "lifecycle": "service" })).await;
    world.start("app", json!({ "parent_id": service })).await;
    world.clock.advance_seconds(120);
    let answer = world
        .try_start("app", json!({ "parent_id": service }))
        .await;
    answer.assert(404, "parent_not_found");
}

#[tokio::test]
async fn a_child_may_ask_for_more_time_than_its_parent_has() {
    let world = World::new().await;
    let root = world.start("app", json!({ "ttl_seconds": 60 })).await;
    let child = world.start("app", json!({ "parent_id": root })).await;
    assert_eq!(world.session(&child).await.depth, 1);
}

#[tokio::test]
async fn a_task_starts_no_service_and_a_service_starts_tasks() {
    let world = World::new().await;
    let task = world.start("app", json!({})).await;
    let answer = world
        .try_start("app", json!({ "parent_id": task, "lifecycle": "service" }))
        .await;
    answer.assert(409, "task_session_cannot_start_service");
    let service = world.start("app", json!({ "lifecycle": "service" })).await;
    world.start("app", json!({ "parent_id": service })).await;
}

#[tokio::test]
async fn nobody_starts_under_another_application() {
    let world = World::new().await;
    let root = world.start("other", json!({})).await;
    let answer = world.try_start("app", json!({ "parent_id": root })).await;
    answer.assert(403, "parent_ownership_required");
}

#[tokio::test]
async fn a_session_has_ten_children_and_ten_levels() {
    let world = World::new().await;
    let root = world.start("app", json!({})).await;
    for _ in 0..10 {
        world.start("app", json!({ "parent_id": root })).await;
    }
    let answer = world.try_start("app", json!({ "parent_id": root })).await;
    answer.assert(429, "session_children_limit_exceeded");
    let mut deepest = world.start("app", json!({})).await;
    for _ in 0..10 {
        deepest = world.start("app", json!({ "parent_id": deepest })).await;
    }
    let answer = world
        .try_start("app", json!({ "parent_id": deepest }))
        .await;
    answer.assert(429, "session_depth_limit_exceeded");
}

#[tokio::test]
async fn an_ended_child_gives_its_place_back() {
    let world = World::new().await;
    let root = world.start("app", json!({})).await;
    let child = world.start("app", json!({ "parent_id": root })).await;
    world
        .call("app", "DELETE", &format!("/agents/{child}"))
        .send()
        .await
        .ok(204);
    assert_eq!(world.session(&root).await.child_count, 0);
}

#[tokio::test]
async fn a_record_is_named_only_by_the_application_that_it_was_minted_for() {
    let world = World::new().await;
    let named = world
        .try_start("app", json!({ "subject_session_id": "rec-user" }))
        .await
        .ok(201);
    assert_eq!(named["subject_authority_record_id"], "rec-user");
    for record in ["rec-other", "nobody"] {
        let answer = world
            .try_start("app", json!({ "subject_session_id": record }))
            .await;
        answer.assert(404, "session_not_found");
        assert!(!answer.str("detail").is_empty());
    }
    world.clock.advance_seconds(900);
    let answer = world
        .try_start("app", json!({ "subject_session_id": "rec-user" }))
        .await;
    answer.assert(404, "session_not_found");
}

#[tokio::test]
async fn a_subject_token_proves_the_record_of_its_user() {
    let world = World::new().await;
    let identity = Mint {
        record: "rec-user",
        subject: Some("user-1"),
        scope: "",
        ..Mint::default()
    };
    let with = |token: String| json!({ "subject_session_id": "rec-user", "subject_token": token });
    world.start("app", with(world.mint(&identity))).await;

    let foreign = Mint {
        application: "other",
        ..identity
    };
    let answer = world.try_start("app", with(world.mint(&foreign))).await;
    answer.assert(403, "subject_proof_application_mismatch");

    let mut scoped = world.claims(&identity_of("rec-user"));
    scoped.scope = Some("notes:read".into());
    let mut other_record = world.claims(&identity_of("rec-app"));
    other_record.sub = "user-1".into();
    let mut rooted_elsewhere = world.claims(&identity_of("rec-user"));
    rooted_elsewhere.root_sid = caracal_core::id::AuthorityRecordId::parse("rec-app").unwrap();
    let mut in_a_session = world.claims(&identity_of("rec-user"));
    in_a_session.agent_session_id = caracal_core::id::SessionId::parse("s").ok();
    let mut of_the_application = world.claims(&identity_of("rec-user"));
    of_the_application.sub_type = SubjectType::Application;
    for claims in [
        scoped,
        other_record,
        rooted_elsewhere,
        in_a_session,
        of_the_application,
    ] {
        let answer = world.try_start("app", with(world.sign(&claims))).await;
        answer.assert(401, "invalid_subject_proof");
    }
    let answer = world.try_start("app", with("rubbish".to_owned())).await;
    answer.assert(401, "invalid_subject_proof");
}

fn identity_of(record: &str) -> Mint<'_> {
    Mint {
        record,
        subject: Some("user-1"),
        scope: "",
        ..Mint::default()
    }
}

#[tokio::test]
async fn an_inheriting_child_mirrors_the_one_edge_of_its_parent() {
    let world = World::new().await;
    let (source, parent) = (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    );
    let edge = world
        .delegate((&source, "app"), (&parent, "app"), json!({}))
        .await;
    let child = world
        .try_start("app", json!({ "parent_id": parent }))
        .await
        .ok(201);
    let mirror = world
        .edge(child["delegation_edge_id"].as_str().unwrap())
        .await;
    let original = world.edge(&edge).await;
    assert!(mirror.mirrored);
    assert_eq!(mirror.parent_edge_id, Some(original.id));
    assert_eq!(mirror.scopes, original.scopes);
    assert_eq!(mirror.constraints, original.constraints);
    assert_eq!(mirror.expires_at, original.expires_at);
    assert_eq!(world.epoch().await, 0, "a creation makes nothing stale");
}

#[tokio::test]
async fn inheriting_without_a_parent_or_without_edges_gives_none() {
    let world = World::new().await;
    let alone = world
        .try_start("app", json!({ "parent_authority": "inherit" }))
        .await
        .ok(201);
    assert_eq!(alone["delegation_edge_id"], Value::Null);
    let root = alone["agent_session_id"].as_str().unwrap();
    let child = world
        .try_start("app", json!({ "parent_id": root }))
        .await
        .ok(201);
    assert_eq!(child["delegation_edge_id"], Value::Null);
}

#[tokio::test]
async fn a_child_does_not_inherit_an_edge_that_is_over() {
    let world = World::new().await;
    let (source, parent) = (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    );
    world
        .delegate(
            (&source, "app"),
            (&parent, "app"),
            json!({ "ttl_seconds": 60 }),
        )
        .await;
    world.clock.advance_seconds(60);
    let answer = world.try_start("app", json!({ "parent_id": parent })).await;
    answer.assert(409, "inherit_parent_edge_not_active");
    let none = json!({ "parent_id": parent, "parent_authority": "none" });
    world.start("app", none).await;
}

#[tokio::test]
async fn a_child_says_which_of_several_edges_it_inherits() {
    let world = World::new().await;
    let (source, parent) = (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    );
    let first = world
        .delegate((&source, "app"), (&parent, "app"), json!({}))
        .await;
    world
        .delegate((&source, "app"), (&parent, "app"), json!({}))
        .await;
    let answer = world.try_start("app", json!({ "parent_id": parent })).await;
    answer.assert(409, "inherit_parent_edge_ambiguous");
    let named = json!({ "parent_id": parent, "inherit_parent_edge_id": first });
    let child = world.try_start("app", named).await.ok(201);
    let mirror = world
        .edge(child["delegation_edge_id"].as_str().unwrap())
        .await;
    assert_eq!(mirror.parent_edge_id.unwrap().as_str(), first);
    let unknown = json!({ "parent_id": parent, "inherit_parent_edge_id": "none" });
    let answer = world.try_start("app", unknown).await;
    answer.assert(409, "inherit_parent_edge_not_active");
}

#[tokio::test]
async fn an_offer_that_nobody_took_is_not_inherited_until_it_is_named() {
    let world = World::new().await;
    let (theirs, mine) = (
        world.start("other", json!({})).await,
        world.start("app", json!({})).await,
    );
    let offer = world
        .delegate((&theirs, "other"), (&mine, "app"), json!({}))
        .await;
    let child = world
        .try_start("app", json!({ "parent_id": mine }))
        .await
        .ok(201);
    assert_eq!(child["delegation_edge_id"], Value::Null);
    assert!(!world.edge(&offer).await.accepted);
    let named = json!({ "parent_id": mine, "inherit_parent_edge_id": offer });
    let child = world.try_start("app", named).await.ok(201);
    assert!(child["delegation_edge_id"].is_string());
    assert!(world.edge(&offer).await.accepted);
}

#[tokio::test]
async fn suspending_reaches_the_active_tree_and_resuming_undoes_it() {
    let world = World::new().await;
    let root = world.start("app", json!({ "lifecycle": "service" })).await;
    let child = world.start("app", json!({ "parent_id": root })).await;
    let leaf = world.start("app", json!({ "parent_id": child })).await;
    let path = format!("/agents/{root}/suspend");
    let answer = world.call("app", "PATCH", &path).send().await.ok(200);
    assert_eq!(answer, json!({ "suspended": 3 }));
    assert_eq!(world.status(&leaf).await, "suspended");
    let again = world.call("app", "PATCH", &path).send().await;
    again.assert(409, "session_not_found_or_not_active");

    world.clock.advance_seconds(1_000);
    let below = world
        .call("app", "PATCH", &format!("/agents/{child}/resume"))
        .send()
        .await;
    below.assert(409, "session_suspended");
    let path = format!("/agents/{root}/resume");
    let answer = world.call("app", "PATCH", &path).send().await.ok(200);
    assert_eq!(answer, json!({ "resumed": 3 }));
    let again = world.call("app", "PATCH", &path).send().await;
    again.assert(409, "session_not_found_or_not_suspended");
    let service = world.session(&root).await;
    assert!(service.is_effectively_live(caracal_core::Clock::now(&*world.clock)));
    assert_eq!(service.lease_generation, 1, "the holder stays the holder");
    assert!(world.stream("caracal.sessions.revoke").await.is_empty());
}

#[tokio::test]
async fn only_the_owner_and_admins_suspend_resume_and_end() {
    let world = World::new().await;
    let id = world.start("app", json!({})).await;
    for (method, tail) in [("PATCH", "/suspend"), ("PATCH", "/resume"), ("DELETE", "")] {
        let path = format!("/agents/{id}{tail}");
        let foreign = world.call("other", method, &path).send().await;
        foreign.assert(403, "application_ownership_required");
        let unknown = world
            .call("app", method, &format!("/agents/none{tail}"))
            .send()
            .await;
        unknown.assert(404, "session_not_found");
    }
    world
        .operate("PATCH", &format!("/agents/{id}/suspend"))
        .send()
        .await
        .ok(200);
    world
        .operate("DELETE", &format!("/agents/{id}"))
        .send()
        .await
        .ok(204);
}

#[tokio::test]
async fn ending_a_session_ends_its_tree_and_says_why() {
    let world = World::new().await;
    let root = world.start("app", json!({})).await;
    let child = world.start("app", json!({ "parent_id": root })).await;
    let path = format!("/agents/{root}?reason=all%20done");
    let answer = world.call("app", "DELETE", &path).send().await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""));
    let ended = world.session(&root).await;
    assert_eq!(ended.status.as_str(), "terminated");
    assert_eq!(ended.termination_reason.as_deref(), Some("all done"));
    let below = world.session(&child).await;
    assert_eq!(
        below.termination_reason.as_deref(),
        Some("parent_terminated")
    );
    let again = world.call("app", "DELETE", &path).send().await;
    again.assert(404, "session_not_found");
}

#[tokio::test]
async fn an_ended_application_session_is_announced_by_its_own_anchor_only() {
    let world = World::new().await;
    let root = world.start("app", json!({})).await;
    let child = world.start("app", json!({ "parent_id": root })).await;
    world
        .call("app", "DELETE", &format!("/agents/{root}"))
        .send()
        .await
        .ok(204);
    let mut announced = world.stream("caracal.sessions.revoke").await;
    announced.sort_by_key(ToString::to_string);
    let mut expected = vec![
        json!({ "zone_id": "z1", "agent_session_id": root, "reason": "requested" }),
        json!({ "zone_id": "z1", "agent_session_id": child, "reason": "requested" }),
    ];
    expected.sort_by_key(ToString::to_string);
    assert_eq!(announced, expected);
    let lifecycle = world.stream("caracal.agents.lifecycle").await;
    let terminated = lifecycle
        .iter()
        .filter(|event| event["event"] == "terminate")
        .count();
    assert_eq!(terminated, 2);
    let spawned = lifecycle
        .iter()
        .find(|event| event["event"] == "spawn")
        .unwrap();
    assert_eq!(spawned["parent_id"], "null");
}

#[tokio::test]
async fn ending_a_session_cuts_its_edges_without_making_others_stale() {
    let world = World::new().await;
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    );
    let c = world.start("other", json!({})).await;
    let edge = world
        .delegate(
            (&a, "app"),
            (&b, "app"),
            json!({ "constraints": {
            "resources": ["resource://notes"], "max_hops": 3 } }),
        )
        .await;
    let derived = world
        .delegate((&b, "app"), (&c, "other"), json!({ "ttl_seconds": 60 }))
        .await;
    world
        .call("app", "DELETE", &format!("/agents/{a}"))
        .send()
        .await
        .ok(204);
    assert_eq!(world.edge_status(&edge).await, "revoked");
    assert_eq!(world.edge_status(&derived).await, "revoked");
    assert_eq!(world.status(&b).await, "active");
    assert_eq!(world.status(&c).await, "active");
    assert_eq!(world.epoch().await, 0);
    let announced = world.stream("caracal.sessions.revoke").await;
    let edges = announced
        .iter()
        .filter(|event| event["delegation_edge_id"].is_string());
    assert_eq!(edges.count(), 2);
    assert!(
        world
            .stream("caracal.delegations.invalidate")
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn a_session_of_a_user_dies_with_the_users_record() {
    let world = World::new().await;
    let root = world
        .start("app", json!({ "subject_session_id": "rec-user" }))
        .await;
    world.start("app", json!({ "parent_id": root })).await;
    world.revoke_record("rec-user").await;
    let answer = world.try_start("app", json!({ "parent_id": root })).await;
    answer.assert(404, "parent_not_found");
}

#[tokio::test]
async fn a_session_outlives_the_lifecycle_token_that_started_it() {
    let world = World::new().await;
    world
        .add_record("rec-short", "app", SubjectType::Application, 60)
        .await;
    let token = world.mint(&Mint {
        record: "rec-short",
        ..Mint::default()
    });
    let call = world.plain("POST", "/zones/z1/agents").bearer(&token);
    let answer = call.json(&json!({ "application_id": "app" })).send().await;
    let root = answer.ok(201)["agent_session_id"]
        .as_str()
        .unwrap()
        .to_owned();
    world.clock.advance_seconds(61);
    world.start("app", json!({ "parent_id": root })).await;
}

#[tokio::test]
async fn an_archived_application_starts_nothing() {
    let world = World::new().await;
    let token = world.token("app");
    let mut unit = world.store.begin(&world.zone).await.unwrap();
    let id = ApplicationId::parse("app").unwrap();
    unit.archive_application(&id, &caracal_store::entity::Author::default())
        .await
        .unwrap();
    unit.commit().await.unwrap();
    let call = world.plain("POST", "/zones/z1/agents").bearer(&token);
    let answer = call.json(&json!({ "application_id": "app" })).send().await;
    answer.assert(401, "identity_revoked");
}

#[tokio::test]
async fn starts_at_once_do_not_exceed_the_limit_together() {
    let world = World::with(|options| options.max_sessions_per_zone = 2).await;
    let (a, b, c) = tokio::join!(
        world.try_start("app", json!({})),
        world.try_start("app", json!({})),
        world.try_start("other", json!({})),
    );
    let mut statuses = [a, b, c].map(|answer| answer.status.as_u16());
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 201, 429]);
}
