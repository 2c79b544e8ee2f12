//! Authority records.

use caracal_core::SubjectType;
use caracal_store::entity::{AuthorityRecord, RecordStatus};
use caracal_store::{AuthorityRecordFilter, Page};

use crate::world::{Backend, START, on, on_every_backend, record};

on_every_backend![
    a_revoked_record_takes_its_lineage_with_it,
    a_subject_loses_every_record,
    lists_filter_on_every_column,
    a_sweep_expires_what_has_ended_and_deletes_only_what_nothing_refers_to,
];

fn a_revoked_record_takes_its_lineage_with_it(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let mut parent = tree.record.clone();
        let mut lineage = vec![parent.id.clone()];
        for n in 0..3 {
            let status = if n == 1 {
                RecordStatus::Expired
            } else {
                RecordStatus::Active
            };
            let child = AuthorityRecord {
                parent_id: Some(parent.id.clone()),
                status,
                ..record(&tree.zone_id, world.id(), &tree.application.id)
            };
            unit.insert_authority_record(&child).await.unwrap();
            lineage.push(child.id.clone());
            parent = child;
        }
        let bystander = record(&tree.zone_id, world.id(), &tree.application.id);
        unit.insert_authority_record(&bystander).await.unwrap();

        let mut revoked = unit
            .revoke_authority_records(std::slice::from_ref(&tree.record.id), "subject_revoked")
            .await
            .unwrap();
        revoked.sort();
        let mut expected = vec![lineage[0].clone(), lineage[1].clone(), lineage[3].clone()];
        expected.sort();
        assert_eq!(revoked, expected, "through an expired one");
        let row = unit
            .get_authority_record(&lineage[3])
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.status, RecordStatus::Revoked);
        assert_eq!(row.revoked_reason.as_deref(), Some("subject_revoked"));
        assert_eq!(row.revoked_at, Some(START));
        let row = unit
            .get_authority_record(&bystander.id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.status, RecordStatus::Active);
    });
}

fn a_subject_loses_every_record(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let user = AuthorityRecord {
            kind: SubjectType::User,
            subject_id: "user/7 é".to_owned(),
            issuer: Some("https://idp.example".to_owned()),
            ..record(&tree.zone_id, world.id(), &tree.application.id)
        };
        unit.insert_authority_record(&user).await.unwrap();
        assert_eq!(
            unit.revoke_subject("user/7 é", "r").await.unwrap(),
            [user.id]
        );
        assert_eq!(unit.revoke_subject("user/7 é", "r").await.unwrap(), []);
    });
}

fn lists_filter_on_every_column(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let user = AuthorityRecord {
            kind: SubjectType::User,
            subject_id: "user-7".to_owned(),
            ..record(&tree.zone_id, world.id(), &tree.application.id)
        };
        unit.insert_authority_record(&user).await.unwrap();
        unit.revoke_authority_records(std::slice::from_ref(&user.id), "r")
            .await
            .unwrap();
        let filters = [
            AuthorityRecordFilter {
                id: Some(user.id.clone()),
                ..Default::default()
            },
            AuthorityRecordFilter {
                status: Some(RecordStatus::Revoked),
                ..Default::default()
            },
            AuthorityRecordFilter {
                subject_id: Some("user-7".into()),
                ..Default::default()
            },
            AuthorityRecordFilter {
                kind: Some(SubjectType::User),
                ..Default::default()
            },
        ];
        for filter in filters {
            let found = unit
                .list_authority_records(&filter, &Page::first(10))
                .await
                .unwrap();
            let ids: Vec<_> = found.items.iter().map(|row| row.id.clone()).collect();
            assert_eq!(ids, std::slice::from_ref(&user.id), "{filter:?}");
        }
        let all = unit
            .list_authority_records(&Default::default(), &Page::first(10))
            .await
            .unwrap();
        assert_eq!(all.items.len(), 2);
    });
}

fn a_sweep_expires_what_has_ended_and_deletes_only_what_nothing_refers_to(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let mut unit = world.unit(&tree.zone_id).await;
        let alone = record(&tree.zone_id, world.id(), &tree.application.id);
        unit.insert_authority_record(&alone).await.unwrap();
        assert_eq!(unit.count_live_authority_records(START).await.unwrap(), 2);
        assert_eq!(unit.expire_authority_records(10).await.unwrap(), 0);
        world.clock.advance_seconds(900);
        assert_eq!(
            unit.count_live_authority_records(world.now())
                .await
                .unwrap(),
            0
        );
        assert_eq!(unit.expire_authority_records(1).await.unwrap(), 1);
        assert_eq!(unit.expire_authority_records(10).await.unwrap(), 1);
        world.clock.advance_seconds(1);
        assert_eq!(
            unit.delete_ended_authority_records(world.now(), 10)
                .await
                .unwrap(),
            1
        );
        assert!(
            unit.get_authority_record(&alone.id)
                .await
                .unwrap()
                .is_none()
        );
        assert!(
            unit.get_authority_record(&tree.record.id)
                .await
                .unwrap()
                .is_some()
        );
    });
}
