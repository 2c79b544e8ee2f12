//! Who may do what: every route against every kind of actor.

use std::collections::BTreeMap;

use caracal_core::{Secret, Timestamp};
use caracal_crypto::admin_token::{ConsoleToken, assert_account};
use http::Method;
use serde_json::json;

use super::world::{ADMIN, START, User, World, snapshot};
use crate::route::Verb;
use crate::routes;

/// A path of the route in the given zone, naming objects that do not exist.
fn path(template: &str, zone: &str) -> String {
    template
        .replace("{zone_id}", zone)
        .replace("{id}", "no-such-id")
        .replace("{version_id}", "no-such-id")
        .replace("{request_id}", "no-such-id")
        .replace("{token_id}", "no-such-id")
}

/// How the gate answers: a body of a foreign type stops whatever it lets through before the handler.
async fn gate(user: &User<'_>, verb: Verb, path: &str) -> String {
    let method: Method = verb.as_str().parse().unwrap();
    let kind = (verb != Verb::Get).then_some("application/xml");
    let answer = user.raw(method, path, kind, "").await;
    match answer.status {
        401 | 403 => answer.code().to_owned(),
        _ => "-".to_owned(),
    }
}

async fn account_zone(world: &World, console: &User<'_>) -> String {
    let made = console.post("/v1/zones", json!({ "name": "owned" })).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    let _ = world;
    made.text("id").to_owned()
}

fn console<'w>(world: &'w World, token: ConsoleToken, account: Option<&str>) -> User<'w> {
    let admin = Secret::new(ADMIN.to_owned());
    let user = world.user(token.derive(&admin).expose());
    match account {
        None => user,
        Some(account) => {
            let until: Timestamp = START.plus_seconds(60);
            let assertion = assert_account(&admin, account, until);
            user.with_header("x-caracal-account", assertion.expose())
        }
    }
}

#[tokio::test]
async fn every_route_judges_every_actor() {
    let world = World::new().await;
    let zone = world.zone("own").await;
    let other = world.zone("other").await;
    let owner = console(&world, ConsoleToken::Write, Some("acct-1"));
    let owned = account_zone(&world, &owner).await;
    let revealing = json!({ "name": "r", "scope": "global", "capability": "read", "reveal": true });
    let actors: Vec<(&str, User<'_>, &str)> = vec![
        ("bootstrap", world.bootstrap(), &zone),
        ("read", world.global("read").await, &zone),
        ("write", world.global("write").await, &zone),
        ("approve", world.global("approve").await, &zone),
        ("read+reveal", world.minted(revealing).await, &zone),
        ("zone read", world.in_zone("read", &zone).await, &zone),
        ("zone write", world.in_zone("write", &zone).await, &zone),
        (
            "zone write elsewhere",
            world.in_zone("write", &other).await,
            &zone,
        ),
        (
            "console read of owner",
            console(&world, ConsoleToken::Read, Some("acct-1")),
            &owned,
        ),
        ("console write of owner", owner, &owned),
        (
            "console write of another",
            console(&world, ConsoleToken::Write, Some("acct-2")),
            &owned,
        ),
        (
            "console without account",
            console(&world, ConsoleToken::Write, None),
            &owned,
        ),
        ("nobody", world.user("cat_unknown"), &zone),
    ];
    let mut table: BTreeMap<String, BTreeMap<&str, String>> = BTreeMap::new();
    for route in routes::all() {
        let name = format!("{} {}", route.template, route.verb.as_str());
        let row = table.entry(name).or_default();
        for (actor, user, zone) in &actors {
            row.insert(
                actor,
                gate(user, route.verb, &path(route.template, zone)).await,
            );
        }
    }
    snapshot("access_matrix", &json!(table));
}

#[tokio::test]
async fn a_reserved_zone_is_written_by_bootstrap_only_and_reveals_nothing_to_anybody() {
    let world = World::new().await;
    let user = world.bootstrap();
    let zone = world.zone("caracal.sys/system").await;
    let item = format!("/v1/zones/{zone}");
    let body = json!({ "name": "bot", "registration_method": "managed" });
    let made = user
        .post(&format!("{item}/applications"), body.clone())
        .await;
    assert_eq!(made.status, 201);
    let writer = world.global("write").await;
    writer
        .post(&format!("{item}/applications"), body)
        .await
        .refused(403, "system_zone_read_only");
    writer
        .patch(&item, json!({ "name": "x" }))
        .await
        .refused(403, "system_zone_read_only");
    assert_eq!(writer.get(&item).await.status, 200);
    let secret = format!("{item}/applications/{}/client-secret", made.text("id"));
    user.get(&secret)
        .await
        .refused(403, "system_zone_read_only");
    writer
        .get(&secret)
        .await
        .refused(403, "reveal_capability_required");
    assert!(user.get("/v1/zones").await.items().is_empty());
}

#[tokio::test]
async fn a_console_account_sees_its_own_zones_only() {
    let world = World::new().await;
    world.zone("of-nobody").await;
    let one = console(&world, ConsoleToken::Write, Some("acct-1"));
    let two = console(&world, ConsoleToken::Write, Some("acct-2"));
    let owned = account_zone(&world, &one).await;
    assert_eq!(one.get("/v1/zones").await.items().len(), 1);
    assert!(two.get("/v1/zones").await.items().is_empty());
    let item = format!("/v1/zones/{owned}");
    assert_eq!(one.get(&item).await.text("created_by"), "acct-1");
    two.get(&item).await.refused(403, "zone_forbidden");
    two.get("/v1/zones/unknown")
        .await
        .refused(403, "zone_forbidden");
}

#[tokio::test]
async fn a_zone_token_may_not_take_over_a_control_key_of_its_zone() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let list = format!("/v1/zones/{zone}/applications");
    let body = json!({
        "name": "key", "registration_method": "managed", "traits": ["control:invoke"],
    });
    let made = world.bootstrap().post(&list, body).await;
    let item = format!("{list}/{}", made.text("id"));
    let user = world.in_zone("write", &zone).await;
    user.post_nothing(&format!("{item}/rotate-secret"))
        .await
        .refused(403, "trait_forbidden");
    user.patch(&item, json!({ "traits": [] }))
        .await
        .refused(403, "trait_forbidden");
    user.delete(&item).await.refused(403, "trait_forbidden");
    assert!(user.get(&item).await.body.get("traits").is_none());
}
