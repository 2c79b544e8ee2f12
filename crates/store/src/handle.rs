//! Handles: what a caller may touch, as a type.
//!
//! An [`InZone`] is bound to one zone and puts it into every statement as `$1`; no method of it takes
//! a zone id. [`Reading`] handles read committed snapshots; [`Writing`] handles are one transaction
//! that reads its own writes. A method written for both is one `impl` block, so the SQL of a read
//! exists once.

use std::collections::BTreeSet;
use std::sync::Arc;

use caracal_core::Timestamp;
use caracal_core::id::ZoneId;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, QueryResult, Statement, Value,
};
use tokio::sync::OwnedSemaphorePermit;

use crate::change::{Change, ChangeKind};
use crate::dialect::sqlite::explain;
use crate::error::StoreError;
use crate::page::{Cursor, Page, Slice};
use crate::sql::{Bind, Entity, Row, Where, params, placeholders};
use crate::store::Inner;

/// What a handle may do.
pub trait Access: Sealed + Send + Sync {}

mod sealed {
    use sea_orm::{ConnectionTrait, DatabaseConnection};

    pub trait Sealed {
        type Db: ConnectionTrait;
        fn db<'a>(&'a self, readers: &'a DatabaseConnection) -> &'a Self::Db;
    }
}
use sealed::Sealed;

/// Reads committed state.
#[derive(Debug)]
pub struct Reading(());

impl Access for Reading {}
impl Sealed for Reading {
    type Db = DatabaseConnection;
    fn db<'a>(&'a self, readers: &'a DatabaseConnection) -> &'a DatabaseConnection {
        readers
    }
}

/// Reads and writes in one transaction.
#[derive(Debug)]
pub struct Writing {
    tx: DatabaseTransaction,
    changes: BTreeSet<Change>,
    enqueued: bool,
    /// Dropped last: the next writer begins when this one is published.
    _turn: OwnedSemaphorePermit,
}

impl Access for Writing {}
impl Sealed for Writing {
    type Db = DatabaseTransaction;
    fn db<'a>(&'a self, _: &'a DatabaseConnection) -> &'a DatabaseTransaction {
        &self.tx
    }
}

/// A handle bound to one zone.
#[derive(Debug)]
pub struct InZone<A> {
    access: A,
    pub(crate) inner: Arc<Inner>,
    zone: ZoneId,
}

/// Reads one zone.
pub type ZoneReader = InZone<Reading>;
/// One write transaction on one zone.
pub type ZoneUnit = InZone<Writing>;

/// A handle on what belongs to no zone.
#[derive(Debug)]
pub struct OnPlatform<A> {
    access: A,
    pub(crate) inner: Arc<Inner>,
}

/// Reads what belongs to no zone.
pub type PlatformReader = OnPlatform<Reading>;
/// One write transaction on what belongs to no zone.
pub type PlatformUnit = OnPlatform<Writing>;

impl ZoneReader {
    pub(crate) fn reading(inner: Arc<Inner>, zone: ZoneId) -> Self {
        Self {
            access: Reading(()),
            inner,
            zone,
        }
    }
}

impl PlatformReader {
    pub(crate) fn reading(inner: Arc<Inner>) -> Self {
        Self {
            access: Reading(()),
            inner,
        }
    }
}

impl<A: Access> InZone<A> {
    /// The zone that the handle is bound to.
    #[must_use]
    pub fn zone_id(&self) -> &ZoneId {
        &self.zone
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.now()
    }

    /// The rows of `SELECT … FROM T <tail>`; `$1` in `tail` is the zone.
    pub(crate) async fn fetch<T: Entity>(
        &self,
        tail: &str,
        values: Vec<Value>,
    ) -> Result<Vec<T>, StoreError> {
        let sql = format!("SELECT {} FROM {} {tail}", T::COLUMNS, T::TABLE);
        let rows = self.query(T::TABLE, sql, values).await?;
        rows.iter()
            .map(|row| T::read(&Row::new(row, T::TABLE)))
            .collect()
    }

    /// The first row of `SELECT … FROM T <tail>`.
    pub(crate) async fn fetch_one<T: Entity>(
        &self,
        tail: &str,
        values: Vec<Value>,
    ) -> Result<Option<T>, StoreError> {
        let sql = format!("SELECT {} FROM {} {tail}", T::COLUMNS, T::TABLE);
        let statement = self.statement(sql, values);
        let row = self
            .access
            .db(self.inner.readers())
            .query_one_raw(statement)
            .await
            .map_err(|e| explain(T::TABLE, &e))?;
        row.map(|row| T::read(&Row::new(&row, T::TABLE)))
            .transpose()
    }

    /// One page of `T`, newest first.
    pub(crate) async fn fetch_page<T: Entity>(
        &self,
        filter: Where,
        (at, id): (&str, &str),
        page: &Page,
        position: impl Fn(&T) -> Cursor,
    ) -> Result<Slice<T>, StoreError> {
        let (tail, values) = filter.page(at, id, page);
        Ok(Slice::cut(self.fetch(&tail, values).await?, page, position))
    }

    /// One page of `T`, newest first, driven by a table that names some of its rows: `from` is that
    /// table, joined to `T`'s by `filter`. Naming the order of the join keeps the database from
    /// walking all of `T` instead.
    pub(crate) async fn fetch_page_through<T: Entity>(
        &self,
        from: &str,
        filter: Where,
        (at, id): (&str, &str),
        page: &Page,
        position: impl Fn(&T) -> Cursor,
    ) -> Result<Slice<T>, StoreError> {
        let (tail, values) = filter.page(at, id, page);
        let sql = format!(
            "SELECT {} FROM {from} CROSS JOIN {} {tail}",
            T::COLUMNS,
            T::TABLE
        );
        let rows = self.query(T::TABLE, sql, values).await?;
        let rows: Result<Vec<T>, StoreError> = rows
            .iter()
            .map(|row| T::read(&Row::new(row, T::TABLE)))
            .collect();
        Ok(Slice::cut(rows?, page, position))
    }

    /// The rows of any `SELECT`; `$1` is the zone.
    pub(crate) async fn query(
        &self,
        table: &'static str,
        sql: impl Into<String>,
        values: Vec<Value>,
    ) -> Result<Vec<QueryResult>, StoreError> {
        let statement = self.statement(sql.into(), values);
        self.access
            .db(self.inner.readers())
            .query_all_raw(statement)
            .await
            .map_err(|e| explain(table, &e))
    }

    /// The integer `n` of the first row of a `SELECT`, 0 when there is none.
    pub(crate) async fn number(
        &self,
        table: &'static str,
        sql: impl Into<String>,
        values: Vec<Value>,
    ) -> Result<i64, StoreError> {
        let rows = self.query(table, sql, values).await?;
        match rows.first() {
            Some(row) => Ok(Row::new(row, table).opt("n")?.unwrap_or(0)),
            None => Ok(0),
        }
    }

    fn statement(&self, sql: String, values: Vec<Value>) -> Statement {
        debug_assert!(sql.contains("$1"), "a statement without the zone: {sql}");
        let mut all = Vec::with_capacity(values.len() + 1);
        all.push(self.zone.bind());
        all.extend(values);
        let backend = self.access.db(self.inner.readers()).get_database_backend();
        tracing::trace!(target: "caracal_store::sql", sql);
        Statement::from_sql_and_values(backend, sql, all)
    }
}

impl ZoneUnit {
    pub(crate) fn writing(
        inner: Arc<Inner>,
        zone: ZoneId,
        turn: OwnedSemaphorePermit,
        tx: DatabaseTransaction,
    ) -> Self {
        Self {
            access: Writing::new(turn, tx),
            inner,
            zone,
        }
    }

    /// Makes the unit's writes permanent, all or none. When it returns, every cache that asks its
    /// barrier from now on knows what changed.
    ///
    /// It finishes even when the caller stops waiting for it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the commit failed or its outcome is unknown.
    pub async fn commit(self) -> Result<(), StoreError> {
        finish(self.finish()).await
    }

    async fn finish(self) -> Result<(), StoreError> {
        let Self {
            access,
            inner,
            zone,
        } = self;
        let Writing {
            tx,
            changes,
            enqueued,
            _turn: turn,
        } = access;
        write_changes(&tx, &zone, &changes, inner.now()).await?;
        match tx.commit().await {
            Ok(()) => {
                if !changes.is_empty() {
                    inner.feed.publish(&zone, changes);
                }
                if enqueued {
                    inner.outbox.notify_one();
                }
                drop(turn);
                Ok(())
            }
            Err(error) => {
                inner.feed.publish_doubt(&zone);
                Err(StoreError::Unavailable(error.to_string()))
            }
        }
    }

    /// Records that `id` changed in a way that caches must learn of.
    pub(crate) fn changed(&mut self, kind: ChangeKind, id: impl AsRef<str>) {
        self.access.changes.insert(Change {
            kind,
            id: id.as_ref().into(),
        });
    }

    pub(crate) fn enqueued(&mut self) {
        self.access.enqueued = true;
    }

    /// Refuses a row of another zone: only a programming error can offer one.
    pub(crate) fn own(&self, table: &'static str, zone: &ZoneId) -> Result<(), StoreError> {
        if *zone == self.zone {
            Ok(())
        } else {
            Err(StoreError::corrupt(
                table,
                "a row of another zone was offered",
            ))
        }
    }

    /// Runs a statement; `$1` is the zone. Returns how many rows it touched.
    pub(crate) async fn execute(
        &mut self,
        table: &'static str,
        sql: impl Into<String>,
        values: Vec<Value>,
    ) -> Result<u64, StoreError> {
        let statement = self.statement(sql.into(), values);
        let result = self.access.tx.execute_raw(statement).await;
        Ok(result.map_err(|e| explain(table, &e))?.rows_affected())
    }

    /// Inserts one row; the first of `columns` is `zone_id` and takes the handle's zone.
    pub(crate) async fn insert(
        &mut self,
        table: &'static str,
        columns: &str,
        values: Vec<Value>,
    ) -> Result<(), StoreError> {
        debug_assert!(columns.starts_with("zone_id"), "{table} has a zone");
        let marks = placeholders(1, values.len() + 1);
        let sql = format!("INSERT INTO {table} ({columns}) VALUES ({marks})");
        self.execute(table, sql, values).await.map(|_| ())
    }
}

impl<A: Access> OnPlatform<A> {
    pub(crate) fn now(&self) -> Timestamp {
        self.inner.now()
    }

    /// The rows of `SELECT … FROM T <tail>`.
    pub(crate) async fn fetch<T: Entity>(
        &self,
        tail: &str,
        values: Vec<Value>,
    ) -> Result<Vec<T>, StoreError> {
        let sql = format!("SELECT {} FROM {} {tail}", T::COLUMNS, T::TABLE);
        let rows = self.query(T::TABLE, sql, values).await?;
        rows.iter()
            .map(|row| T::read(&Row::new(row, T::TABLE)))
            .collect()
    }

    /// The first row of `SELECT … FROM T <tail>`.
    pub(crate) async fn fetch_one<T: Entity>(
        &self,
        tail: &str,
        values: Vec<Value>,
    ) -> Result<Option<T>, StoreError> {
        Ok(self
            .fetch(&format!("{tail} LIMIT 1"), values)
            .await?
            .into_iter()
            .next())
    }

    /// One page of `T`, newest first.
    pub(crate) async fn fetch_page<T: Entity>(
        &self,
        filter: Where,
        (at, id): (&str, &str),
        page: &Page,
        position: impl Fn(&T) -> Cursor,
    ) -> Result<Slice<T>, StoreError> {
        let (tail, values) = filter.page(at, id, page);
        Ok(Slice::cut(self.fetch(&tail, values).await?, page, position))
    }

    /// The rows of any `SELECT`.
    pub(crate) async fn query(
        &self,
        table: &'static str,
        sql: impl Into<String>,
        values: Vec<Value>,
    ) -> Result<Vec<QueryResult>, StoreError> {
        let db = self.access.db(self.inner.readers());
        let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
        db.query_all_raw(statement)
            .await
            .map_err(|e| explain(table, &e))
    }
}

impl PlatformUnit {
    pub(crate) fn writing(
        inner: Arc<Inner>,
        turn: OwnedSemaphorePermit,
        tx: DatabaseTransaction,
    ) -> Self {
        Self {
            access: Writing::new(turn, tx),
            inner,
        }
    }

    /// Makes the unit's writes permanent, all or none. It finishes even when the caller stops
    /// waiting for it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the commit failed or its outcome is unknown.
    pub async fn commit(self) -> Result<(), StoreError> {
        let Writing {
            tx, _turn: turn, ..
        } = self.access;
        finish(async move {
            let result = tx.commit().await;
            drop(turn);
            result.map_err(|e| StoreError::Unavailable(e.to_string()))
        })
        .await
    }

    /// Runs a statement. Returns how many rows it touched.
    pub(crate) async fn execute(
        &mut self,
        table: &'static str,
        sql: impl Into<String>,
        values: Vec<Value>,
    ) -> Result<u64, StoreError> {
        let backend = self.access.tx.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let result = self.access.tx.execute_raw(statement).await;
        Ok(result.map_err(|e| explain(table, &e))?.rows_affected())
    }

    /// Inserts one row.
    pub(crate) async fn insert(
        &mut self,
        table: &'static str,
        columns: &str,
        values: Vec<Value>,
    ) -> Result<(), StoreError> {
        let marks = placeholders(1, values.len());
        let sql = format!("INSERT INTO {table} ({columns}) VALUES ({marks})");
        self.execute(table, sql, values).await.map(|_| ())
    }
}

impl Writing {
    fn new(turn: OwnedSemaphorePermit, tx: DatabaseTransaction) -> Self {
        Self {
            tx,
            changes: BTreeSet::new(),
            enqueued: false,
            _turn: turn,
        }
    }
}

/// Runs a commit to its end, whatever happens to the caller: a request that goes away must not leave
/// a commit that nobody was told of.
async fn finish(
    commit: impl Future<Output = Result<(), StoreError>> + Send + 'static,
) -> Result<(), StoreError> {
    match tokio::spawn(commit).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Unavailable(error.to_string())),
    }
}

/// How many rows of a zone's change log are kept.
const KEPT_CHANGES: i64 = 8192;
/// How many changes go into one statement.
const CHANGES_PER_STATEMENT: usize = 200;

async fn write_changes(
    tx: &DatabaseTransaction,
    zone: &ZoneId,
    changes: &BTreeSet<Change>,
    now: Timestamp,
) -> Result<(), StoreError> {
    const TABLE: &str = "zone_changes";
    if changes.is_empty() {
        return Ok(());
    }
    let backend = tx.get_database_backend();
    let count = i64::try_from(changes.len()).unwrap_or(i64::MAX);
    let advance = Statement::from_sql_and_values(
        backend,
        "INSERT INTO zone_sequences (zone_id, seq) VALUES ($1, $2)
         ON CONFLICT (zone_id) DO UPDATE SET seq = zone_sequences.seq + excluded.seq
         RETURNING seq",
        params![zone, count],
    );
    let row = tx
        .query_one_raw(advance)
        .await
        .map_err(|e| explain(TABLE, &e))?;
    let row = row.ok_or_else(|| StoreError::corrupt(TABLE, "no sequence"))?;
    let last: i64 = Row::new(&row, TABLE).get("seq")?;
    let mut seq = last - count;
    let all: Vec<&Change> = changes.iter().collect();
    for chunk in all.chunks(CHANGES_PER_STATEMENT) {
        let mut values = params![zone, now];
        let mut rows = Vec::with_capacity(chunk.len());
        for change in chunk {
            seq += 1;
            let next = values.len() + 1;
            rows.push(format!("($1, ${next}, ${}, ${}, $2)", next + 1, next + 2));
            values.extend(params![seq, change.kind, change.id]);
        }
        let sql = format!(
            "INSERT INTO {TABLE} (zone_id, seq, kind, id, at) VALUES {}",
            rows.join(", ")
        );
        let insert = Statement::from_sql_and_values(backend, sql, values);
        tx.execute_raw(insert)
            .await
            .map_err(|e| explain(TABLE, &e))?;
    }
    if last / KEPT_CHANGES != (last - count) / KEPT_CHANGES {
        let prune = Statement::from_sql_and_values(
            backend,
            "DELETE FROM zone_changes WHERE zone_id = $1 AND seq <= $2",
            params![zone, last - KEPT_CHANGES],
        );
        tx.execute_raw(prune)
            .await
            .map_err(|e| explain(TABLE, &e))?;
    }
    Ok(())
}
