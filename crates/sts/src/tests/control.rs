//! Control keys.

use caracal_core::Secret;
use caracal_store::entity::Application;
use serde_json::json;

use crate::testing::{Answer, World, rows};

const CONTROL: &str = "caracal-control";

async fn with_traits(traits: &[&str]) -> World {
    with_key(traits, |_| {}).await
}

async fn with_key(traits: &[&str], adjust: impl FnOnce(&mut Application)) -> World {
    let world = World::new().await;
    let mut key = rows::application("app-ctl");
    key.traits = traits.iter().map(|text| (*text).to_owned()).collect();
    adjust(&mut key);
    let secret = Secret::new("cs_control".to_owned());
    key.secret_hash = Some(world.secrets.peppers().hash_generated(&secret));
    let mut resource = rows::resource(CONTROL, &["control:app:list", "control:app:delete"]);
    resource.upstream_url = None;
    resource.credential_provider_id = None;
    let mut unit = world.unit().await;
    unit.insert_application(&key).await.unwrap();
    unit.insert_resource(&resource).await.unwrap();
    unit.commit().await.unwrap();
    world
}

async fn mint(world: &World, fields: &[(&str, &str)]) -> Answer {
    let mut all = vec![
        ("application_id", "app-ctl"),
        ("client_secret", "cs_control"),
        ("resource", CONTROL),
        ("scope", "control:app:list"),
    ];
    all.retain(|(name, _)| !fields.iter().any(|(field, _)| field == name));
    all.extend(fields);
    world.token(&all).await
}

fn outcome(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.code())
}

const KEY: [&str; 2] = ["control:invoke", "control:scope:control:app:list"];

#[tokio::test]
async fn a_control_key_mints_for_the_control_plane_without_naming_a_zone() {
    let world = with_traits(&KEY).await;
    let claims = mint(&world, &[("zone_id", "")]).await.claims();
    assert_eq!(claims["use"], "resource");
    assert_eq!(claims["aud"], json!([CONTROL]));
    assert_eq!(claims["target"], json!([CONTROL]));
    assert_eq!(claims["zone_id"], "z-demo");
    assert_eq!(claims["scope"], "control:app:list");
    assert_eq!(claims["root_sid"], claims["sid"]);
    assert!(claims.get("agent_session_id").is_none());
    let event = world.events().await.pop().unwrap();
    assert_eq!(
        event["determining_policies_json"],
        json!([{ "policy": "control-key" }])
    );
    assert_eq!(event["metadata_json"]["jti"], claims["jti"]);
    assert_eq!(world.record_count().await, 1);
}

#[tokio::test]
async fn it_may_name_its_zone_too() {
    let world = with_traits(&KEY).await;
    assert_eq!(mint(&world, &[]).await.status.as_u16(), 200);
}

#[tokio::test]
async fn its_trait_caps_the_lifetime() {
    let world = with_traits(&["control:invoke", KEY[1], "control:max-ttl:60"]).await;
    assert_eq!(mint(&world, &[]).await.json()["expires_in"], 60);
}

#[tokio::test]
async fn an_end_in_its_traits_bounds_the_token_and_then_ends_the_key() {
    let world = with_traits(&[
        "control:invoke",
        KEY[1],
        "control:expires:2026-01-01T00:01:40Z",
    ])
    .await;
    assert_eq!(mint(&world, &[]).await.json()["expires_in"], 100);
    world.clock.advance_seconds(100);
    assert_eq!(
        outcome(&mint(&world, &[("zone_id", "")]).await),
        (401, "access_denied".to_owned())
    );
    assert_eq!(
        outcome(&mint(&world, &[]).await),
        (403, "access_denied".to_owned())
    );
}

#[tokio::test]
async fn its_token_ends_with_its_application() {
    let end = rows::START.plus_seconds(70);
    let world = with_key(&KEY, |key| key.expires_at = Some(end)).await;
    assert_eq!(mint(&world, &[]).await.json()["expires_in"], 70);
}

#[tokio::test]
async fn a_scope_outside_its_traits_is_denied() {
    let world = with_traits(&KEY).await;
    let answer = mint(&world, &[("scope", "control:app:delete")]).await;
    assert_eq!(outcome(&answer), (403, "access_denied".to_owned()));
    assert_eq!(
        world.verdicts().await,
        ["deny/control_resource_requires_control_key"]
    );
    let undeclared = mint(&world, &[("scope", "control:zone:list")]).await;
    assert_eq!(outcome(&undeclared), (403, "scope_insufficient".to_owned()));
}

#[tokio::test]
async fn an_ordinary_application_reaches_the_control_resource_by_no_route() {
    let world = with_traits(&[]).await;
    assert_eq!(
        outcome(&mint(&world, &[("zone_id", "")]).await),
        (401, "access_denied".to_owned())
    );
    assert_eq!(
        outcome(&mint(&world, &[]).await),
        (403, "access_denied".to_owned())
    );
    assert_eq!(
        world.verdicts().await,
        ["deny/control_resource_requires_control_key"]
    );
}

#[tokio::test]
async fn a_mixed_request_is_no_control_request() {
    let world = with_traits(&KEY).await;
    let mixed = [("resource", CONTROL), ("resource", "resource://ledger")];
    assert_eq!(
        outcome(&mint(&world, &mixed).await),
        (403, "access_denied".to_owned())
    );
    assert_eq!(world.record_count().await, 0);
}
