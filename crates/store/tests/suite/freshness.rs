//! Every kind of fact that a view keeps in memory, and the change that ends it.

use std::sync::Arc;

use caracal_core::ResourceIdentifier;
use caracal_core::id::{DelegationId, KeyId, PolicySetId, ProviderId, ResourceId};
use caracal_store::entity::{RecordStatus, SessionStatus};
use caracal_store::{Authority, AuthorityLimits};

use crate::world::{
    Backend, START, Tree, World, author, on, on_every_backend, policy, policy_set,
    policy_set_version, policy_version, provider, resource, signing_key,
};

on_every_backend![
    the_next_view_has_an_archived_zone,
    the_next_view_has_an_archived_application,
    the_next_view_has_an_archived_provider,
    the_next_view_has_an_archived_resource,
    the_next_view_has_a_policy_that_no_longer_governs,
    the_next_view_has_a_revoked_record,
    the_next_view_has_a_suspended_session,
    the_next_view_has_a_revoked_delegation,
    the_next_view_has_a_raised_epoch,
    the_next_view_has_a_retired_key,
];

/// One fact of every kind, all of them live.
struct Facts {
    tree: Tree,
    provider: ProviderId,
    resource: ResourceId,
    set: PolicySetId,
    edge: DelegationId,
    key: KeyId,
}

const LEDGER: &str = "resource://ledger";

impl Facts {
    async fn live(world: &World) -> Self {
        let tree = world.tree().await;
        let zone = &tree.zone_id;
        let mut unit = world.unit(zone).await;
        let provider = provider(zone, world.id(), "provider://key");
        unit.insert_provider(&provider).await.unwrap();
        let resource = resource(zone, world.id(), LEDGER);
        unit.insert_resource(&resource).await.unwrap();
        let rules = policy(zone, world.id(), "rules");
        unit.insert_policy(&rules).await.unwrap();
        let new = policy_version(world.id(), &rules.id, "package a");
        let version = unit.insert_policy_version(&new).await.unwrap().unwrap();
        let set = policy_set(zone, world.id(), "set");
        unit.insert_policy_set(&set).await.unwrap();
        let new = policy_set_version(world.id(), &set.id, &[version.id]);
        unit.insert_policy_set_version(&new).await.unwrap();
        unit.activate_policy_set(&set.id, &new.id, &author())
            .await
            .unwrap();
        let child = tree.child(world.id(), &tree.root);
        unit.insert_session(&child).await.unwrap();
        let edge = tree.edge(world.id(), &tree.root, &child);
        unit.insert_delegation(&edge).await.unwrap();
        let key = signing_key(zone, world.id(), START);
        unit.insert_signing_key(&key).await.unwrap();
        unit.commit().await.unwrap();
        Self {
            provider: provider.id,
            resource: resource.id,
            set: set.id,
            edge: edge.id,
            key: key.id,
            tree,
        }
    }

    /// What a fresh view says that is no longer live.
    async fn ended(&self, authority: &Arc<Authority>) -> Vec<&'static str> {
        let view = authority.fresh(&self.tree.zone_id).await.unwrap();
        let tree = &self.tree;
        let zone = view.zone().await.unwrap().unwrap();
        let application = view.application(&tree.application.id).await.unwrap();
        let provider = view.provider(&self.provider).await.unwrap().unwrap();
        let by_name = view.resource(&ResourceIdentifier::new(LEDGER)).await;
        let by_id = view.resource_by_name(self.resource.as_str()).await;
        let policy = view.active_policy().await.unwrap();
        let record = view.authority_record(&tree.record.id).await.unwrap();
        let session = view.session(&tree.root.id).await.unwrap().unwrap();
        let edge = view.delegation(&self.edge).await.unwrap().unwrap();
        let epoch = view.delegation_epoch().await.unwrap();
        let keys = view.signing_keys().await.unwrap();
        let live = [
            ("zone", zone.is_live()),
            ("application", application.unwrap().is_live(START)),
            ("provider", provider.archived_at.is_none()),
            ("resource by name", by_name.unwrap().is_some()),
            ("resource by id", by_id.unwrap().is_some()),
            ("policy", policy.is_some()),
            ("record", record.unwrap().status == RecordStatus::Active),
            ("session", session.status == SessionStatus::Active),
            ("delegation", edge.is_live(START)),
            ("epoch", epoch == 0),
            ("signing key", !keys.is_empty()),
        ];
        let ended = live.into_iter().filter(|(_, live)| !live);
        ended.map(|(name, _)| name).collect()
    }
}

/// Has every fact in memory, makes one change, and expects the next view to tell what it ended.
macro_rules! ends {
    ($name:ident, $ended:expr, |$facts:ident, $unit:ident| $change:expr) => {
        fn $name(backend: Backend) {
            on(backend, |world| async move {
                let $facts = Facts::live(&world).await;
                let authority = Authority::new(world.store.clone(), AuthorityLimits::default());
                for _ in 0..2 {
                    assert_eq!($facts.ended(&authority).await, Vec::<&str>::new());
                }
                let mut $unit = world.unit(&$facts.tree.zone_id).await;
                $change.unwrap();
                $unit.commit().await.unwrap();
                assert_eq!($facts.ended(&authority).await, $ended);
            });
        }
    };
}

ends!(
    the_next_view_has_an_archived_zone,
    ["zone"],
    |facts, unit| { unit.archive_zone(&author()).await }
);
ends!(
    the_next_view_has_an_archived_application,
    ["application"],
    |facts, unit| {
        let id = &facts.tree.application.id;
        unit.archive_application(id, &author()).await
    }
);
ends!(
    the_next_view_has_an_archived_provider,
    ["provider"],
    |facts, unit| { unit.archive_provider(&facts.provider, &author()).await }
);
ends!(
    the_next_view_has_an_archived_resource,
    ["resource by name", "resource by id"],
    |facts, unit| { unit.archive_resource(&facts.resource, &author()).await }
);
ends!(
    the_next_view_has_a_policy_that_no_longer_governs,
    ["policy"],
    |facts, unit| { unit.archive_policy_set(&facts.set, &author()).await }
);
ends!(
    the_next_view_has_a_revoked_record,
    ["record"],
    |facts, unit| {
        let ids = std::slice::from_ref(&facts.tree.record.id);
        unit.revoke_authority_records(ids, "test").await
    }
);
ends!(
    the_next_view_has_a_suspended_session,
    ["session"],
    |facts, unit| {
        let ids = std::slice::from_ref(&facts.tree.root.id);
        unit.suspend_sessions(ids).await
    }
);
ends!(
    the_next_view_has_a_revoked_delegation,
    ["delegation"],
    |facts, unit| {
        let ids = std::slice::from_ref(&facts.edge);
        unit.revoke_delegations(ids).await
    }
);
ends!(
    the_next_view_has_a_raised_epoch,
    ["epoch"],
    |facts, unit| { unit.bump_delegation_epoch().await }
);
ends!(
    the_next_view_has_a_retired_key,
    ["signing key"],
    |facts, unit| { unit.retire_signing_key(&facts.key, START).await }
);
