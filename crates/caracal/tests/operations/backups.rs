//! A backup of a working stack, and what a restore does to what was given before.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::shop::{Shop, governed_call, mint, open_lane};

fn path(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_stack_works_and_accepts_no_mandate_from_before() {
    let shop = Shop::new().await;
    let stack = shop.start().await;
    let world = shop.provision(&stack).await;
    let (target, edge) = open_lane(&world).await;
    let token = json!({ "name": "robot", "scope": "global", "capability": "write" });
    let made = world.admin(Method::POST, "/v1/admin-tokens", &token).await;
    let robot = made.unwrap()["token"].as_str().unwrap().to_owned();

    let backup = shop.beside("backup");
    let written = shop
        .run(&["backup", "--out", path(&backup), "--json"])
        .await;
    assert_eq!(written.code, Some(0), "{written:?}");
    let taken = shop.run(&["backup", "--out", path(&backup)]).await;
    assert_eq!(taken.code, Some(1), "a backup replaces nothing: {taken:?}");
    assert_private(&backup);

    // Minted after the backup, never used: only the restored state could accept it.
    let before = mint(&world, &target, &edge).await;
    let running = shop
        .run(&["restore", "--from", path(&backup), "--force"])
        .await;
    assert_eq!(running.code, Some(1), "{running:?}");
    assert!(running.err.contains("already runs"), "{running:?}");
    shop.down(stack).await;
    let full = shop.run(&["restore", "--from", path(&backup)]).await;
    assert_eq!(full.code, Some(1), "{full:?}");
    assert!(full.err.contains("--force"), "{full:?}");

    let restored = shop
        .run(&["restore", "--from", path(&backup), "--force"])
        .await;
    assert_eq!(restored.code, Some(0), "{restored:?}");
    assert!(
        restored.out.contains("no mandate from before is accepted"),
        "{restored:?}"
    );
    let aside = std::fs::read_dir(shop.home().parent().unwrap())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.contains("before-restore"))
        .count();
    assert_eq!(aside, 1, "the state before is kept");

    let stack = shop.start().await;
    let world = world.at(stack.endpoints.clone());
    let refused = world.call(&before, Method::GET, "/v1/items").await.unwrap();
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let refused = world
        .mint(&target, &edge, caracal::tour::READ)
        .await
        .unwrap();
    assert!(refused.status.is_client_error(), "{}", refused.status);
    assert_eq!(
        asked_with(&world.endpoints.api, &robot).await,
        StatusCode::UNAUTHORIZED
    );
    governed_call(&world).await;
    shop.down(stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_waited_in_the_audit_log_are_in_the_restored_evidence() {
    let shop = Shop::new().await;
    let stack = shop.start().await;
    let world = shop.provision(&stack).await;
    governed_call(&world).await;
    let backup = shop.beside("backup");
    let written = shop.run(&["backup", "--out", path(&backup)]).await;
    assert_eq!(written.code, Some(0), "{written:?}");
    stack.kill();

    let restored = shop
        .run(&["restore", "--from", path(&backup), "--force"])
        .await;
    assert_eq!(restored.code, Some(0), "{restored:?}");
    let stack = shop.start().await;
    let bundle = shop.run(&["audit", "export", "--zone", &world.zone]).await;
    assert_eq!(bundle.code, Some(0), "{bundle:?}");
    let events: Vec<Value> = bundle
        .out
        .lines()
        .skip(1)
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let is = |event: &Value| event["event"]["event_type"] == "gateway_resource_request";
    assert!(
        events.iter().any(is),
        "the governed call is in the evidence"
    );
    shop.down(stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused_and_nothing_is_touched() {
    let shop = Shop::new().await;
    let stack = shop.start().await;
    shop.provision(&stack).await;
    let backup = shop.beside("backup");
    shop.run(&["backup", "--out", path(&backup)]).await;
    shop.down(stack).await;
    let store = backup.join("caracal.db");
    let mut bytes = std::fs::read(&store).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&store, bytes).unwrap();

    let before = std::fs::read(shop.home().join("caracal.db")).unwrap();
    let refused = shop
        .run(&["restore", "--from", path(&backup), "--force"])
        .await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("checksum"), "{refused:?}");
    assert_eq!(
        std::fs::read(shop.home().join("caracal.db")).unwrap(),
        before
    );
}

async fn asked_with(api: &str, token: &str) -> StatusCode {
    let client = caracal::client::Client::new(std::time::Duration::from_secs(5));
    let bearer = format!("Bearer {token}");
    let url = format!("{api}/v1/zones");
    let headers = [("authorization", bearer.as_str())];
    let body = bytes::Bytes::new();
    client
        .send(Method::GET, &url, &headers, body)
        .await
        .unwrap()
        .status
}

fn assert_private(directory: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(directory) & 0o077, 0, "{}", directory.display());
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_private(&path);
        } else {
            assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
        }
    }
}
