//! A handle of one zone neither sees nor changes anything of another.

use caracal_core::id::ZoneId;
use caracal_store::entity::SessionStatus;
use caracal_store::{
    AuditSearch, AuditWalk, EndSession, Page, Receipt, ResourceFilter, RowStatus, SlotsOf, Through,
};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use crate::evidence::{append, batch, entry};
use crate::world::{
    Backend, START, Tree, World, application, as_service, author, edge, on, on_every_backend,
    policy, policy_set, policy_set_version, policy_version, provider, record, resource,
    signing_key, task,
};

on_every_backend![
    nothing_of_another_zone_is_seen,
    nothing_of_another_zone_is_changed,
    a_row_of_another_zone_is_refused,
];

/// Every row of every table, as text.
pub(crate) async fn dump(world: &World) -> Vec<String> {
    let db = world.raw().await;
    let backend = db.get_database_backend();
    let tables = match backend {
        DbBackend::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name",
        _ => {
            "SELECT CAST(tablename AS TEXT) AS name FROM pg_tables WHERE schemaname = 'caracal'
             ORDER BY tablename"
        }
    };
    let mut rows = Vec::new();
    for table in db
        .query_all_raw(Statement::from_string(backend, tables))
        .await
        .unwrap()
    {
        let table: String = table.try_get_by("name").unwrap();
        let columns = match backend {
            DbBackend::Sqlite => sqlite_columns(&db, &table).await,
            _ => format!("CAST({table}.* AS TEXT)"),
        };
        let all = format!("SELECT {columns} AS r FROM {table} ORDER BY 1");
        for row in db
            .query_all_raw(Statement::from_string(backend, all))
            .await
            .unwrap()
        {
            let text: String = row.try_get_by("r").unwrap();
            rows.push(format!("{table}: {text}"));
        }
    }
    db.close().await.unwrap();
    rows
}

async fn sqlite_columns(db: &DatabaseConnection, table: &str) -> String {
    let columns = format!(
        "SELECT group_concat('quote(' || name || ')', '||''|''||') AS c FROM pragma_table_info('{table}')"
    );
    let columns = db
        .query_one_raw(Statement::from_string(DbBackend::Sqlite, columns))
        .await
        .unwrap();
    columns.unwrap().try_get_by("c").unwrap()
}

/// One of everything in the zone; the ids are returned.
pub(crate) struct Everything {
    pub(crate) tree: Tree,
    pub(crate) provider: caracal_core::id::ProviderId,
    resource: caracal_core::id::ResourceId,
    policy: caracal_core::id::PolicyId,
    policy_version: caracal_core::id::PolicyVersionId,
    set: caracal_core::id::PolicySetId,
    set_version: caracal_core::id::PolicySetVersionId,
    pub(crate) service: caracal_core::id::SessionId,
    pub(crate) edge: caracal_core::id::DelegationId,
    key: caracal_core::id::KeyId,
    message: caracal_core::id::OutboxId,
}

pub(crate) fn receipt() -> Receipt {
    Receipt {
        operation: "op".to_owned(),
        scope_id: "app".to_owned(),
        key_digest: "d".to_owned(),
        fingerprint: "f".to_owned(),
        resource_type: "session".to_owned(),
        resource_id: "s".to_owned(),
        status_code: 201,
        body: "{}".to_owned(),
        created_at: START,
        expires_at: START.plus_seconds(1),
    }
}

pub(crate) async fn everything(world: &World) -> Everything {
    let tree = world.tree().await;
    let zone = tree.zone_id.clone();
    let mut unit = world.unit(&zone).await;
    let key_provider = provider(&zone, world.id(), "provider://key");
    unit.insert_provider(&key_provider).await.unwrap();
    let ledger = resource(&zone, world.id(), "resource://ledger");
    unit.insert_resource(&ledger).await.unwrap();
    let rules = policy(&zone, world.id(), "rules");
    unit.insert_policy(&rules).await.unwrap();
    let new = policy_version(world.id(), &rules.id, "package a");
    let version = unit.insert_policy_version(&new).await.unwrap().unwrap();
    let set = policy_set(&zone, world.id(), "set");
    unit.insert_policy_set(&set).await.unwrap();
    let new = policy_set_version(world.id(), &set.id, std::slice::from_ref(&version.id));
    let set_version = unit.insert_policy_set_version(&new).await.unwrap().unwrap();
    unit.activate_policy_set(&set.id, &set_version.id, &author())
        .await
        .unwrap();
    let service = as_service(tree.child(world.id(), &tree.root), START.plus_seconds(1));
    unit.insert_session(&service).await.unwrap();
    let delegation = tree.edge(world.id(), &tree.root, &service);
    unit.insert_delegation(&delegation).await.unwrap();
    unit.bump_delegation_epoch().await.unwrap();
    let key = signing_key(&zone, world.id(), START);
    unit.insert_signing_key(&key).await.unwrap();
    unit.record_admin_audit(&Default::default()).await.unwrap();
    let message = unit.enqueue("topic", "key", vec![]).await.unwrap();
    unit.insert_receipt(&receipt()).await.unwrap();
    unit.commit().await.unwrap();
    let mut event = entry(&zone, 1);
    event.labels = vec!["l".to_owned()];
    append(&world.store, &batch(vec![event])).await.unwrap();
    Everything {
        provider: key_provider.id,
        resource: ledger.id,
        policy: rules.id,
        policy_version: version.id,
        set: set.id,
        set_version: set_version.id,
        service: service.id,
        edge: delegation.id,
        key: key.id,
        message,
        tree,
    }
}

fn nothing_of_another_zone_is_seen(backend: Backend) {
    on(backend, |world| async move {
        let theirs = everything(&world).await;
        read_in_vain(&world, &theirs).await;
    });
}

/// Asks a handle of a new zone for everything of another zone.
pub(crate) async fn read_in_vain(world: &World, theirs: &Everything) {
    let mine: ZoneId = world.zone().await;
    let me = world.store.read(&mine);
    let page = &Page::first(100);
    let tree = &theirs.tree;

    assert_eq!(me.get_zone().await.unwrap().unwrap().id, mine);
    assert_eq!(me.live_authority().await.unwrap(), Default::default());
    assert!(
        me.get_application(&tree.application.id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        me.list_applications(RowStatus::Live, page)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert_eq!(
        me.count_applications(START, START).await.unwrap(),
        Default::default()
    );
    assert!(me.get_provider(&theirs.provider).await.unwrap().is_none());
    assert!(me.find_provider("provider://key").await.unwrap().is_none());
    assert!(
        me.list_providers(RowStatus::Live, page)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        me.provider_identifier_is_free("provider://key")
            .await
            .unwrap()
    );
    assert!(me.get_resource(&theirs.resource).await.unwrap().is_none());
    assert!(
        me.find_resource_by_name("resource://ledger")
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        me.find_resource_by_name(theirs.resource.as_str())
            .await
            .unwrap()
            .is_none()
    );
    let filter = ResourceFilter::default();
    assert!(
        me.list_resources(&filter, page)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert_eq!(me.count_resources().await.unwrap(), Default::default());
    assert!(me.get_policy(&theirs.policy).await.unwrap().is_none());
    assert!(me.list_policies(page).await.unwrap().items.is_empty());
    assert!(
        me.list_policy_versions(&theirs.policy)
            .await
            .unwrap()
            .is_empty()
    );
    let ids = [theirs.policy_version.clone()];
    assert!(me.get_policy_versions(&ids).await.unwrap().is_empty());
    assert!(me.get_policy_set(&theirs.set).await.unwrap().is_none());
    assert!(me.list_policy_sets(page).await.unwrap().items.is_empty());
    assert_eq!(me.count_policy_sets().await.unwrap(), Default::default());
    let version = me
        .get_policy_set_version(&theirs.set, &theirs.set_version)
        .await
        .unwrap();
    assert!(version.is_none());
    assert!(
        me.list_policy_set_versions(&theirs.set, page)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(me.active_policy().await.unwrap().is_none());
    let records = [tree.record.id.clone()];
    assert!(me.get_authority_records(&records).await.unwrap().is_empty());
    assert!(
        me.get_authority_record(&tree.record.id)
            .await
            .unwrap()
            .is_none()
    );
    let records = me
        .list_authority_records(&Default::default(), page)
        .await
        .unwrap();
    assert!(records.items.is_empty());
    assert_eq!(me.count_live_authority_records(START).await.unwrap(), 0);
    assert!(me.get_session(&tree.root.id).await.unwrap().is_none());
    assert!(
        me.get_sessions(std::slice::from_ref(&tree.root.id))
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        me.list_sessions(&Default::default(), page)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    let roots = [tree.root.id.clone()];
    assert!(
        me.session_tree(&roots, Through::Live)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        me.session_ancestry(&theirs.service)
            .await
            .unwrap()
            .is_empty()
    );
    let on = [tree.record.id.clone()];
    assert!(me.live_sessions_on_records(&on).await.unwrap().is_empty());
    assert_eq!(
        me.held_session_slots(SlotsOf::Zone, 0, START)
            .await
            .unwrap(),
        0
    );
    let of = SlotsOf::Application(&tree.application.id);
    assert_eq!(me.held_session_slots(of, 0, START).await.unwrap(), 0);
    assert!(me.get_delegation(&theirs.edge).await.unwrap().is_none());
    assert!(
        me.list_delegations(&Default::default(), page)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        me.inbound_delegations(&theirs.service)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(!me.has_parent_candidates(&theirs.service).await.unwrap());
    let named = Some(&theirs.edge);
    let parents = me
        .live_parent_candidates(&theirs.service, named, START)
        .await
        .unwrap();
    assert!(parents.is_empty());
    assert!(
        me.live_inbound_delegations(&theirs.service, START)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        me.live_outbound_delegations(&roots, START)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        me.delegation_lineage(&theirs.edge)
            .await
            .unwrap()
            .is_empty()
    );
    let edges = [theirs.edge.clone()];
    assert!(
        me.active_delegation_descendants(&edges)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        me.active_delegations_touching(&roots)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        !me.delegation_reaches(&tree.root.id, &theirs.service, START)
            .await
            .unwrap()
    );
    assert_eq!(me.delegation_epoch().await.unwrap(), 0);
    assert!(me.list_signing_keys().await.unwrap().is_empty());
    assert!(
        me.list_admin_audit(&Default::default(), page)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        me.get_outbox_message(&theirs.message)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        me.find_newest_outbox_message("topic", "")
            .await
            .unwrap()
            .is_none()
    );
    let digests = ["d".to_owned()];
    assert!(
        me.find_receipt("op", "app", &digests, START)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(me.held_receipts("op", "app", 0, START).await.unwrap(), 0);
    assert!(me.audit_head().await.unwrap().is_none());
    assert!(
        me.known_audit_events(&[crate::world::event_id(1)])
            .await
            .unwrap()
            .is_empty()
    );
    let found = me
        .search_audit_events(&AuditSearch::default(), page)
        .await
        .unwrap();
    assert!(found.items.is_empty());
    let labelled = AuditSearch {
        label: Some("l".to_owned()),
        ..Default::default()
    };
    assert!(
        me.search_audit_events(&labelled, page)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        me.audit_events_of_request("req-1")
            .await
            .unwrap()
            .is_empty()
    );
    let walk = AuditWalk {
        limit: 9,
        ..Default::default()
    };
    assert!(me.walk_audit_events(&walk).await.unwrap().is_empty());
    assert_eq!(me.count_decisions(START).await.unwrap(), Default::default());
}

fn nothing_of_another_zone_is_changed(backend: Backend) {
    on(backend, |world| async move {
        let theirs = everything(&world).await;
        let mine: ZoneId = world.zone().await;
        let before = dump(&world).await;
        write_in_vain(&world, &theirs, &mine).await;

        // What I tried is in my own change log; nothing else differs.
        let unchanged = |row: &String| !row.contains(mine.as_str());
        let after: Vec<_> = dump(&world).await.into_iter().filter(unchanged).collect();
        let before: Vec<_> = before.into_iter().filter(unchanged).collect();
        assert_eq!(after, before);
    });
}

/// Tries to change everything of another zone through a unit of `mine`.
pub(crate) async fn write_in_vain(world: &World, theirs: &Everything, mine: &ZoneId) {
    let tree = &theirs.tree;
    world.clock.advance_seconds(100_000);
    let far = world.now().plus_seconds(1);

    let mut me = world.unit(mine).await;
    let app = application(mine, tree.application.id.clone(), "x");
    assert!(!me.update_application(&app).await.unwrap());
    assert!(
        !me.set_application_secret(&app.id, None, None, &author())
            .await
            .unwrap()
    );
    assert!(!me.archive_application(&app.id, &author()).await.unwrap());
    let row = provider(mine, theirs.provider.clone(), "provider://x");
    assert!(!me.update_provider(&row).await.unwrap());
    assert!(!me.set_provider_connectivity(&row.id, None).await.unwrap());
    assert!(!me.archive_provider(&row.id, &author()).await.unwrap());
    let row = resource(mine, theirs.resource.clone(), "resource://x");
    assert!(!me.update_resource(&row).await.unwrap());
    assert!(!me.archive_resource(&row.id, &author()).await.unwrap());
    let new = policy_version(world.id(), &theirs.policy, "package b");
    assert!(me.insert_policy_version(&new).await.unwrap().is_none());
    assert!(!me.archive_policy(&theirs.policy, &author()).await.unwrap());
    let new = policy_set_version(world.id(), &theirs.set, &[]);
    assert!(me.insert_policy_set_version(&new).await.unwrap().is_none());
    let activated = me
        .activate_policy_set(&theirs.set, &theirs.set_version, &author())
        .await;
    assert!(!activated.unwrap());
    assert!(
        me.archive_policy_set(&theirs.set, &author())
            .await
            .unwrap()
            .is_none()
    );
    let records = [tree.record.id.clone()];
    assert_eq!(
        me.revoke_authority_records(&records, "r").await.unwrap(),
        []
    );
    assert_eq!(
        me.revoke_subject(&tree.record.subject_id, "r")
            .await
            .unwrap(),
        []
    );
    assert_eq!(me.expire_authority_records(9).await.unwrap(), 0);
    assert_eq!(me.delete_ended_authority_records(far, 9).await.unwrap(), 0);
    let sessions = [tree.root.id.clone(), theirs.service.clone()];
    assert_eq!(me.suspend_sessions(&sessions).await.unwrap(), 0);
    assert_eq!(me.resume_sessions(&sessions, far).await.unwrap(), 0);
    let end = EndSession {
        id: tree.root.id.clone(),
        status: SessionStatus::Terminated,
        reason: "r".to_owned(),
    };
    assert_eq!(me.end_sessions(&[end]).await.unwrap(), []);
    assert_eq!(me.take_lease(&theirs.service, far).await.unwrap(), None);
    assert!(!me.renew_lease(&theirs.service, 1, far).await.unwrap());
    assert_eq!(me.delete_ended_sessions(far, 9).await.unwrap(), 0);
    let edges = [theirs.edge.clone()];
    assert_eq!(me.revoke_delegations(&edges).await.unwrap(), []);
    assert!(!me.mark_delegation_accepted(&theirs.edge).await.unwrap());
    me.consume_delegation_budget(&theirs.edge).await.unwrap();
    assert_eq!(me.expire_delegations(9).await.unwrap(), []);
    assert_eq!(me.delete_ended_delegations(far, 9).await.unwrap(), 0);
    assert!(!me.retire_signing_key(&theirs.key, START).await.unwrap());
    assert_eq!(me.prune_signing_keys(far).await.unwrap(), []);
    assert!(!me.requeue_outbox_message(&theirs.message).await.unwrap());
    assert_eq!(me.delete_expired_receipts(9).await.unwrap(), 0);
    assert_eq!(me.remove_audit_texts(far, 9).await.unwrap(), 0);
    assert_eq!(me.end_all_authority("r").await.unwrap(), Default::default());
    me.commit().await.unwrap();
}

fn a_row_of_another_zone_is_refused(backend: Backend) {
    on(backend, |world| async move {
        let tree = world.tree().await;
        let theirs = &tree.zone_id;
        let mine: ZoneId = world.zone().await;
        let mut me = world.unit(&mine).await;
        let app = &tree.application.id;
        let session = task(theirs, world.id(), app, &tree.record.id, None);
        let refused = [
            me.insert_zone(&crate::world::zone(theirs, "x"))
                .await
                .is_err(),
            me.insert_application(&application(theirs, world.id(), "x"))
                .await
                .is_err(),
            me.insert_provider(&provider(theirs, world.id(), "provider://x"))
                .await
                .is_err(),
            me.insert_resource(&resource(theirs, world.id(), "resource://x"))
                .await
                .is_err(),
            me.insert_policy(&policy(theirs, world.id(), "x"))
                .await
                .is_err(),
            me.insert_policy_set(&policy_set(theirs, world.id(), "x"))
                .await
                .is_err(),
            me.insert_authority_record(&record(theirs, world.id(), app))
                .await
                .is_err(),
            me.insert_session(&session).await.is_err(),
            me.insert_delegation(&edge(theirs, world.id(), &tree.root, &session))
                .await
                .is_err(),
            me.insert_signing_key(&signing_key(theirs, world.id(), START))
                .await
                .is_err(),
        ];
        assert_eq!(refused, [true; 10]);
        // Nor can a row of mine lean on a row of theirs.
        let leaning = task(&mine, world.id(), app, &tree.record.id, Some(&tree.root.id));
        assert!(me.insert_session(&leaning).await.is_err());
    });
}
