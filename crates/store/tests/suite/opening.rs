//! Opening a store: ownership, permissions, migrations.

use caracal_store::OpenError;
use sea_orm::{ConnectionTrait, Database};

use crate::world::{World, on_every_backend, open};

async fn tamper(world: &World, sql: &str) {
    world.store.close().await;
    let url = format!("sqlite://{}", world.path.display());
    let db = Database::connect(url).await.unwrap();
    db.execute_unprepared(sql).await.unwrap();
    db.close().await.unwrap();
}

async fn reopen(world: Box<World>) -> Result<caracal_store::Store, OpenError> {
    let World {
        store,
        clock,
        random,
        path,
        dir,
        ..
    } = *world;
    store.close().await;
    drop(store);
    let opened = open(&path, &clock, &random).await;
    drop(dir);
    opened
}

#[test]
fn a_second_opening_is_refused_and_told_who_holds_the_file() {
    on_every_backend(|world| async move {
        let second = open(&world.path, &world.clock, &world.random).await;
        let Err(OpenError::Locked { holder, .. }) = second else {
            panic!("not refused")
        };
        assert_eq!(holder, format!("process {}", std::process::id()));
    });
}

#[test]
fn a_closed_store_can_be_opened_again_with_its_data() {
    on_every_backend(|world| async move {
        let zone = world.zone().await;
        let store = reopen(world).await.unwrap();
        assert!(store.read(&zone).get_zone().await.unwrap().is_some());
    });
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    on_every_backend(|world| async move {
        world.zone().await;
        for entry in std::fs::read_dir(world.path.parent().unwrap()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        }
    });
}

#[test]
fn a_schema_of_a_newer_build_is_refused() {
    on_every_backend(|world| async move {
        let sql = "INSERT INTO schema_migrations VALUES (9, 'later', 'x', 0)";
        tamper(&world, sql).await;
        let refused = reopen(world).await;
        assert!(
            matches!(refused, Err(OpenError::SchemaTooNew { found: 9, known: 1 })),
            "{refused:?}"
        );
    });
}

#[test]
fn a_migration_applied_with_another_content_is_refused() {
    on_every_backend(|world| async move {
        tamper(&world, "UPDATE schema_migrations SET checksum = 'other'").await;
        let refused = reopen(world).await;
        assert!(matches!(
            refused,
            Err(OpenError::MigrationChanged { version: 1, .. })
        ));
    });
}
