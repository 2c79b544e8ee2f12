//! `/v1/verify`.

use caracal_core::id::{DelegationId, SessionId};
use caracal_crypto::MandateUse;
use caracal_store::entity::Author;
use serde_json::{Value, json};

use super::world::{Answer, Mint, World};

async fn verify(world: &World, body: Value) -> Answer {
    world.plain("POST", "/v1/verify").json(&body).send().await
}

#[track_caller]
fn assert_invalid(answer: &Answer, status: u16, code: &str) {
    answer.assert(status, code);
    assert_eq!(answer.body["valid"], false);
}

#[tokio::test]
async fn a_mandate_gives_its_claims() {
    let world = World::new().await;
    let token = world.token("app");
    let now = caracal_core::Clock::now(&*world.clock).seconds();
    for body in [
        json!({ "zone_id": "z1", "token": token }),
        json!({ "zone_id": "z1", "authorization": format!("Bearer {token}") }),
        json!({ "zone_id": "z1", "authorization": token, "required_scope": "agent:lifecycle" }),
    ] {
        let answer = verify(&world, body).await.ok(200);
        assert_eq!(answer["valid"], true);
        let mut claims = answer["claims"].clone();
        let jti = claims.as_object_mut().unwrap().remove("jti");
        assert!(jti.is_some_and(|jti| jti.is_string()));
        assert_eq!(
            claims,
            json!({
                "sub": "app", "zoneId": "z1", "clientId": "app", "authorityRecordId": "rec-app",
                "rootAuthorityRecordId": "rec-app", "use": "session", "subType": "application",
                "issuedAt": now, "expiresAt": now + 900, "scope": "agent:lifecycle",
            })
        );
    }
}

#[tokio::test]
async fn unusable_requests_are_told_apart() {
    let world = World::new().await;
    for bad in [
        json!({}),
        json!([]),
        json!({ "zone_id": "", "token": "x" }),
        json!({ "zone_id": "z1", "token": 1 }),
        json!({ "zone_id": "z1", "token": "x", "more": 1 }),
        json!({ "zone_id": "z1", "token": "x", "require_session": "yes" }),
    ] {
        assert_invalid(&verify(&world, bad).await, 400, "invalid_request");
    }
    let call = world.plain("POST", "/v1/verify").text("{");
    assert_invalid(&call.send().await, 400, "invalid_request");
    assert_invalid(
        &verify(&world, json!({ "zone_id": "z1" })).await,
        400,
        "missing_token",
    );
    let empty = json!({ "zone_id": "z1", "token": "" });
    assert_invalid(&verify(&world, empty).await, 400, "missing_token");
}

#[tokio::test]
async fn mandates_that_do_not_hold_are_invalid() {
    let world = World::new().await;
    let token = world.token("app");
    let gateway = world.mint(&Mint {
        mandate_use: MandateUse::Gateway,
        ..Mint::default()
    });
    for body in [
        json!({ "zone_id": "z2", "token": token }),
        json!({ "zone_id": "z9", "token": token }),
        json!({ "zone_id": "z1", "token": gateway }),
        json!({ "zone_id": "z1", "token": "rubbish" }),
        json!({ "zone_id": "z1", "token": token, "required_scope": "notes:read" }),
        json!({ "zone_id": "z1", "token": token, "require_session": true }),
        json!({ "zone_id": "z1", "token": token, "require_delegation": true }),
    ] {
        assert_invalid(&verify(&world, body).await, 401, "token_invalid");
    }
}

#[tokio::test]
async fn withdrawn_authority_is_invalid_before_the_mandate_expires() {
    let world = World::new().await;
    let token = world.token("app");
    verify(&world, json!({ "zone_id": "z1", "token": token }))
        .await
        .ok(200);
    let id = world.start("app", json!({})).await;
    let mut claims = world.claims(&Mint::default());
    claims.agent_session_id = Some(SessionId::parse(&id).unwrap());
    let bound = json!({ "zone_id": "z1", "token": world.sign(&claims), "require_session": true });
    verify(&world, bound.clone()).await.ok(200);
    world
        .call("app", "DELETE", &format!("/agents/{id}"))
        .send()
        .await
        .ok(204);
    assert_invalid(&verify(&world, bound).await, 401, "token_invalid");
    world.revoke_record("rec-app").await;
    let body = json!({ "zone_id": "z1", "token": token });
    assert_invalid(&verify(&world, body).await, 401, "token_invalid");
}

#[tokio::test]
async fn a_mandate_of_a_revoked_delegation_is_invalid() {
    let world = World::new().await;
    let ours = world.start("app", json!({})).await;
    let theirs = world.start("other", json!({})).await;
    let edge = world
        .delegate((&ours, "app"), (&theirs, "other"), json!({}))
        .await;
    let mut claims = world.claims(&Mint::default());
    claims.delegation_edge_id = Some(DelegationId::parse(&edge).unwrap());
    let bound = json!({ "zone_id": "z1", "token": world.sign(&claims) });
    verify(&world, bound.clone()).await.ok(200);
    world
        .call("app", "PATCH", &format!("/delegations/{edge}/revoke"))
        .send()
        .await
        .ok(200);
    assert_invalid(&verify(&world, bound).await, 401, "token_invalid");
}

#[tokio::test]
async fn a_mandate_of_an_archived_application_is_invalid() {
    let world = World::new().await;
    let body = json!({ "zone_id": "z1", "token": world.token("app") });
    verify(&world, body.clone()).await.ok(200);
    let mut unit = world.store.begin(&world.zone).await.unwrap();
    unit.archive_application(&"app".parse().unwrap(), &Author::default())
        .await
        .unwrap();
    unit.commit().await.unwrap();
    assert_invalid(&verify(&world, body).await, 401, "token_invalid");
}

#[tokio::test]
async fn a_mandate_of_an_archived_zone_is_invalid() {
    let world = World::new().await;
    let body = json!({ "zone_id": "z1", "token": world.token("app") });
    verify(&world, body.clone()).await.ok(200);
    let mut unit = world.store.begin(&world.zone).await.unwrap();
    unit.archive_zone(&Author::default()).await.unwrap();
    unit.commit().await.unwrap();
    assert_invalid(&verify(&world, body).await, 401, "token_invalid");
}

#[tokio::test]
async fn verification_is_limited_and_fails_closed() {
    let world = World::with(|options| options.verifications_per_minute = 2).await;
    let body = json!({ "zone_id": "z1", "token": world.token("app") });
    world.fail_keys(true);
    let answer = verify(&world, body.clone()).await;
    assert_invalid(&answer, 503, "verification_unavailable");
    world.fail_keys(false);
    verify(&world, body.clone()).await.ok(200);
    let answer = verify(&world, body).await;
    assert_invalid(&answer, 429, "rate_limited");
    assert!(answer.headers.contains_key("retry-after"));
}
