use super::*;
use crate::testing::World;
use crate::testing::rows::zone_id;
use serde_json::Value;

async fn published(world: &World) -> Vec<String> {
    let keys = world.sts.published_keys(&zone_id()).await.unwrap().unwrap();
    let document: Value = serde_json::from_slice(&keys.document()).unwrap();
    let kid = |key: &Value| key["kid"].as_str().unwrap().to_owned();
    document["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(kid)
        .collect()
}

async fn signing(world: &World) -> String {
    let view = world.authority.fresh(&zone_id()).await.unwrap();
    world
        .sts
        .keys
        .signing(&view, world.now())
        .await
        .unwrap()
        .kid()
        .as_str()
        .to_owned()
}

async fn rotate(world: &World) -> Result<String, KeyCreationError> {
    let mut unit = world.unit().await;
    let kid = rotate_zone_key(&mut unit, &world.key_ring, &*world.clock, &*world.random).await?;
    unit.commit().await?;
    Ok(kid.as_str().to_owned())
}

#[tokio::test]
async fn a_new_zone_signs_at_once() {
    let world = World::new().await;
    assert_eq!(published(&world).await, [signing(&world).await]);
}

#[tokio::test]
async fn a_rotated_key_is_published_ten_minutes_before_it_signs() {
    let world = World::new().await;
    let first = signing(&world).await;
    let second = rotate(&world).await.unwrap();
    assert_eq!(published(&world).await, [first.clone(), second.clone()]);
    world.clock.advance_seconds(PUBLISH_AHEAD_SECONDS - 1);
    assert_eq!(signing(&world).await, first);
    world.clock.advance_seconds(1);
    assert_eq!(signing(&world).await, second);
    assert_eq!(published(&world).await, [second, first]);
}

#[tokio::test]
async fn a_key_leaves_when_its_last_token_has_expired() {
    let world = World::new().await;
    let first = signing(&world).await;
    let second = rotate(&world).await.unwrap();
    world
        .clock
        .advance_seconds(PUBLISH_AHEAD_SECONDS + PUBLISH_AFTER_SECONDS - 1);
    assert_eq!(published(&world).await, [second.clone(), first]);
    world.clock.advance_seconds(1);
    assert_eq!(published(&world).await, [second]);
}

#[tokio::test]
async fn a_second_rotation_keeps_every_key_that_a_live_token_may_carry() {
    let world = World::new().await;
    let first = signing(&world).await;
    let second = rotate(&world).await.unwrap();
    world.clock.advance_seconds(PUBLISH_AHEAD_SECONDS);
    let third = rotate(&world).await.unwrap();
    let known = published(&world).await;
    assert!([first, second, third].iter().all(|kid| known.contains(kid)));
}

#[tokio::test]
async fn rotations_are_bounded_by_what_verifiers_read() {
    let world = World::new().await;
    for _ in 1..MAX_PUBLISHED {
        rotate(&world).await.unwrap();
    }
    assert!(matches!(
        rotate(&world).await,
        Err(KeyCreationError::TooManyKeys(MAX_PUBLISHED))
    ));
}

#[tokio::test]
async fn an_archived_zone_stays_readable_until_its_last_token_has_expired() {
    let world = World::new().await;
    let mut unit = world.unit().await;
    assert!(unit.archive_zone(&Default::default()).await.unwrap());
    unit.commit().await.unwrap();
    assert!(
        world
            .sts
            .published_keys(&zone_id())
            .await
            .unwrap()
            .is_some()
    );
    world.clock.advance_seconds(PUBLISH_AFTER_SECONDS);
    assert!(
        world
            .sts
            .published_keys(&zone_id())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_key_that_does_not_open_is_trouble_and_no_verdict() {
    let world = World::new().await;
    let mut unit = world.unit().await;
    let mut copied = unit.list_signing_keys().await.unwrap().remove(0);
    copied.id = KeyId::parse("k-copied").unwrap();
    copied.signs_from = world.now().plus_seconds(1);
    unit.insert_signing_key(&copied).await.unwrap();
    unit.commit().await.unwrap();
    world.clock.advance_seconds(1);
    let answer = world.lifecycle().await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "sts_unavailable")
    );
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(world.record_count().await, 0);
}

#[tokio::test]
async fn a_verifier_reads_the_same_set_as_the_document_has() {
    let world = World::new().await;
    rotate(&world).await.unwrap();
    let set = world.sts.verifying_keys(&zone_id()).await.unwrap().unwrap();
    let kids: Vec<String> = set
        .iter()
        .map(|key| key.kid().as_str().to_owned())
        .collect();
    assert_eq!(kids, published(&world).await);
    assert!(
        world
            .sts
            .verifying_keys(&ZoneId::parse("z-none").unwrap())
            .await
            .unwrap()
            .is_none()
    );
}
