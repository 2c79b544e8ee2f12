//! Mints through chains of Delegations, across applications.

use caracal_core::Secret;
use caracal_core::id::ApplicationId;
use caracal_store::entity::{Delegation, RegistrationMethod};
use serde_json::{Value, json};

use super::delegated::{denied, edge_id, outcome};
use crate::testing::{APP, Answer, World, rows};

/// `de-1` from `as-1` to `as-2`, then `de-2` on to `as-3` of application 8.
async fn chain(world: &World, adjust: impl FnOnce(&mut Delegation, &mut Delegation)) {
    chain_from(world, APP, adjust).await;
}

/// The same, issued by another application.
async fn chain_from(
    world: &World,
    issuer: &str,
    adjust: impl FnOnce(&mut Delegation, &mut Delegation),
) {
    let mut receiver = rows::application("app-8");
    let secret = Secret::new("cs_eight".to_owned());
    receiver.secret_hash = Some(world.secrets.peppers().hash_generated(&secret));
    let source = rows::session("as-1", issuer);
    let middle = rows::session("as-2", issuer);
    let mut holder = rows::session("as-3", "app-8");
    holder.subject_authority_record_id =
        caracal_core::id::AuthorityRecordId::parse("rec-8").unwrap();
    let mut first = rows::delegation("de-1", &source, &middle, "ledger:read ledger:write");
    let mut second = rows::delegation("de-2", &middle, &holder, "ledger:read");
    first.constraints.max_hops = Some(2);
    second.parent_edge_id = Some(first.id.clone());
    adjust(&mut first, &mut second);
    let mut unit = world.unit().await;
    unit.insert_application(&receiver).await.unwrap();
    unit.insert_authority_record(&rows::record("rec-7", issuer))
        .await
        .unwrap();
    unit.insert_authority_record(&rows::record("rec-8", "app-8"))
        .await
        .unwrap();
    for session in [&source, &middle, &holder] {
        unit.insert_session(session).await.unwrap();
    }
    unit.insert_delegation(&first).await.unwrap();
    unit.insert_delegation(&second).await.unwrap();
    unit.commit().await.unwrap();
    world
        .activate(&crate::testing::POLICY.replace("app-7", "app-8"))
        .await;
}

async fn mint_chain(world: &World, fields: &[(&str, &str)]) -> Answer {
    let mut all = vec![
        ("application_id", "app-8"),
        ("client_secret", "cs_eight"),
        ("agent_session_id", "as-3"),
        ("delegation_edge_id", "de-2"),
    ];
    all.extend(fields);
    world.gateway(&all).await
}

#[tokio::test]
async fn a_chain_names_every_hop_root_first() {
    let world = World::new().await;
    chain(&world, |_, _| {}).await;
    let claims = mint_chain(&world, &[]).await.claims();
    assert_eq!(claims["delegation_path"], json!(["de-1", "de-2"]));
    assert_eq!(claims["hop_count"], 2);
    let applications: Vec<&Value> = claims["delegation_chain"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hop| &hop["application_id"])
        .collect();
    assert_eq!(applications, [APP, APP, "app-8"]);
}

#[tokio::test]
async fn an_ancestors_hop_allowance_counts() {
    let world = World::new().await;
    chain(&world, |first, _| first.constraints.max_hops = Some(1)).await;
    assert_eq!(outcome(&mint_chain(&world, &[]).await), denied());
    assert_eq!(world.verdicts().await, ["deny/delegation_invalid"]);
}

#[tokio::test]
async fn an_ancestors_narrowness_counts() {
    type Change = fn(&mut Delegation, &mut Delegation);
    let cases: [(&str, Change); 3] = [
        ("scope", |first, _| {
            first.scopes = caracal_core::ScopeSet::parse("ledger:write");
        }),
        ("expiry", |first, _| first.expires_at = rows::START),
        ("resource", |first, _| {
            let row = caracal_core::id::ResourceId::parse("res-other").unwrap();
            first.resource_id = Some(row);
        }),
    ];
    for (case, change) in cases {
        let world = World::new().await;
        if case == "resource" {
            world
                .insert_resource(&rows::resource("resource://other", &["x"]))
                .await;
        }
        chain(&world, change).await;
        assert_eq!(outcome(&mint_chain(&world, &[]).await), denied(), "{case}");
    }
}

#[tokio::test]
async fn an_ancestors_end_bounds_the_leaf() {
    let world = World::new().await;
    chain(&world, |first, _| {
        first.expires_at = rows::START.plus_seconds(77);
    })
    .await;
    assert_eq!(mint_chain(&world, &[]).await.json()["expires_in"], 77);
}

#[tokio::test]
async fn a_revoked_ancestor_ends_the_leaf() {
    let world = World::new().await;
    chain(&world, |_, _| {}).await;
    assert_eq!(mint_chain(&world, &[]).await.status.as_u16(), 200);
    let mut unit = world.unit().await;
    unit.revoke_delegations(&[edge_id("de-1")]).await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(outcome(&mint_chain(&world, &[]).await), denied());
}

#[tokio::test]
async fn an_archived_issuer_ends_the_leaf() {
    let world = World::new().await;
    chain(&world, |_, _| {}).await;
    let mut unit = world.unit().await;
    let issuer = ApplicationId::parse(APP).unwrap();
    unit.archive_application(&issuer, &Default::default())
        .await
        .unwrap();
    unit.commit().await.unwrap();
    assert_eq!(outcome(&mint_chain(&world, &[]).await), denied());
}

#[tokio::test]
async fn an_issuers_end_bounds_the_leaf() {
    let world = World::new().await;
    let mut brief = rows::application("app-9");
    brief.registration_method = RegistrationMethod::Dcr;
    brief.expires_at = Some(world.now().plus_seconds(88));
    let mut unit = world.unit().await;
    unit.insert_application(&brief).await.unwrap();
    unit.commit().await.unwrap();
    chain_from(&world, "app-9", |_, _| {}).await;
    assert_eq!(mint_chain(&world, &[]).await.json()["expires_in"], 88);
}

#[tokio::test]
async fn presenting_a_cross_application_edge_accepts_it() {
    let world = World::new().await;
    chain(&world, |_, _| {}).await;
    let accepted = async || {
        let edge = world
            .store
            .read(&world.zone)
            .get_delegation(&edge_id("de-2"))
            .await;
        edge.unwrap().unwrap().accepted
    };
    assert!(!accepted().await);
    mint_chain(&world, &[("scope", "ledger:write")]).await;
    assert!(!accepted().await);
    mint_chain(&world, &[]).await.token();
    assert!(accepted().await);
}

#[tokio::test]
async fn a_child_shares_its_parents_budget() {
    let world = World::new().await;
    chain(&world, |first, _| first.constraints.budget = Some(1)).await;
    assert_eq!(mint_chain(&world, &[]).await.status.as_u16(), 200);
    let answer = mint_chain(&world, &[]).await;
    assert_eq!(
        outcome(&answer),
        (403, "delegation_budget_exhausted".to_owned())
    );
}
