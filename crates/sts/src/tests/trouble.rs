//! What happens when something that the STS stands on fails, or the process starts anew.

use std::future::poll_fn;
use std::task::Poll;

use caracal_core::Secret;
use caracal_crypto::client_secret::hash_chosen;
use caracal_crypto::secret_verifier::VerifierBusy;
use caracal_http::Readiness;
use caracal_roles::Exchange;
use caracal_store::entity::Author;

use crate::testing::{APP, Answer, POLICY, World};

fn assert_unavailable(answer: &Answer, code: &str) {
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, code),
        "{}",
        answer.text
    );
    assert!(answer.headers.contains_key("retry-after"));
    assert!(answer.json().get("access_token").is_none());
}

#[tokio::test]
async fn without_the_log_no_mandate_leaves() {
    let world = World::new().await;
    world.delegate(|_, _, _| {}).await;
    let token = world.gateway(&[]).await.token();
    let request = world.call(&token, "GET", "/entries").await;
    world.journal.close().await;
    assert_unavailable(&world.lifecycle().await, "sts_unavailable");
    assert_unavailable(&world.gateway(&[]).await, "sts_unavailable");
    let refusal = world.sts.exchange(&request).await.unwrap_err();
    assert_eq!((refusal.status, &*refusal.code), (503, "sts_unavailable"));
    assert!(refusal.retry_after.is_some());
}

#[tokio::test]
async fn without_the_log_a_denial_is_trouble_too() {
    let world = World::new().await;
    world.journal.close().await;
    let answer = world.token(&[("scope", "ledger:read")]).await;
    assert_unavailable(&answer, "sts_unavailable");
}

#[tokio::test]
async fn without_the_store_nothing_is_a_verdict() {
    let world = World::new().await;
    world.store.close().await;
    assert_unavailable(&world.lifecycle().await, "sts_unavailable");
    let unknown = world.token(&[("application_id", "app-unknown")]).await;
    assert_unavailable(&unknown, "sts_unavailable");
    let request = http::Request::get("/.well-known/jwks.json?zone_id=z-none")
        .body(axum::body::Body::empty())
        .unwrap();
    assert_unavailable(&world.send(request).await, "sts_unavailable");
}

#[tokio::test]
async fn a_secret_that_cannot_be_verified_now_is_trouble_and_no_verdict() {
    let world = World::new().await;
    let chosen = hash_chosen(&Secret::new(world.secret.clone()), &*world.random).unwrap();
    let mut unit = world.unit().await;
    unit.set_application_secret(
        &APP.parse().unwrap(),
        Some(&chosen),
        None,
        &Author::default(),
    )
    .await
    .unwrap();
    unit.commit().await.unwrap();
    // Guesses wait for their derivation until no further caller may.
    let mut crowd = Vec::new();
    loop {
        let guess = Secret::new(format!("guess {}", crowd.len()));
        let (secrets, chosen) = (world.secrets.clone(), chosen.clone());
        let mut waiting = Box::pin(async move { secrets.verify(&chosen, &guess).await });
        if poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context))).await
            == Poll::Ready(Err(VerifierBusy))
        {
            break;
        }
        crowd.push(waiting);
        assert!(crowd.len() < 5_000, "nobody is turned away");
    }
    assert_unavailable(&world.lifecycle().await, "sts_unavailable");
    assert!(world.events().await.is_empty());
    drop(crowd);
    assert_eq!(world.lifecycle().await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_is_trouble_and_leaves_evidence() {
    let world = World::new().await;
    world.activate("package other").await;
    assert_unavailable(&world.lifecycle().await, "policy_eval_failed");
    assert_eq!(world.verdicts().await, ["deny/policy_eval_failed"]);
    let event = &world.events().await[0];
    assert_eq!(event["policy_set_version_id"], "psv-1");
    assert!(event["diagnostics_json"][0]["error"].is_string());
    world.activate(POLICY).await;
    assert_eq!(world.lifecycle().await.status.as_u16(), 200);
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let world = World::new().await;
    assert!(world.sts.check().await.is_ok());
    world.store.close().await;
    assert_eq!(
        world.sts.check().await.unwrap_err().reason,
        "store_unreachable"
    );
}

#[tokio::test]
async fn a_restart_changes_no_verdict() {
    let world = World::new().await;
    world.delegate(|_, _, _| {}).await;
    let token = world.gateway(&[]).await.token();
    let request = world.call(&token, "GET", "/entries").await;
    assert!(world.restarted().exchange(&request).await.is_ok());
}

#[tokio::test]
async fn no_secret_reaches_the_log() {
    let world = World::new().await;
    world.delegate(|_, _, _| {}).await;
    let token = world.gateway(&[]).await.token();
    world.token(&[("client_secret", "cs_wrong-secret")]).await;
    world.token(&[("scope", "ledger:read")]).await;
    let log = serde_json::to_string(&world.events().await).unwrap();
    assert!(!log.contains(&world.secret) && !log.contains("cs_wrong-secret"));
    assert!(!log.contains(&token));
}

#[tokio::test]
async fn the_doctors_document_counts_what_happened() {
    let world = World::new().await;
    world.delegate(|_, _, _| {}).await;
    world.gateway(&[]).await;
    world.gateway(&[("delegation_edge_id", "de-none")]).await;
    let document = world.sts.metrics_json();
    assert_eq!(document["sts"]["graph_traversals"], 2);
    assert_eq!(document["sts"]["graph_traversal_errors"], 1);
    assert_eq!(document["opa"]["eval_total"], 1);
    assert_eq!(document["opa"]["compile_total"], 1);
    assert_eq!(document["opa"]["compile_errors"], 0);
    assert_eq!(document["opa"]["decision_contract_version"], "2026-07-12");
}
