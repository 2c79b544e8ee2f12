//! The change log: what makes a cached fact wrong is told in the same commit; what doesn't is not.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use caracal_store::entity::SessionStatus;
use caracal_store::{Change, ChangeKind, Changes, EndSession, ZoneUnit};
use sea_orm::{ConnectionTrait, Statement};

use crate::world::{
    Backend, START, Tree, World, as_service, author, on, on_every_backend, policy, policy_set,
    policy_set_version, policy_version, provider, resource, signing_key, zone,
};

on_every_backend![
    creations_are_not_told,
    every_other_change_is_told_in_the_commit_that_makes_it,
    a_renewed_lease_is_not_told,
    a_zones_numbers_go_on_without_gaps_and_old_rows_are_pruned,
];

/// The rows of the change log, as the database holds them.
async fn log(world: &World) -> Vec<(i64, String, String)> {
    let db = world.raw().await;
    let sql = "SELECT seq, kind, id FROM zone_changes ORDER BY zone_id, seq";
    let rows = db
        .query_all_raw(Statement::from_string(db.get_database_backend(), sql))
        .await
        .unwrap();
    let read = |row: &sea_orm::QueryResult| {
        (
            row.try_get_by("seq").unwrap(),
            row.try_get_by("kind").unwrap(),
            row.try_get_by("id").unwrap(),
        )
    };
    let found = rows.iter().map(read).collect();
    db.close().await.unwrap();
    found
}

fn creations_are_not_told(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let child = tree.child(world.id(), &tree.root);
        unit.insert_session(&child).await.unwrap();
        unit.insert_delegation(&tree.edge(world.id(), &tree.root, &child))
            .await
            .unwrap();
        unit.insert_provider(&provider(&tree.zone_id, world.id(), "provider://a"))
            .await
            .unwrap();
        unit.insert_resource(&resource(&tree.zone_id, world.id(), "resource://a"))
            .await
            .unwrap();
        unit.commit().await.unwrap();
        assert_eq!(
            world.store.changes().current(&tree.zone_id).await.unwrap(),
            0
        );
        assert_eq!(log(&world).await, []);
    });
}

type Step = for<'a> fn(
    &'a World,
    &'a Tree,
    &'a mut ZoneUnit,
) -> Pin<Box<dyn Future<Output = (ChangeKind, String)> + 'a>>;

macro_rules! steps {
    ($(|$world:ident, $tree:ident, $unit:ident| $body:block)*) => {
        [$({
            let step: Step = |$world, $tree, $unit| Box::pin(async move { $body });
            step
        }),*]
    };
}

fn every_other_change_is_told_in_the_commit_that_makes_it(backend: Backend) {
    let steps = steps! {
        |_world, tree, unit| {
            let row = zone(&tree.zone_id, "renamed");
            unit.update_zone(&row).await.unwrap();
            (ChangeKind::Zone, tree.zone_id.to_string())
        }
        |_world, tree, unit| {
            unit.archive_zone(&author()).await.unwrap();
            (ChangeKind::Zone, tree.zone_id.to_string())
        }
        |_world, tree, unit| {
            unit.update_application(&tree.application).await.unwrap();
            (ChangeKind::Application, tree.application.id.to_string())
        }
        |_world, tree, unit| {
            unit.set_application_secret(&tree.application.id, None, None, &author()).await.unwrap();
            (ChangeKind::Application, tree.application.id.to_string())
        }
        |_world, tree, unit| {
            unit.archive_application(&tree.application.id, &author()).await.unwrap();
            (ChangeKind::Application, tree.application.id.to_string())
        }
        |world, tree, unit| {
            let row = provider(&tree.zone_id, world.id(), "provider://a");
            unit.insert_provider(&row).await.unwrap();
            unit.update_provider(&row).await.unwrap();
            (ChangeKind::Provider, row.id.to_string())
        }
        |world, tree, unit| {
            let row = provider(&tree.zone_id, world.id(), "provider://a");
            unit.insert_provider(&row).await.unwrap();
            unit.archive_provider(&row.id, &author()).await.unwrap();
            (ChangeKind::Provider, row.id.to_string())
        }
        |world, tree, unit| {
            let row = resource(&tree.zone_id, world.id(), "resource://a");
            unit.insert_resource(&row).await.unwrap();
            unit.update_resource(&row).await.unwrap();
            (ChangeKind::Resource, row.id.to_string())
        }
        |world, tree, unit| {
            let row = resource(&tree.zone_id, world.id(), "resource://a");
            unit.insert_resource(&row).await.unwrap();
            unit.archive_resource(&row.id, &author()).await.unwrap();
            (ChangeKind::Resource, row.id.to_string())
        }
        |world, tree, unit| {
            let row = policy(&tree.zone_id, world.id(), "p");
            unit.insert_policy(&row).await.unwrap();
            let new = policy_version(world.id(), &row.id, "package a");
            let version = unit.insert_policy_version(&new).await.unwrap().unwrap();
            let set = policy_set(&tree.zone_id, world.id(), "s");
            unit.insert_policy_set(&set).await.unwrap();
            let new = policy_set_version(world.id(), &set.id, &[version.id]);
            unit.insert_policy_set_version(&new).await.unwrap();
            unit.activate_policy_set(&set.id, &new.id, &author()).await.unwrap();
            (ChangeKind::Policy, set.id.to_string())
        }
        |_world, tree, unit| {
            unit.revoke_authority_records(std::slice::from_ref(&tree.record.id), "r").await.unwrap();
            (ChangeKind::AuthorityRecord, tree.record.id.to_string())
        }
        |_world, tree, unit| {
            unit.suspend_sessions(std::slice::from_ref(&tree.root.id)).await.unwrap();
            (ChangeKind::Session, tree.root.id.to_string())
        }
        |_world, tree, unit| {
            unit.resume_sessions(std::slice::from_ref(&tree.root.id), START).await.unwrap();
            (ChangeKind::Session, tree.root.id.to_string())
        }
        |_world, tree, unit| {
            let end = EndSession {
                id: tree.root.id.clone(),
                status: SessionStatus::Terminated,
                reason: "r".to_owned(),
            };
            unit.end_sessions(&[end]).await.unwrap();
            (ChangeKind::Session, tree.root.id.to_string())
        }
        |world, tree, unit| {
            let service = as_service(tree.child(world.id(), &tree.root), START.plus_seconds(9));
            unit.insert_session(&service).await.unwrap();
            unit.take_lease(&service.id, START.plus_seconds(99)).await.unwrap();
            (ChangeKind::Session, service.id.to_string())
        }
        |world, tree, unit| {
            let child = tree.child(world.id(), &tree.root);
            unit.insert_session(&child).await.unwrap();
            let edge = tree.edge(world.id(), &tree.root, &child);
            unit.insert_delegation(&edge).await.unwrap();
            unit.revoke_delegations(std::slice::from_ref(&edge.id)).await.unwrap();
            (ChangeKind::Delegation, edge.id.to_string())
        }
        |world, tree, unit| {
            let child = tree.child(world.id(), &tree.root);
            unit.insert_session(&child).await.unwrap();
            let edge = tree.edge(world.id(), &tree.root, &child);
            unit.insert_delegation(&edge).await.unwrap();
            unit.mark_delegation_accepted(&edge.id).await.unwrap();
            (ChangeKind::Delegation, edge.id.to_string())
        }
        |_world, tree, unit| {
            unit.bump_delegation_epoch().await.unwrap();
            (ChangeKind::DelegationEpoch, tree.zone_id.to_string())
        }
        |world, tree, unit| {
            let key = signing_key(&tree.zone_id, world.id(), START);
            unit.insert_signing_key(&key).await.unwrap();
            unit.retire_signing_key(&key.id, START).await.unwrap();
            (ChangeKind::SigningKey, key.id.to_string())
        }
    };
    for step in steps {
        on(backend, |world| async move {
            let tree = world.tree().await;
            let feed = world.store.changes();
            let mut watch = feed.watch(&tree.zone_id);
            let mut unit = world.unit(&tree.zone_id).await;
            let (kind, id) = step(&world, &tree, &mut unit).await;
            assert_eq!(log(&world).await, [], "{kind:?} is told before the commit");
            unit.commit().await.unwrap();

            let change = Change {
                kind,
                id: id.as_str().into(),
            };
            let told = feed.since(&tree.zone_id, 0).await.unwrap();
            assert_eq!(
                told,
                Changes::Complete {
                    upto: 1,
                    changes: vec![change]
                }
            );
            assert_eq!(log(&world).await, [(1, kind.as_str().to_owned(), id)]);
            // Elsewhere than in the process that owns the file, the news takes a moment.
            let news = watch.wait_for(|seen| *seen == 1);
            let news = tokio::time::timeout(Duration::from_secs(5), news).await;
            assert!(news.is_ok_and(|seen| seen.is_ok()), "{kind:?}");
        });
    }
}

fn a_renewed_lease_is_not_told(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let service = as_service(tree.child(world.id(), &tree.root), START.plus_seconds(9));
        unit.insert_session(&service).await.unwrap();
        assert!(
            unit.renew_lease(&service.id, 1, START.plus_seconds(99))
                .await
                .unwrap()
        );
        unit.commit().await.unwrap();
        assert_eq!(
            world.store.changes().current(&tree.zone_id).await.unwrap(),
            0
        );
    });
}

fn a_zones_numbers_go_on_without_gaps_and_old_rows_are_pruned(backend: Backend) {
    on(backend, |world| async move {
        let other = world.tree().await;
        let mut unit = world.unit(&other.zone_id).await;
        unit.suspend_sessions(std::slice::from_ref(&other.root.id))
            .await
            .unwrap();
        unit.commit().await.unwrap();
        let tree = world.tree().await;
        let ids: Vec<_> = (0..2500).map(|_| world.id()).collect();
        for _ in 0..7 {
            let mut unit = world.unit(&tree.zone_id).await;
            unit.suspend_sessions(&ids).await.unwrap();
            unit.commit().await.unwrap();
        }
        let mut rows = log(&world).await;
        let others = rows.remove(0);
        assert_eq!(others.2, other.root.id.as_str(), "another zone's stays");
        assert_eq!(rows.last().unwrap().0, 7 * 2500);
        assert!(rows.len() < 7 * 2500, "pruned");
        assert!(rows.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1));
    });
}
