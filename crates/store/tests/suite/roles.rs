//! What the database lets each service's role do, and whose rows it shows.
//!
//! Tables are taken from the catalogue, so that a new one can't be forgotten.

use caracal_core::id::ZoneId;
use caracal_store::entity::{Lease, Lifecycle, SessionStatus};
use caracal_store::{EndSession, PostgresOptions, ServiceRole, Store};
use caracal_testbed::Postgres;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, RuntimeErr, Statement};

use crate::isolation::{Everything, everything};
use crate::world::{
    Backend, Place, Server, World, application, author, connect, on, provider, record, resource,
    signing_key, task,
};

fn server(world: &World) -> &Server {
    match &world.place {
        Place::Server(server) => server,
        Place::File { .. } => panic!("no server"),
    }
}

/// A connection that acts as a role; `None` as the owner.
async fn acting_as(world: &World, role: Option<ServiceRole>) -> DatabaseConnection {
    let url = format!(
        "{}?options=-c%20search_path%3Dcaracal",
        server(world).owner_url
    );
    let db = connect(url).await;
    if let Some(role) = role {
        let set = format!("SET ROLE {}", role.name());
        db.execute_unprepared(&set).await.unwrap();
    }
    db
}

async fn set_zone(db: &DatabaseConnection, zone: &str) {
    let set = format!("SELECT set_config('caracal.zone', '{zone}', false)");
    db.execute_unprepared(&set).await.unwrap();
}

/// The SQLSTATE of a refusal.
fn state(error: &DbErr) -> String {
    let (DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause))) =
        error
    else {
        panic!("{error}")
    };
    let code = cause.as_database_error().and_then(|e| e.code());
    code.unwrap_or_default().into_owned()
}

const DENIED: &str = "42501";

/// Statements, and the roles that may run them. All others are refused by the database.
const RIGHTS: &[(&str, &[ServiceRole])] = {
    use ServiceRole::{Api, Audit, Coordinator, Gateway, Sts};
    &[
        ("SELECT sealed_secret FROM applications", &[Api]),
        ("SELECT secret_hash FROM applications", &[Api]),
        ("SELECT secret_hash FROM caracal_sts.applications", &[Sts]),
        (
            "SELECT name FROM caracal_plain.applications",
            &[Gateway, Coordinator],
        ),
        ("SELECT sealed_config FROM providers", &[Api, Sts]),
        ("SELECT name FROM caracal_plain.providers", &[Gateway]),
        ("SELECT sealed FROM signing_keys", &[Api, Sts]),
        ("UPDATE signing_keys SET sealed = ''", &[Sts]),
        ("DELETE FROM signing_keys", &[Sts]),
        ("SELECT digest FROM admin_tokens", &[Api]),
        ("UPDATE admin_tokens SET revoked_at = NULL", &[Api]),
        ("SELECT payload FROM outbox", &[Api, Coordinator]),
        ("DELETE FROM outbox", &[Api, Coordinator]),
        ("SELECT body FROM idempotency_receipts", &[Coordinator]),
        ("UPDATE zones SET name = name", &[Api]),
        ("UPDATE applications SET secret_hash = 'x'", &[Api]),
        ("UPDATE providers SET sealed_config = NULL", &[Api]),
        ("UPDATE resources SET upstream_url = 'https://evil'", &[Api]),
        ("UPDATE policies SET name = name", &[Api]),
        ("UPDATE policy_sets SET active_version_id = NULL", &[Api]),
        ("UPDATE policy_versions SET content = ''", &[]),
        ("DELETE FROM policy_versions", &[]),
        ("DELETE FROM policy_set_versions", &[]),
        ("DELETE FROM applications", &[]),
        ("DELETE FROM zones", &[]),
        (
            "INSERT INTO authority_records SELECT * FROM authority_records",
            &[Sts],
        ),
        (
            "UPDATE authority_records SET status = status",
            &[Api, Sts, Coordinator],
        ),
        ("DELETE FROM authority_records", &[Coordinator]),
        (
            "INSERT INTO sessions SELECT * FROM sessions",
            &[Coordinator],
        ),
        ("UPDATE sessions SET status = status", &[Api, Coordinator]),
        (
            "UPDATE sessions SET authority_root = false",
            &[Api, Sts, Coordinator],
        ),
        (
            "UPDATE delegations SET scopes = scopes",
            &[Api, Coordinator],
        ),
        (
            "UPDATE delegations SET budget_used = budget_used",
            &[Api, Sts, Coordinator],
        ),
        (
            "UPDATE delegation_epochs SET epoch = 0",
            &[Api, Coordinator],
        ),
        (
            "UPDATE zone_sequences SET seq = 0",
            &[Api, Sts, Coordinator],
        ),
        ("UPDATE zone_changes SET kind = 'x'", &[]),
        ("UPDATE admin_audit_events SET path = '/'", &[]),
        ("DELETE FROM admin_audit_events", &[]),
        (
            "INSERT INTO admin_audit_events SELECT * FROM admin_audit_events",
            &[Api, Sts, Coordinator],
        ),
        ("UPDATE platform_settings SET value = 0", &[Api]),
        ("UPDATE schema_migrations SET checksum = ''", &[]),
        ("SELECT data FROM audit_events", &[Api, Audit]),
        (
            "INSERT INTO audit_events SELECT * FROM audit_events",
            &[Audit],
        ),
        (
            "INSERT INTO audit_chain SELECT * FROM audit_chain",
            &[Audit],
        ),
        ("UPDATE audit_chain SET leaf_hash = ''", &[]),
        ("DELETE FROM audit_chain", &[]),
        ("TRUNCATE audit_events", &[]),
        ("UPDATE audit_heads SET seq = 0", &[Audit]),
        (
            "INSERT INTO audit_checkpoints SELECT * FROM audit_checkpoints",
            &[Audit],
        ),
        ("UPDATE audit_checkpoints SET note = ''", &[]),
        ("SELECT sealed FROM audit_keys", &[Audit]),
        ("UPDATE audit_producers SET watermark = 0", &[Audit]),
        ("CREATE TABLE caracal.x (n INT)", &[]),
        ("ALTER TABLE zones DISABLE ROW LEVEL SECURITY", &[]),
        ("DROP TABLE zones", &[]),
        ("CREATE ROLE x", &[]),
    ]
};

#[test]
fn a_role_may_do_what_its_service_does_and_nothing_else() {
    on(Backend::Postgres, |world| async move {
        for role in ServiceRole::ALL {
            let db = acting_as(&world, Some(role)).await;
            // Of a zone that has no rows, so that what is allowed does nothing.
            set_zone(&db, "nobody").await;
            for (sql, allowed) in RIGHTS {
                let refused = db
                    .execute_unprepared(sql)
                    .await
                    .map_err(|e| state(&e))
                    .err();
                let expected = (!allowed.contains(&role)).then(|| DENIED.to_owned());
                assert_eq!(refused, expected, "{role:?}: {sql}");
            }
        }
    });
}

async fn open(world: &World, role: ServiceRole) -> Store {
    let mut options = PostgresOptions::new(server(world).owner_url.clone()).acting_as(role);
    options.min_connections = 0;
    let (clock, random) = (world.clock.clone(), world.random.clone());
    Store::open_postgres(options, clock, random).await.unwrap()
}

#[test]
fn roles_that_need_no_secret_read_the_row_without_it() {
    on(Backend::Postgres, |world| async move {
        let known = everything(&world).await;
        let zone = &known.tree.zone_id;
        for (role, hash, sealed, config, key) in [
            (ServiceRole::Api, true, true, true, true),
            (ServiceRole::Sts, true, false, true, true),
            (ServiceRole::Gateway, false, false, false, false),
        ] {
            let store = open(&world, role).await;
            let me = store.read(zone);
            let id = &known.tree.application.id;
            let application = me.get_application(id).await.unwrap().unwrap();
            assert_eq!(application.secret_hash.is_some(), hash, "{role:?}");
            assert_eq!(application.sealed_secret.is_some(), sealed, "{role:?}");
            let provider = me.get_provider(&known.provider).await.unwrap().unwrap();
            assert_eq!(provider.sealed_config.is_some(), config, "{role:?}");
            let keys = me.list_signing_keys().await.unwrap();
            assert_eq!(keys.len(), 1, "{role:?}");
            assert_eq!(!keys[0].sealed.is_empty(), key, "{role:?}");
        }
    });
}

#[test]
fn each_service_can_do_its_work_in_its_role() {
    on(Backend::Postgres, |world| async move {
        let known = everything(&world).await;
        let zone = &known.tree.zone_id;
        api(&world, zone).await;
        sts(&world, &known).await;
        coordinator(&world, &known).await;
        let gateway = open(&world, ServiceRole::Gateway).await;
        gateway.changes().current(zone).await.unwrap();
        gateway.changes().since(zone, 0).await.unwrap();
        let me = gateway.read(zone);
        assert!(me.get_zone().await.unwrap().is_some());
        let root = &known.tree.root.id;
        assert!(me.get_session(root).await.unwrap().is_some());
        let audit = open(&world, ServiceRole::Audit).await;
        assert!(audit.read(zone).audit_head().await.unwrap().is_some());
        let after = audit.platform().next_audit_zone(None).await.unwrap();
        assert_eq!(after.as_ref(), Some(zone));
    });
}

async fn api(world: &World, zone: &ZoneId) {
    let store = open(world, ServiceRole::Api).await;
    let mut unit = store.begin(zone).await.unwrap();
    assert!(!unit.slug_is_taken("free").await.unwrap());
    let row = application(zone, world.id(), "second");
    unit.insert_application(&row).await.unwrap();
    unit.archive_application(&row.id, &author()).await.unwrap();
    let row = provider(zone, world.id(), "provider://second");
    unit.insert_provider(&row).await.unwrap();
    let row = resource(zone, world.id(), "resource://second");
    unit.insert_resource(&row).await.unwrap();
    unit.insert_signing_key(&signing_key(zone, world.id(), world.now()))
        .await
        .unwrap();
    unit.record_admin_audit(&Default::default()).await.unwrap();
    unit.enqueue("topic", "api", vec![]).await.unwrap();
    unit.commit().await.unwrap();
    let other: ZoneId = world.id();
    let mut unit = store.begin(&other).await.unwrap();
    unit.insert_zone(&crate::world::zone(&other, "other"))
        .await
        .unwrap();
    unit.end_all_authority("test").await.unwrap();
    unit.commit().await.unwrap();
    let mut unit = store.begin_platform().await.unwrap();
    unit.record_admin_audit(&Default::default()).await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(store.platform().zone_ids().await.unwrap().len(), 2);
    store.platform().outbox_stats().await.unwrap();
    let mut unit = store.begin(zone).await.unwrap();
    unit.archive_zone(&author()).await.unwrap();
    drop(unit);
}

async fn sts(world: &World, known: &Everything) {
    let zone = &known.tree.zone_id;
    let store = open(world, ServiceRole::Sts).await;
    let id = &known.tree.application.id;
    let found = store.platform().find_application(id).await.unwrap();
    assert_eq!(&found.unwrap().zone_id, zone);
    let me = store.read(zone);
    assert!(me.active_policy().await.unwrap().is_some());
    let mut unit = store.begin(zone).await.unwrap();
    let row = record(zone, world.id(), id);
    unit.insert_authority_record(&row).await.unwrap();
    unit.revoke_authority_records(&[row.id], "test")
        .await
        .unwrap();
    unit.mark_delegation_accepted(&known.edge).await.unwrap();
    unit.consume_delegation_budget(&known.edge).await.unwrap();
    let key = signing_key(zone, world.id(), world.now());
    unit.insert_signing_key(&key).await.unwrap();
    unit.retire_signing_key(&key.id, world.now()).await.unwrap();
    unit.prune_signing_keys(world.now()).await.unwrap();
    unit.record_admin_audit(&Default::default()).await.unwrap();
    unit.commit().await.unwrap();
}

async fn coordinator(world: &World, known: &Everything) {
    let zone = &known.tree.zone_id;
    let store = open(world, ServiceRole::Coordinator).await;
    store.platform().due_sessions(world.now(), 9).await.unwrap();
    store.platform().receipt_stats().await.unwrap();
    let far = world.now().plus_seconds(1_000_000);
    let swept = store.platform().zones_with_lapsed_delegations(far).await;
    assert_eq!(swept.unwrap(), std::slice::from_ref(zone));
    let mut unit = store.begin(zone).await.unwrap();
    let root = &known.tree.root;
    let application = unit.get_application(&known.tree.application.id).await;
    assert!(application.unwrap().is_some());
    let child = task(
        zone,
        world.id(),
        &root.application_id,
        &root.subject_authority_record_id,
        Some(&root.id),
    );
    let child = caracal_store::entity::Session { depth: 1, ..child };
    unit.insert_session(&child).await.unwrap();
    let edge = known.tree.edge(world.id(), root, &child);
    unit.insert_delegation(&edge).await.unwrap();
    unit.revoke_delegations(&[edge.id]).await.unwrap();
    unit.bump_delegation_epoch().await.unwrap();
    let lease = Lifecycle::Service(Lease {
        last_heartbeat_at: world.now(),
        heartbeat_deadline_at: far,
    });
    assert_eq!(lease.as_str(), "service");
    unit.take_lease(&known.service, far).await.unwrap();
    unit.suspend_sessions(std::slice::from_ref(&child.id))
        .await
        .unwrap();
    unit.end_sessions(&[EndSession {
        id: child.id,
        status: SessionStatus::Terminated,
        reason: "test".to_owned(),
    }])
    .await
    .unwrap();
    unit.delete_ended_delegations(far, 9).await.unwrap();
    unit.delete_ended_sessions(far, 9).await.unwrap();
    unit.expire_authority_records(9).await.unwrap();
    unit.delete_ended_authority_records(far, 9).await.unwrap();
    unit.delete_expired_receipts(9).await.unwrap();
    unit.record_admin_audit(&Default::default()).await.unwrap();
    unit.enqueue("topic", "coordinator", vec![]).await.unwrap();
    unit.commit().await.unwrap();
    let mut unit = store.begin_platform().await.unwrap();
    unit.delete_published_outbox(far, 9).await.unwrap();
    unit.commit().await.unwrap();
}

/// Tables, or parts of one, whose rows belong to zones.
struct Zoned {
    /// With its schema.
    name: String,
    /// Whether it is a part of another table.
    is_part: bool,
}

async fn zoned_tables(db: &DatabaseConnection) -> Vec<Zoned> {
    let sql = "SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relispartition AS part
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname LIKE 'caracal%' AND c.relkind IN ('r', 'p', 'v', 'm')
           AND (c.relname = 'zones' OR EXISTS (SELECT 1 FROM pg_attribute AS a
                WHERE a.attrelid = c.oid AND a.attname = 'zone_id'))
         ORDER BY 1";
    let found = Statement::from_string(db.get_database_backend(), sql);
    let rows = db.query_all_raw(found).await.unwrap();
    rows.iter()
        .map(|row| Zoned {
            name: row.try_get_by("name").unwrap(),
            is_part: row.try_get_by("part").unwrap(),
        })
        .collect()
}

/// How many rows a connection sees; `None` when it may not look.
async fn seen(db: &DatabaseConnection, table: &str) -> Option<i64> {
    let sql = format!("SELECT count(*) AS n FROM {table}");
    let count = Statement::from_string(db.get_database_backend(), sql);
    match db.query_one_raw(count).await {
        Ok(row) => Some(row.unwrap().try_get_by("n").unwrap()),
        Err(error) => {
            assert_eq!(state(&error), DENIED, "{table}");
            None
        }
    }
}

/// Who is asked: every role, and the owner.
fn askers() -> Vec<Option<ServiceRole>> {
    let roles = ServiceRole::ALL.into_iter().map(Some);
    roles.chain([None]).collect()
}

/// Rows that `everything` does not make.
async fn fill(world: &World, zone: &ZoneId) {
    let raw = server(world).raw().await;
    let sql = format!(
        "INSERT INTO admin_tokens (id, name, zone_id, capability, reveal, digest, created_by,
            created_at) VALUES ('t', 't', '{zone}', 'write', false, 'd', 'x', 0);
         INSERT INTO audit_checkpoints (zone_id, size, note, at) VALUES ('{zone}', 1, 'n', 0);
         INSERT INTO audit_alerts (zone_id, id, kind, detail, raised_at)
            VALUES ('{zone}', 'a', 'k', '{{}}', 0);
         INSERT INTO audit_acknowledgements (zone_id, alert_id, at) VALUES ('{zone}', 'a', 0)"
    );
    raw.execute_unprepared(&sql).await.unwrap();
}

#[test]
fn without_the_zone_no_row_of_any_table_is_visible_to_anybody() {
    on(Backend::Postgres, |world| async move {
        let known = everything(&world).await;
        fill(&world, &known.tree.zone_id).await;
        let raw = server(&world).raw().await;
        let tables = zoned_tables(&raw).await;
        assert!(tables.len() > 30, "{}", tables.len());
        for table in tables.iter().filter(|table| !table.is_part) {
            let has_rows = !table.name.starts_with("caracal.")
                || seen(&raw, &table.name).await.is_some_and(|rows| rows > 0);
            assert!(
                has_rows,
                "{} is empty, so that nothing is shown",
                table.name
            );
        }
        for asker in askers() {
            let db = acting_as(&world, asker).await;
            for zone in [None, Some(""), Some("another")] {
                if let Some(zone) = zone {
                    set_zone(&db, zone).await;
                }
                for table in &tables {
                    // The owner owns the parts; services can't name them.
                    if table.is_part && asker.is_none() {
                        continue;
                    }
                    let rows = seen(&db, &table.name).await.unwrap_or(0);
                    assert_eq!(rows, 0, "{asker:?} {zone:?} {}", table.name);
                }
            }
        }
    });
}

/// Tables that a role reads over all zones.
const OVER_ALL_ZONES: &[(ServiceRole, &[&str])] = {
    use ServiceRole::{Api, Audit, Coordinator, Gateway, Sts};
    &[
        (
            Api,
            &[
                "caracal.admin_tokens",
                "caracal.outbox",
                "caracal.zone_sequences",
                "caracal.zones",
            ],
        ),
        (Sts, &["caracal.zone_sequences", "caracal_sts.applications"]),
        (Gateway, &["caracal.zone_sequences"]),
        (
            Coordinator,
            &[
                "caracal.delegations",
                "caracal.idempotency_counters",
                "caracal.idempotency_receipts",
                "caracal.outbox",
                "caracal.sessions",
                "caracal.zone_sequences",
                "caracal.zones",
            ],
        ),
        (
            Audit,
            &[
                "caracal.audit_acknowledgements",
                "caracal.audit_alerts",
                "caracal.audit_chain",
                "caracal.audit_checkpoints",
                "caracal.audit_event_labels",
                "caracal.audit_events",
                "caracal.audit_heads",
                "caracal.audit_hours",
            ],
        ),
    ]
};

#[test]
fn over_all_zones_a_role_reads_only_what_its_platform_wide_work_needs() {
    on(Backend::Postgres, |world| async move {
        let known = everything(&world).await;
        fill(&world, &known.tree.zone_id).await;
        let tables = zoned_tables(&server(&world).raw().await).await;
        for (role, expected) in OVER_ALL_ZONES {
            let db = acting_as(&world, Some(*role)).await;
            set_zone(&db, "*").await;
            let mut found = Vec::new();
            for table in &tables {
                if seen(&db, &table.name).await.is_some_and(|rows| rows > 0) {
                    found.push(table.name.as_str());
                }
            }
            assert_eq!(&found, expected, "{role:?}");
        }
    });
}

#[test]
fn a_row_of_another_zone_can_be_put_into_no_table() {
    on(Backend::Postgres, |world| async move {
        let known = everything(&world).await;
        fill(&world, &known.tree.zone_id).await;
        let raw = server(&world).raw().await;
        let db = acting_as(&world, None).await;
        set_zone(&db, "another").await;
        for table in zoned_tables(&raw).await {
            if table.is_part || !table.name.starts_with("caracal.") {
                continue;
            }
            let name = &table.name;
            let sql = format!("SELECT CAST(to_jsonb(t) AS TEXT) AS row FROM {name} AS t LIMIT 1");
            let one = Statement::from_string(raw.get_database_backend(), sql);
            let row = raw.query_one_raw(one).await.unwrap().unwrap();
            let row: String = row.try_get_by("row").unwrap();
            let insert = format!(
                "INSERT INTO {name} SELECT * FROM jsonb_populate_record(NULL::{name}, $row${row}$row$)"
            );
            let refused = db.execute_unprepared(&insert).await.map_err(|e| state(&e));
            assert_eq!(refused.err().as_deref(), Some(DENIED), "{name}");
        }
    });
}

#[test]
fn every_table_with_a_zone_has_rules_that_bind_its_owner_too() {
    on(Backend::Postgres, |world| async move {
        let unbound = Postgres::shared().unwrap().psql(
            &server(&world).name,
            "SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
             WHERE n.nspname = 'caracal' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
               AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
             ORDER BY 1",
        );
        let unbound = unbound.unwrap();
        let without_zones = [
            "audit_keys",
            "audit_producers",
            "platform_settings",
            "schema_migrations",
        ];
        assert_eq!(unbound.lines().collect::<Vec<_>>(), without_zones);
    });
}
