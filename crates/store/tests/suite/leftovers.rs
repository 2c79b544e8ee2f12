//! What a zone counts, looks up by name, sweeps, revives and reuses is its own, whatever another
//! zone has left behind.

use caracal_core::ResourceIdentifier;
use caracal_core::id::{OutboxId, ProviderId, ZoneId};
use caracal_store::entity::{Application, RegistrationMethod, Resource, SessionStatus};
use caracal_store::{
    AuditCheckpoint, ChainVerdict, EndSession, Page, SessionFilter, SlotsOf, ZoneReader,
};

use crate::evidence::{append, batch, entry};
use crate::isolation::{Everything, dump, everything, receipt};
use crate::world::{
    Backend, START, World, application, author, on, on_every_backend, policy, policy_set,
    policy_set_version, policy_version, provider, record, resource, signing_key,
};

on_every_backend![
    names_and_numbers_of_another_zone_do_not_count,
    what_is_over_in_another_zone_is_neither_swept_nor_revived,
    what_a_zone_does_leaves_the_same_thing_of_another_zone_alone,
];

/// A zone with one of everything, and what it has behind it.
struct Theirs {
    everything: Everything,
    provider: ProviderId,
    message: OutboxId,
}

impl Theirs {
    async fn new(world: &World) -> Self {
        let everything = everything(world).await;
        let tree = &everything.tree;
        let zone = &tree.zone_id;
        let mut unit = world.unit(zone).await;
        let guest = Application {
            registration_method: RegistrationMethod::Dcr,
            expires_at: Some(START.plus_seconds(9)),
            ..application(zone, world.id(), "guest")
        };
        unit.insert_application(&guest).await.unwrap();
        let keyed = Resource {
            credential_provider_id: Some(everything.provider.clone()),
            ..resource(zone, world.id(), "resource://keyed")
        };
        unit.insert_resource(&keyed).await.unwrap();
        let gone = record(zone, world.id(), &guest.id);
        unit.insert_authority_record(&gone).await.unwrap();
        unit.revoke_authority_records(&[gone.id], "test")
            .await
            .unwrap();
        let child = tree.child(world.id(), &tree.root);
        unit.insert_session(&child).await.unwrap();
        let other = tree.child(world.id(), &tree.root);
        unit.insert_session(&other).await.unwrap();
        let cut = tree.edge(world.id(), &tree.root, &child);
        unit.insert_delegation(&cut).await.unwrap();
        unit.revoke_delegations(&[cut.id]).await.unwrap();
        let ended = EndSession {
            id: other.id,
            status: SessionStatus::Terminated,
            reason: "test".to_owned(),
        };
        unit.end_sessions(&[ended]).await.unwrap();
        let key = signing_key(zone, world.id(), START);
        unit.insert_signing_key(&key).await.unwrap();
        unit.retire_signing_key(&key.id, START).await.unwrap();
        let old = provider(zone, world.id(), "provider://old");
        unit.insert_provider(&old).await.unwrap();
        unit.archive_provider(&old.id, &author()).await.unwrap();
        let message = unit.enqueue("topic", "dead", vec![]).await.unwrap();
        unit.commit().await.unwrap();

        let mut unit = world.store.begin_platform().await.unwrap();
        unit.mark_outbox_failed(&message, "refused", None)
            .await
            .unwrap();
        let checkpoint = AuditCheckpoint {
            zone_id: zone.clone(),
            size: 1,
            note: "note".to_owned(),
            at: START,
        };
        unit.insert_audit_checkpoints(&[checkpoint]).await.unwrap();
        unit.commit().await.unwrap();
        Self {
            provider: old.id,
            message,
            everything,
        }
    }
}

fn names_and_numbers_of_another_zone_do_not_count(backend: Backend) {
    on(backend, |world| async move {
        let theirs = Theirs::new(&world).await;
        let mine: ZoneId = world.zone().await;
        let me = world.store.read(&mine);
        let tree = &theirs.everything.tree;

        assert!(
            me.find_managed_application("agent")
                .await
                .unwrap()
                .is_none()
        );
        assert_eq!(me.count_live_dcr_applications(START).await.unwrap(), 0);
        assert_eq!(me.count_live_providers().await.unwrap(), 0);
        let named = ResourceIdentifier::new("resource://ledger");
        assert!(me.resource_identifier_is_free(&named).await.unwrap());
        assert!(me.find_resources(&[named]).await.unwrap().is_empty());
        let keyed = &theirs.everything.provider;
        assert_eq!(me.count_resources_of_provider(keyed).await.unwrap(), 0);
        let records = [tree.record.id.clone()];
        assert!(me.get_authority_records(&records).await.unwrap().is_empty());
        let of_subject = SessionFilter {
            subject_id: Some(tree.record.subject_id.clone()),
            ..Default::default()
        };
        let labelled = SessionFilter {
            label: Some("indexer".to_owned()),
            ..Default::default()
        };
        for filter in [of_subject, labelled] {
            assert_eq!(sessions(&me, &filter).await, 0, "{filter:?}");
        }
        // Far below the limit the counters answer.
        for of in [SlotsOf::Zone, SlotsOf::Application(&tree.application.id)] {
            assert_eq!(me.held_session_slots(of, 99, START).await.unwrap(), 0);
        }
        assert_eq!(me.held_receipts("op", "app", 99, START).await.unwrap(), 0);
        assert_eq!(me.latest_audit_checkpoint().await.unwrap(), None);
        let nothing = ChainVerdict {
            rows: 0,
            fault: None,
        };
        assert_eq!(me.verify_admin_audit().await.unwrap(), nothing);
    });
}

async fn sessions(me: &ZoneReader, filter: &SessionFilter) -> usize {
    let listed = me.list_sessions(filter, &Page::first(9)).await.unwrap();
    listed.items.len()
}

fn what_is_over_in_another_zone_is_neither_swept_nor_revived(backend: Backend) {
    on(backend, |world| async move {
        let theirs = Theirs::new(&world).await;
        let mine: ZoneId = world.zone().await;
        world.clock.advance_seconds(100_000);
        let far = world.now().plus_seconds(1);
        let before = of_others(&world, &mine).await;

        let mut me = world.unit(&mine).await;
        assert_eq!(me.delete_ended_authority_records(far, 9).await.unwrap(), 0);
        assert_eq!(me.delete_ended_sessions(far, 9).await.unwrap(), 0);
        assert_eq!(me.delete_ended_delegations(far, 9).await.unwrap(), 0);
        assert_eq!(me.delete_expired_receipts(9).await.unwrap(), 0);
        assert_eq!(me.prune_signing_keys(far).await.unwrap(), []);
        let revived = me.revive_provider(&theirs.provider, &author()).await;
        assert!(!revived.unwrap());
        assert!(!me.requeue_outbox_message(&theirs.message).await.unwrap());
        me.commit().await.unwrap();

        assert_eq!(of_others(&world, &mine).await, before);
    });
}

fn what_a_zone_does_leaves_the_same_thing_of_another_zone_alone(backend: Backend) {
    on(backend, |world| async move {
        Theirs::new(&world).await;
        let mine: ZoneId = world.zone().await;
        let mut event = entry(&mine, 1);
        event.labels = vec!["l".to_owned()];
        append(&world.store, &batch(vec![event])).await.unwrap();
        world.clock.advance_seconds(100_000);
        let far = world.now().plus_seconds(1);
        let before = of_others(&world, &mine).await;

        let mut me = world.unit(&mine).await;
        me.insert_receipt(&receipt()).await.unwrap();
        me.record_admin_audit(&Default::default()).await.unwrap();
        // On a server whole months go.
        let texts = u64::from(backend == Backend::Sqlite);
        assert_eq!(me.remove_audit_texts(far, 9).await.unwrap(), texts);
        let rules = policy(&mine, world.id(), "rules");
        me.insert_policy(&rules).await.unwrap();
        let new = policy_version(world.id(), &rules.id, "package a");
        let version = me.insert_policy_version(&new).await.unwrap().unwrap();
        let set = policy_set(&mine, world.id(), "set");
        me.insert_policy_set(&set).await.unwrap();
        let new = policy_set_version(world.id(), &set.id, &[version.id]);
        me.insert_policy_set_version(&new).await.unwrap();
        let activated = me.activate_policy_set(&set.id, &new.id, &author()).await;
        assert!(activated.unwrap());
        me.commit().await.unwrap();

        assert_eq!(of_others(&world, &mine).await, before);
        let own_chain = ChainVerdict {
            rows: 1,
            fault: None,
        };
        let me = world.store.read(&mine);
        assert_eq!(me.verify_admin_audit().await.unwrap(), own_chain);
    });
}

/// Every row that does not name the zone.
async fn of_others(world: &World, zone: &ZoneId) -> Vec<String> {
    let mut rows = dump(world).await;
    rows.retain(|row| !row.contains(zone.as_str()));
    rows
}
