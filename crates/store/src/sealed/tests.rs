//! The list of sealed columns against the schema, and the compare-and-set.

use super::*;
use crate::entity::{Application, Attribution, RegistrationMethod, Zone};
use crate::store::Store;
use crate::testing::{self, START};
use caracal_core::id::ApplicationId;
use sqlx::Connection as _;

/// Columns of bytes that hold hashes and signatures, none of them secret.
const PLAIN_BYTES: &[(&str, &str)] = &[
    ("audit_chain", "chain_hash"),
    ("audit_chain", "leaf_hash"),
    ("audit_events", "chain_hash"),
    ("audit_events", "leaf_hash"),
    ("audit_events", "signature"),
    ("audit_heads", "chain_hash"),
    ("audit_heads", "frontier"),
];

/// Sealed under the audit key, which is not the key-encryption key.
const OF_ANOTHER_KEY: &[(&str, &str)] = &[("audit_keys", "sealed")];

/// Columns whose name speaks of a secret and that hold none.
const NAMES_OF_SECRETS: &[(&str, &str)] = &[("providers", "secret_config_keys")];

/// Table, column and type of every column of the schema.
async fn columns(store: &Store) -> Vec<(String, String, String)> {
    let sql = "SELECT t.name AS \"table\", c.name AS \"column\", c.type AS type
         FROM sqlite_master AS t JOIN pragma_table_info(t.name) AS c WHERE t.type = 'table'";
    let rows = store.platform().query("sqlite_master", sql, vec![]).await;
    let read = |row: &sea_orm::QueryResult| {
        let row = Row::new(row, "sqlite_master");
        let text = |name| row.get::<String>(name).unwrap();
        (text("table"), text("column"), text("type"))
    };
    rows.unwrap().iter().map(read).collect()
}

/// The same of the server's schema.
async fn server_columns() -> Vec<(String, String, String)> {
    let database = caracal_testbed::Postgres::shared()
        .unwrap()
        .database()
        .unwrap();
    let options = crate::PostgresOptions::new(database.owner_url);
    crate::migrate_postgres(&options, START).await.unwrap();
    let mut connection = sqlx::PgConnection::connect(options.url.expose())
        .await
        .unwrap();
    sqlx::query_as(
        "SELECT c.relname::TEXT, a.attname::TEXT,
            CASE a.atttypid WHEN 'bytea'::regtype THEN 'BLOB' ELSE '' END
         FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname = 'caracal' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND a.attnum > 0 AND NOT a.attisdropped",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap()
}

fn is_listed(list: &[(&str, &str)], table: &str, column: &str) -> bool {
    list.contains(&(table, column))
}

#[tokio::test]
async fn every_column_of_bytes_is_listed_as_sealed_or_known_as_plain() {
    let (_dir, store) = testing::store().await;
    judge_bytes(&columns(&store).await);
    judge_bytes(&server_columns().await);
}

fn judge_bytes(columns: &[(String, String, String)]) {
    let sealed: Vec<_> = SEALED_COLUMNS.iter().map(|c| (c.table, c.column)).collect();
    for (table, column, _) in columns.iter().filter(|(_, _, kind)| kind == "BLOB") {
        assert!(
            [&*sealed, PLAIN_BYTES, OF_ANOTHER_KEY]
                .iter()
                .any(|list| is_listed(list, table, column)),
            "{table}.{column} holds bytes: list it in SEALED_COLUMNS if they are sealed"
        );
    }
    for of in SEALED_COLUMNS {
        let exists = columns
            .iter()
            .any(|(t, c, _)| t == of.table && c == of.column);
        assert!(exists, "{of:?} is not in the schema");
    }
}

#[tokio::test]
async fn every_column_named_after_a_secret_is_sealed_or_a_hash_of_one() {
    let (_dir, store) = testing::store().await;
    for (table, column, _) in [columns(&store).await, server_columns().await].concat() {
        if !column.contains("secret") && !column.contains("sealed") {
            continue;
        }
        let of = SEALED_COLUMNS
            .iter()
            .find(|of| of.table == table && (of.column == column || of.hash == Some(&*column)));
        assert!(
            of.is_some()
                || is_listed(NAMES_OF_SECRETS, &table, &column)
                || is_listed(OF_ANOTHER_KEY, &table, &column),
            "{table}.{column}: a change of keys must know of it"
        );
    }
}

async fn with_application(sealed: &[u8]) -> (tempfile::TempDir, Store) {
    let (dir, store) = testing::store().await;
    let zone = testing::zone();
    let mut unit = store.begin(&zone).await.unwrap();
    unit.insert_zone(&Zone {
        id: zone.clone(),
        name: "Acme".to_owned(),
        slug: "acme".to_owned(),
        dcr_enabled: false,
        operator_coauthor_badge: true,
        operator_governed: false,
        owner_account_id: None,
        attribution: Attribution::default(),
        created_at: START,
        updated_at: START,
        archived_at: None,
    })
    .await
    .unwrap();
    unit.insert_application(&Application {
        id: ApplicationId::parse("app-1").unwrap(),
        zone_id: zone,
        name: "agent".to_owned(),
        registration_method: RegistrationMethod::Managed,
        traits: Vec::new(),
        secret_hash: Some("old hash".to_owned()),
        sealed_secret: Some(sealed.to_vec()),
        expires_at: None,
        attribution: Attribution::default(),
        created_at: START,
        updated_at: None,
        archived_at: None,
    })
    .await
    .unwrap();
    unit.commit().await.unwrap();
    (dir, store)
}

#[tokio::test]
async fn a_value_that_somebody_else_replaced_stays() {
    let (_dir, store) = with_application(b"first").await;
    let zone = testing::zone();
    let of = &SEALED_COLUMNS[0];
    let read = store.read(&zone).sealed_rows(of, "", 10).await.unwrap();
    let [row] = read.as_slice() else {
        panic!("one row")
    };

    let mut unit = store.begin(&zone).await.unwrap();
    assert!(
        unit.replace_sealed(of, row, b"second", Some("new"))
            .await
            .unwrap()
    );
    unit.commit().await.unwrap();
    let mut unit = store.begin(&zone).await.unwrap();
    assert!(
        !unit
            .replace_sealed(of, row, b"third", Some("late"))
            .await
            .unwrap()
    );
    unit.commit().await.unwrap();

    let now = store.read(&zone).sealed_rows(of, "", 10).await.unwrap();
    assert_eq!(now[0].sealed.as_deref(), Some(b"second".as_slice()));
    assert_eq!(now[0].hash.as_deref(), Some("new"));
}

#[tokio::test]
async fn a_replaced_value_is_told_to_caches() {
    let (_dir, store) = with_application(b"first").await;
    let zone = testing::zone();
    let before = store.changes().current(&zone).await.unwrap();
    let of = &SEALED_COLUMNS[0];
    let row = store.read(&zone).sealed_rows(of, "", 10).await.unwrap();
    let mut unit = store.begin(&zone).await.unwrap();
    unit.replace_sealed(of, &row[0], b"second", None)
        .await
        .unwrap();
    unit.commit().await.unwrap();
    assert_ne!(store.changes().current(&zone).await.unwrap(), before);
}
