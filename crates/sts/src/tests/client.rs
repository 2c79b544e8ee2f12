//! Who is calling.

use caracal_core::Secret;
use caracal_core::id::ApplicationId;
use caracal_crypto::client_secret::hash_chosen;
use caracal_store::entity::{Author, RegistrationMethod};

use crate::create_zone_key;
use crate::testing::{APP, Answer, POLICY, World, rows};

const LIFECYCLE: (&str, &str) = ("scope", "agent:lifecycle");

fn app_id(text: &str) -> ApplicationId {
    ApplicationId::parse(text).unwrap()
}

fn outcome(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.code())
}

#[tokio::test]
async fn unknown_application_and_wrong_secret_get_the_same_answer() {
    let world = World::new().await;
    let texts: Vec<String> = [
        world
            .token(&[LIFECYCLE, ("client_secret", "cs_wrong")])
            .await,
        world.token(&[LIFECYCLE, ("client_secret", "")]).await,
        world
            .token(&[LIFECYCLE, ("application_id", "app-unknown")])
            .await,
        world.token(&[LIFECYCLE, ("application_id", "")]).await,
        world.token(&[LIFECYCLE, ("application_id", "no id")]).await,
        world
            .token(&[
                LIFECYCLE,
                ("zone_id", "z-unknown"),
                ("client_secret", "cs_wrong"),
            ])
            .await,
        world.token(&[LIFECYCLE, ("zone_id", "no id")]).await,
        world.token(&[LIFECYCLE, ("zone_id", "")]).await,
    ]
    .iter()
    .map(|answer| {
        assert_eq!(outcome(answer), (401, "access_denied".to_owned()));
        answer.description()
    })
    .collect();
    assert!(
        texts
            .iter()
            .all(|text| text == "invalid client credentials"),
        "{texts:?}"
    );
    assert_eq!(world.record_count().await, 0);
}

#[tokio::test]
async fn a_chosen_secret_verifies_too() {
    let world = World::new().await;
    let chosen = hash_chosen(&Secret::new("chosen".to_owned()), &*world.random).unwrap();
    let mut application = rows::application("app-8");
    application.secret_hash = Some(chosen);
    let mut unit = world.unit().await;
    unit.insert_application(&application).await.unwrap();
    unit.commit().await.unwrap();
    let with = async |secret: &str| {
        let fields = [
            LIFECYCLE,
            ("application_id", "app-8"),
            ("client_secret", secret),
        ];
        world.token(&fields).await.status.as_u16()
    };
    assert_eq!(with("chosen").await, 403);
    assert_eq!(with("other").await, 401);
}

#[tokio::test]
async fn the_sixty_first_failure_is_throttled_and_the_right_secret_still_passes() {
    let world = World::new().await;
    for _ in 0..60 {
        let answer = world
            .token(&[LIFECYCLE, ("client_secret", "cs_wrong")])
            .await;
        assert_eq!(outcome(&answer), (401, "access_denied".to_owned()));
    }
    let answer = world
        .token(&[LIFECYCLE, ("client_secret", "cs_wrong")])
        .await;
    assert_eq!(outcome(&answer), (429, "provider_rate_limited".to_owned()));
    assert_eq!(answer.headers["retry-after"], "60");
    assert_eq!(world.lifecycle().await.status.as_u16(), 200);
    world.clock.advance_seconds(60);
    let answer = world
        .token(&[LIFECYCLE, ("client_secret", "cs_wrong")])
        .await;
    assert_eq!(outcome(&answer), (401, "access_denied".to_owned()));
}

#[tokio::test]
async fn guessing_at_one_application_throttles_no_other() {
    let world = World::new().await;
    for _ in 0..61 {
        world
            .token(&[LIFECYCLE, ("application_id", "app-other")])
            .await;
    }
    let answer = world
        .token(&[LIFECYCLE, ("client_secret", "cs_wrong")])
        .await;
    assert_eq!(outcome(&answer), (401, "access_denied".to_owned()));
}

#[tokio::test]
async fn wrong_secrets_leave_one_event_a_minute_with_their_count() {
    let world = World::new().await;
    for _ in 0..5 {
        world
            .token(&[LIFECYCLE, ("client_secret", "cs_wrong")])
            .await;
    }
    world.clock.advance_seconds(60);
    world.sts.flush_auth_failures().await;
    let events = world.events().await;
    let counts: Vec<u64> = events
        .iter()
        .map(|event| event["metadata_json"]["count"].as_u64().unwrap())
        .collect();
    assert_eq!(counts, [1, 4]);
    assert!(
        events
            .iter()
            .all(|event| event["evaluation_status"] == "client_auth_failed")
    );
    assert!(
        events
            .iter()
            .all(|event| event["metadata_json"]["application_id"] == APP)
    );
}

#[tokio::test]
async fn unknown_applications_leave_no_event() {
    let world = World::new().await;
    world
        .token(&[LIFECYCLE, ("application_id", "app-unknown")])
        .await;
    assert!(world.events().await.is_empty());
}

async fn other_zone(world: &World) {
    let other = rows::zone("z-other");
    let mut unit = world.store.begin(&other.id).await.unwrap();
    unit.insert_zone(&other).await.unwrap();
    create_zone_key(&mut unit, &world.key_ring, &*world.clock, &*world.random)
        .await
        .unwrap();
    unit.commit().await.unwrap();
}

#[tokio::test]
async fn the_right_secret_in_the_wrong_zone_is_told_so() {
    let world = World::new().await;
    other_zone(&world).await;
    let answer = world.token(&[LIFECYCLE, ("zone_id", "z-other")]).await;
    assert_eq!(outcome(&answer), (403, "zone_invalid".to_owned()));
    assert!(answer.description().contains("z-demo") && answer.description().contains("z-other"));
    assert_eq!(world.verdicts().await, ["deny/zone_invalid"]);
    let wrong = [
        LIFECYCLE,
        ("zone_id", "z-other"),
        ("client_secret", "cs_wrong"),
    ];
    assert_eq!(
        outcome(&world.token(&wrong).await),
        (401, "access_denied".to_owned())
    );
}

#[tokio::test]
async fn an_archived_application_does_not_exist() {
    let world = World::new().await;
    assert_eq!(world.lifecycle().await.status.as_u16(), 200);
    let mut unit = world.unit().await;
    unit.archive_application(&app_id(APP), &Default::default())
        .await
        .unwrap();
    unit.commit().await.unwrap();
    assert_eq!(
        outcome(&world.lifecycle().await),
        (401, "access_denied".to_owned())
    );
}

#[tokio::test]
async fn a_mandate_ends_with_its_application_and_then_the_application_does_not_exist() {
    let world = World::new().await;
    let mut brief = rows::application("app-8");
    brief.registration_method = RegistrationMethod::Dcr;
    brief.expires_at = Some(world.now().plus_seconds(100));
    let secret = Secret::new(world.secret.clone());
    brief.secret_hash = Some(world.secrets.peppers().hash_generated(&secret));
    let mut unit = world.unit().await;
    unit.insert_application(&brief).await.unwrap();
    unit.commit().await.unwrap();
    world.activate(&POLICY.replace("app-7", "app-8")).await;
    let mint = || world.token(&[LIFECYCLE, ("application_id", "app-8")]);
    assert_eq!(mint().await.json()["expires_in"], 100);
    world.clock.advance_seconds(100);
    assert_eq!(outcome(&mint().await), (401, "access_denied".to_owned()));
}

#[tokio::test]
async fn the_applications_of_an_archived_zone_do_not_exist() {
    let world = World::new().await;
    assert_eq!(world.lifecycle().await.status.as_u16(), 200);
    let mut unit = world.unit().await;
    unit.archive_zone(&Default::default()).await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(
        outcome(&world.lifecycle().await),
        (401, "access_denied".to_owned())
    );
}

#[tokio::test]
async fn a_rotated_secret_counts_at_once() {
    let world = World::new().await;
    assert_eq!(world.lifecycle().await.status.as_u16(), 200);
    let stored = world
        .secrets
        .peppers()
        .hash_generated(&Secret::new("cs_next".to_owned()));
    let mut unit = world.unit().await;
    let author = Author::default();
    unit.set_application_secret(&app_id(APP), Some(&stored), None, &author)
        .await
        .unwrap();
    unit.commit().await.unwrap();
    assert_eq!(
        outcome(&world.lifecycle().await),
        (401, "access_denied".to_owned())
    );
    let answer = world
        .token(&[LIFECYCLE, ("client_secret", "cs_next")])
        .await;
    assert_eq!(answer.status.as_u16(), 200);
}
