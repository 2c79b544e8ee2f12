//! Policies, sets, and what governs.

use caracal_core::id::{PolicyId, PolicySetId, PolicySetVersionId, PolicyVersionId, ZoneId};
use caracal_store::{Page, StoreError, UniqueConstraint, ZoneUnit};

use crate::world::{
    Backend, World, author, on, on_every_backend, policy, policy_set, policy_set_version,
    policy_version,
};

on_every_backend![
    versions_count_up_per_policy_and_keep_their_text,
    an_archived_or_unknown_policy_takes_no_version,
    names_are_unique_among_live_policies_and_sets,
    one_version_governs_and_activating_another_set_replaces_it,
    archiving_the_governing_set_leaves_nothing_that_governs,
    a_version_of_another_set_is_not_activated,
    governing_documents_are_read_in_manifest_order_with_archived_policies,
];

async fn set_of(
    world: &World,
    unit: &mut ZoneUnit,
    zone: &ZoneId,
    name: &str,
    contents: &[&str],
) -> (PolicySetId, PolicySetVersionId, Vec<PolicyVersionId>) {
    let row = policy(zone, world.id(), name);
    unit.insert_policy(&row).await.unwrap();
    let mut manifest = Vec::new();
    for content in contents {
        let new = policy_version(world.id(), &row.id, content);
        manifest.push(unit.insert_policy_version(&new).await.unwrap().unwrap().id);
    }
    let set = policy_set(zone, world.id(), name);
    unit.insert_policy_set(&set).await.unwrap();
    let new = policy_set_version(world.id(), &set.id, &manifest);
    let version = unit.insert_policy_set_version(&new).await.unwrap().unwrap();
    (set.id, version.id, manifest)
}

fn versions_count_up_per_policy_and_keep_their_text(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let row = policy(&zone, world.id(), "grants");
        unit.insert_policy(&row).await.unwrap();
        let other = policy(&zone, world.id(), "other");
        unit.insert_policy(&other).await.unwrap();
        for (policy, content, number) in [
            (&row, "package a\n", 1),
            (&other, "package x", 1),
            (&row, "package b", 2),
        ] {
            let new = policy_version(world.id(), &policy.id, content);
            let stored = unit.insert_policy_version(&new).await.unwrap().unwrap();
            assert_eq!(stored.version, number);
        }
        let versions = unit.list_policy_versions(&row.id).await.unwrap();
        let texts: Vec<&str> = versions.iter().map(|v| &*v.content).collect();
        assert_eq!(texts, ["package b", "package a\n"]);
        assert_eq!(
            unit.get_policy(&row.id)
                .await
                .unwrap()
                .unwrap()
                .attribution
                .updated_by,
            author().by
        );
    });
}

fn an_archived_or_unknown_policy_takes_no_version(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let row = policy(&zone, world.id(), "grants");
        unit.insert_policy(&row).await.unwrap();
        assert!(unit.archive_policy(&row.id, &author()).await.unwrap());
        let unknown: PolicyId = world.id();
        for id in [&row.id, &unknown] {
            let new = policy_version(world.id(), id, "package a");
            assert!(unit.insert_policy_version(&new).await.unwrap().is_none());
        }
        assert!(
            unit.list_policies(&Page::first(10))
                .await
                .unwrap()
                .items
                .is_empty()
        );
    });
}

fn names_are_unique_among_live_policies_and_sets(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let (set, ..) = set_of(&world, &mut unit, &zone, "main", &[]).await;
        let clash = unit.insert_policy(&policy(&zone, world.id(), "main")).await;
        assert!(matches!(
            clash,
            Err(StoreError::Conflict(UniqueConstraint::PolicyName))
        ));
        let again = policy_set(&zone, world.id(), "main");
        let clash = unit.insert_policy_set(&again).await;
        assert!(matches!(
            clash,
            Err(StoreError::Conflict(UniqueConstraint::PolicySetName))
        ));
        assert_eq!(
            unit.archive_policy_set(&set, &author()).await.unwrap(),
            Some(false)
        );
        unit.insert_policy_set(&again).await.unwrap();
    });
}

fn one_version_governs_and_activating_another_set_replaces_it(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let (first, v1, documents) = set_of(&world, &mut unit, &zone, "first", &["a", "b"]).await;
        let (second, v2, _) = set_of(&world, &mut unit, &zone, "second", &["c"]).await;
        assert!(unit.active_policy().await.unwrap().is_none());

        assert!(
            unit.activate_policy_set(&first, &v1, &author())
                .await
                .unwrap()
        );
        let active = unit.active_policy().await.unwrap().unwrap();
        assert_eq!((&active.policy_set_id, &active.version_id), (&first, &v1));
        let texts: Vec<(PolicyVersionId, String)> = active
            .documents
            .into_iter()
            .map(|(id, text)| (id, text.to_string()))
            .collect();
        assert_eq!(
            texts,
            [
                (documents[0].clone(), "a".into()),
                (documents[1].clone(), "b".into())
            ]
        );

        assert!(
            unit.activate_policy_set(&second, &v2, &author())
                .await
                .unwrap()
        );
        assert_eq!(unit.active_policy().await.unwrap().unwrap().version_id, v2);
        let row = unit.get_policy_set(&first).await.unwrap().unwrap();
        assert_eq!(row.active_version_id, None);
        let counts = unit.count_policy_sets().await.unwrap();
        assert_eq!(
            (counts.total, counts.active_name.as_deref()),
            (2, Some("second"))
        );
        assert!(
            unit.activate_policy_set(&second, &v2, &author())
                .await
                .unwrap(),
            "again"
        );
    });
}

fn archiving_the_governing_set_leaves_nothing_that_governs(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let (set, version, _) = set_of(&world, &mut unit, &zone, "main", &["a"]).await;
        unit.activate_policy_set(&set, &version, &author())
            .await
            .unwrap();
        assert_eq!(
            unit.archive_policy_set(&set, &author()).await.unwrap(),
            Some(true)
        );
        assert!(unit.active_policy().await.unwrap().is_none());
        assert_eq!(
            unit.archive_policy_set(&set, &author()).await.unwrap(),
            None
        );
        assert!(
            !unit
                .activate_policy_set(&set, &version, &author())
                .await
                .unwrap()
        );
        let kept = unit.get_policy_set_version(&set, &version).await.unwrap();
        assert!(kept.is_some(), "versions of archived sets stay readable");
    });
}

fn a_version_of_another_set_is_not_activated(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let (first, ..) = set_of(&world, &mut unit, &zone, "first", &["a"]).await;
        let (_, other, _) = set_of(&world, &mut unit, &zone, "second", &["b"]).await;
        assert!(
            !unit
                .activate_policy_set(&first, &other, &author())
                .await
                .unwrap()
        );
        assert!(unit.active_policy().await.unwrap().is_none());
    });
}

fn governing_documents_are_read_in_manifest_order_with_archived_policies(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let (_, _, documents) = set_of(&world, &mut unit, &zone, "first", &["a", "b", "c"]).await;
        let reversed: Vec<_> = documents.iter().rev().cloned().collect();
        let set = policy_set(&zone, world.id(), "reversed");
        unit.insert_policy_set(&set).await.unwrap();
        let new = policy_set_version(world.id(), &set.id, &reversed);
        let version = unit.insert_policy_set_version(&new).await.unwrap().unwrap();
        unit.activate_policy_set(&set.id, &version.id, &author())
            .await
            .unwrap();
        let all = unit.list_policies(&Page::first(10)).await.unwrap();
        unit.archive_policy(&all.items[0].id, &author())
            .await
            .unwrap();
        let active = unit.active_policy().await.unwrap().unwrap();
        let order: Vec<_> = active.documents.into_iter().map(|(id, _)| id).collect();
        assert_eq!(order, reversed);
        let listed = unit
            .list_policy_set_versions(&set.id, &Page::first(10))
            .await
            .unwrap();
        assert_eq!(listed.items[0].manifest, reversed);
    });
}
