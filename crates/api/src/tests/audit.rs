//! Reading evidence.

use caracal_core::id::EventId;
use caracal_core::{RequestId, Timestamp};
use caracal_evidence::event::{Decision, Event, EventType, Stamp};
use caracal_store::{AuditBatch, AuditEntry, AuditHead};
use serde_json::{Value, json};

use super::world::{START, World, snapshot};
use super::zones::start_session;

/// An event to store: id, seconds after the start, request, decision, metadata.
type Told<'a> = (&'a str, i64, &'a str, Decision, Value);

async fn store_events(world: &World, zone: &str, events: &[Told<'_>]) {
    let zone_id = World::zone_id(zone);
    let mut batch = AuditBatch {
        at: START.plus_seconds(60),
        ..AuditBatch::default()
    };
    for (seq, (id, seconds, request, decision, metadata)) in (1..).zip(events) {
        let at = START.plus_seconds(*seconds);
        batch
            .entries
            .push(entry(zone, seq, id, at, request, *decision, metadata));
    }
    batch.heads.push(AuditHead {
        zone_id,
        seq: events.len() as u64,
        chain_hash: vec![0; 32],
        frontier: vec![],
    });
    let mut unit = world.store.begin_platform().await.unwrap();
    unit.append_audit(&batch).await.unwrap();
    unit.commit().await.unwrap();
}

fn entry(
    zone: &str,
    seq: u64,
    id: &str,
    at: Timestamp,
    request: &str,
    decision: Decision,
    metadata: &Value,
) -> AuditEntry {
    let zone_id = World::zone_id(zone);
    let event_id = EventId::parse(id).unwrap();
    let clock = caracal_core::ManualClock::at(at);
    let request_id = RequestId::accept(Some(request), &clock, &caracal_core::SeededRandom::new(1));
    let kind = EventType::TokenExchange;
    let mut event = Event::new(
        Stamp::of(event_id.clone(), at),
        &zone_id,
        &request_id,
        kind,
        decision,
        "complete",
    );
    event = match decision {
        Decision::Deny => event.diagnostics(vec![json!({ "reason": "role_scope_mismatch" })]),
        _ => event.determining_policies(vec![json!({ "policy": "caracal-a-mint" })]),
    };
    for (name, value) in metadata.as_object().unwrap() {
        event = event.with(name.clone().leak(), value);
    }
    let text = |name: &str| metadata[name].as_str().map(str::to_owned);
    AuditEntry {
        zone_id,
        seq,
        event_id,
        occurred_at: at,
        event_type: kind.as_str().to_owned(),
        decision: decision.as_str().to_owned(),
        evaluation_status: "complete".to_owned(),
        request_id: request.to_owned(),
        application_id: text("application_id"),
        agent_session_id: text("agent_session_id"),
        authority_record_id: text("session_id"),
        labels: metadata["agent_labels"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|label| label.as_str().map(str::to_owned))
            .collect(),
        data: String::from_utf8(event.to_json().unwrap()).unwrap(),
        signature: None,
        leaf_hash: vec![u8::try_from(seq).unwrap(); 32],
        chain_hash: vec![u8::try_from(seq).unwrap(); 32],
    }
}

async fn world_with_events() -> (World, String) {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let session = json!({
        "application_id": "app-1", "agent_session_id": "s-1", "session_id": "record-1",
        "agent_labels": ["closer"], "resource": "resource://ledger",
        "requested_scopes": ["ledger:read"], "delegation_edge_id": "e-1",
        "application_registration_method": "managed", "agent_lifecycle": "task",
    });
    let other = json!({ "application_id": "app-2", "reason": "=formula", "token": "hidden" });
    store_events(
        &world,
        &zone,
        &[
            ("event-1", 1, "req-1", Decision::Allow, session.clone()),
            ("event-2", 2, "req-1", Decision::Deny, session),
            ("event-3", 3, "req-2", Decision::Allow, other),
        ],
    )
    .await;
    (world, zone)
}

fn ids(items: &[Value]) -> Vec<&str> {
    items
        .iter()
        .map(|item| item["id"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn filters_find_what_they_name() {
    let (world, zone) = world_with_events().await;
    let user = world.bootstrap();
    for (query, expected) in [
        ("", vec!["event-3", "event-2", "event-1"]),
        ("decision=deny", vec!["event-2"]),
        ("request_id=req-1", vec!["event-2", "event-1"]),
        ("application_id=app-2", vec!["event-3"]),
        ("session_id=s-1", vec!["event-2", "event-1"]),
        (
            "authority_record_id=record-1&decision=allow",
            vec!["event-1"],
        ),
        ("label=closer", vec!["event-2", "event-1"]),
        ("label=close", vec![]),
        (
            "event_type=token_exchange,run_launch",
            vec!["event-3", "event-2", "event-1"],
        ),
        ("event_type=run_launch", vec![]),
        ("since=2026-01-01T00:00:02Z", vec!["event-3", "event-2"]),
        ("until=2026-01-01T00:00:02Z", vec!["event-1"]),
        ("limit=1", vec!["event-3"]),
    ] {
        let found = user.get(&format!("/v1/zones/{zone}/audit?{query}")).await;
        assert_eq!(ids(found.items()), expected, "{query}");
    }
    let elsewhere = world.zone("elsewhere").await;
    assert!(
        user.get(&format!("/v1/zones/{elsewhere}/audit"))
            .await
            .items()
            .is_empty()
    );
}

#[tokio::test]
async fn a_search_waits_for_what_is_logged() {
    let (world, zone) = world_with_events().await;
    let user = world.bootstrap();
    for path in [
        "audit",
        "audit/by-request/req-1",
        "audit/by-request/req-1/explain",
    ] {
        let before = world.barrier.waits();
        assert_eq!(
            user.get(&format!("/v1/zones/{zone}/{path}")).await.status,
            200
        );
        assert_eq!(world.barrier.waits(), before + 1, "{path}");
    }
}

#[tokio::test]
async fn an_event_shows_everything_but_what_could_be_secret() {
    let (world, zone) = world_with_events().await;
    let found = world
        .bootstrap()
        .get(&format!("/v1/zones/{zone}/audit"))
        .await;
    assert!(!found.raw.contains("hidden") && !found.raw.contains("record-1"));
    snapshot("audit_event", &found.items()[1]);
}

#[tokio::test]
async fn chosen_fields_make_flat_rows() {
    let (world, zone) = world_with_events().await;
    let user = world.bootstrap();
    let path = format!("/v1/zones/{zone}/audit?limit=1&decision=deny&fields=");
    let found = user
        .get(&format!(
            "{path}id,resource,agent_labels,determining_policies"
        ))
        .await;
    assert_eq!(
        found.items()[0],
        json!({ "id": "event-2", "resource": "resource://ledger", "agent_labels": ["closer"], "determining_policies": [] })
    );
    user.get(&path).await.refused(400, "invalid_fields");
    user.get(&format!("{path}id,session_id"))
        .await
        .refused(400, "invalid_fields");
}

#[tokio::test]
async fn csv_is_one_page_without_formulas() {
    let (world, zone) = world_with_events().await;
    let path =
        format!("/v1/zones/{zone}/audit?format=csv&fields=id,occurred_at,requested_scopes,reason");
    let csv = world.bootstrap().get(&path).await;
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    let disposition = format!("attachment; filename=\"audit-{zone}.csv\"");
    assert_eq!(csv.headers["content-disposition"], disposition);
    assert_eq!(
        csv.raw,
        "id,occurred_at,requested_scopes,reason\r\n\
         event-3,2026-01-01T00:00:03.000Z,,'=formula\r\n\
         event-2,2026-01-01T00:00:02.000Z,ledger:read,\r\n\
         event-1,2026-01-01T00:00:01.000Z,ledger:read,\r\n"
    );
    world
        .bootstrap()
        .get(&format!("/v1/zones/{zone}/audit?format=xml"))
        .await
        .refused(400, "invalid_query");
}

#[tokio::test]
async fn a_request_is_told_in_order_and_explained() {
    let (world, zone) = world_with_events().await;
    let user = world.bootstrap();
    let path = format!("/v1/zones/{zone}/audit/by-request");
    let told = user.get(&format!("{path}/req-1")).await;
    assert_eq!(ids(told.body.as_array().unwrap()), ["event-1", "event-2"]);
    user.get(&format!("{path}/unknown"))
        .await
        .refused(404, "request_not_found");
    user.get(&format!("{path}/unknown/explain"))
        .await
        .refused(404, "request_not_found");
    let explained = user.get(&format!("{path}/req-1/explain")).await;
    assert_eq!(explained.body["final_decision"], "deny");
    assert_eq!(
        explained.body["denied"][0]["policy_input"]["session"],
        json!({ "id": "record-1" })
    );
    snapshot("audit_denial", &explained.body["denied"][0]);
    let allowed = user.get(&format!("{path}/req-2/explain")).await;
    assert_eq!(
        (&allowed.body["final_decision"], &allowed.body["denied"]),
        (&json!("allow"), &json!([]))
    );
}

#[tokio::test]
async fn an_explanation_can_be_simulated() {
    let (world, zone) = world_with_events().await;
    let explained = world
        .bootstrap()
        .get(&format!("/v1/zones/{zone}/audit/by-request/req-1/explain"))
        .await;
    let input = &explained.body["denied"][0]["policy_input"];
    assert!(caracal_policy::DecisionInput::from_json(input).is_ok());
    assert!(caracal_policy::input_warnings(input, &World::zone_id(&zone)).is_empty());
}

#[tokio::test]
async fn the_admin_audit_names_fields_and_never_values() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let user = world.bootstrap();
    let body = json!({
        "name": "Key", "kind": "api_key",
        "config_json": { "header_name": "X-Key", "api_key": "s3cret-value" },
    });
    let made = user
        .post(&format!("/v1/zones/{zone}/providers"), body)
        .await;
    let path = format!("/v1/zones/{zone}/admin-audit");
    let list = user.get(&format!("{path}?entity_type=providers")).await;
    assert_eq!(list.items().len(), 1);
    assert!(!list.raw.contains("s3cret-value"));
    let row = &list.items()[0];
    assert_eq!(row["entity_id"], made.body["id"]);
    let payload = json!({
        "rls_mode": "zone_scoped", "rls_zone_guc": zone, "change_kind": "create",
        "changed_fields": ["config_json.header_name", "kind", "name"], "secret_rotated": true,
    });
    assert_eq!(row["payload_json"], payload);
    assert!(
        user.get(&format!("{path}?method=DELETE"))
            .await
            .items()
            .is_empty()
    );
    user.get(&format!("{path}?method=GET"))
        .await
        .refused(400, "invalid_query");
    user.get(&format!("{path}?fields=payload_json"))
        .await
        .refused(400, "invalid_fields");
    let csv = user
        .get(&format!("{path}?format=csv&entity_type=providers&fields=method,change_kind,changed_fields,signed"))
        .await;
    assert_eq!(
        csv.raw,
        "method,change_kind,changed_fields,signed\r\n\
         POST,create,config_json.header_name kind name,true\r\n"
    );
    let all = user.get(&format!("{path}?format=csv")).await;
    assert!(all.raw.starts_with("id,occurred_at,action,method,path,"));
}

#[tokio::test]
async fn a_change_and_its_audit_row_are_one() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let user = world.bootstrap();
    let item = format!("/v1/zones/{zone}");
    let rows = || async { user.get(&format!("{item}/admin-audit")).await.items().len() };
    let mut before = rows().await;
    let application = json!({ "name": "a", "registration_method": "managed" });
    let made = user
        .post(&format!("{item}/applications"), application)
        .await;
    let application = format!("{item}/applications/{}", made.text("id"));
    user.patch(&item, json!({ "name": "b" })).await;
    world.clock.advance_seconds(1);
    user.post_nothing(&format!("{application}/rotate-secret"))
        .await;
    world.clock.advance_seconds(1);
    user.delete(&application).await;
    assert_eq!(rows().await, before + 4);
    before = rows().await;
    user.get(&application).await;
    user.get(&item).await;
    assert_eq!(
        rows().await,
        before + 1,
        "a refused read leaves a row, an answered one does not"
    );
    let rotated = user
        .get(&format!("{item}/admin-audit?entity_type=applications"))
        .await;
    let kinds: Vec<_> = rotated
        .items()
        .iter()
        .filter_map(|row| row["payload_json"]["change_kind"].as_str())
        .collect();
    assert_eq!(kinds, ["delete", "secret_rotation", "create"]);
}

#[tokio::test]
async fn sessions_and_records_are_listed_with_their_subjects() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    start_session(&world.store, &zone, "session-1").await;
    let user = world.bootstrap();
    let item = format!("/v1/zones/{zone}");
    let sessions = user.get(&format!("{item}/sessions")).await;
    let records = user.get(&format!("{item}/authority-records")).await;
    snapshot("sessions", &sessions.body);
    snapshot("authority_records", &records.body);
    for (query, count) in [
        ("status=active", 1),
        ("status=suspended", 0),
        ("lifecycle=task", 1),
        ("application_id=app-1", 1),
        ("subject_id=user-1", 1),
        ("label=closer", 1),
        ("label=other", 0),
    ] {
        let found = user.get(&format!("{item}/sessions?{query}")).await;
        assert_eq!(found.items().len(), count, "{query}");
    }
    for (query, count) in [
        ("kind=user", 1),
        ("kind=application", 0),
        ("status=revoked", 0),
        ("authority_record_id=record-session-1", 1),
    ] {
        let found = user.get(&format!("{item}/authority-records?{query}")).await;
        assert_eq!(found.items().len(), count, "{query}");
    }
    for bad in ["status=live", "kind=x"] {
        user.get(&format!("{item}/authority-records?{bad}"))
            .await
            .refused(400, "invalid_query");
    }
    let csv = user.get(&format!("{item}/sessions?format=csv")).await;
    assert!(csv.raw.contains("closer =risky"), "{}", csv.raw);
    assert!(csv.raw.lines().all(|line| line.split(',').count() == 17));
    let csv = user
        .get(&format!("{item}/authority-records?format=csv"))
        .await;
    assert!(
        csv.raw
            .starts_with("authority_record_id,authority_record_type,")
    );
}
