//! Applications, providers, resources, signing keys.

use caracal_core::id::ApplicationId;
use caracal_core::{Clock, ResourceIdentifier};
use caracal_store::entity::{Application, Enforcement, Operation, RegistrationMethod, Resource};
use caracal_store::{
    ApplicationCounts, Page, ResourceFilter, RowStatus, StoreError, UniqueConstraint,
};

use crate::world::{
    Backend, START, World, application, author, on, on_every_backend, provider, resource,
    signing_key,
};

on_every_backend![
    rows_are_stored_whole,
    a_managed_name_is_taken_whatever_its_case_until_it_is_archived,
    an_archived_application_is_listed_apart_keeps_no_secret_and_takes_no_change,
    a_new_secret_replaces_the_old_one,
    counts_tell_expired_from_soon_to_expire,
    an_application_is_found_by_its_id_in_any_zone,
    a_provider_identifier_is_free_again_after_the_archive,
    a_resource_is_found_by_identifier_before_row_id_and_only_while_live,
    resources_are_counted_filtered_and_unique_while_live,
    the_active_key_leads_and_the_next_one_is_published_before_it_signs,
];

fn conflict(result: &Result<(), StoreError>) -> Option<UniqueConstraint> {
    match result {
        Err(StoreError::Conflict(rule)) => Some(*rule),
        _ => None,
    }
}

fn rows_are_stored_whole(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let app = application(&zone, world.id(), "Ünïcode");
        let key = provider(&zone, world.id(), "provider://key");
        let mut ledger = resource(&zone, world.id(), "resource://ledger");
        ledger.credential_provider_id = Some(key.id.clone());
        ledger.operations = vec![Operation {
            method: "GET".to_owned(),
            path: "/orders/{id}".to_owned(),
            scope: ledger.scopes[1].clone(),
        }];
        unit.insert_application(&app).await.unwrap();
        unit.insert_provider(&key).await.unwrap();
        unit.insert_resource(&ledger).await.unwrap();
        unit.commit().await.unwrap();

        let reader = world.store.read(&zone);
        let stored = reader.get_application(&app.id).await.unwrap().unwrap();
        assert_eq!(format!("{stored:?}"), format!("{app:?}"));
        let stored = reader.get_provider(&key.id).await.unwrap().unwrap();
        assert_eq!(format!("{stored:?}"), format!("{key:?}"));
        let stored = reader.get_resource(&ledger.id).await.unwrap().unwrap();
        assert_eq!(format!("{stored:?}"), format!("{ledger:?}"));
    });
}

fn a_managed_name_is_taken_whatever_its_case_until_it_is_archived(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let first = application(&zone, world.id(), "ÉCLAIR");
        unit.insert_application(&first).await.unwrap();
        let second = application(&zone, world.id(), "éclair");
        let clash = unit.insert_application(&second).await;
        assert_eq!(conflict(&clash), Some(UniqueConstraint::ApplicationName));
        let dcr = Application {
            registration_method: RegistrationMethod::Dcr,
            expires_at: Some(START.plus_seconds(60)),
            ..second.clone()
        };
        unit.insert_application(&Application {
            id: world.id(),
            ..dcr
        })
        .await
        .unwrap();
        assert!(
            unit.archive_application(&first.id, &author())
                .await
                .unwrap()
        );
        unit.insert_application(&second).await.unwrap();
    });
}

fn an_archived_application_is_listed_apart_keeps_no_secret_and_takes_no_change(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let row = application(&zone, world.id(), "agent");
        unit.insert_application(&row).await.unwrap();
        world.clock.advance_seconds(5);
        assert!(unit.archive_application(&row.id, &author()).await.unwrap());
        assert!(!unit.archive_application(&row.id, &author()).await.unwrap());
        assert!(!unit.update_application(&row).await.unwrap());
        assert!(
            !unit
                .set_application_secret(&row.id, Some("h"), None, &author())
                .await
                .unwrap()
        );
        let live = unit
            .list_applications(RowStatus::Live, &Page::first(10))
            .await
            .unwrap();
        assert!(live.items.is_empty());
        let page = unit
            .list_applications(RowStatus::Archived, &Page::first(10))
            .await
            .unwrap();
        let stored = &page.items[0];
        assert_eq!(stored.archived_at, Some(world.clock.now()));
        assert_eq!((&stored.secret_hash, &stored.sealed_secret), (&None, &None));
        assert_eq!(stored.attribution.updated_by.as_deref(), Some("admin:t-1"));
    });
}

fn a_new_secret_replaces_the_old_one(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let row = application(&zone, world.id(), "agent");
        unit.insert_application(&row).await.unwrap();
        let set = unit
            .set_application_secret(&row.id, Some("v2"), Some(&[8]), &author())
            .await;
        assert!(set.unwrap());
        let stored = unit.get_application(&row.id).await.unwrap().unwrap();
        assert_eq!(stored.secret_hash.as_deref(), Some("v2"));
        assert_eq!(stored.sealed_secret, Some(vec![8]));
        assert_eq!(stored.updated_at, Some(START));
    });
}

fn counts_tell_expired_from_soon_to_expire(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        for (name, ends) in [
            ("a", None),
            ("b", Some(-1)),
            ("c", Some(50)),
            ("d", Some(5000)),
        ] {
            let row = Application {
                registration_method: RegistrationMethod::Dcr,
                expires_at: ends.map(|s| START.plus_seconds(s)),
                ..application(&zone, world.id(), name)
            };
            unit.insert_application(&row).await.unwrap();
        }
        let counts = unit
            .count_applications(START, START.plus_seconds(100))
            .await
            .unwrap();
        assert_eq!(
            counts,
            ApplicationCounts {
                total: 4,
                expired: 1,
                expiring_soon: 1
            }
        );
        assert_eq!(unit.count_live_dcr_applications(START).await.unwrap(), 2);
    });
}

fn an_application_is_found_by_its_id_in_any_zone(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let platform = world.store.platform();
        let found = platform
            .find_application(&tree.application.id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(found.zone_id, tree.zone_id);
        let unknown: ApplicationId = world.id();
        assert!(platform.find_application(&unknown).await.unwrap().is_none());
    });
}

async fn provider_identifiers(world: Box<World>) {
    let zone = world.zone().await;
    let mut unit = world.unit(&zone).await;
    let first = provider(&zone, world.id(), "provider://key");
    unit.insert_provider(&first).await.unwrap();
    assert!(
        !unit
            .provider_identifier_is_free("provider://key")
            .await
            .unwrap()
    );
    let clash = unit
        .insert_provider(&provider(&zone, world.id(), "provider://key"))
        .await;
    assert_eq!(conflict(&clash), Some(UniqueConstraint::ProviderIdentifier));
    assert!(unit.archive_provider(&first.id, &author()).await.unwrap());
    assert!(
        unit.get_provider(&first.id)
            .await
            .unwrap()
            .unwrap()
            .sealed_config
            .is_none()
    );
    assert!(
        unit.provider_identifier_is_free("provider://key")
            .await
            .unwrap()
    );
    unit.insert_provider(&provider(&zone, world.id(), "provider://key"))
        .await
        .unwrap();
    assert_eq!(unit.count_live_providers().await.unwrap(), 1);
}

fn a_provider_identifier_is_free_again_after_the_archive(backend: Backend) {
    on(backend, provider_identifiers);
}

fn a_resource_is_found_by_identifier_before_row_id_and_only_while_live(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let by_id = resource(&zone, world.id(), "resource://a");
        let named_like_it = resource(&zone, world.id(), by_id.id.as_str());
        unit.insert_resource(&by_id).await.unwrap();
        unit.insert_resource(&named_like_it).await.unwrap();
        let name = by_id.id.as_str();
        let found = unit.find_resource_by_name(name).await.unwrap().unwrap();
        assert_eq!(found.id, named_like_it.id);
        unit.archive_resource(&named_like_it.id, &author())
            .await
            .unwrap();
        let found = unit.find_resource_by_name(name).await.unwrap().unwrap();
        assert_eq!(found.id, by_id.id);
        unit.archive_resource(&by_id.id, &author()).await.unwrap();
        assert!(unit.find_resource_by_name(name).await.unwrap().is_none());
        assert!(
            unit.find_resource_by_name("resource://a")
                .await
                .unwrap()
                .is_none()
        );
    });
}

fn resources_are_counted_filtered_and_unique_while_live(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let key = provider(&zone, world.id(), "provider://key");
        unit.insert_provider(&key).await.unwrap();
        let open = Resource {
            operation_enforcement: Enforcement::TransportUniform,
            credential_provider_id: Some(key.id.clone()),
            ..resource(&zone, world.id(), "resource://open")
        };
        unit.insert_resource(&open).await.unwrap();
        let control = resource(&zone, world.id(), "caracal-control");
        unit.insert_resource(&control).await.unwrap();
        let clash = unit
            .insert_resource(&resource(&zone, world.id(), "caracal-control"))
            .await;
        assert_eq!(conflict(&clash), Some(UniqueConstraint::ResourceIdentifier));

        let counts = unit.count_resources().await.unwrap();
        assert_eq!((counts.total, counts.unenforced), (2, 1));
        assert_eq!(unit.count_resources_of_provider(&key.id).await.unwrap(), 1);
        let filter = ResourceFilter {
            except: Some(control.identifier),
            ..Default::default()
        };
        let listed = unit
            .list_resources(&filter, &Page::first(10))
            .await
            .unwrap();
        assert_eq!(listed.items.len(), 1);
        let names = ["resource://open", "resource://none"].map(ResourceIdentifier::new);
        assert_eq!(unit.find_resources(&names).await.unwrap().len(), 1);
    });
}

fn the_active_key_leads_and_the_next_one_is_published_before_it_signs(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let old = signing_key(&zone, world.id(), START);
        let next = signing_key(&zone, world.id(), START.plus_seconds(600));
        unit.insert_signing_key(&old).await.unwrap();
        unit.insert_signing_key(&next).await.unwrap();
        let order = async |unit: &caracal_store::ZoneUnit, seconds| {
            let at = START.plus_seconds(seconds);
            let keys = unit.list_published_signing_keys(at).await.unwrap();
            keys.into_iter().map(|key| key.id).collect::<Vec<_>>()
        };
        assert_eq!(order(&unit, 0).await, [old.id.clone(), next.id.clone()]);
        assert_eq!(order(&unit, 600).await, [next.id.clone(), old.id.clone()]);
        let end = START.plus_seconds(5000);
        assert!(unit.retire_signing_key(&old.id, end).await.unwrap());
        assert_eq!(order(&unit, 5000).await, [next.id]);
        assert_eq!(unit.prune_signing_keys(START).await.unwrap(), []);
        assert_eq!(unit.prune_signing_keys(end).await.unwrap(), [old.id]);
        assert_eq!(unit.list_signing_keys().await.unwrap().len(), 1);
    });
}
