//! Zones.

use caracal_core::id::{ApplicationId, AuthorityRecordId, SessionId, ZoneId};
use caracal_core::{SubjectType, Timestamp};
use caracal_store::RowStatus;
use caracal_store::entity::{
    Application, Attribution, AuthorityRecord, Lifecycle, RecordStatus, RegistrationMethod,
    Session, SessionStatus, Zone,
};
use caracal_store::{Page, Store};
use serde_json::{Map, json};

use super::world::{START, World};

fn application(zone: &ZoneId, id: &str) -> Application {
    Application {
        id: ApplicationId::parse(id).unwrap(),
        zone_id: zone.clone(),
        name: id.to_owned(),
        registration_method: RegistrationMethod::Managed,
        traits: vec![],
        secret_hash: None,
        sealed_secret: None,
        expires_at: None,
        attribution: Attribution::default(),
        created_at: START,
        updated_at: None,
        archived_at: None,
    }
}

/// Puts a running Session, with the record that it stands on, into a zone.
pub(super) async fn start_session(store: &Store, zone: &str, id: &str) {
    let zone = World::zone_id(zone);
    let mut unit = store.begin(&zone).await.unwrap();
    let application_id = ApplicationId::parse("app-1").unwrap();
    unit.insert_application(&application(&zone, "app-1"))
        .await
        .unwrap();
    let record = AuthorityRecordId::parse(&format!("record-{id}")).unwrap();
    unit.insert_authority_record(&AuthorityRecord {
        id: record.clone(),
        zone_id: zone.clone(),
        kind: SubjectType::User,
        subject_id: "user-1".to_owned(),
        issuer: Some("https://idp.example".to_owned()),
        application_id: application_id.clone(),
        parent_id: None,
        status: RecordStatus::Active,
        expires_at: START.plus_seconds(900),
        authenticated_at: START,
        created_at: START,
        revoked_at: None,
        revoked_reason: None,
    })
    .await
    .unwrap();
    unit.insert_session(&Session {
        id: SessionId::parse(id).unwrap(),
        zone_id: zone.clone(),
        application_id,
        parent_id: None,
        subject_authority_record_id: record,
        status: SessionStatus::Active,
        lifecycle: Lifecycle::Task { ttl_seconds: 3_600 },
        depth: 0,
        labels: vec!["closer".to_owned(), "=risky".to_owned()],
        max_children: 10,
        child_count: 0,
        authority_root: true,
        metadata: Map::new(),
        lease_generation: 0,
        started_at: START,
        last_active_at: START,
        terminated_at: None,
        termination_reason: None,
        updated_at: START,
    })
    .await
    .unwrap();
    unit.commit().await.unwrap();
}

async fn stored(world: &World, zone: &str) -> Zone {
    world
        .store
        .read(&World::zone_id(zone))
        .get_zone()
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_new_zone_has_its_first_key_and_audit_row() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let reader = world.store.read(&World::zone_id(&zone));
    assert_eq!(reader.list_signing_keys().await.unwrap().len(), 1);
    let audit = world
        .bootstrap()
        .get(&format!("/v1/zones/{zone}/admin-audit"))
        .await;
    let row = &audit.items()[0];
    assert_eq!(row["action"], "POST /v1/zones");
    assert_eq!(
        (&row["entity_type"], &row["entity_id"]),
        (&json!("zones"), &json!(zone))
    );
    assert_eq!(row["payload_json"]["change_kind"], "create");
    assert_eq!(row["payload_json"]["changed_fields"], json!(["name"]));
    assert_eq!(
        (&row["status_code"], &row["signed"]),
        (&json!(201), &json!(true))
    );
}

#[tokio::test]
async fn a_zone_that_gets_no_key_is_not_created() {
    let world = World::new().await;
    world.keys.fail();
    let answer = world
        .bootstrap()
        .post("/v1/zones", json!({ "name": "orchard" }))
        .await;
    answer.refused(502, "secret_backend_unavailable");
    assert!(world.bootstrap().get("/v1/zones").await.items().is_empty());
}

#[tokio::test]
async fn slugs_are_made_from_names_and_count_up() {
    let world = World::new().await;
    let user = world.bootstrap();
    for slug in ["orchard-eu", "orchard-eu-2", "orchard-eu-3"] {
        let made = user
            .post("/v1/zones", json!({ "name": "Orchard (EU)" }))
            .await;
        assert_eq!(made.text("slug"), slug);
    }
    let taken = user
        .post("/v1/zones", json!({ "name": "x", "slug": "orchard-eu" }))
        .await;
    taken.refused(409, "zone_slug_conflict");
}

#[tokio::test]
async fn an_archived_zone_keeps_its_slug() {
    let world = World::new().await;
    let user = world.bootstrap();
    let zone = world.zone("orchard").await;
    assert_eq!(user.delete(&format!("/v1/zones/{zone}")).await.status, 204);
    user.post("/v1/zones", json!({ "name": "x", "slug": "orchard" }))
        .await
        .refused(409, "zone_slug_conflict");
    user.get(&format!("/v1/zones/{zone}"))
        .await
        .refused(404, "zone_not_found");
    user.delete(&format!("/v1/zones/{zone}"))
        .await
        .refused(404, "zone_not_found");
}

#[tokio::test]
async fn a_reserved_slug_is_refused_also_when_it_is_generated() {
    let world = World::new().await;
    let writer = world.global("write").await;
    for body in [
        json!({ "name": "Caracal Sys Internal" }),
        json!({ "name": " Caracal.SYS/x " }),
        json!({ "name": "x", "slug": "caracal-sys-x" }),
    ] {
        writer
            .post("/v1/zones", body)
            .await
            .refused(409, "reserved_namespace");
    }
    let made = world
        .bootstrap()
        .post("/v1/zones", json!({ "name": "Caracal Sys Internal" }))
        .await;
    assert_eq!(made.status, 201);
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_nothing_else() {
    let world = World::new().await;
    let user = world.bootstrap();
    let zone = world.zone("orchard").await;
    let item = format!("/v1/zones/{zone}");
    world.clock.advance_seconds(5);
    let patched = user
        .patch(
            &item,
            json!({ "operator_governed": true, "dcr_enabled": true }),
        )
        .await;
    assert_eq!(patched.status, 200);
    let row = stored(&world, &zone).await;
    assert!(row.operator_governed && row.dcr_enabled && row.operator_coauthor_badge);
    assert_eq!(
        (row.name.as_str(), row.updated_at),
        ("orchard", START.plus_seconds(5))
    );
    user.patch(&item, json!({})).await.refused(400, "no_fields");
    user.patch(&item, json!({ "name": "x", "slug": null }))
        .await
        .refused(400, "invalid_zone");
    user.patch("/v1/zones/none", json!({ "name": "x" }))
        .await
        .refused(404, "zone_not_found");
    world.zone("other").await;
    user.patch(&item, json!({ "slug": "other" }))
        .await
        .refused(409, "zone_slug_conflict");
    user.patch(&item, json!({ "dcr_shutdown": "keep_live" }))
        .await
        .refused(400, "dcr_shutdown_not_applicable");
}

#[tokio::test]
async fn ending_self_registration_leaves_a_row_of_its_own() {
    let world = World::new().await;
    let user = world.bootstrap();
    let zone = world.zone("orchard").await;
    let item = format!("/v1/zones/{zone}");
    let body =
        json!({ "dcr_enabled": false, "dcr_shutdown": "keep_live", "operator_governed": true });
    let patched = user.patch(&item, body).await;
    assert_eq!(patched.body["operator_governed"], true);
    let audit = user.get(&format!("{item}/admin-audit")).await;
    let actions: Vec<_> = audit
        .items()
        .iter()
        .map(|row| row["action"].clone())
        .collect();
    assert!(
        actions.contains(&json!("DCR shutdown keep_live")),
        "{actions:?}"
    );
}

#[tokio::test]
async fn live_self_registered_applications_must_be_settled_first() {
    let world = World::new().await;
    let user = world.bootstrap();
    let zone = world.zone("orchard").await;
    let item = format!("/v1/zones/{zone}");
    user.patch(&item, json!({ "dcr_enabled": true })).await;
    register(&world, &zone).await;
    let status = user.get(&format!("{item}/dcr-status")).await;
    assert_eq!(status.body["live_dcr_applications"], 1);
    let refused = user.patch(&item, json!({ "dcr_enabled": false })).await;
    refused.refused(409, "dcr_shutdown_required");
    assert_eq!(
        refused.body["details"],
        json!({ "live_dcr_applications": 1 })
    );
    let body = json!({ "dcr_enabled": false, "dcr_shutdown": "revoke_live" });
    user.patch(&item, body)
        .await
        .refused(503, "dcr_shutdown_unavailable");
    assert!(stored(&world, &zone).await.dcr_enabled);
    let body = json!({ "dcr_enabled": false, "dcr_shutdown": "keep_live" });
    assert_eq!(user.patch(&item, body).await.status, 200);
}

async fn register(world: &World, zone: &str) {
    let zone = World::zone_id(zone);
    let mut unit = world.store.begin(&zone).await.unwrap();
    let registered = Application {
        registration_method: RegistrationMethod::Dcr,
        expires_at: Some(START.plus_seconds(600)),
        ..application(&zone, "dcr-1")
    };
    unit.insert_application(&registered).await.unwrap();
    unit.commit().await.unwrap();
}

#[tokio::test]
async fn live_authority_holds_a_deletion_back_until_it_is_forced() {
    let world = World::new().await;
    let user = world.bootstrap();
    let zone = world.zone("orchard").await;
    let item = format!("/v1/zones/{zone}");
    start_session(&world.store, &zone, "session-1").await;
    let refused = user.delete(&item).await;
    refused.refused(409, "zone_has_live_authority");
    assert_eq!(
        refused.body["details"],
        json!({ "sessions": 1, "delegations": 0 })
    );
    user.delete(&format!("{item}?force=yes"))
        .await
        .refused(400, "invalid_query");
    assert!(stored(&world, &zone).await.is_live());
    assert_eq!(user.delete(&format!("{item}?force=true")).await.status, 204);

    let reader = world.store.read(&World::zone_id(&zone));
    let session = reader
        .get_session(&SessionId::parse("session-1").unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(session.status, SessionStatus::Terminated);
    let record = AuthorityRecordId::parse("record-session-1").unwrap();
    let record = reader.get_authority_record(&record).await.unwrap().unwrap();
    assert_eq!(record.status, RecordStatus::Revoked);
    assert!(!stored(&world, &zone).await.is_live());
    let sent = world
        .store
        .platform()
        .pending_outbox_messages(Timestamp::MAX, 100)
        .await
        .unwrap();
    let topics: Vec<&str> = sent.iter().map(|message| message.topic.as_str()).collect();
    assert_eq!(
        topics
            .iter()
            .filter(|topic| **topic == "caracal.sessions.revoke")
            .count(),
        2
    );
    assert!(topics.contains(&"caracal.agents.lifecycle"));
}

#[tokio::test]
async fn a_bare_record_does_not_hold_a_deletion_back() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    start_session(&world.store, &zone, "session-1").await;
    let id = World::zone_id(&zone);
    let mut unit = world.store.begin(&id).await.unwrap();
    unit.end_sessions(&[caracal_store::EndSession {
        id: SessionId::parse("session-1").unwrap(),
        status: SessionStatus::Terminated,
        reason: "done".to_owned(),
    }])
    .await
    .unwrap();
    unit.commit().await.unwrap();
    assert_eq!(
        world
            .bootstrap()
            .delete(&format!("/v1/zones/{zone}"))
            .await
            .status,
        204
    );
}

#[tokio::test]
async fn nothing_is_created_in_an_archived_zone_and_its_rows_stay_readable() {
    let world = World::new().await;
    let user = world.bootstrap();
    let zone = world.zone("orchard").await;
    let item = format!("/v1/zones/{zone}");
    let body = json!({ "name": "bot", "registration_method": "managed" });
    let made = user
        .post(&format!("{item}/applications"), body.clone())
        .await;
    user.delete(&item).await;
    for (list, body) in [
        ("applications", body),
        ("providers", json!({ "name": "p", "kind": "none" })),
        ("resources", json!({ "name": "r", "scopes": ["a"] })),
        ("policies", json!({ "name": "p", "content": "x" })),
        ("policy-sets", json!({ "name": "s" })),
    ] {
        user.post(&format!("{item}/{list}"), body)
            .await
            .refused(404, "zone_not_found");
    }
    let path = format!("{item}/applications/{}", made.text("id"));
    assert_eq!(user.get(&path).await.status, 200);
    let reader = world.store.read(&World::zone_id(&zone));
    let all = reader
        .list_applications(RowStatus::Live, &Page::first(10))
        .await
        .unwrap();
    assert_eq!(all.items.len(), 1);
}

#[tokio::test]
async fn an_unknown_zone_has_empty_lists_and_an_overview_of_zeros() {
    let world = World::new().await;
    let user = world.bootstrap();
    for list in [
        "applications",
        "providers",
        "resources",
        "policies",
        "policy-sets",
        "audit",
        "admin-audit",
        "sessions",
        "authority-records",
    ] {
        let answer = user.get(&format!("/v1/zones/none/{list}")).await;
        assert!(answer.items().is_empty(), "{list}");
        assert!(answer.body["next_cursor"].is_null());
    }
    let overview = user.get("/v1/zones/none/overview").await;
    assert_eq!(overview.body["applications"]["total"], 0);
}
