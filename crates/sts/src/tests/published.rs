//! What verifiers and operators fetch.

use axum::body::Body;
use http::Request;
use serde_json::Value;

use crate::testing::{Answer, World};

async fn get(world: &World, path: &str) -> Answer {
    world
        .send(Request::get(path).body(Body::empty()).unwrap())
        .await
}

async fn rotate(world: &World, zone: &str, bearer: Option<&str>) -> Answer {
    let mut request = Request::post(format!("/internal/zones/{zone}/signing-key/rotate"));
    if let Some(bearer) = bearer {
        request = request.header("authorization", bearer);
    }
    world.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn the_key_set_holds_the_keys_of_current_tokens() {
    use base64::Engine as _;
    let world = World::new().await;
    let token = world.lifecycle().await.token();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(token.split('.').next().unwrap())
        .unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    let answer = get(&world, "/.well-known/jwks.json?zone_id=z-demo").await;
    assert_eq!(answer.status.as_u16(), 200);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(
        answer.headers["cache-control"],
        "public, max-age=300, must-revalidate"
    );
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    let document = answer.json();
    let key = &document["keys"][0];
    assert_eq!(key["kid"], header["kid"]);
    assert_eq!(
        (&key["kty"], &key["crv"], &key["use"], &key["alg"]),
        (
            &Value::from("EC"),
            &Value::from("P-256"),
            &Value::from("sig"),
            &Value::from("ES256"),
        )
    );
    assert_eq!(key["x"].as_str().unwrap().len(), 43);
    assert!(key.get("d").is_none());
}

#[tokio::test]
async fn a_key_set_is_of_one_existing_zone() {
    let world = World::new().await;
    for path in ["/.well-known/jwks.json", "/.well-known/jwks.json?zone_id="] {
        let answer = get(&world, path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (400, "invalid_request")
        );
    }
    for path in [
        "/.well-known/jwks.json?zone_id=z-none",
        "/.well-known/jwks.json?zone_id=a%20b",
    ] {
        let answer = get(&world, path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (404, "resource_not_found")
        );
    }
}

#[tokio::test]
async fn rotation_needs_the_operators_bearer() {
    let world = World::new().await;
    for bearer in [
        None,
        Some("Bearer wrong"),
        Some("operator-token"),
        Some("Bearer operator-tokenx"),
    ] {
        let answer = rotate(&world, "z-demo", bearer).await;
        assert_eq!(answer.status.as_u16(), 401, "{bearer:?}");
        assert_eq!(
            answer.headers["www-authenticate"],
            "Bearer realm=\"caracal-sts\""
        );
    }
    let closed = World::with_options(|options| options.admin_token = None).await;
    let answer = rotate(&closed, "z-demo", Some("Bearer operator-token")).await;
    assert_eq!(answer.status.as_u16(), 404);
}

#[tokio::test]
async fn a_verifier_with_an_old_key_set_accepts_tokens_minted_after_a_rotation() {
    let world = World::new().await;
    let old = world.lifecycle().await.token();
    let answer = rotate(&world, "z-demo", Some("Bearer operator-token")).await;
    assert_eq!(answer.json()["rotated"], true);
    assert_eq!(answer.json()["zone_id"], "z-demo");
    let kid = answer.json()["kid"].as_str().unwrap().to_owned();
    let page = caracal_store::Page {
        limit: 10,
        after: None,
    };
    let reader = world.store.read(&world.zone);
    let audit = reader
        .list_admin_audit(&Default::default(), &page)
        .await
        .unwrap();
    assert_eq!(
        audit.items[0].audit.entity_id.as_deref(),
        Some(kid.as_str())
    );
    let cached = get(&world, "/.well-known/jwks.json?zone_id=z-demo")
        .await
        .json();
    assert_eq!(cached["keys"][1]["kid"], kid);
    world.clock.advance_seconds(240);
    world
        .verified(&old, caracal_crypto::MandateUse::Session)
        .await;
    world.clock.advance_seconds(360);
    let new = world.lifecycle().await.token();
    let keys = caracal_crypto::KeySet::from_jwks_json(cached.to_string().as_bytes()).unwrap();
    let expect = caracal_crypto::Expectation {
        issuer: crate::testing::ISSUER,
        audience: crate::testing::ISSUER,
        zone: &world.zone,
        uses: &[caracal_crypto::MandateUse::Session],
        now: world.now(),
        leeway_seconds: 60,
    };
    caracal_crypto::verify(&new, &keys, &expect).unwrap();
}

#[tokio::test]
async fn an_unknown_zone_has_no_key_to_rotate() {
    let world = World::new().await;
    for zone in ["z-none", "a%20b"] {
        let answer = rotate(&world, zone, Some("Bearer operator-token")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (404, "resource_not_found")
        );
    }
}

#[tokio::test]
async fn no_approval_exists() {
    let world = World::new().await;
    let answer = get(&world, "/approvals/not-a-uuid").await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (404, "resource_not_found")
    );
    let request = Request::post("/approvals/7c1f/decision")
        .body(Body::from("{}"))
        .unwrap();
    let answer = world.send(request).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (404, "resource_not_found")
    );
}
