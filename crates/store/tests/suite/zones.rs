//! Zones.

use caracal_core::id::ZoneId;
use caracal_store::entity::{SessionStatus, Zone};
use caracal_store::{LiveAuthority, Page, StoreError, UniqueConstraint, ZoneFilter};

use crate::world::{Backend, author, on, on_every_backend, zone};

on_every_backend![
    a_zone_is_stored_whole,
    a_slug_stays_taken_when_its_zone_is_archived,
    the_list_leaves_out_archived_reserved_and_other_owners_zones,
    a_renamed_zone_can_become_reserved,
    ending_all_authority_ends_records_sessions_and_edges_and_says_which,
];

fn a_zone_is_stored_whole(backend: Backend) {
    on(backend, |world| async move {
        let id: ZoneId = world.id();
        let row = Zone {
            dcr_enabled: true,
            owner_account_id: Some("acct-1".to_owned()),
            ..zone(&id, "acme")
        };
        let mut unit = world.unit(&id).await;
        unit.insert_zone(&row).await.unwrap();
        unit.commit().await.unwrap();
        let stored = world.store.platform().get_zone(&id).await.unwrap().unwrap();
        assert_eq!(format!("{stored:?}"), format!("{row:?}"));
    });
}

fn a_slug_stays_taken_when_its_zone_is_archived(backend: Backend) {
    on(backend, |world| async move {
        let first: ZoneId = world.id();
        let mut unit = world.unit(&first).await;
        unit.insert_zone(&zone(&first, "acme")).await.unwrap();
        assert!(unit.archive_zone(&author()).await.unwrap());
        unit.commit().await.unwrap();

        let second: ZoneId = world.id();
        let mut unit = world.unit(&second).await;
        assert!(unit.slug_is_taken("acme").await.unwrap());
        let clash = unit.insert_zone(&zone(&second, "acme")).await;
        assert!(matches!(
            clash,
            Err(StoreError::Conflict(UniqueConstraint::ZoneSlug))
        ));
    });
}

fn the_list_leaves_out_archived_reserved_and_other_owners_zones(backend: Backend) {
    on(backend, |world| async move {
        let mut ids = Vec::new();
        for (slug, owner) in [
            ("mine", Some("a")),
            ("theirs", Some("b")),
            ("caracal-sys-x", None),
        ] {
            let id: ZoneId = world.id();
            let row = Zone {
                owner_account_id: owner.map(str::to_owned),
                ..zone(&id, slug)
            };
            let mut unit = world.unit(&id).await;
            unit.insert_zone(&row).await.unwrap();
            unit.commit().await.unwrap();
            ids.push(id);
        }
        let platform = world.store.platform();
        let slugs = |zones: Vec<Zone>| zones.into_iter().map(|z| z.slug).collect::<Vec<_>>();
        let all = platform
            .list_zones(&ZoneFilter::default(), &Page::first(10))
            .await
            .unwrap();
        assert_eq!(slugs(all.items), ["theirs", "mine"]);
        let of_a = ZoneFilter {
            owner_account_id: Some("a".to_owned()),
        };
        let mine = platform.list_zones(&of_a, &Page::first(10)).await.unwrap();
        assert_eq!(slugs(mine.items), ["mine"]);

        let mut unit = world.unit(&ids[0]).await;
        assert!(unit.archive_zone(&author()).await.unwrap());
        assert!(!unit.archive_zone(&author()).await.unwrap(), "twice");
        unit.commit().await.unwrap();
        let left = platform.list_zones(&of_a, &Page::first(10)).await.unwrap();
        assert!(left.items.is_empty());
    });
}

fn a_renamed_zone_can_become_reserved(backend: Backend) {
    on(backend, |world| async move {
        let id = world.zone().await;
        let mut unit = world.unit(&id).await;
        let mut row = unit.get_zone().await.unwrap().unwrap();
        row.slug = "caracal-sys-late".to_owned();
        assert!(unit.update_zone(&row).await.unwrap());
        unit.commit().await.unwrap();
        let all = world
            .store
            .platform()
            .list_zones(&ZoneFilter::default(), &Page::first(10))
            .await;
        assert!(all.unwrap().items.is_empty());
    });
}

fn ending_all_authority_ends_records_sessions_and_edges_and_says_which(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let child = tree.child(world.id(), &tree.root);
        unit.insert_session(&child).await.unwrap();
        unit.suspend_sessions(std::slice::from_ref(&child.id))
            .await
            .unwrap();
        let edge = tree.edge(world.id(), &tree.root, &child);
        unit.insert_delegation(&edge).await.unwrap();
        let live = unit.live_authority().await.unwrap();
        assert_eq!(
            live,
            LiveAuthority {
                sessions: 2,
                delegations: 1
            }
        );

        let ended = unit.end_all_authority("zone_deleted").await.unwrap();
        assert_eq!(ended.records, std::slice::from_ref(&tree.record.id));
        let mut sessions: Vec<_> = ended.sessions.iter().map(|s| s.id.clone()).collect();
        sessions.sort();
        let mut expected = vec![tree.root.id.clone(), child.id.clone()];
        expected.sort();
        assert_eq!(sessions, expected);
        assert_eq!(ended.delegations, [edge.id]);
        assert_eq!(
            unit.live_authority().await.unwrap(),
            LiveAuthority::default()
        );
        let root = unit.get_session(&tree.root.id).await.unwrap().unwrap();
        assert_eq!(root.status, SessionStatus::Terminated);
        assert_eq!(root.termination_reason.as_deref(), Some("zone_deleted"));
        assert_eq!(
            unit.end_all_authority("again").await.unwrap(),
            Default::default()
        );
    });
}
