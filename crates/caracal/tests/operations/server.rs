//! The commands on PostgreSQL and Redis.

use std::sync::Arc;

use caracal_core::id::{AdminTokenId, AuthorityRecordId, ZoneId};
use caracal_core::{Clock, SubjectType, SystemClock, SystemRandom};
use caracal_store::entity::{AdminToken, AuthorityRecord, Capability, RecordStatus};
use caracal_store::{PostgresOptions, ServiceRole, Store};
use caracal_testbed::{Database, Postgres, Redis};

use crate::shop::{Answer, KEK_A, KEK_B, fill, run};

fn database() -> Database {
    Postgres::shared().unwrap().database().unwrap()
}

async fn on(database: &Database, arguments: &[&str], more: &[(&str, &str)]) -> Answer {
    let mut variables = vec![("DATABASE_URL", database.owner_url.as_str())];
    variables.extend(more);
    run(arguments, &variables).await
}

async fn migrated() -> Database {
    let database = database();
    let answer = on(&database, &["migrate"], &[]).await;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    database
}

async fn open(database: &Database) -> Store {
    let options = PostgresOptions::new(database.owner_url.clone());
    Store::open_postgres(options, Arc::new(SystemClock), Arc::new(SystemRandom))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_changes_nothing_and_a_migration_is_applied_once() {
    let database = database();
    for _ in 0..2 {
        let plan = on(&database, &["migrate", "--plan", "--json"], &[]).await;
        assert_eq!(plan.code, Some(2), "{plan:?}");
        let steps = plan.json()["migrations"].as_array().unwrap().clone();
        assert_eq!(steps[0]["name"], "baseline");
        assert_eq!(steps[0]["phase"], "expand");
        assert_eq!(steps[0]["checksum"].as_str().unwrap().len(), 64);
    }
    let (one, two) = tokio::join!(
        on(&database, &["migrate", "--json"], &[]),
        on(&database, &["migrate", "--json"], &[]),
    );
    let applied = |answer: &Answer| answer.json()["migrations"].as_array().unwrap().len();
    assert_eq!((one.code, two.code), (Some(0), Some(0)), "{one:?} {two:?}");
    assert!(applied(&one) == 0 || applied(&two) == 0, "{one:?} {two:?}");
    let again = on(&database, &["migrate", "--plan"], &[]).await;
    assert_eq!(again.code, Some(0), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_logs_in_with_the_password_that_the_migration_gave_it() {
    let database = database();
    let passwords = [("CARACAL_AUDIT_DB_PASSWORD", "an audit password")];
    let answer = on(&database, &["migrate"], &passwords).await;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.out.contains("caracalaudit may log in"), "{answer:?}");
    assert!(!answer.out.contains("an audit password"));

    let mut url = url::Url::parse(&database.owner_url).unwrap();
    url.set_username("caracalaudit").unwrap();
    url.set_password(Some("an%20audit%20password")).unwrap();
    let options = PostgresOptions::new(url.to_string()).acting_as(ServiceRole::Audit);
    let store = Store::open_postgres(options, Arc::new(SystemClock), Arc::new(SystemRandom));
    store.await.unwrap().close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_waited_for_within_bounds() {
    let variables = [
        (
            "DATABASE_URL",
            "postgres://nobody:secret-word@127.0.0.1:1/none",
        ),
        ("MIGRATION_CONNECT_RETRIES", "2"),
        ("MIGRATION_CONNECT_SLEEP_SECONDS", "0"),
    ];
    let answer = run(&["migrate"], &variables).await;
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.err.contains("(2/2)"), "{answer:?}");
    assert!(!answer.err.contains("secret-word"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_on_a_server_is_sealed_again_beside_writers() {
    let database = migrated().await;
    let store = open(&database).await;
    for name in ["zone-1", "zone-2"] {
        fill(&store, KEK_A, name, 20).await;
    }
    // As a role that runs with the new key already writes it, while the walk goes on.
    let writing = fill(&store, KEK_B, "zone-3", 20);
    let keys = [
        ("SECRET_STORE_KEK", KEK_B),
        ("SECRET_STORE_KEK_PREVIOUS", KEK_A),
    ];
    let arguments = ["secrets", "reseal", "--json", "--batch", "3"];
    let (answer, _) = tokio::join!(on(&database, &arguments, &keys), writing);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(answer.json()["resealed"], 44, "{answer:?}");
    let alone = [("SECRET_STORE_KEK", KEK_B)];
    let again = on(&database, &["secrets", "reseal", "--json"], &alone).await;
    assert_eq!(
        (again.code, &again.json()["current"]),
        (Some(0), &66.into())
    );
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_server_holds_what_was_backed_up_and_no_old_authority() {
    let database = migrated().await;
    let store = open(&database).await;
    let zone = fill(&store, KEK_A, "zone-1", 2).await;
    give_authority(&store, &zone).await;
    store.close().await;
    drop(store);
    put_evidence(&database);
    let directory = tempfile::tempdir().unwrap();
    let backup = directory.path().join("backup");
    let backup = backup.to_str().unwrap();
    let written = on(&database, &["backup", "--out", backup, "--json"], &[]).await;
    assert_eq!(written.code, Some(0), "{written:?}");
    let manifest = std::fs::read_to_string(format!("{backup}/manifest.json")).unwrap();
    assert!(!manifest.contains("testbed"), "no password: {manifest}");

    let keys = [("SECRET_STORE_KEK", KEK_A)];
    let restore = ["restore", "--from", backup];
    let full = on(&database, &restore, &keys).await;
    assert_eq!(full.code, Some(1), "{full:?}");
    assert!(full.err.contains("--force"), "{full:?}");
    let used = open(&database).await;
    used.ping().await.unwrap();
    let forced = ["restore", "--from", backup, "--force"];
    let busy = on(&database, &forced, &keys).await;
    assert_eq!(busy.code, Some(1), "{busy:?}");
    assert!(busy.err.contains("in use"), "{busy:?}");
    used.close().await;
    drop(used);

    // Into another database, as after the loss of the first.
    let fresh = crate::server::database();
    let restored = on(&fresh, &restore, &keys).await;
    assert_eq!(evidence_of(&fresh), evidence_of(&database));
    assert!(
        restored.out.contains("no mandate from before is accepted"),
        "{restored:?}"
    );
    let store = open(&fresh).await;
    let reader = store.read(&zone);
    assert_eq!(reader.live_authority().await.unwrap().sessions, 0);
    assert_eq!(
        reader
            .count_live_authority_records(SystemClock.now())
            .await
            .unwrap(),
        0
    );
    assert!(reader.delegation_epoch().await.unwrap() >= 1_000_000);
    let published = reader
        .list_published_signing_keys(SystemClock.now())
        .await
        .unwrap();
    assert_eq!(published.len(), 1);
    assert_ne!(published[0].id.as_str(), "zone-1-key");
    assert!(
        store
            .platform()
            .find_admin_token("d1")
            .await
            .unwrap()
            .is_none()
    );
    store.close().await;
    let sealed = on(&fresh, &["secrets", "reseal", "--dry-run", "--json"], &keys).await;
    assert_eq!(sealed.code, Some(0), "{sealed:?}");
    assert_eq!(sealed.json()["current"], 5, "{sealed:?}");
}

/// Rows of a partitioned table and of a plain one, in two zones.
fn put_evidence(database: &Database) {
    let now = SystemClock.now().micros();
    let sql = format!(
        "SELECT caracal.audit_partition_ensure({now});
         INSERT INTO caracal.audit_event_labels VALUES ('zone-1', 'l', {now}, 'e1'),
            ('zone-2', 'l', {now}, 'e2');
         INSERT INTO caracal.audit_alerts VALUES ('zone-1', 'a1', 'tampered', NULL, '{{}}', 1)"
    );
    Postgres::shared()
        .unwrap()
        .psql(&database.name, &sql)
        .unwrap();
}

fn evidence_of(database: &Database) -> String {
    let sql = "SELECT zone_id, event_id FROM caracal.audit_event_labels ORDER BY 1;
         SELECT zone_id, id FROM caracal.audit_alerts ORDER BY 1";
    let rows = Postgres::shared()
        .unwrap()
        .psql(&database.name, sql)
        .unwrap();
    assert_eq!(rows.trim().lines().count(), 3, "{rows}");
    rows
}

async fn give_authority(store: &Store, zone: &ZoneId) {
    let now = SystemClock.now();
    let mut unit = store.begin(zone).await.unwrap();
    unit.insert_authority_record(&AuthorityRecord {
        id: AuthorityRecordId::parse("record-1").unwrap(),
        zone_id: zone.clone(),
        kind: SubjectType::Application,
        subject_id: "zone-1-app-0000".to_owned(),
        issuer: None,
        application_id: caracal_core::id::ApplicationId::parse("zone-1-app-0000").unwrap(),
        parent_id: None,
        status: RecordStatus::Active,
        expires_at: now.plus_seconds(3_600),
        authenticated_at: now,
        created_at: now,
        revoked_at: None,
        revoked_reason: None,
    })
    .await
    .unwrap();
    unit.commit().await.unwrap();
    let mut unit = store.begin_platform().await.unwrap();
    unit.insert_admin_token(&AdminToken {
        id: AdminTokenId::parse("token-1").unwrap(),
        name: "robot".to_owned(),
        zone_id: None,
        capability: Capability::Write,
        reveal: false,
        digest: "d1".to_owned(),
        created_by: "admin:token-0".to_owned(),
        created_at: now,
        last_used_at: None,
        revoked_at: None,
    })
    .await
    .unwrap();
    unit.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_looks_at_both_stores_and_names_what_is_missing() {
    let database = database();
    let redis = Redis::start().unwrap();
    let url = redis.url();
    let stable = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let directory = tempfile::tempdir().unwrap();
    let settings = [
        ("REDIS_URL", url.as_str()),
        ("ISSUER_URL", "https://sts.example"),
        ("SECRET_STORE_KEK", KEK_A),
        ("AUDIT_HMAC_KEY", stable),
        ("STREAMS_HMAC_KEY", stable),
        ("GATEWAY_STS_HMAC_KEY", stable),
        ("AUDIT_CHECKPOINT_KEY", stable),
        ("AUDIT_REPLAY_DIR", directory.path().to_str().unwrap()),
    ];
    let before = on(&database, &["doctor", "--json"], &settings).await;
    assert_eq!(before.code, Some(1), "{before:?}");
    assert!(before.out.contains("run `caracal migrate`"), "{before:?}");

    on(&database, &["migrate"], &[]).await;
    let after = on(&database, &["doctor", "--json"], &settings).await;
    assert_eq!(after.code, Some(0), "{after:?}");
    let report = after.json();
    for name in [
        "postgres",
        "migrations",
        "row security",
        "database role",
        "redis",
        "clock",
    ] {
        let checks = report["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["name"] == name);
        assert!(
            found.is_some_and(|check| check["verdict"] != "fail"),
            "{name}: {report}"
        );
    }
    for secret in ["testbed", stable, KEK_A] {
        assert!(!after.out.contains(secret), "{report}");
    }
}
