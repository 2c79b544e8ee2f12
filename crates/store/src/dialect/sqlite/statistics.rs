//! What the query planner is told about the sizes of things.
//!
//! Nearly every index begins with the zone, and without statistics SQLite takes any one equal column
//! for a fine filter: it would walk a whole zone where an index knows the row. Measuring (`ANALYZE`)
//! gives other plans on other machines and none on a new one. So the planner is given figures of a
//! busy installation: the same statement always runs the same way, and always by the narrow index.

use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};

use super::explain;
use crate::error::StoreError;
use crate::sql::params;

/// Table, index, and the figures of `sqlite_stat1`: rows in the index, then rows that share the first
/// column, the first two, and so on. The key of a table without row ids bears the table's name.
const FIGURES: &[(&str, &str, &str)] = &[
    (
        "applications",
        "sqlite_autoindex_applications_1",
        "10000 1000 1",
    ),
    ("applications", "applications_id", "10000 1"),
    ("applications", "applications_name", "10000 1000 1"),
    ("applications", "applications_page", "10000 1000 1 1"),
    ("applications", "applications_dcr", "1000 200 1"),
    ("providers", "sqlite_autoindex_providers_1", "1000 100 1"),
    ("providers", "providers_identifier", "1000 100 1"),
    ("providers", "providers_page", "1000 100 1 1"),
    ("resources", "sqlite_autoindex_resources_1", "10000 1000 1"),
    ("resources", "resources_identifier", "10000 1000 1"),
    ("resources", "resources_page", "10000 1000 1 1"),
    ("resources", "resources_live", "10000 1000 900 450"),
    ("resources", "resources_provider", "10000 1000 20"),
    ("policies", "sqlite_autoindex_policies_1", "1000 100 1"),
    ("policies", "policies_name", "1000 100 1"),
    ("policies", "policies_page", "1000 100 1 1"),
    (
        "policy_versions",
        "sqlite_autoindex_policy_versions_1",
        "10000 1000 1",
    ),
    (
        "policy_versions",
        "policy_versions_number",
        "10000 1000 10 1",
    ),
    (
        "policy_sets",
        "sqlite_autoindex_policy_sets_1",
        "1000 100 1",
    ),
    ("policy_sets", "policy_sets_name", "1000 100 1"),
    ("policy_sets", "policy_sets_active", "10 1"),
    ("policy_sets", "policy_sets_page", "1000 100 1 1"),
    (
        "policy_set_versions",
        "sqlite_autoindex_policy_set_versions_1",
        "10000 1000 1",
    ),
    (
        "policy_set_versions",
        "policy_set_versions_number",
        "10000 1000 10 1",
    ),
    (
        "policy_set_versions",
        "policy_set_versions_page",
        "10000 1000 10 1 1",
    ),
    (
        "authority_records",
        "sqlite_autoindex_authority_records_1",
        "1000000 100000 1",
    ),
    (
        "authority_records",
        "authority_records_page",
        "1000000 100000 1 1",
    ),
    (
        "authority_records",
        "authority_records_status",
        "1000000 100000 30000 1 1",
    ),
    (
        "authority_records",
        "authority_records_parent",
        "100000 10000 3",
    ),
    (
        "authority_records",
        "authority_records_subject",
        "1000000 100000 1000 1 1",
    ),
    (
        "authority_records",
        "authority_records_ended",
        "900000 90000 1",
    ),
    (
        "authority_records",
        "authority_records_active",
        "100000 10000 1",
    ),
    (
        "sessions",
        "sqlite_autoindex_sessions_1",
        "1000000 100000 1",
    ),
    ("sessions", "sessions_page", "1000000 100000 1 1"),
    (
        "sessions",
        "sessions_application",
        "1000000 100000 2000 1 1",
    ),
    ("sessions", "sessions_status", "1000000 100000 25000 1 1"),
    ("sessions", "sessions_parent", "900000 90000 4 1 1"),
    ("sessions", "sessions_record", "1000000 100000 3"),
    ("sessions", "sessions_slots", "50000 5000 1"),
    ("sessions", "sessions_due", "50000 1"),
    ("sessions", "sessions_ended", "950000 95000 1"),
    ("session_labels", "session_labels", "1000000 100000 500 1 1"),
    (
        "session_labels",
        "session_labels_session",
        "1000000 100000 1",
    ),
    (
        "delegations",
        "sqlite_autoindex_delegations_1",
        "1000000 100000 1",
    ),
    ("delegations", "delegations_page", "1000000 100000 1 1"),
    ("delegations", "delegations_source", "1000000 100000 3 1 1"),
    ("delegations", "delegations_target", "1000000 100000 3 1 1"),
    (
        "delegations",
        "delegations_status",
        "1000000 100000 30000 1 1",
    ),
    ("delegations", "delegations_parent", "500000 50000 3"),
    ("delegations", "delegations_due", "50000 1"),
    ("delegations", "delegations_ended", "950000 95000 1"),
    ("signing_keys", "sqlite_autoindex_signing_keys_1", "100 3 1"),
    (
        "admin_audit_events",
        "sqlite_autoindex_admin_audit_events_1",
        "1000000 100000 1",
    ),
    (
        "admin_audit_events",
        "admin_audit_events_id",
        "1000000 100000 1",
    ),
    (
        "admin_audit_events",
        "admin_audit_events_page",
        "1000000 100000 1 1",
    ),
    (
        "admin_audit_events",
        "admin_audit_events_entity",
        "1000000 100000 10000 1 1",
    ),
    (
        "admin_audit_events",
        "admin_audit_events_object",
        "1000000 100000 20 1 1",
    ),
    (
        "admin_audit_events",
        "admin_audit_events_actor",
        "1000000 100000 5000 1 1",
    ),
    (
        "idempotency_receipts",
        "sqlite_autoindex_idempotency_receipts_1",
        "1000000 100000 50000 1000 1",
    ),
    (
        "idempotency_receipts",
        "idempotency_receipts_due",
        "1000000 1",
    ),
    (
        "idempotency_receipts",
        "idempotency_receipts_ended",
        "1000000 100000 1",
    ),
    (
        "idempotency_receipts",
        "idempotency_receipts_scope",
        "1000000 100000 50000 1000 1",
    ),
    ("outbox", "sqlite_autoindex_outbox_1", "1000000 1"),
    ("outbox", "outbox_dedupe", "1000000 100000 30000 1"),
    ("outbox", "outbox_pending", "1000 1 1"),
    ("outbox", "outbox_dead", "10 1"),
    ("outbox", "outbox_published", "1000000 1"),
    ("audit_heads", "audit_heads", "1000 1"),
    ("audit_heads", "audit_heads_unsigned", "10 1"),
    (
        "audit_events",
        "sqlite_autoindex_audit_events_1",
        "10000000 1000000 1",
    ),
    ("audit_events", "audit_events_id", "10000000 1000000 1"),
    ("audit_events", "audit_events_page", "10000000 1000000 1 1"),
    (
        "audit_events",
        "audit_events_request",
        "10000000 1000000 3 1 1",
    ),
    (
        "audit_events",
        "audit_events_application",
        "10000000 1000000 10000 1 1",
    ),
    (
        "audit_events",
        "audit_events_session",
        "10000000 1000000 50 1 1",
    ),
    (
        "audit_events",
        "audit_events_record",
        "10000000 1000000 50 1 1",
    ),
    (
        "audit_events",
        "audit_events_refused",
        "500000 50000 25000 1 1",
    ),
    ("audit_events", "audit_events_rare", "100000 10000 2000 1 1"),
    (
        "audit_event_labels",
        "audit_event_labels",
        "10000000 1000000 5000 1 1",
    ),
    (
        "audit_checkpoints",
        "sqlite_autoindex_audit_checkpoints_1",
        "100000 10000 1",
    ),
    (
        "audit_alerts",
        "sqlite_autoindex_audit_alerts_1",
        "10000 1000 1",
    ),
    ("audit_alerts", "audit_alerts_page", "10000 1000 1 1"),
];

/// Puts the figures in; connections opened from now on use them, and so does this one.
pub(crate) async fn prescribe(db: &DatabaseConnection) -> Result<(), StoreError> {
    const TABLE: &str = "sqlite_stat1";
    let failed = |error| explain(TABLE, &error);
    // Measuring one tiny table makes the table of figures.
    db.execute_unprepared("ANALYZE schema_migrations; DELETE FROM sqlite_stat1")
        .await
        .map_err(failed)?;
    for (table, index, figures) in FIGURES {
        let row = Statement::from_sql_and_values(
            db.get_database_backend(),
            "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ($1, $2, $3)",
            params![table, index, figures],
        );
        db.execute_raw(row).await.map_err(failed)?;
    }
    db.execute_unprepared("ANALYZE sqlite_schema")
        .await
        .map_err(failed)?;
    Ok(())
}
