//! Opening a store: ownership, permissions, migrations.

use caracal_store::OpenError;
use sea_orm::ConnectionTrait;

use crate::world::{Backend, Place, World, on, on_every_backend, open};

on_every_backend![
    a_closed_store_can_be_opened_again_with_its_data,
    a_schema_of_a_newer_build_is_refused,
    a_migration_applied_with_another_content_is_refused,
];

async fn tamper(world: &World, sql: &str) {
    world.store.close().await;
    let db = world.raw().await;
    db.execute_unprepared(sql).await.unwrap();
    db.close().await.unwrap();
}

/// What opening again answers; the place lives as long as what is kept of it.
async fn reopen(world: Box<World>) -> (Result<caracal_store::Store, OpenError>, Place) {
    let World {
        store,
        clock,
        random,
        place,
        ..
    } = *world;
    store.close().await;
    drop(store);
    let opened = open(&place, &clock, &random).await;
    (opened, place)
}

#[test]
fn a_second_opening_is_refused_and_told_who_holds_the_file() {
    on(Backend::Sqlite, |world| async move {
        let second = open(&world.place, &world.clock, &world.random).await;
        let Err(OpenError::Locked { holder, .. }) = second else {
            panic!("not refused")
        };
        assert_eq!(holder, format!("process {}", std::process::id()));
    });
}

fn a_closed_store_can_be_opened_again_with_its_data(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let (store, _place) = reopen(world).await;
        let store = store.unwrap();
        assert!(store.read(&zone).get_zone().await.unwrap().is_some());
    });
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    on(Backend::Sqlite, |world| async move {
        world.zone().await;
        let Place::File { path, .. } = &world.place else {
            panic!("no file")
        };
        for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        }
    });
}

fn a_schema_of_a_newer_build_is_refused(backend: Backend) {
    on(backend, |world| async move {
        let sql = "INSERT INTO schema_migrations VALUES (9, 'later', 'x', 0)";
        tamper(&world, sql).await;
        let (refused, _place) = reopen(world).await;
        assert!(
            matches!(refused, Err(OpenError::SchemaTooNew { found: 9, .. })),
            "{refused:?}"
        );
    });
}

fn a_migration_applied_with_another_content_is_refused(backend: Backend) {
    on(backend, |world| async move {
        tamper(&world, "UPDATE schema_migrations SET checksum = 'other'").await;
        let (refused, _place) = reopen(world).await;
        assert!(matches!(
            refused,
            Err(OpenError::MigrationChanged { version: 1, .. })
        ));
    });
}
