//! Delegation edges.

use caracal_core::id::DelegationId;
use caracal_store::entity::{Constraints, Delegation, DelegationStatus, Session};
use caracal_store::{BudgetOutcome, DelegationFilter, Page, ZoneUnit};

use crate::world::{Backend, START, Tree, World, on, on_every_backend};

on_every_backend![
    an_edge_is_stored_whole,
    the_lineage_goes_from_the_edge_to_its_root_whatever_their_state,
    descendants_are_all_active_edges_below_through_any_state,
    a_revoke_raises_the_version_once,
    edges_are_found_by_their_ends,
    lists_filter_on_ends_parties_and_liveness,
    a_path_is_found_in_a_dense_graph_with_cycles,
    a_budget_bounds_everything_minted_below_it,
    acceptance_is_remembered_once,
    a_sweep_expires_edges_without_raising_their_version,
    the_epoch_begins_at_zero_and_rises_by_one,
];

/// `length` edges, each deriving from the one before, along a chain of Sessions.
async fn lineage(
    world: &World,
    tree: &Tree,
    unit: &mut ZoneUnit,
    length: usize,
) -> (Vec<Session>, Vec<Delegation>) {
    let mut sessions = vec![tree.root.clone()];
    let mut edges: Vec<Delegation> = Vec::new();
    for _ in 0..length {
        let child = tree.child(world.id(), &tree.root);
        unit.insert_session(&child).await.unwrap();
        let edge = Delegation {
            parent_edge_id: edges.last().map(|edge| edge.id.clone()),
            ..tree.edge(world.id(), sessions.last().unwrap(), &child)
        };
        unit.insert_delegation(&edge).await.unwrap();
        sessions.push(child);
        edges.push(edge);
    }
    (sessions, edges)
}

fn ids(edges: &[Delegation]) -> Vec<DelegationId> {
    edges.iter().map(|edge| edge.id.clone()).collect()
}

fn sorted(mut ids: Vec<DelegationId>) -> Vec<DelegationId> {
    ids.sort();
    ids
}

fn an_edge_is_stored_whole(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let child = tree.child(world.id(), &tree.root);
        unit.insert_session(&child).await.unwrap();
        let constraints = r#"{"resources":["resource://a"],"max_hops":2,"budget":5,"ttl_seconds":60,
            "expires_at":"2026-01-01T00:05:00.000Z","policy_approved":true}"#;
        let edge = Delegation {
            constraints: serde_json::from_str(constraints).unwrap(),
            mirrored: true,
            accepted: true,
            resource_id: Some(world.id()),
            ..tree.edge(world.id(), &tree.root, &child)
        };
        unit.insert_delegation(&edge).await.unwrap();
        let stored = unit.get_delegation(&edge.id).await.unwrap().unwrap();
        assert_eq!(format!("{stored:?}"), format!("{edge:?}"));
    });
}

fn the_lineage_goes_from_the_edge_to_its_root_whatever_their_state(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let (_, edges) = lineage(&world, &tree, &mut unit, 12).await;
        unit.revoke_delegations(std::slice::from_ref(&edges[3].id))
            .await
            .unwrap();
        let line = unit.delegation_lineage(&edges[11].id).await.unwrap();
        let mut expected = ids(&edges);
        expected.reverse();
        assert_eq!(ids(&line), expected);
        assert!(
            unit.delegation_lineage(&world.id())
                .await
                .unwrap()
                .is_empty()
        );
    });
}

fn descendants_are_all_active_edges_below_through_any_state(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let (sessions, edges) = lineage(&world, &tree, &mut unit, 15).await;
        let side = Delegation {
            parent_edge_id: Some(edges[2].id.clone()),
            ..tree.edge(world.id(), &sessions[3], &sessions[9])
        };
        unit.insert_delegation(&side).await.unwrap();
        let unrelated = tree.edge(world.id(), &sessions[1], &sessions[2]);
        unit.insert_delegation(&unrelated).await.unwrap();
        unit.revoke_delegations(std::slice::from_ref(&edges[5].id))
            .await
            .unwrap();

        let below = unit
            .active_delegation_descendants(&[edges[1].id.clone(), edges[4].id.clone()])
            .await;
        let mut expected: Vec<_> = ids(&edges[1..]);
        expected.retain(|id| *id != edges[5].id);
        expected.push(side.id.clone());
        assert_eq!(ids(&below.unwrap()), sorted(expected));
    });
}

fn a_revoke_raises_the_version_once(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let (_, edges) = lineage(&world, &tree, &mut unit, 2).await;
        world.clock.advance_seconds(1000);
        let revoked = unit.revoke_delegations(&ids(&edges)).await.unwrap();
        assert_eq!(
            sorted(revoked),
            ids(&edges),
            "expired by the clock, but active"
        );
        assert_eq!(unit.revoke_delegations(&ids(&edges)).await.unwrap(), []);
        let row = unit.get_delegation(&edges[0].id).await.unwrap().unwrap();
        assert_eq!(
            (row.status, row.edge_version),
            (DelegationStatus::Revoked, 1)
        );
        assert_eq!(row.revoked_at, Some(world.now()));
    });
}

fn edges_are_found_by_their_ends(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let (sessions, edges) = lineage(&world, &tree, &mut unit, 3).await;
        let middle = &sessions[1];
        let touching = unit
            .active_delegations_touching(std::slice::from_ref(&middle.id))
            .await
            .unwrap();
        assert_eq!(ids(&touching), ids(&edges[0..2]));
        let live = unit
            .live_inbound_delegations(&middle.id, START)
            .await
            .unwrap();
        assert_eq!(ids(&live), ids(&edges[0..1]));
        let live = unit
            .live_outbound_delegations(std::slice::from_ref(&middle.id), START)
            .await
            .unwrap();
        assert_eq!(ids(&live), ids(&edges[1..2]));
        let later = START.plus_seconds(600);
        assert!(
            unit.live_inbound_delegations(&middle.id, later)
                .await
                .unwrap()
                .is_empty()
        );
        assert_eq!(unit.inbound_delegations(&middle.id).await.unwrap().len(), 1);
    });
}

fn lists_filter_on_ends_parties_and_liveness(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let (sessions, edges) = lineage(&world, &tree, &mut unit, 3).await;
        let none = DelegationFilter::default;
        let app = Some(tree.application.id.clone());
        for (filter, count) in [
            (none(), 3),
            (
                DelegationFilter {
                    source: Some(sessions[1].id.clone()),
                    ..none()
                },
                1,
            ),
            (
                DelegationFilter {
                    target: Some(sessions[1].id.clone()),
                    ..none()
                },
                1,
            ),
            (
                DelegationFilter {
                    issuer: app.clone(),
                    ..none()
                },
                3,
            ),
            (
                DelegationFilter {
                    receiver: Some(world.id()),
                    ..none()
                },
                0,
            ),
            (
                DelegationFilter {
                    party: app,
                    live_at: Some(START),
                    ..none()
                },
                3,
            ),
            (
                DelegationFilter {
                    live_at: Some(START.plus_seconds(600)),
                    ..none()
                },
                0,
            ),
        ] {
            let found = unit
                .list_delegations(&filter, &Page::first(10))
                .await
                .unwrap();
            assert_eq!(found.items.len(), count, "{filter:?}");
        }
        assert_eq!(
            edges[0].status_at(START.plus_seconds(600)),
            DelegationStatus::Expired
        );
    });
}

fn a_path_is_found_in_a_dense_graph_with_cycles(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let mut sessions = vec![tree.root.clone()];
        for _ in 0..12 {
            let child = tree.child(world.id(), &tree.root);
            unit.insert_session(&child).await.unwrap();
            sessions.push(child);
        }
        // Everybody but the last delegates to everybody but the last.
        for source in &sessions[..12] {
            for target in sessions[..12]
                .iter()
                .filter(|target| target.id != source.id)
            {
                unit.insert_delegation(&tree.edge(world.id(), source, target))
                    .await
                    .unwrap();
            }
        }
        let (root, last) = (&sessions[0].id, &sessions[12].id);
        assert!(
            unit.delegation_reaches(root, &sessions[11].id, START)
                .await
                .unwrap()
        );
        assert!(!unit.delegation_reaches(root, last, START).await.unwrap());
        let expired = START.plus_seconds(600);
        assert!(
            !unit
                .delegation_reaches(root, &sessions[11].id, expired)
                .await
                .unwrap()
        );
    });
}

fn a_budget_bounds_everything_minted_below_it(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let (sessions, _) = lineage(&world, &tree, &mut unit, 3).await;
        let budget = |budget| Constraints {
            budget,
            ..Constraints::default()
        };
        let top = Delegation {
            constraints: budget(Some(3)),
            ..tree.edge(world.id(), &sessions[0], &sessions[1])
        };
        let unbounded = Delegation {
            parent_edge_id: Some(top.id.clone()),
            constraints: budget(None),
            ..tree.edge(world.id(), &sessions[1], &sessions[2])
        };
        let leaf = Delegation {
            parent_edge_id: Some(unbounded.id.clone()),
            constraints: budget(Some(2)),
            ..tree.edge(world.id(), &sessions[2], &sessions[3])
        };
        for edge in [&top, &unbounded, &leaf] {
            unit.insert_delegation(edge).await.unwrap();
        }
        let granted = BudgetOutcome::Granted;
        assert_eq!(
            unit.consume_delegation_budget(&leaf.id).await.unwrap(),
            granted
        );
        assert_eq!(
            unit.consume_delegation_budget(&unbounded.id).await.unwrap(),
            granted
        );
        assert_eq!(
            unit.consume_delegation_budget(&leaf.id).await.unwrap(),
            granted
        );
        assert_eq!(
            unit.consume_delegation_budget(&unbounded.id).await.unwrap(),
            BudgetOutcome::Exhausted(top.id.clone())
        );
        let used =
            async |unit: &ZoneUnit, id| unit.get_delegation(id).await.unwrap().unwrap().budget_used;
        assert_eq!(used(&unit, &top.id).await, 3);
        assert_eq!(used(&unit, &unbounded.id).await, 0);
        assert_eq!(used(&unit, &leaf.id).await, 2, "a refusal counts nothing");
    });
}

fn acceptance_is_remembered_once(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let (_, edges) = lineage(&world, &tree, &mut unit, 1).await;
        assert!(unit.mark_delegation_accepted(&edges[0].id).await.unwrap());
        assert!(!unit.mark_delegation_accepted(&edges[0].id).await.unwrap());
        assert!(
            unit.get_delegation(&edges[0].id)
                .await
                .unwrap()
                .unwrap()
                .accepted
        );
    });
}

fn a_sweep_expires_edges_without_raising_their_version(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let (_, edges) = lineage(&world, &tree, &mut unit, 2).await;
        unit.commit().await.unwrap();
        let later = START.plus_seconds(600);
        let platform = world.store.platform();
        assert_eq!(
            platform.zones_with_lapsed_delegations(START).await.unwrap(),
            []
        );
        let due = platform.zones_with_lapsed_delegations(later).await.unwrap();
        assert_eq!(due, std::slice::from_ref(&tree.zone_id));
        world.clock.set(later);
        let mut unit = world.unit(&tree.zone_id).await;
        assert_eq!(
            sorted(unit.expire_delegations(10).await.unwrap()),
            ids(&edges)
        );
        let row = unit.get_delegation(&edges[0].id).await.unwrap().unwrap();
        assert_eq!(
            (row.status, row.edge_version),
            (DelegationStatus::Expired, 0)
        );
    });
}

fn the_epoch_begins_at_zero_and_rises_by_one(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        assert_eq!(unit.delegation_epoch().await.unwrap(), 0);
        assert_eq!(unit.bump_delegation_epoch().await.unwrap(), 1);
        assert_eq!(unit.bump_delegation_epoch().await.unwrap(), 2);
        assert_eq!(unit.delegation_epoch().await.unwrap(), 2);
    });
}
