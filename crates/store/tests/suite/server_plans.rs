//! How a server finds rows: with the statistics of tables that hold many zones, and the plan that it
//! keeps for a prepared statement, no statement reads a large table from end to end.

use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};

use crate::isolation::{everything, read_in_vain, write_in_vain};
use crate::plans::{Statements, list_everything};
use crate::world::{Backend, Place, World, connect, on};

/// Rows of each large table, spread over [`ZONES`] zones.
const ROWS: u32 = 8000;
const ZONES: u32 = 8;

/// Large tables, and what is different in each row `n` of the many that are made like one that is
/// there.
const LARGE: &[(&str, &str)] = &[
    (
        "zones",
        "'id', 'z-' || n, 'slug', 's-' || n, 'created_at', n",
    ),
    (
        "applications",
        "'id', 'id-' || n, 'name_key', 'k-' || n, 'created_at', n, 'expires_at', n,
         'registration_method', CASE WHEN n % 2 = 0 THEN 'dcr' ELSE 'managed' END",
    ),
    (
        "providers",
        "'id', 'id-' || n, 'identifier', 'p-' || n, 'created_at', n",
    ),
    (
        "resources",
        "'id', 'id-' || n, 'identifier', 'r-' || n, 'created_at', n,
         'credential_provider_id', 'id-' || n % 2000",
    ),
    (
        "policies",
        "'id', 'id-' || n, 'name', 'p-' || n, 'created_at', n",
    ),
    (
        "policy_versions",
        "'id', 'id-' || n, 'policy_id', 'id-' || n / 10, 'version', n",
    ),
    (
        "policy_sets",
        "'id', 'id-' || n, 'name', 'p-' || n, 'created_at', n, 'active_version_id', NULL",
    ),
    (
        "policy_set_versions",
        "'id', 'id-' || n, 'policy_set_id', 'id-' || n / 10, 'version', n, 'created_at', n",
    ),
    (
        "authority_records",
        "'id', 'id-' || n, 'subject_id', 'u-' || n % 2000, 'created_at', n, 'expires_at', n,
         'parent_id', CASE WHEN n % 3 = 0 THEN 'id-' || n - 1 END,
         'status', CASE WHEN n % 10 = 0 THEN 'active' ELSE 'revoked' END",
    ),
    (
        "sessions",
        "'id', 'id-' || n, 'application_id', 'id-' || n % 2000, 'started_at', n,
         'parent_id', CASE WHEN n % 3 > 0 THEN 'id-' || n / 3 END,
         'subject_authority_record_id', 'id-' || n, 'slot_ends_at', n,
         'status', CASE WHEN n % 20 = 0 THEN 'active' ELSE 'terminated' END,
         'terminated_at', CASE WHEN n % 20 > 0 THEN n END",
    ),
    (
        "session_labels",
        "'label', 'l-' || n % 50, 'started_at', n, 'session_id', 'id-' || n",
    ),
    ("session_counters", "'application_id', 'id-' || n"),
    (
        "delegations",
        "'id', 'id-' || n, 'source_session_id', 'id-' || n % 4000, 'created_at', n,
         'target_session_id', 'id-' || n % 3000, 'expires_at', n, 'updated_at', n,
         'parent_edge_id', CASE WHEN n % 2 = 0 THEN 'id-' || n / 2 END,
         'status', CASE WHEN n % 20 = 0 THEN 'active' ELSE 'expired' END",
    ),
    (
        "admin_audit_events",
        "'seq', n, 'id', 'id-' || n, 'occurred_at', n, 'actor_id', 'a-' || n % 100,
         'entity_type', 'e-' || n % 20, 'entity_id', 'id-' || n % 2000",
    ),
    ("zone_changes", "'seq', n"),
    (
        "idempotency_receipts",
        "'key_digest', 'd-' || n, 'scope_id', 'id-' || n % 500, 'expires_at', n",
    ),
    ("idempotency_counters", "'scope_id', 'id-' || n"),
    (
        "outbox",
        "'id', 'id-' || n, 'dedupe_key', 'k-' || n, 'available_at', n, 'created_at', n,
         'published_at', n,
         'status', CASE n % 100 WHEN 0 THEN 'pending' WHEN 1 THEN 'dead' ELSE 'published' END",
    ),
    (
        "admin_tokens",
        "'id', 'id-' || n, 'digest', 'd-' || n, 'created_at', n",
    ),
];

/// Statements whose purpose is every row: all zones for the jobs that visit each, and figures that
/// are taken now and then.
const WHOLE_TABLE: &[&str] = &[
    "SELECT id FROM zones ORDER BY id",
    "FROM idempotency_counters) AS held",
    "FROM outbox WHERE status = 'published'",
];

async fn fill(world: &World) {
    let raw = world.raw().await;
    // Neither foreign keys nor triggers: the rows are never used.
    let mut sql = "SET session_replication_role = replica;
         INSERT INTO admin_tokens (id, name, capability, reveal, digest, created_by, created_at)
            VALUES ('t', 't', 'write', false, 'd', 'x', 0);
         INSERT INTO zone_changes (zone_id, seq, kind, id, at) VALUES ('z', 1, 'zone', 'z', 0);"
        .to_owned();
    for (table, different) in LARGE {
        let zone = if *table == "zones" {
            String::new()
        } else {
            format!("'zone_id', 'z-' || n % {ZONES}, ")
        };
        sql.push_str(&format!(
            "INSERT INTO {table} SELECT made.* FROM
                (SELECT to_jsonb(t) AS one FROM {table} AS t LIMIT 1) AS model,
                generate_series(1, {ROWS}) AS n,
                jsonb_populate_record(NULL::{table},
                    model.one || jsonb_build_object({zone}{different})) AS made;"
        ));
    }
    sql.push_str("ANALYZE;");
    raw.execute_unprepared(&sql).await.unwrap();
}

async fn plan(db: &DatabaseConnection, sql: &str) -> Vec<String> {
    db.execute_unprepared(&format!("PREPARE asked AS {sql}"))
        .await
        .unwrap_or_else(|error| panic!("{error}: {sql}"));
    let count = (1..).take_while(|n| sql.contains(&format!("${n}"))).count();
    let nulls = vec!["NULL"; count].join(", ");
    let execute = if count == 0 {
        "asked".to_owned()
    } else {
        format!("asked({nulls})")
    };
    let explain = format!("EXPLAIN (COSTS OFF) EXECUTE {execute}");
    let explain = Statement::from_string(db.get_database_backend(), explain);
    let rows = db.query_all_raw(explain).await.unwrap();
    db.execute_unprepared("DEALLOCATE asked").await.unwrap();
    rows.iter()
        .map(|row| row.try_get_by("QUERY PLAN").unwrap())
        .collect()
}

fn reads_a_large_table_whole(plan: &[String]) -> bool {
    plan.iter().any(|step| {
        let scanned = step.split("Seq Scan on ").nth(1);
        let table = scanned.and_then(|rest| rest.split(' ').next());
        table.is_some_and(|table| LARGE.iter().any(|(name, _)| *name == table))
    })
}

#[test]
fn no_statement_reads_a_large_table_from_end_to_end() {
    on(Backend::Postgres, |world| async move {
        let statements = Statements::default();
        let guard = statements.listen();
        let theirs = everything(&world).await;
        read_in_vain(&world, &theirs).await;
        list_everything(&world).await;
        write_in_vain(&world, &theirs, &world.zone().await).await;
        platform_in_vain(&world).await;
        drop(guard);
        let statements = statements.take();
        assert!(statements.len() > 100, "{}", statements.len());

        fill(&world).await;
        let Place::Server(server) = &world.place else {
            panic!("no server")
        };
        // As the services ask: bound by the rules, with the one plan that fits all values.
        let url = format!("{}?options=-c%20search_path%3Dcaracal", server.owner_url);
        let db = connect(url).await;
        db.execute_unprepared("SET plan_cache_mode = force_generic_plan; SET caracal.zone = 'z-7'")
            .await
            .unwrap();
        let mut wasteful = Vec::new();
        for sql in &statements {
            if WHOLE_TABLE.iter().any(|part| sql.contains(part)) {
                continue;
            }
            let steps = plan(&db, sql).await;
            if reads_a_large_table_whole(&steps) {
                wasteful.push(format!("{sql}\n{}", steps.join("\n")));
            }
        }
        assert!(wasteful.is_empty(), "{}", wasteful.join("\n\n"));
        let whole = plan(&db, "SELECT * FROM sessions WHERE depth = $1").await;
        assert!(
            reads_a_large_table_whole(&whole),
            "it would be seen: {whole:?}"
        );
    });
}

/// Every platform-wide read and sweep.
async fn platform_in_vain(world: &World) {
    let platform = world.store.platform();
    let now = world.now();
    platform.find_zone_by_slug("none").await.unwrap();
    platform.get_zone(&world.id()).await.unwrap();
    let page = caracal_store::Page::first(10);
    platform
        .list_zones(&Default::default(), &page)
        .await
        .unwrap();
    platform.find_application(&world.id()).await.unwrap();
    platform.find_admin_token("none").await.unwrap();
    platform.get_admin_token(&world.id()).await.unwrap();
    platform.list_admin_tokens(&page).await.unwrap();
    platform
        .list_admin_audit(&Default::default(), &page)
        .await
        .unwrap();
    platform.due_sessions(now, 9).await.unwrap();
    platform.zones_with_lapsed_delegations(now).await.unwrap();
    platform.pending_outbox_messages(now, 9).await.unwrap();
    platform.outbox_stats().await.unwrap();
    platform.receipt_stats().await.unwrap();
    let mut unit = world.store.begin_platform().await.unwrap();
    unit.mark_outbox_published(&[world.id()]).await.unwrap();
    unit.mark_outbox_failed(&world.id(), "no", None)
        .await
        .unwrap();
    unit.delete_published_outbox(now, 9).await.unwrap();
    unit.revoke_admin_token(&world.id()).await.unwrap();
    unit.touch_admin_token(&world.id(), now).await.unwrap();
    unit.record_admin_audit(&Default::default()).await.unwrap();
    unit.commit().await.unwrap();
}
