//! The key-encryption key is exchanged; everything keeps working, and nothing needs the old key.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use caracal_core::id::ApplicationId;

use crate::shop::{KEK_A, KEK_B, Shop, command, fill, governed_call, open_file, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_is_needed_no_more_once_everything_is_sealed_again() {
    let shop = Shop::new().await;
    let stack = shop.start().await;
    let world = shop.provision(&stack).await;
    governed_call(&world).await;
    shop.down(stack).await;

    shop.rotate();
    let stack = shop.start().await;
    let world = world.at(stack.endpoints.clone());
    governed_call(&world).await;
    let refused = shop.run(&["secrets", "reseal"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("already runs"), "{refused:?}");
    shop.down(stack).await;

    let dry = shop.run(&["secrets", "reseal", "--dry-run"]).await;
    assert_eq!(dry.code, Some(2), "{dry:?}");
    let doctor = shop.run(&["doctor"]).await;
    assert!(
        doctor.out.contains("run `caracal secrets reseal`"),
        "{doctor:?}"
    );
    let sealed = shop.run(&["secrets", "reseal", "--json"]).await;
    assert_eq!(sealed.code, Some(0), "{sealed:?}");
    assert_eq!(sealed.json()["proved"], true);
    assert!(sealed.json()["rehashed"].as_u64() >= Some(1), "{sealed:?}");

    let again = shop.run(&["secrets", "reseal", "--json"]).await;
    assert_eq!(
        (again.code, &again.json()["resealed"]),
        (Some(0), &0.into())
    );
    let doctor = shop.run(&["doctor"]).await;
    assert!(
        doctor.out.contains("remove SECRET_STORE_KEK_PREVIOUS"),
        "{doctor:?}"
    );

    shop.drop_previous();
    let stack = shop.start().await;
    governed_call(&world.at(stack.endpoints.clone())).await;
    shop.down(stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_dropped_too_early_is_told_and_nothing_is_changed() {
    let shop = Shop::new().await;
    let stack = shop.start().await;
    let world = shop.provision(&stack).await;
    shop.down(stack).await;
    shop.rotate();
    let previous = shop.home().join("secrets/secretStoreKekPrevious");
    let hidden = shop.beside("hidden");
    std::fs::rename(&previous, &hidden).unwrap();

    let refused = shop.run(&["secrets", "reseal"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.out.contains("✗ not resealed"), "{refused:?}");
    assert!(refused.out.contains(&world.application), "{refused:?}");

    std::fs::rename(&hidden, &previous).unwrap();
    let sealed = shop.run(&["secrets", "reseal"]).await;
    assert_eq!(sealed.code, Some(0), "{sealed:?}");
    assert!(sealed.out.contains("✓ resealed"), "{sealed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_walk_is_taken_up_again() {
    let (directory, variables) = stack_of(200).await;
    let variables: Vec<(&str, &str)> = variables.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let mut child = command(&["secrets", "reseal", "--batch", "1"], &variables)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    let rest = run(&["secrets", "reseal", "--json"], &variables).await;
    assert_eq!(rest.code, Some(0), "{rest:?}");
    let report = rest.json();
    let resealed = report["resealed"].as_u64().unwrap();
    assert!((1..202).contains(&resealed), "{report}");
    assert_eq!(resealed + report["current"].as_u64().unwrap(), 202);
    drop(directory);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_no_key_opens_makes_it_fail_and_is_named() {
    let (directory, variables) = stack_of(3).await;
    let path = directory.path().join("caracal.db");
    let store = open_file(&path).await;
    let zone = caracal_core::id::ZoneId::parse("zone-1").unwrap();
    let id = ApplicationId::parse("zone-1-app-0001").unwrap();
    let mut unit = store.begin(&zone).await.unwrap();
    let mut damaged = unit.get_application(&id).await.unwrap().unwrap();
    damaged.sealed_secret = damaged.sealed_secret.map(|mut bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        bytes
    });
    assert!(unit.update_application(&damaged).await.unwrap());
    unit.commit().await.unwrap();
    store.close().await;
    drop(store);

    let variables: Vec<(&str, &str)> = variables.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let answer = run(&["secrets", "reseal", "--json"], &variables).await;
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let report = answer.json();
    assert_eq!(report["proved"], false);
    assert_eq!(report["resealed"], 4, "{report}");
    assert_eq!(report["left"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["left"][0]["id"], "zone-1-app-0001");
}

/// A home directory whose store has so many applications, all of them sealed under the first key, and
/// the variables of a rotation to the second.
async fn stack_of(applications: u32) -> (tempfile::TempDir, Vec<(&'static str, String)>) {
    let directory = tempfile::tempdir().unwrap();
    let store = open_file(&directory.path().join("caracal.db")).await;
    fill(&store, KEK_A, "zone-1", applications).await;
    store.close().await;
    drop(store);
    let home = directory.path().to_str().unwrap().to_owned();
    let variables = vec![
        ("CARACAL_HOME", home),
        ("SECRET_STORE_KEK", KEK_B.to_owned()),
        ("SECRET_STORE_KEK_PREVIOUS", KEK_A.to_owned()),
        ("AUDIT_HMAC_KEY", KEK_A.to_owned()),
    ];
    (directory, variables)
}
