//! The outbox and idempotency receipts.

use std::time::Duration;

use caracal_store::{
    OutboxStatus, PlatformLane, PlatformUnit, Receipt, StoreError, UniqueConstraint,
};

use crate::world::{Backend, START, World, on, on_every_backend, open};

on_every_backend![
    a_message_leaves_with_the_commit_and_wakes_the_publisher,
    a_repeated_key_keeps_the_first_message_and_answers_its_id,
    messages_are_published_retried_given_up_and_requeued,
    a_claimed_message_is_nobody_elses_until_its_time_or_its_release,
    dead_messages_are_listed_and_requeued_by_zone_or_id,
    the_newest_message_of_a_key_prefix_is_found,
    a_receipt_is_replayed_under_either_digest_until_it_expires,
    held_receipts_are_exact_at_the_limit_and_swept_when_expired,
];

fn payload(reason: &str) -> Vec<(String, String)> {
    vec![
        ("zone_id".to_owned(), "z".to_owned()),
        ("reason".to_owned(), reason.to_owned()),
    ]
}

fn a_message_leaves_with_the_commit_and_wakes_the_publisher(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let signal = world.store.outbox_signal();
        if backend == Backend::Postgres {
            // The listener says once that it listens.
            signal.notified().await;
        }
        let mut unit = world.unit(&zone).await;
        let id = unit
            .enqueue("caracal.sessions.revoke", "k-1", payload("r"))
            .await
            .unwrap();
        let woken = tokio::time::timeout(Duration::ZERO, signal.notified()).await;
        assert!(woken.is_err(), "before the commit");
        unit.commit().await.unwrap();
        signal.notified().await;
        let pending = world
            .store
            .platform()
            .pending_outbox_messages(world.now(), 10)
            .await
            .unwrap();
        assert_eq!(pending.len(), 1);
        assert_eq!((&pending[0].id, &pending[0].zone_id), (&id, &zone));
        assert_eq!(pending[0].payload, payload("r"));
    });
}

fn a_repeated_key_keeps_the_first_message_and_answers_its_id(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let first = unit.enqueue("t", "k", payload("first")).await.unwrap();
        assert_eq!(
            unit.enqueue("t", "k", payload("second")).await.unwrap(),
            first
        );
        assert_ne!(
            unit.enqueue("other", "k", payload("x")).await.unwrap(),
            first
        );
        let kept = unit.get_outbox_message(&first).await.unwrap().unwrap();
        assert_eq!(kept.payload, payload("first"));
    });
}

fn messages_are_published_retried_given_up_and_requeued(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let mut ids = Vec::new();
        for n in 0..3 {
            ids.push(unit.enqueue("t", &format!("k-{n}"), vec![]).await.unwrap());
        }
        unit.commit().await.unwrap();
        let mut unit = world.store.begin_platform().await.unwrap();
        unit.mark_outbox_published(&ids[..1]).await.unwrap();
        let retry = START.plus_seconds(30);
        unit.mark_outbox_failed(&ids[1], "refused", Some(retry))
            .await
            .unwrap();
        unit.mark_outbox_failed(&ids[2], "refused", None)
            .await
            .unwrap();
        unit.commit().await.unwrap();

        let platform = world.store.platform();
        assert!(
            platform
                .pending_outbox_messages(START, 10)
                .await
                .unwrap()
                .is_empty()
        );
        let due = platform.pending_outbox_messages(retry, 10).await.unwrap();
        assert_eq!((&due[0].id, due[0].attempts), (&ids[1], 1));
        assert_eq!(due[0].last_error.as_deref(), Some("refused"));
        let stats = platform.outbox_stats().await.unwrap();
        for status in [
            OutboxStatus::Pending,
            OutboxStatus::Published,
            OutboxStatus::Dead,
        ] {
            assert_eq!(stats.count(status), 1, "{status:?}");
        }
        assert_eq!(
            (stats.oldest_pending, stats.oldest_dead),
            (Some(START), Some(START))
        );

        let mut unit = world.unit(&zone).await;
        assert!(unit.requeue_outbox_message(&ids[2]).await.unwrap());
        assert!(
            !unit.requeue_outbox_message(&ids[0]).await.unwrap(),
            "not dead"
        );
        unit.commit().await.unwrap();
        let mut unit = world.store.begin_platform().await.unwrap();
        assert_eq!(unit.delete_published_outbox(START, 10).await.unwrap(), 0);
        assert_eq!(unit.delete_published_outbox(retry, 10).await.unwrap(), 1);
        let due = unit.pending_outbox_messages(START, 10).await.unwrap();
        assert_eq!((&due[0].id, due[0].attempts), (&ids[2], 0));
    });
}

/// The dedupe keys of what a publisher claims for a minute.
async fn claim(world: &World, limit: i64) -> Vec<String> {
    let mut unit = begin_publishing(world).await;
    let until = world.now().plus_seconds(60);
    let claimed = unit.claim_outbox_messages(until, limit).await.unwrap();
    unit.commit().await.unwrap();
    claimed
        .into_iter()
        .map(|message| message.dedupe_key)
        .collect()
}

async fn begin_publishing(world: &World) -> PlatformUnit {
    let begun = world.store.begin_platform_work(PlatformLane::Publishing);
    begun.await.unwrap()
}

fn a_claimed_message_is_nobody_elses_until_its_time_or_its_release(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut ids = Vec::new();
        for key in ["a", "b", "c"] {
            let mut unit = world.unit(&zone).await;
            ids.push(unit.enqueue("t", key, vec![]).await.unwrap());
            unit.commit().await.unwrap();
            world.clock.advance_seconds(1);
        }
        assert_eq!(claim(&world, 2).await, ["a", "b"]);
        assert_eq!(claim(&world, 9).await, ["c"]);
        assert!(claim(&world, 9).await.is_empty());

        let mut unit = begin_publishing(&world).await;
        unit.release_outbox_messages(&ids[1..2]).await.unwrap();
        unit.mark_outbox_published(&ids[2..]).await.unwrap();
        unit.commit().await.unwrap();
        let reader = world.store.read(&zone);
        let given_back = reader.get_outbox_message(&ids[1]).await.unwrap().unwrap();
        assert_eq!(given_back.attempts, 0);
        assert_eq!(claim(&world, 9).await, ["b"]);
        world.clock.advance_seconds(60);
        assert_eq!(claim(&world, 9).await, ["a", "b"]);
    });
}

#[test]
fn publishers_of_two_processes_never_claim_the_same_message_and_do_not_wait() {
    on(Backend::Postgres, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        for n in 0..4 {
            unit.enqueue("t", &format!("k-{n}"), vec![]).await.unwrap();
        }
        unit.commit().await.unwrap();
        let until = START.plus_seconds(60);
        let mut one = begin_publishing(&world).await;
        let mut other = begin_publishing(&world).await;
        let first = one.claim_outbox_messages(until, 3).await.unwrap();
        let second = other.claim_outbox_messages(until, 3).await.unwrap();
        assert_eq!((first.len(), second.len()), (3, 1));
        assert!(first.iter().all(|message| message.id != second[0].id));
    });
}

#[test]
fn what_one_process_enqueues_wakes_the_publisher_of_another() {
    on(Backend::Postgres, |world| async move {
        let zone = world.zone().await;
        let other = open(&world.place, &world.clock, &world.random)
            .await
            .unwrap();
        let signal = other.outbox_signal();
        // The listener says once that it listens.
        signal.notified().await;
        let mut unit = world.unit(&zone).await;
        unit.enqueue("t", "k", vec![]).await.unwrap();
        unit.commit().await.unwrap();
        let woken = tokio::time::timeout(Duration::from_secs(20), signal.notified());
        woken.await.unwrap();
    });
}

fn dead_messages_are_listed_and_requeued_by_zone_or_id(backend: Backend) {
    on(backend, |world| async move {
        let (mine, theirs) = (world.zone().await, world.zone().await);
        let mut dead = Vec::new();
        for (zone, key) in [(&mine, "a"), (&mine, "b"), (&theirs, "c"), (&theirs, "d")] {
            let mut unit = world.unit(zone).await;
            dead.push(unit.enqueue("t", key, vec![]).await.unwrap());
            unit.commit().await.unwrap();
        }
        let mut unit = begin_publishing(&world).await;
        for id in &dead {
            unit.mark_outbox_failed(id, "refused", None).await.unwrap();
        }
        unit.commit().await.unwrap();
        let listed = async |zone| {
            let platform = world.store.platform();
            let listed = platform.outbox_messages(OutboxStatus::Dead, zone, 9).await;
            listed.unwrap().len()
        };
        assert_eq!((listed(None).await, listed(Some(&mine)).await), (4, 2));

        let mut unit = begin_publishing(&world).await;
        let wrong = unit.requeue_outbox_messages(Some(&theirs), Some(&dead[0]));
        assert_eq!(wrong.await.unwrap(), 0);
        let one = unit.requeue_outbox_messages(None, Some(&dead[0]));
        assert_eq!(one.await.unwrap(), 1);
        let zone = unit.requeue_outbox_messages(Some(&theirs), None);
        assert_eq!(zone.await.unwrap(), 2);
        unit.commit().await.unwrap();
        assert_eq!((listed(None).await, listed(Some(&theirs)).await), (1, 0));
        assert_eq!(claim(&world, 9).await.len(), 3);
    });
}

fn the_newest_message_of_a_key_prefix_is_found(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        unit.enqueue("t", "set-1:v-1:a", vec![]).await.unwrap();
        world.clock.advance_seconds(1);
        let newest = unit.enqueue("t", "set-1:v-1:b", vec![]).await.unwrap();
        world.clock.advance_seconds(1);
        unit.enqueue("t", "set-1:v-2:c", vec![]).await.unwrap();
        let found = unit
            .find_newest_outbox_message("t", "set-1:v-1:")
            .await
            .unwrap();
        assert_eq!(found.unwrap().id, newest);
        assert!(
            unit.find_newest_outbox_message("t", "set-9")
                .await
                .unwrap()
                .is_none()
        );
    });
}

fn receipt(scope: &str, digest: &str, ends: i64) -> Receipt {
    Receipt {
        operation: "session.start.v2".to_owned(),
        scope_id: scope.to_owned(),
        key_digest: digest.to_owned(),
        fingerprint: "f".to_owned(),
        resource_type: "session".to_owned(),
        resource_id: "s-1".to_owned(),
        status_code: 201,
        body: r#"{"agent_session_id":"s-1"}"#.to_owned(),
        created_at: START,
        expires_at: START.plus_seconds(ends),
    }
}

fn a_receipt_is_replayed_under_either_digest_until_it_expires(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let row = receipt("app-1", "old", 60);
        unit.insert_receipt(&row).await.unwrap();
        let digests = ["new".to_owned(), "old".to_owned()];
        let operation = row.operation.as_str();
        let found = unit
            .find_receipt(operation, "app-1", &digests, START)
            .await
            .unwrap();
        assert_eq!(found, Some(row.clone()));
        for (operation, scope, at) in [
            ("delegation.create.v2", "app-1", START),
            (operation, "app-2", START),
            (operation, "app-1", START.plus_seconds(60)),
        ] {
            let found = unit
                .find_receipt(operation, scope, &digests, at)
                .await
                .unwrap();
            assert_eq!(found, None, "{operation} {scope} {at}");
        }
        let clash = unit.insert_receipt(&row).await;
        assert!(matches!(
            clash,
            Err(StoreError::Conflict(UniqueConstraint::IdempotencyKey))
        ));
        world.clock.advance_seconds(60);
        unit.insert_receipt(&receipt("app-1", "old", 600))
            .await
            .unwrap();
        assert_eq!(
            unit.held_receipts(operation, "app-1", 100, world.now())
                .await
                .unwrap(),
            1
        );
    });
}

fn held_receipts_are_exact_at_the_limit_and_swept_when_expired(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        for n in 0..4 {
            unit.insert_receipt(&receipt("app-1", &format!("d-{n}"), 10 * n + 10))
                .await
                .unwrap();
        }
        unit.insert_receipt(&receipt("app-2", "d", 10))
            .await
            .unwrap();
        world.clock.advance_seconds(20);
        let now = world.now();
        let operation = "session.start.v2";
        assert_eq!(
            unit.held_receipts(operation, "app-1", 5, now)
                .await
                .unwrap(),
            4
        );
        assert_eq!(
            unit.held_receipts(operation, "app-1", 4, now)
                .await
                .unwrap(),
            2
        );
        assert_eq!(unit.delete_expired_receipts(2).await.unwrap(), 2);
        assert_eq!(unit.delete_expired_receipts(10).await.unwrap(), 1);
        assert_eq!(
            unit.held_receipts(operation, "app-1", 5, now)
                .await
                .unwrap(),
            2
        );
        unit.commit().await.unwrap();
        let stats = world.store.platform().receipt_stats().await.unwrap();
        assert_eq!((stats.rows, stats.oldest), (2, Some(START)));
    });
}
