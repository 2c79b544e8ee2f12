//! Admin tokens, settings, the admin audit chain.

use caracal_core::Secret;
use caracal_store::{
    AdminAudit, AdminAuditFilter, ChainFault, ChainVerdict, Page, SettingName, StoreError,
    UniqueConstraint,
};
use sea_orm::ConnectionTrait;

use crate::world::{Backend, START, World, admin_token, on, on_every_backend};

on_every_backend![
    a_token_is_found_by_its_digest_until_it_is_revoked,
    seeding_revives_its_token_and_revokes_those_of_earlier_configurations,
    a_setting_is_unset_until_somebody_sets_it,
    rows_are_chained_per_zone_and_verify,
    lists_filter_on_every_column,
    tampering_is_found_where_it_happened,
    rows_can_be_neither_changed_nor_forged_without_the_key,
];

fn a_token_is_found_by_its_digest_until_it_is_revoked(backend: Backend) {
    on(backend, |world| async move {
        let mut unit = world.store.begin_platform().await.unwrap();
        let row = admin_token(world.id(), "d-1", "admin:boot");
        unit.insert_admin_token(&row).await.unwrap();
        let clash = unit
            .insert_admin_token(&admin_token(world.id(), "d-1", "x"))
            .await;
        assert!(matches!(
            clash,
            Err(StoreError::Conflict(UniqueConstraint::AdminTokenDigest))
        ));
        assert_eq!(
            unit.find_admin_token("d-1").await.unwrap(),
            Some(row.clone())
        );
        unit.touch_admin_token(&row.id, START.plus_seconds(5))
            .await
            .unwrap();
        assert!(unit.revoke_admin_token(&row.id).await.unwrap());
        assert!(!unit.revoke_admin_token(&row.id).await.unwrap());
        unit.commit().await.unwrap();
        let platform = world.store.platform();
        assert_eq!(platform.find_admin_token("d-1").await.unwrap(), None);
        let listed = platform.list_admin_tokens(&Page::first(10)).await.unwrap();
        assert_eq!(listed.items[0].last_used_at, Some(START.plus_seconds(5)));
        assert_eq!(listed.items[0].revoked_at, Some(START));
    });
}

fn seeding_revives_its_token_and_revokes_those_of_earlier_configurations(backend: Backend) {
    on(backend, |world| async move {
        let mut unit = world.store.begin_platform().await.unwrap();
        let first = admin_token(world.id(), "old", "env-bootstrap");
        unit.ensure_seeded_token(&first).await.unwrap();
        unit.insert_admin_token(&admin_token(world.id(), "minted", "admin:x"))
            .await
            .unwrap();
        unit.ensure_seeded_token(&admin_token(world.id(), "new", "env-bootstrap"))
            .await
            .unwrap();
        assert!(unit.find_admin_token("old").await.unwrap().is_none());
        assert!(unit.find_admin_token("minted").await.unwrap().is_some());
        // Rotating back must not lock anybody out.
        let again = admin_token(world.id(), "old", "env-bootstrap");
        unit.ensure_seeded_token(&again).await.unwrap();
        assert_eq!(
            unit.find_admin_token("old").await.unwrap().unwrap().id,
            first.id
        );
        assert!(unit.find_admin_token("new").await.unwrap().is_none());
        let listed = unit.list_admin_tokens(&Page::first(10)).await.unwrap();
        assert_eq!(listed.items.len(), 3);
    });
}

fn a_setting_is_unset_until_somebody_sets_it(backend: Backend) {
    on(backend, |world| async move {
        let mut unit = world.store.begin_platform().await.unwrap();
        let name = SettingName::AuditRetentionDays;
        assert_eq!(unit.get_setting(name).await.unwrap(), None);
        unit.set_setting(name, 30, Some("admin:a")).await.unwrap();
        unit.set_setting(name, 60, None).await.unwrap();
        let setting = unit.get_setting(name).await.unwrap().unwrap();
        assert_eq!((setting.value, setting.updated_by), (60, None));
        assert_eq!(
            unit.get_setting(SettingName::MintRateLimitPerMinute)
                .await
                .unwrap(),
            None
        );
    });
}

fn audit(method: &str, entity: &str) -> AdminAudit {
    AdminAudit {
        request_id: "req-1".to_owned(),
        actor_id: Some("t-1".to_owned()),
        actor_name: Some("boot\0strap".to_owned()),
        actor_scope: Some("global".to_owned()),
        action: format!("{method} /v1/zones/z/{entity}"),
        method: method.to_owned(),
        path: format!("/v1/zones/z/{entity}"),
        entity_type: Some(entity.to_owned()),
        entity_id: None,
        status_code: 201,
        payload: Some(r#"{"change_kind":"create"}"#.to_owned()),
    }
}

/// From here on rows are signed.
fn sign(world: &World) {
    let _ = world
        .store
        .clone()
        .with_admin_audit_key(Secret::new(vec![7; 32]));
}

fn rows_are_chained_per_zone_and_verify(backend: Backend) {
    on(backend, |world| async move {
        sign(&world);
        let (one, two) = (world.zone().await, world.zone().await);
        for zone in [&one, &two, &one, &one] {
            world.clock.advance_seconds(1);
            let mut unit = world.unit(zone).await;
            unit.record_admin_audit(&audit("POST", "resources"))
                .await
                .unwrap();
            unit.commit().await.unwrap();
        }
        let mut unit = world.store.begin_platform().await.unwrap();
        unit.record_admin_audit(&audit("POST", "admin-tokens"))
            .await
            .unwrap();
        unit.commit().await.unwrap();

        let reader = world.store.read(&one);
        let listed = reader
            .list_admin_audit(&Default::default(), &Page::first(10))
            .await
            .unwrap();
        let seqs: Vec<_> = listed.items.iter().map(|row| row.chain_seq).collect();
        assert_eq!(seqs, [3, 2, 1]);
        let row = &listed.items[0];
        assert!(row.signed);
        assert_eq!(row.zone_id, Some(one.clone()));
        assert_eq!(
            row.audit.actor_name.as_deref(),
            Some("bootstrap"),
            "without NUL"
        );
        let sound = |rows| ChainVerdict { rows, fault: None };
        assert_eq!(reader.verify_admin_audit().await.unwrap(), sound(3));
        assert_eq!(
            world.store.read(&two).verify_admin_audit().await.unwrap(),
            sound(1)
        );
        assert_eq!(
            world.store.platform().verify_admin_audit().await.unwrap(),
            sound(1)
        );
        let of_none = world
            .store
            .read(&world.id())
            .verify_admin_audit()
            .await
            .unwrap();
        assert_eq!(of_none, sound(0));
    });
}

fn lists_filter_on_every_column(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        unit.record_admin_audit(&audit("POST", "resources"))
            .await
            .unwrap();
        world.clock.advance_seconds(10);
        let wanted = AdminAudit {
            actor_id: Some("t-2".to_owned()),
            entity_id: Some("a-1".to_owned()),
            ..audit("DELETE", "applications")
        };
        let id = unit.record_admin_audit(&wanted).await.unwrap();
        let none = AdminAuditFilter::default;
        for filter in [
            AdminAuditFilter {
                since: Some(START.plus_seconds(10)),
                ..none()
            },
            AdminAuditFilter {
                actor_id: wanted.actor_id.clone(),
                ..none()
            },
            AdminAuditFilter {
                entity_type: wanted.entity_type.clone(),
                ..none()
            },
            AdminAuditFilter {
                entity_id: wanted.entity_id.clone(),
                ..none()
            },
            AdminAuditFilter {
                method: Some("DELETE".to_owned()),
                ..none()
            },
        ] {
            let found = unit
                .list_admin_audit(&filter, &Page::first(10))
                .await
                .unwrap();
            let ids: Vec<_> = found.items.into_iter().map(|row| row.id).collect();
            assert_eq!(ids, std::slice::from_ref(&id), "{filter:?}");
        }
        let before = AdminAuditFilter {
            until: Some(START.plus_seconds(10)),
            ..none()
        };
        let found = unit
            .list_admin_audit(&before, &Page::first(10))
            .await
            .unwrap();
        assert_eq!(found.items[0].audit.method, "POST");
    });
}

fn tampering_is_found_where_it_happened(backend: Backend) {
    let unlock = match backend {
        Backend::Sqlite => "DROP TRIGGER admin_audit_events_are_immutable;",
        Backend::Postgres => "DROP TRIGGER admin_audit_events_are_immutable ON admin_audit_events;",
    };
    let cases = [
        (
            "UPDATE admin_audit_events SET path = '/x' WHERE seq = 2",
            ChainFault::Altered(2),
        ),
        (
            "UPDATE admin_audit_events SET actor_id = NULL WHERE seq = 3",
            ChainFault::Altered(3),
        ),
        (
            "UPDATE admin_audit_events SET chain_hmac = NULL WHERE seq = 2",
            ChainFault::Signature(2),
        ),
        (
            "DELETE FROM admin_audit_events WHERE seq = 2",
            ChainFault::Gap(3),
        ),
        (
            "DELETE FROM admin_audit_events WHERE seq = 3",
            ChainFault::Truncated(3),
        ),
        (
            "UPDATE admin_audit_events SET prev_hash = '' WHERE seq = 3",
            ChainFault::Broken(3),
        ),
    ];
    for (sql, fault) in cases {
        on(backend, |world| async move {
            sign(&world);
            let zone = world.zone().await;
            let mut unit = world.unit(&zone).await;
            for _ in 0..3 {
                unit.record_admin_audit(&audit("POST", "resources"))
                    .await
                    .unwrap();
            }
            unit.commit().await.unwrap();
            let db = world.raw().await;
            db.execute_unprepared(&format!("{unlock}{sql}"))
                .await
                .unwrap();
            db.close().await.unwrap();
            let verdict = world.store.read(&zone).verify_admin_audit().await.unwrap();
            assert_eq!(verdict.fault, Some(fault), "{sql}");
        });
    }
}

fn rows_can_be_neither_changed_nor_forged_without_the_key(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        unit.record_admin_audit(&audit("POST", "resources"))
            .await
            .unwrap();
        unit.commit().await.unwrap();
        let db = world.raw().await;
        assert!(
            db.execute_unprepared("UPDATE admin_audit_events SET path = '/x'")
                .await
                .is_err()
        );
        db.close().await.unwrap();
        // Written without a key: chained, but not signed.
        sign(&world);
        let verdict = world.store.read(&zone).verify_admin_audit().await.unwrap();
        assert_eq!(verdict.fault, Some(ChainFault::Signature(1)));
    });
}
