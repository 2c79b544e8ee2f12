//! Reading Sessions and delegations.

use serde_json::{Value, json};

use super::world::{NOTES, World};

fn ids(list: &Value, name: &str) -> Vec<String> {
    let items = list["items"].as_array().or(list.as_array()).unwrap();
    items
        .iter()
        .map(|item| item[name].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn an_application_sees_its_own_sessions_and_the_operator_all() {
    let world = World::new().await;
    let mine = world
        .start(
            "app",
            json!({ "metadata": { "task": "x" }, "labels": ["l"] }),
        )
        .await;
    world.clock.advance_seconds(1);
    let theirs = world.start("other", json!({})).await;
    let list = world.call("app", "GET", "/agents").send().await.ok(200);
    assert_eq!(ids(&list, "agent_session_id"), [&*mine]);
    assert_eq!(
        list["items"][0],
        json!({
            "agent_session_id": mine, "zone_id": "z1", "application_id": "app", "parent_id": null,
            "subject_authority_record_id": "rec-app", "lifecycle": "task", "labels": ["l"],
            "status": "active", "depth": 0, "ttl_seconds": 3600, "metadata": { "task": "x" },
            "started_at": "2026-07-29T10:00:00.000Z", "terminated_at": null,
            "termination_reason": null, "last_heartbeat_at": null, "heartbeat_deadline_at": null,
            "lease_generation": 0,
        })
    );
    let all = world.operate("GET", "/agents").send().await.ok(200);
    assert_eq!(ids(&all, "agent_session_id"), [&*theirs, &*mine]);
    world
        .call("app", "GET", &format!("/agents/{mine}"))
        .send()
        .await
        .ok(200);
    let foreign = world
        .call("app", "GET", &format!("/agents/{theirs}"))
        .send()
        .await;
    foreign.assert(404, "session_not_found");
    let filtered = world
        .call("app", "GET", "/agents?application_id=other")
        .send()
        .await
        .ok(200);
    assert_eq!(filtered, json!({ "items": [], "next_cursor": null }));
}

#[tokio::test]
async fn sessions_are_filtered_and_paged() {
    let world = World::new().await;
    let mut all = Vec::new();
    for label in ["a", "b", "a"] {
        all.push(world.start("app", json!({ "labels": [label] })).await);
        world.clock.advance_seconds(1);
    }
    let service = world.start("app", json!({ "lifecycle": "service" })).await;
    world
        .call("app", "PATCH", &format!("/agents/{}/suspend", all[0]))
        .send()
        .await
        .ok(200);
    let get = async |query: &str| {
        world
            .call("app", "GET", &format!("/agents{query}"))
            .send()
            .await
            .ok(200)
    };
    let id = "agent_session_id";
    assert_eq!(
        ids(&get("?label=a").await, id),
        [all[2].clone(), all[0].clone()]
    );
    assert_eq!(ids(&get("?status=suspended").await, id), [all[0].clone()]);
    assert_eq!(ids(&get("?lifecycle=service").await, id), [&*service]);
    let first = get("?limit=2").await;
    assert_eq!(ids(&first, id), [service, all[2].clone()]);
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(cursor, all[2]);
    let second = get(&format!("?limit=2&cursor={cursor}")).await;
    assert_eq!(ids(&second, id), [all[1].clone(), all[0].clone()]);
    let third = get(&format!("?limit=2&cursor={}", all[0])).await;
    assert_eq!(third, json!({ "items": [], "next_cursor": null }));
    let head = world.call("app", "HEAD", "/agents").send().await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
}

#[tokio::test]
async fn children_are_direct_ones_of_any_status() {
    let world = World::new().await;
    let root = world.start("app", json!({})).await;
    let child = world.start("app", json!({ "parent_id": root })).await;
    world.start("app", json!({ "parent_id": child })).await;
    world
        .call("app", "DELETE", &format!("/agents/{child}"))
        .send()
        .await
        .ok(204);
    let list = world
        .call("app", "GET", &format!("/agents/{root}/children"))
        .send()
        .await
        .ok(200);
    assert_eq!(ids(&list, "agent_session_id"), [child]);
    assert_eq!(list["items"][0]["termination_reason"], "requested");
    let none = world
        .call("app", "GET", "/agents/none/children")
        .send()
        .await
        .ok(200);
    assert_eq!(none["items"], json!([]));
}

#[tokio::test]
async fn delegations_are_shown_to_both_ends() {
    let world = World::new().await;
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("other", json!({})).await,
    );
    let edge = world.delegate((&a, "app"), (&b, "other"), json!({})).await;
    for reader in ["app", "other"] {
        let list = world
            .call(reader, "GET", "/delegations/active")
            .send()
            .await
            .ok(200);
        assert_eq!(ids(&list, "id"), [&*edge]);
        assert_eq!(list["items"][0]["broad_reason"], Value::Null);
    }
    let list = world
        .call("third", "GET", "/delegations/active")
        .send()
        .await
        .ok(200);
    assert_eq!(list["items"], json!([]));

    let path = format!("/delegations/inbound/{b}");
    let inbound = world.call("other", "GET", &path).send().await.ok(200);
    assert_eq!(ids(&inbound, "id"), [&*edge]);
    assert_eq!(inbound["next_cursor"], Value::Null);
    assert!(inbound["items"][0].get("broad_reason").is_none());
    let foreign = world.call("app", "GET", &path).send().await;
    foreign.assert(404, "session_not_found");
    let path = format!("/delegations/outbound/{a}");
    let outbound = world.call("app", "GET", &path).send().await.ok(200);
    assert_eq!(ids(&outbound, "id"), [edge]);
}

#[tokio::test]
async fn an_edge_past_its_end_is_reported_as_expired_before_any_sweep() {
    let world = World::new().await;
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    );
    let edge = world
        .delegate((&a, "app"), (&b, "app"), json!({ "ttl_seconds": 60 }))
        .await;
    world.clock.advance_seconds(60);
    let path = format!("/delegations/inbound/{b}");
    let list = world.call("app", "GET", &path).send().await.ok(200);
    assert_eq!(list["items"][0]["status"], "expired");
    let active = world
        .call("app", "GET", "/delegations/active")
        .send()
        .await
        .ok(200);
    assert_eq!(active["items"], json!([]));
    let one = world
        .call("app", "GET", &format!("{path}/{edge}"))
        .send()
        .await;
    one.assert(404, "delegation_not_found");
}

#[tokio::test]
async fn one_inbound_edge_is_for_its_receiver() {
    let world = World::new().await;
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("other", json!({})).await,
    );
    let edge = world.delegate((&a, "app"), (&b, "other"), json!({})).await;
    let path = format!("/delegations/inbound/{b}/{edge}");
    for stranger in ["app", "third"] {
        world
            .call(stranger, "GET", &path)
            .send()
            .await
            .assert(404, "delegation_not_found");
    }
    let elsewhere = format!("/delegations/inbound/{a}/{edge}");
    world
        .call("other", "GET", &elsewhere)
        .send()
        .await
        .assert(404, "delegation_not_found");
    world.operate("GET", &path).send().await.ok(200);
    assert!(
        !world.edge(&edge).await.accepted,
        "the operator looks, but takes nothing"
    );
    world.call("other", "GET", &path).send().await.ok(200);
}

#[tokio::test]
async fn the_operator_gets_bare_lists_unless_it_asks_for_a_page() {
    let world = World::new().await;
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("other", json!({})).await,
    );
    let edge = world.delegate((&a, "app"), (&b, "other"), json!({})).await;
    for path in [
        format!("/delegations/inbound/{b}"),
        format!("/delegations/outbound/{a}"),
    ] {
        let bare = world.operate("GET", &path).send().await.ok(200);
        assert_eq!(bare[0]["id"], edge);
        let page = world
            .operate("GET", &format!("{path}?limit=100"))
            .send()
            .await
            .ok(200);
        assert_eq!(page["items"][0]["id"], edge);
    }
    let nobody = world
        .operate("GET", "/delegations/inbound/none")
        .send()
        .await
        .ok(200);
    assert_eq!(nobody, json!([]));
}

#[tokio::test]
async fn effective_authority_adds_the_live_edges_up() {
    let world = World::new().await;
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    );
    let both = json!({
        "scopes": ["notes:read", "notes:write"], "resource_id": "res-notes",
        "constraints": { "max_hops": 3 }
    });
    let first = world.delegate((&a, "app"), (&b, "app"), both).await;
    world.clock.advance_seconds(1);
    let second = json!({
        "scopes": ["notes:read"], "ttl_seconds": 300,
        "constraints": { "resources": [NOTES], "max_hops": 2 }
    });
    let second = world.delegate((&a, "app"), (&b, "app"), second).await;
    let path = format!("/agents/{b}/effective-authority");
    let answer = world.call("app", "GET", &path).send().await.ok(200);
    assert_eq!(
        answer,
        json!({
            "agent_session_id": b, "inbound_edges": [first, second],
            "effective_scopes": ["notes:read"], "effective_resource_ids": ["res-notes"],
            "effective_resources": [NOTES], "effective_resource_constrained": true,
            "effective_max_hops": 2, "effective_ttl_seconds": 300,
            "earliest_expires_at": "2026-07-29T10:05:01.000Z",
        })
    );
    let nothing = world
        .operate("GET", "/agents/none/effective-authority")
        .send()
        .await
        .ok(200);
    assert_eq!(
        nothing,
        json!({
            "agent_session_id": "none", "inbound_edges": [], "effective_scopes": [],
            "effective_resource_ids": [], "effective_resources": [],
            "effective_resource_constrained": false, "effective_max_hops": 0,
            "effective_ttl_seconds": null, "earliest_expires_at": null,
        })
    );
    let foreign = world.call("other", "GET", &path).send().await;
    foreign.assert(404, "session_not_found");
}

#[tokio::test]
async fn only_admins_traverse_and_weigh() {
    let world = World::new().await;
    for tail in ["traverse", "impact"] {
        let answer = world
            .call("app", "GET", &format!("/delegations/any/{tail}"))
            .send()
            .await;
        answer.assert(403, "coordinator_admin_required");
    }
    let unknown = world
        .operate("GET", "/delegations/none/traverse")
        .send()
        .await
        .ok(200);
    assert_eq!(unknown, json!([]));
    let unknown = world
        .operate("GET", "/delegations/none/impact")
        .send()
        .await;
    unknown.assert(404, "delegation_not_found");
}

#[tokio::test]
async fn traverse_and_impact_follow_the_authority() {
    let world = World::new().await;
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    );
    let c = world
        .start("app", json!({ "subject_session_id": "rec-user" }))
        .await;
    let wide = json!({ "constraints": { "resources": [NOTES], "max_hops": 3 } });
    let first = world.delegate((&a, "app"), (&b, "app"), wide).await;
    let second = world
        .delegate((&b, "app"), (&c, "app"), json!({ "ttl_seconds": 60 }))
        .await;
    let steps = json!([
        { "id": first, "source_session_id": a, "target_session_id": b, "depth": 1 },
        { "id": second, "source_session_id": b, "target_session_id": c, "depth": 2 },
    ]);
    let path = format!("/delegations/{first}");
    let traversed = world
        .operate("GET", &format!("{path}/traverse"))
        .send()
        .await
        .ok(200);
    assert_eq!(traversed, steps);
    let impact = world
        .operate("GET", &format!("{path}/impact"))
        .send()
        .await
        .ok(200);
    assert_eq!(impact["edge_id"], first);
    assert_eq!(impact["affected_edges"], steps);
    assert_eq!(impact["affected_sessions"].as_array().unwrap().len(), 2);
    assert_eq!(impact["affected_agents"], impact["affected_sessions"]);
    assert_eq!(
        impact["affected_authority_records"],
        json!(["rec-app", "rec-user"])
    );
}

#[tokio::test]
async fn a_diamond_is_walked_once() {
    let world = World::new().await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(world.start("app", json!({})).await);
    }
    let [a, b, c, d] = [0, 1, 2, 3].map(|n: usize| (sessions[n].as_str(), "app"));
    let wide = json!({ "constraints": { "resources": [NOTES], "max_hops": 4 } });
    let root = world.delegate(a, b, wide).await;
    let middle = json!({
        "ttl_seconds": 60, "constraints": { "resources": [NOTES], "max_hops": 2 }
    });
    world.delegate(b, c, middle.clone()).await;
    world.delegate(b, c, middle.clone()).await;
    let leaf = json!({ "ttl_seconds": 30 });
    let into_c = world.edge(&root).await;
    assert_eq!(into_c.target_session_id.as_str(), b.0);
    world.delegate(b, d, leaf).await;
    let path = format!("/delegations/{root}/traverse");
    let steps = world.operate("GET", &path).send().await.ok(200);
    assert_eq!(steps.as_array().unwrap().len(), 4);
}
