//! Units of work: all or nothing, one at a time.

use std::time::Duration;

use caracal_core::id::ZoneId;
use caracal_store::{Page, RowStatus, StoreError};

use crate::world::{application, on_every_backend, zone};

#[test]
fn a_dropped_unit_leaves_nothing() {
    on_every_backend(|world| async move {
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

#[test]
fn a_unit_reads_its_own_writes_and_readers_see_them_only_after_the_commit() {
    on_every_backend(|world| async move {
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

#[test]
fn a_failed_statement_spoils_nothing_that_the_unit_did_before() {
    on_every_backend(|world| async move {
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

#[test]
fn a_commit_finishes_though_its_caller_goes_away() {
    on_every_backend(|world| async move {
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

#[test]
fn a_writer_that_does_not_become_free_in_time_is_unavailable() {
    on_every_backend(|world| async move {
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
