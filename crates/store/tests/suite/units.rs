//! Units of work: all or nothing, one at a time.

use std::time::Duration;

use caracal_core::id::ZoneId;
use caracal_store::{Page, RowStatus, StoreError};
use sea_orm::ConnectionTrait;

use crate::world::{Backend, application, on, on_every_backend, zone};

on_every_backend![
    a_dropped_unit_leaves_nothing,
    a_unit_reads_its_own_writes_and_readers_see_them_only_after_the_commit,
    a_failed_statement_spoils_nothing_that_the_unit_did_before,
    a_commit_finishes_though_its_caller_goes_away,
    a_writer_that_does_not_become_free_in_time_is_unavailable,
    one_writer_too_many_is_turned_away_at_once,
    a_closed_store_is_unavailable,
    a_row_that_the_program_cannot_have_written_is_corrupt,
];

fn a_dropped_unit_leaves_nothing(backend: Backend) {
    on(backend, |world| async move {
        let zone_id = world.zone().await;
        let feed = world.store.changes();
        let mut unit = world.unit(&zone_id).await;
        let row = application(&zone_id, world.id(), "gone");
        unit.insert_application(&row).await.unwrap();
        unit.archive_application(&row.id, &Default::default())
            .await
            .unwrap();
        unit.enqueue("topic", "key", vec![]).await.unwrap();
        drop(unit);

        let reader = world.store.read(&zone_id);
        assert!(reader.get_application(&row.id).await.unwrap().is_none());
        assert!(
            world
                .store
                .platform()
                .pending_outbox_messages(world.now(), 10)
                .await
                .unwrap()
                .is_empty()
        );
        assert_eq!(feed.current(&zone_id).await.unwrap(), 0);
    });
}

fn a_unit_reads_its_own_writes_and_readers_see_them_only_after_the_commit(backend: Backend) {
    on(backend, |world| async move {
        let zone_id = world.zone().await;
        let mut unit = world.unit(&zone_id).await;
        let row = application(&zone_id, world.id(), "agent");
        unit.insert_application(&row).await.unwrap();
        assert!(unit.get_application(&row.id).await.unwrap().is_some());
        let reader = world.store.read(&zone_id);
        assert!(reader.get_application(&row.id).await.unwrap().is_none());
        unit.commit().await.unwrap();
        assert!(reader.get_application(&row.id).await.unwrap().is_some());
    });
}

fn a_failed_statement_spoils_nothing_that_the_unit_did_before(backend: Backend) {
    on(backend, |world| async move {
        let zone_id = world.zone().await;
        let mut unit = world.unit(&zone_id).await;
        unit.insert_application(&application(&zone_id, world.id(), "one"))
            .await
            .unwrap();
        let again = application(&zone_id, world.id(), "ONE");
        assert!(matches!(
            unit.insert_application(&again).await,
            Err(StoreError::Conflict(_))
        ));
        unit.commit().await.unwrap();
        let page = world
            .store
            .read(&zone_id)
            .list_applications(RowStatus::Live, &Page::first(10))
            .await
            .unwrap();
        assert_eq!(page.items.len(), 1);
    });
}

fn a_commit_finishes_though_its_caller_goes_away(backend: Backend) {
    on(backend, |world| async move {
        let zone_id: ZoneId = world.id();
        let mut unit = world.unit(&zone_id).await;
        unit.insert_zone(&zone(&zone_id, "z")).await.unwrap();
        // Poll once, then go away.
        let abandoned = tokio::time::timeout(Duration::ZERO, unit.commit()).await;
        drop(abandoned);
        // The next unit begins when the abandoned one has finished.
        let next = world.unit(&zone_id).await;
        assert!(next.get_zone().await.unwrap().is_some());
    });
}

fn a_writer_that_does_not_become_free_in_time_is_unavailable(backend: Backend) {
    on(backend, |world| async move {
        let zone_id = world.zone().await;
        let _holder = world.unit(&zone_id).await;
        tokio::time::pause();
        let waited = world.store.begin(&zone_id).await;
        assert!(
            matches!(waited, Err(StoreError::Unavailable(_))),
            "{waited:?}"
        );
    });
}

fn one_writer_too_many_is_turned_away_at_once(backend: Backend) {
    on(backend, |world| async move {
        let zone_id = world.zone().await;
        let holder = world.unit(&zone_id).await;
        let mut waiting = Vec::new();
        for _ in 0..1024 {
            let mut begin = Box::pin(world.store.begin(&zone_id));
            let begun = tokio::time::timeout(Duration::ZERO, &mut begin).await;
            assert!(begun.is_err(), "it waits");
            waiting.push(begin);
        }
        let refused = tokio::time::timeout(Duration::ZERO, world.store.begin(&zone_id)).await;
        assert!(
            matches!(refused, Ok(Err(StoreError::Unavailable(_)))),
            "{refused:?}"
        );
        drop(holder);
        drop(waiting);
        assert!(world.store.begin(&zone_id).await.is_ok());
    });
}

fn a_closed_store_is_unavailable(backend: Backend) {
    on(backend, |world| async move {
        let zone_id = world.zone().await;
        assert!(world.store.ping().await.is_ok());
        world.store.close().await;
        let refused = [
            world.store.ping().await.err(),
            world.store.read(&zone_id).get_zone().await.err(),
            world.store.begin(&zone_id).await.err(),
        ];
        for error in refused {
            assert!(
                matches!(error, Some(StoreError::Unavailable(_))),
                "{error:?}"
            );
        }
    });
}

fn a_row_that_the_program_cannot_have_written_is_corrupt(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let reader = world.store.read(&tree.zone_id);
        let db = world.raw().await;
        for damage in [
            "metadata = '{'",
            "status = 'asleep'",
            "lifecycle = 'service'",
            "labels = '{}'",
        ] {
            db.execute_unprepared(&format!("UPDATE sessions SET {damage}"))
                .await
                .unwrap();
            let read = reader.get_session(&tree.root.id).await;
            assert!(
                matches!(
                    read,
                    Err(StoreError::Corrupt {
                        table: "sessions",
                        ..
                    })
                ),
                "{damage}"
            );
            let undo = "UPDATE sessions SET metadata = '{}', status = 'active',
                lifecycle = 'task', labels = '[]'";
            db.execute_unprepared(undo).await.unwrap();
            assert!(reader.get_session(&tree.root.id).await.is_ok(), "{damage}");
        }
        db.close().await.unwrap();
    });
}
