//! Creating delegations, narrowing them, and whose edges count.

use serde_json::{Value, json};

use super::world::{LIFECYCLE, NOTES, World, merged};

async fn pair(world: &World) -> (String, String) {
    (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    )
}

fn hops(max_hops: u8) -> Value {
    json!({ "constraints": { "resources": [NOTES], "max_hops": max_hops } })
}

#[tokio::test]
async fn a_delegation_answers_with_documented_fields() {
    let world = World::new().await;
    let source = world.start("app", json!({})).await;
    let target = world.start("other", json!({})).await;
    let body = json!({
        "resource_id": NOTES, "constraints": { "max_hops": 2 }, "scopes": ["notes:read"]
    });
    let answer = world
        .try_delegate((&source, "app"), (&target, "other"), body)
        .await
        .ok(201);
    let id = answer["delegation_edge_id"].as_str().unwrap();
    assert_eq!(
        answer,
        json!({
            "delegation_edge_id": id, "zone_id": "z1", "source_session_id": source,
            "target_session_id": target, "issuer_application_id": "app",
            "receiver_application_id": "other", "parent_edge_id": null, "resource_id": "res-notes",
            "scopes": ["notes:read"], "constraints_json": { "ttl_seconds": 600, "max_hops": 2 },
            "status": "active", "expires_at": "2026-07-29T10:10:00.000Z", "edge_version": 0,
            "revoked_at": null, "created_at": "2026-07-29T10:00:00.000Z", "warnings": [],
            "allow_reason": ["same_zone_endpoints_active", "resource_scope_checked",
                "source_authority_root", "typed_constraints_validated"],
            "effective_authority": {
                "source_session_id": source, "target_session_id": target, "parent_edge_id": null,
                "resource_id": "res-notes", "resources": [NOTES], "scopes": ["notes:read"],
                "expires_at": "2026-07-29T10:10:00.000Z", "max_hops": 2, "ttl_seconds": 600,
                "broad": false, "parent_edges_considered": [],
            },
        })
    );
}

#[tokio::test]
async fn a_row_id_names_a_resource_too() {
    let world = World::new().await;
    let (a, b) = pair(&world).await;
    let body = json!({ "resource_id": "res-notes", "constraints": {} });
    let answer = world
        .try_delegate((&a, "app"), (&b, "app"), body)
        .await
        .ok(201);
    assert_eq!(answer["resource_id"], "res-notes");
    let listed = json!({ "constraints": { "resources": ["res-notes"] } });
    let answer = world.try_delegate((&a, "app"), (&b, "app"), listed).await;
    answer.assert(404, "resource_not_found");
}

#[tokio::test]
async fn requests_that_cannot_be_are_refused() {
    let world = World::new().await;
    let (a, b) = pair(&world).await;
    let theirs = world.start("other", json!({})).await;
    let refused = async |from: (&str, &str), to: (&str, &str), extra: Value, status, code: &str| {
        world
            .try_delegate(from, to, extra)
            .await
            .assert(status, code);
    };
    let (a_app, b_app) = ((&*a, "app"), (&*b, "app"));
    refused(a_app, a_app, json!({}), 400, "self_delegation_denied").await;
    let body = json!({ "constraints": {} });
    refused(
        a_app,
        b_app,
        body,
        403,
        "broad_delegation_permission_required",
    )
    .await;
    let body = json!({ "constraints": { "resources": [] } });
    refused(
        a_app,
        b_app,
        body,
        403,
        "broad_delegation_permission_required",
    )
    .await;
    refused(
        a_app,
        ("none", "app"),
        json!({}),
        404,
        "delegation_endpoint_not_found",
    )
    .await;
    refused(
        ("none", "app"),
        b_app,
        json!({}),
        404,
        "delegation_endpoint_not_found",
    )
    .await;
    refused(
        a_app,
        (&b, "other"),
        json!({}),
        409,
        "delegation_application_mismatch",
    )
    .await;
    refused(
        (&theirs, "app"),
        b_app,
        json!({}),
        409,
        "delegation_application_mismatch",
    )
    .await;
    let body = json!({ "resource_id": "resource://none" });
    refused(a_app, b_app, body, 404, "resource_not_found").await;
    let body = json!({ "resource_id": "res-mail" });
    refused(
        a_app,
        b_app,
        body,
        400,
        "delegation_resource_scope_mismatch",
    )
    .await;
    let body = json!({ "scopes": ["notes:read", "mail:send"] });
    refused(a_app, b_app, body, 403, "delegation_scopes_exceed_resource").await;
    let body = json!({ "expires_at": "2026-07-29T10:00:00Z" });
    refused(a_app, b_app, body, 400, "delegation_expired").await;
    let call = world.call("other", "POST", "/delegations");
    let body = World::delegation(a_app, b_app, json!({}));
    call.json(&body)
        .send()
        .await
        .assert(403, "issuer_ownership_required");
}

#[tokio::test]
async fn bad_constraints_name_their_key() {
    let world = World::new().await;
    let (a, b) = pair(&world).await;
    for (constraints, code) in [
        (json!({ "resources": "x" }), "invalid_resources"),
        (json!({ "max_depth": 0 }), "invalid_max_depth"),
        (json!({ "max_hops": 11 }), "invalid_max_hops"),
        (json!({ "max_hops": 1, "max_depth": 2 }), "invalid_max_hops"),
        (json!({ "budget": 65 }), "invalid_budget"),
        (json!({ "ttl_seconds": 0 }), "invalid_ttl_seconds"),
        (json!({ "policy_approved": 1 }), "invalid_policy_approved"),
        (json!({ "expires_at": "soon" }), "invalid_expires_at"),
        (json!({ "broad_reason": "" }), "invalid_broad_reason"),
        (json!({ "hops": 1 }), "invalid_delegation_constraint"),
        (json!([]), "invalid_delegation_constraint"),
    ] {
        let body = json!({ "constraints": constraints });
        world
            .try_delegate((&a, "app"), (&b, "app"), body)
            .await
            .assert(400, code);
    }
}

#[tokio::test]
async fn an_end_is_required() {
    let world = World::new().await;
    let (a, b) = pair(&world).await;
    let mut body = World::delegation((&a, "app"), (&b, "app"), json!({}));
    body.as_object_mut().unwrap().remove("ttl_seconds");
    let answer = world
        .call("app", "POST", "/delegations")
        .json(&body)
        .send()
        .await;
    answer.assert(400, "delegation_expiry_required");
}

#[tokio::test]
async fn a_right_to_delegate_broadly_is_honoured_and_noted() {
    let world = World::new().await;
    let (a, b) = pair(&world).await;
    let token = world.token_with(
        "app",
        &format!("{LIFECYCLE} coordinator.delegate_broad:app"),
    );
    let body = World::delegation((&a, "app"), (&b, "app"), json!({ "constraints": {} }));
    let call = world.plain("POST", "/zones/z1/delegations").bearer(&token);
    let answer = call.json(&body).send().await.ok(201);
    let constraints = &answer["constraints_json"];
    assert_eq!(constraints["broad_reason"], "resource_null_delegation");
    assert_eq!(constraints["policy_approved"], true);
    let warning = "resource_null_delegation_broadens_resource_matching";
    assert_eq!(answer["warnings"], json!([warning]));
    assert_eq!(answer["allow_reason"][1], "broad_delegation_elevated");
    assert_eq!(answer["effective_authority"]["broad"], true);
}

#[tokio::test]
async fn suspended_and_lapsed_sessions_neither_give_nor_get() {
    let world = World::new().await;
    let (a, b) = pair(&world).await;
    world
        .call("app", "PATCH", &format!("/agents/{a}/suspend"))
        .send()
        .await
        .ok(200);
    let answer = world
        .try_delegate((&a, "app"), (&b, "app"), json!({}))
        .await;
    answer.assert(404, "delegation_endpoint_not_found");
    let short = world.start("app", json!({ "ttl_seconds": 60 })).await;
    let below = world.start("app", json!({ "parent_id": short })).await;
    world.clock.advance_seconds(60);
    for target in [short, below] {
        let answer = world
            .try_delegate((&b, "app"), (&target, "app"), json!({}))
            .await;
        answer.assert(404, "delegation_endpoint_not_found");
    }
}

#[tokio::test]
async fn a_delegation_may_ask_for_more_time_than_its_sessions_have() {
    let world = World::new().await;
    let a = world.start("app", json!({ "ttl_seconds": 60 })).await;
    let b = world.start("app", json!({ "ttl_seconds": 60 })).await;
    world.clock.advance_seconds(1);
    let edge = world
        .delegate((&a, "app"), (&b, "app"), json!({ "ttl_seconds": 60 }))
        .await;
    assert_eq!(world.edge(&edge).await.status.as_str(), "active");
}

#[tokio::test]
async fn the_only_live_edge_is_the_parent_and_the_child_is_narrower() {
    let world = World::new().await;
    let (a, b) = pair(&world).await;
    let c = world.start("other", json!({})).await;
    let parent = world.delegate((&a, "app"), (&b, "app"), hops(3)).await;
    world.clock.advance_seconds(1);
    let narrow = |extra: Value| merged(json!({ "ttl_seconds": 60 }), extra);
    let to_c = async |extra: Value| {
        world
            .try_delegate((&b, "app"), (&c, "other"), narrow(extra))
            .await
    };
    let exceeds = "delegation_exceeds_parent_authority";
    to_c(json!({ "scopes": ["notes:write"] }))
        .await
        .assert(403, exceeds);
    to_c(json!({ "expires_at": "2026-07-29T10:10:01Z" }))
        .await
        .assert(403, exceeds);
    to_c(hops(3)).await.assert(403, exceeds);
    let mail = json!({ "resource_id": "resource://mail", "constraints": {}, "scopes": [] });
    to_c(mail).await.assert(403, exceeds);
    to_c(json!({ "ttl_seconds": 601 }))
        .await
        .assert(403, exceeds);
    let equal = json!({ "ttl_seconds": 600 });
    let same_ttl = world.try_delegate((&b, "app"), (&c, "other"), equal).await;
    same_ttl.assert(403, exceeds);
    let past = json!({ "expires_at": "2026-07-29T10:00:00Z" });
    to_c(past).await.assert(403, exceeds);

    let child = to_c(hops(2)).await.ok(201);
    assert_eq!(child["parent_edge_id"], parent);
    assert_eq!(child["allow_reason"][2], "parent_authority_narrowed");
    let considered = &child["effective_authority"]["parent_edges_considered"];
    assert_eq!(*considered, json!([parent]));
}

#[tokio::test]
async fn an_edge_with_one_hop_is_not_handed_on() {
    let world = World::new().await;
    let (a, b) = pair(&world).await;
    let c = world.start("app", json!({})).await;
    world.delegate((&a, "app"), (&b, "app"), json!({})).await;
    let answer = world
        .try_delegate((&b, "app"), (&c, "app"), json!({ "ttl_seconds": 60 }))
        .await;
    answer.assert(403, "delegation_exceeds_parent_authority");
}

#[tokio::test]
async fn a_mirrored_edge_has_the_hops_of_its_parent() {
    let world = World::new().await;
    let (a, b) = pair(&world).await;
    let c = world.start("other", json!({})).await;
    world.delegate((&a, "app"), (&b, "app"), hops(2)).await;
    let child = world.start("app", json!({ "parent_id": b })).await;
    let answer = world
        .try_delegate((&child, "app"), (&c, "other"), json!({ "ttl_seconds": 60 }))
        .await;
    answer.ok(201);
}

#[tokio::test]
async fn a_narrowed_budget_is_no_larger_than_any_above() {
    let world = World::new().await;
    let (a, b) = pair(&world).await;
    let c = world.start("app", json!({})).await;
    let budget = |budget: u8, max_hops: u8| {
        let constraints = json!({ "resources": [NOTES], "budget": budget, "max_hops": max_hops });
        json!({ "constraints": constraints, "ttl_seconds": 60 })
    };
    let wide = json!({ "constraints": { "resources": [NOTES], "budget": 5, "max_hops": 4 } });
    world.delegate((&a, "app"), (&b, "app"), wide).await;
    let answer = world
        .try_delegate((&b, "app"), (&c, "app"), budget(6, 2))
        .await;
    answer.assert(403, "delegation_exceeds_parent_authority");
    world.delegate((&b, "app"), (&c, "app"), budget(5, 2)).await;
}

#[tokio::test]
async fn several_live_edges_need_a_name() {
    let world = World::new().await;
    let (a, b) = pair(&world).await;
    let c = world.start("app", json!({})).await;
    let first = world.delegate((&a, "app"), (&b, "app"), hops(3)).await;
    world.delegate((&a, "app"), (&b, "app"), hops(3)).await;
    let narrow = json!({ "ttl_seconds": 60 });
    let answer = world
        .try_delegate((&b, "app"), (&c, "app"), narrow.clone())
        .await;
    answer.assert(409, "parent_delegation_ambiguous");
    let named = merged(narrow, json!({ "parent_edge_id": first }));
    let answer = world
        .try_delegate((&b, "app"), (&c, "app"), named)
        .await
        .ok(201);
    assert_eq!(answer["parent_edge_id"], first);
}

#[tokio::test]
async fn a_named_parent_that_is_not_active_is_never_ignored() {
    let world = World::new().await;
    let (a, b) = pair(&world).await;
    let c = world.start("app", json!({})).await;
    let elsewhere = world.delegate((&a, "app"), (&c, "app"), json!({})).await;
    for parent in ["none", &elsewhere] {
        let named = json!({ "parent_edge_id": parent });
        let answer = world.try_delegate((&a, "app"), (&b, "app"), named).await;
        answer.assert(403, "parent_delegation_not_active");
    }
}

#[tokio::test]
async fn a_narrowed_session_never_regains_root_authority() {
    let world = World::new().await;
    let (a, b) = pair(&world).await;
    let c = world.start("app", json!({})).await;
    let edge = world
        .delegate((&a, "app"), (&b, "app"), json!({ "ttl_seconds": 60 }))
        .await;
    let before = world
        .start("app", json!({ "parent_id": b, "parent_authority": "none" }))
        .await;
    world.clock.advance_seconds(60);
    let answer = world
        .try_delegate((&b, "app"), (&c, "app"), json!({}))
        .await;
    answer.assert(403, "parent_delegation_not_active");
    let named = json!({ "parent_edge_id": edge });
    let answer = world.try_delegate((&b, "app"), (&c, "app"), named).await;
    answer.assert(403, "parent_delegation_not_active");
    let after = world
        .start("app", json!({ "parent_id": b, "parent_authority": "none" }))
        .await;
    for child in [before, after] {
        let answer = world
            .try_delegate((&child, "app"), (&c, "app"), json!({}))
            .await;
        answer.assert(403, "parent_delegation_not_active");
    }
}

#[tokio::test]
async fn a_child_of_a_root_is_a_root_until_it_is_narrowed() {
    let world = World::new().await;
    let root = world.start("app", json!({})).await;
    let child = world
        .start(
            "app",
            json!({ "parent_id": root, "parent_authority": "none" }),
        )
        .await;
    let c = world.start("app", json!({})).await;
    world
        .delegate((&child, "app"), (&c, "app"), json!({}))
        .await;
    world
        .delegate((&root, "app"), (&child, "app"), json!({}))
        .await;
    assert!(!world.session(&child).await.authority_root);
}

#[tokio::test]
async fn an_unsolicited_offer_changes_nothing_for_its_receiver() {
    let world = World::new().await;
    let attacker = world.start("other", json!({})).await;
    let (mine, c) = pair(&world).await;
    let offer = world
        .delegate((&attacker, "other"), (&mine, "app"), json!({}))
        .await;
    let answer = world
        .try_delegate((&mine, "app"), (&c, "app"), hops(4))
        .await
        .ok(201);
    assert_eq!(answer["parent_edge_id"], Value::Null);
    assert!(world.session(&mine).await.authority_root);
    let path = format!("/agents/{mine}/effective-authority");
    let effective = world.call("app", "GET", &path).send().await.ok(200);
    assert_eq!(effective["inbound_edges"], json!([]));
    assert!(!world.edge(&offer).await.accepted);
}

#[tokio::test]
async fn reading_an_offer_takes_it() {
    let world = World::new().await;
    let theirs = world.start("other", json!({})).await;
    let (mine, c) = pair(&world).await;
    let offer = world
        .delegate((&theirs, "other"), (&mine, "app"), hops(3))
        .await;
    let path = format!("/delegations/inbound/{mine}/{offer}");
    let answer = world.call("app", "GET", &path).send().await.ok(200);
    assert_eq!(
        answer,
        json!({ "id": offer, "status": "active", "expires_at": "2026-07-29T10:10:00.000Z" })
    );
    assert!(world.edge(&offer).await.accepted);
    let narrow = json!({ "ttl_seconds": 60 });
    let child = world
        .try_delegate((&mine, "app"), (&c, "app"), narrow)
        .await
        .ok(201);
    assert_eq!(child["parent_edge_id"], offer);
    let trail = world.trail().await;
    let taken = trail
        .iter()
        .filter(|row| row.audit.entity_id.as_deref() == Some(&*offer));
    assert_eq!(taken.count(), 2, "its creation and its acceptance");
}

#[tokio::test]
async fn naming_an_offer_as_parent_takes_it() {
    let world = World::new().await;
    let theirs = world.start("other", json!({})).await;
    let (mine, c) = pair(&world).await;
    let offer = world
        .delegate((&theirs, "other"), (&mine, "app"), hops(3))
        .await;
    let named = json!({ "parent_edge_id": offer, "ttl_seconds": 60 });
    world.delegate((&mine, "app"), (&c, "app"), named).await;
    assert!(world.edge(&offer).await.accepted);
    assert!(!world.session(&mine).await.authority_root);
}

#[tokio::test]
async fn a_parent_below_an_ended_session_is_not_active() {
    let world = World::new().await;
    let a = world.start("app", json!({ "ttl_seconds": 60 })).await;
    let (b, c) = pair(&world).await;
    let edge = world.delegate((&a, "app"), (&b, "app"), hops(3)).await;
    world.clock.advance_seconds(60);
    let named = json!({ "parent_edge_id": edge, "ttl_seconds": 60 });
    let answer = world.try_delegate((&b, "app"), (&c, "app"), named).await;
    answer.assert(403, "parent_delegation_not_active");
    assert_eq!(
        world.edge_status(&edge).await,
        "active",
        "no sweep has been here"
    );
}

#[tokio::test]
async fn authority_does_not_go_in_circles() {
    let world = World::new().await;
    let (a, b) = pair(&world).await;
    let c = world.start("app", json!({})).await;
    world.delegate((&a, "app"), (&b, "app"), hops(4)).await;
    let narrow = |max_hops| merged(hops(max_hops), json!({ "ttl_seconds": 60 }));
    world.delegate((&b, "app"), (&c, "app"), narrow(3)).await;
    let back = world
        .try_delegate((&c, "app"), (&a, "app"), narrow(2))
        .await;
    back.assert(409, "delegation_cycle_denied");
    let equal_ttl = world.try_delegate((&b, "app"), (&a, "app"), hops(3)).await;
    equal_ttl.assert(409, "delegation_cycle_denied");
}

#[tokio::test]
async fn a_creation_makes_no_mandate_stale() {
    let world = World::new().await;
    let (a, b) = pair(&world).await;
    world.delegate((&a, "app"), (&b, "app"), json!({})).await;
    assert_eq!(world.epoch().await, 0);
    assert!(
        world
            .stream("caracal.delegations.invalidate")
            .await
            .is_empty()
    );
}
