//! Governed Sessions.

use caracal_core::id::SessionId;
use caracal_store::entity::{Lifecycle, Session, SessionStatus};
use caracal_store::{
    DueSession, EndSession, LifecycleKind, Page, SessionFilter, SlotsOf, Through, ZoneUnit,
};

use crate::world::{Backend, START, Tree, World, as_service, on, on_every_backend, task};

on_every_backend![
    tasks_and_services_are_stored_whole,
    lists_filter_on_every_column,
    a_walk_down_stops_at_other_states_and_visits_nothing_twice,
    the_ancestry_goes_from_the_session_to_its_root,
    suspending_freezes_a_lease_and_resuming_renews_it,
    ended_sessions_leave_their_parents_and_applications_counts,
    held_slots_are_exact_when_a_limit_is_reached,
    a_lease_moves_to_its_new_holder_and_fences_the_old_one,
    sweeps_find_lapsed_tasks_and_active_services_in_order_of_their_end,
    retention_deletes_leaves_first_and_keeps_what_edges_refer_to,
    sessions_of_a_record_are_found_while_they_live,
    a_session_on_an_unknown_record_is_refused,
];

fn ends(ids: &[&SessionId], reason: &str) -> Vec<EndSession> {
    ids.iter()
        .map(|id| EndSession {
            id: (*id).clone(),
            status: SessionStatus::Terminated,
            reason: reason.to_owned(),
        })
        .collect()
}

async fn chain(world: &World, tree: &Tree, unit: &mut ZoneUnit, length: usize) -> Vec<Session> {
    let mut sessions = vec![tree.root.clone()];
    for _ in 0..length {
        let child = tree.child(world.id(), sessions.last().unwrap());
        unit.insert_session(&child).await.unwrap();
        sessions.push(child);
    }
    sessions
}

async fn status(unit: &ZoneUnit, id: &SessionId) -> SessionStatus {
    unit.get_session(id).await.unwrap().unwrap().status
}

fn tasks_and_services_are_stored_whole(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let service = as_service(tree.child(world.id(), &tree.root), START.plus_seconds(120));
        unit.insert_session(&service).await.unwrap();
        let stored = unit.get_session(&service.id).await.unwrap().unwrap();
        assert_eq!(format!("{stored:?}"), format!("{service:?}"));
        let root = unit.get_session(&tree.root.id).await.unwrap().unwrap();
        assert_eq!(
            format!("{root:?}"),
            format!(
                "{:?}",
                Session {
                    child_count: 1,
                    ..tree.root
                }
            )
        );
    });
}

fn lists_filter_on_every_column(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let wanted = Session {
            labels: vec!["Crawler".to_owned(), "Crawler".to_owned(), "x".to_owned()],
            ..as_service(tree.child(world.id(), &tree.root), START.plus_seconds(60))
        };
        unit.insert_session(&wanted).await.unwrap();
        unit.suspend_sessions(std::slice::from_ref(&wanted.id))
            .await
            .unwrap();
        let none = SessionFilter::default;
        for filter in [
            SessionFilter {
                status: Some(SessionStatus::Suspended),
                ..none()
            },
            SessionFilter {
                lifecycle: Some(LifecycleKind::Service),
                ..none()
            },
            SessionFilter {
                parent_id: Some(tree.root.id.clone()),
                ..none()
            },
            SessionFilter {
                label: Some("Crawler".to_owned()),
                ..none()
            },
        ] {
            let found = unit.list_sessions(&filter, &Page::first(10)).await.unwrap();
            let ids: Vec<_> = found.items.iter().map(|row| &row.id).collect();
            assert_eq!(ids, [&wanted.id], "{filter:?}");
        }
        for (filter, count) in [
            (
                SessionFilter {
                    application_id: Some(tree.application.id.clone()),
                    ..none()
                },
                2,
            ),
            (
                SessionFilter {
                    application_id: Some(world.id()),
                    ..none()
                },
                0,
            ),
            (
                SessionFilter {
                    subject_id: Some(tree.record.subject_id.clone()),
                    ..none()
                },
                2,
            ),
            (
                SessionFilter {
                    subject_id: Some("nobody".to_owned()),
                    ..none()
                },
                0,
            ),
            (
                SessionFilter {
                    label: Some("crawler".to_owned()),
                    ..none()
                },
                0,
            ),
            (
                SessionFilter {
                    label: Some("Crawl".to_owned()),
                    ..none()
                },
                0,
            ),
        ] {
            let found = unit.list_sessions(&filter, &Page::first(10)).await.unwrap();
            assert_eq!(found.items.len(), count, "{filter:?}");
        }
    });
}

fn a_walk_down_stops_at_other_states_and_visits_nothing_twice(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let sessions = chain(&world, &tree, &mut unit, 4).await;
        let side = tree.child(world.id(), &sessions[1]);
        unit.insert_session(&side).await.unwrap();
        unit.suspend_sessions(std::slice::from_ref(&sessions[2].id))
            .await
            .unwrap();

        let walk = async |unit: &ZoneUnit, roots: &[SessionId], through| {
            let rows = unit.session_tree(roots, through).await.unwrap();
            rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
        };
        let root = tree.root.id.clone();
        let mut active = vec![root.clone(), sessions[1].id.clone(), side.id.clone()];
        assert_eq!(
            walk(&unit, std::slice::from_ref(&root), Through::Active).await,
            active
        );
        assert_eq!(
            walk(&unit, std::slice::from_ref(&root), Through::Suspended).await,
            []
        );
        let two_roots = [root.clone(), sessions[1].id.clone()];
        assert_eq!(walk(&unit, &two_roots, Through::Live).await.len(), 6);
        active.truncate(1);
        let suspended = [sessions[2].id.clone()];
        assert_eq!(walk(&unit, &suspended, Through::Suspended).await, suspended);
    });
}

fn the_ancestry_goes_from_the_session_to_its_root(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let sessions = chain(&world, &tree, &mut unit, 3).await;
        let line = unit.session_ancestry(&sessions[3].id).await.unwrap();
        let ids: Vec<_> = line.iter().map(|row| row.id.clone()).collect();
        let expected: Vec<_> = sessions.iter().rev().map(|row| row.id.clone()).collect();
        assert_eq!(ids, expected);
        assert!(unit.session_ancestry(&world.id()).await.unwrap().is_empty());
    });
}

fn suspending_freezes_a_lease_and_resuming_renews_it(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let service = as_service(tree.child(world.id(), &tree.root), START.plus_seconds(60));
        unit.insert_session(&service).await.unwrap();
        let ids = [service.id.clone()];
        assert_eq!(unit.suspend_sessions(&ids).await.unwrap(), 1);
        assert_eq!(unit.suspend_sessions(&ids).await.unwrap(), 0, "twice");
        world.clock.advance_seconds(100_000);
        let held = unit
            .held_session_slots(SlotsOf::Zone, 0, world.now())
            .await
            .unwrap();
        assert_eq!(
            held, 1,
            "a suspended service holds its slot, the lapsed task does not"
        );
        let deadline = world.now().plus_seconds(120);
        assert_eq!(unit.resume_sessions(&ids, deadline).await.unwrap(), 1);
        let stored = unit.get_session(&service.id).await.unwrap().unwrap();
        assert_eq!(stored.status, SessionStatus::Active);
        let Lifecycle::Service(lease) = stored.lifecycle else {
            panic!()
        };
        assert_eq!(lease.heartbeat_deadline_at, deadline);
    });
}

fn ended_sessions_leave_their_parents_and_applications_counts(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let sessions = chain(&world, &tree, &mut unit, 2).await;
        let slots = SlotsOf::Application(&tree.application.id);
        assert_eq!(
            unit.held_session_slots(slots, 100, world.now())
                .await
                .unwrap(),
            3
        );
        let mut end = ends(&[&sessions[1].id], "requested");
        end.extend(ends(&[&sessions[2].id], "parent_terminated"));
        assert_eq!(unit.end_sessions(&end).await.unwrap().len(), 2);
        assert_eq!(unit.end_sessions(&end).await.unwrap().len(), 0, "twice");
        let root = unit.get_session(&tree.root.id).await.unwrap().unwrap();
        assert_eq!(root.child_count, 0);
        let leaf = unit.get_session(&sessions[2].id).await.unwrap().unwrap();
        assert_eq!(
            leaf.termination_reason.as_deref(),
            Some("parent_terminated")
        );
        assert_eq!(leaf.terminated_at, Some(START));
        assert_eq!(
            unit.held_session_slots(slots, 100, world.now())
                .await
                .unwrap(),
            1
        );
    });
}

fn held_slots_are_exact_when_a_limit_is_reached(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let short = Session {
            lifecycle: Lifecycle::Task { ttl_seconds: 10 },
            ..tree.child(world.id(), &tree.root)
        };
        unit.insert_session(&short).await.unwrap();
        world.clock.advance_seconds(10);
        let now = world.now();
        let used = async |unit: &ZoneUnit, limit| {
            unit.held_session_slots(SlotsOf::Zone, limit, now)
                .await
                .unwrap()
        };
        assert_eq!(
            used(&unit, 3).await,
            2,
            "below the limit the counter is good enough"
        );
        assert_eq!(
            used(&unit, 2).await,
            1,
            "at the limit the lapsed one is not counted"
        );
    });
}

fn a_lease_moves_to_its_new_holder_and_fences_the_old_one(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let service = as_service(tree.child(world.id(), &tree.root), START.plus_seconds(60));
        unit.insert_session(&service).await.unwrap();
        world.clock.advance_seconds(30);
        let deadline = START.plus_seconds(150);
        assert!(unit.renew_lease(&service.id, 1, deadline).await.unwrap());
        assert_eq!(
            unit.take_lease(&service.id, deadline).await.unwrap(),
            Some(2)
        );
        assert!(!unit.renew_lease(&service.id, 1, deadline).await.unwrap());
        assert!(unit.renew_lease(&service.id, 2, deadline).await.unwrap());
        assert_eq!(
            unit.take_lease(&tree.root.id, deadline).await.unwrap(),
            None,
            "a task"
        );
        unit.suspend_sessions(std::slice::from_ref(&service.id))
            .await
            .unwrap();
        assert_eq!(
            unit.take_lease(&service.id, deadline).await.unwrap(),
            None,
            "suspended"
        );
        assert!(unit.renew_lease(&service.id, 2, deadline).await.unwrap());
        unit.end_sessions(&ends(&[&service.id], "requested"))
            .await
            .unwrap();
        assert!(
            !unit.renew_lease(&service.id, 2, deadline).await.unwrap(),
            "ended"
        );
    });
}

fn sweeps_find_lapsed_tasks_and_active_services_in_order_of_their_end(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let lease_end = START.plus_seconds(60);
        let active = as_service(tree.child(world.id(), &tree.root), lease_end);
        let suspended = as_service(tree.child(world.id(), &tree.root), lease_end);
        for service in [&active, &suspended] {
            unit.insert_session(service).await.unwrap();
        }
        unit.suspend_sessions(&[suspended.id.clone(), tree.root.id.clone()])
            .await
            .unwrap();
        unit.commit().await.unwrap();
        let platform = world.store.platform();
        assert_eq!(platform.due_sessions(START, 10).await.unwrap(), []);
        let due = platform
            .due_sessions(START.plus_seconds(3600), 10)
            .await
            .unwrap();
        let expected = [
            (&active.id, LifecycleKind::Service),
            (&tree.root.id, LifecycleKind::Task),
        ]
        .map(|(id, kind)| DueSession {
            zone_id: tree.zone_id.clone(),
            id: id.clone(),
            kind,
        });
        assert_eq!(due, expected);
    });
}

fn retention_deletes_leaves_first_and_keeps_what_edges_refer_to(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let sessions = chain(&world, &tree, &mut unit, 2).await;
        let edge = tree.edge(world.id(), &sessions[1], &sessions[2]);
        unit.insert_delegation(&edge).await.unwrap();
        let all: Vec<_> = sessions.iter().map(|row| &row.id).collect();
        unit.end_sessions(&ends(&all, "requested")).await.unwrap();
        unit.revoke_delegations(std::slice::from_ref(&edge.id))
            .await
            .unwrap();
        world.clock.advance_seconds(10);
        let now = world.now();
        assert_eq!(
            unit.delete_ended_sessions(now, 10).await.unwrap(),
            0,
            "an edge is left"
        );
        assert_eq!(
            unit.delete_ended_delegations(START, 10).await.unwrap(),
            0,
            "too young"
        );
        assert_eq!(unit.delete_ended_delegations(now, 10).await.unwrap(), 1);
        for _ in 0..3 {
            assert_eq!(unit.delete_ended_sessions(now, 10).await.unwrap(), 1);
        }
        assert!(unit.get_session(&tree.root.id).await.unwrap().is_none());
        let labelled = SessionFilter {
            label: Some("indexer".to_owned()),
            ..Default::default()
        };
        assert!(
            unit.list_sessions(&labelled, &Page::first(9))
                .await
                .unwrap()
                .items
                .is_empty()
        );
    });
}

fn sessions_of_a_record_are_found_while_they_live(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let records = [tree.record.id.clone()];
        assert_eq!(
            unit.live_sessions_on_records(&records).await.unwrap().len(),
            1
        );
        unit.end_sessions(&ends(&[&tree.root.id], "x"))
            .await
            .unwrap();
        assert_eq!(
            status(&unit, &tree.root.id).await,
            SessionStatus::Terminated
        );
        assert!(
            unit.live_sessions_on_records(&records)
                .await
                .unwrap()
                .is_empty()
        );
        let found = unit
            .get_sessions(&[tree.root.id.clone(), world.id()])
            .await
            .unwrap();
        assert_eq!(found.len(), 1);
    });
}

fn a_session_on_an_unknown_record_is_refused(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let stray = task(
            &tree.zone_id,
            world.id(),
            &tree.application.id,
            &world.id(),
            None,
        );
        assert!(unit.insert_session(&stray).await.is_err());
    });
}
