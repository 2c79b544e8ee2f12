//! Handles: what a caller may touch, as a type.
//!
//! An [`InZone`] is bound to one zone and puts it into every statement as `$1`; no method of it takes
//! a zone id. [`Reading`] handles read committed snapshots; [`Writing`] handles are one transaction
//! that reads its own writes. A method written for both is one `impl` block, so the SQL of a read
//! exists once.

mod savepoint;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use caracal_core::Timestamp;
use caracal_core::id::ZoneId;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, QueryResult, Statement, Value};

use crate::change::{Change, ChangeKind};
use crate::dialect::Dialect;
use crate::dialect::postgres::{self, Scope};
use crate::dialect::sqlite;
use crate::error::StoreError;
use crate::evidence;
use crate::page::{Cursor, Page, Slice};
use crate::sql::{Bind, Entity, Row, Where, params, placeholders};
use crate::store::{Inner, Readers, WriterTurn};

/// What a handle may do.
pub trait Access: Sealed + Send + Sync {}

mod sealed {
    use sea_orm::{QueryResult, Statement};

    use super::{Inner, Scope, StoreError};

    #[allow(
        private_interfaces,
        reason = "only this crate can name or implement it"
    )]
    pub trait Sealed {
        /// The rows of a statement.
        fn rows(
            &self,
            inner: &Inner,
            scope: Scope<'_>,
            table: &'static str,
            statement: Statement,
        ) -> impl Future<Output = Result<Vec<QueryResult>, StoreError>> + Send;

        /// Its first row.
        fn row(
            &self,
            inner: &Inner,
            scope: Scope<'_>,
            table: &'static str,
            statement: Statement,
        ) -> impl Future<Output = Result<Option<QueryResult>, StoreError>> + Send;
    }
}
use sealed::Sealed;

/// Reads committed state.
#[derive(Debug)]
pub struct Reading(());

impl Access for Reading {}
#[allow(
    private_interfaces,
    reason = "only this crate can name or implement it"
)]
impl Sealed for Reading {
    async fn rows(
        &self,
        inner: &Inner,
        scope: Scope<'_>,
        table: &'static str,
        statement: Statement,
    ) -> Result<Vec<QueryResult>, StoreError> {
        match inner.readers() {
            Readers::Sqlite(readers) => {
                let found = readers.query_all_raw(statement).await;
                found.map_err(|e| sqlite::explain(table, &e))
            }
            Readers::Postgres(readers) => postgres::rows(readers, scope, table, statement).await,
        }
    }

    async fn row(
        &self,
        inner: &Inner,
        scope: Scope<'_>,
        table: &'static str,
        statement: Statement,
    ) -> Result<Option<QueryResult>, StoreError> {
        match inner.readers() {
            Readers::Sqlite(readers) => {
                let found = readers.query_one_raw(statement).await;
                found.map_err(|e| sqlite::explain(table, &e))
            }
            Readers::Postgres(readers) => postgres::row(readers, scope, table, statement).await,
        }
    }
}

/// Reads and writes in one transaction.
#[derive(Debug)]
pub struct Writing {
    tx: DatabaseTransaction,
    changes: BTreeSet<Change>,
    enqueued: bool,
    /// A server undoes a transaction whose statement failed, and answers its commit as if nothing
    /// were wrong: such a unit must not say that it committed.
    failed: AtomicBool,
    /// Dropped last: the next writer begins when this one is published.
    _turn: WriterTurn,
}

impl Access for Writing {}
#[allow(
    private_interfaces,
    reason = "only this crate can name or implement it"
)]
impl Sealed for Writing {
    async fn rows(
        &self,
        inner: &Inner,
        _: Scope<'_>,
        table: &'static str,
        statement: Statement,
    ) -> Result<Vec<QueryResult>, StoreError> {
        self.ask(inner, table, self.tx.query_all_raw(statement))
            .await
    }

    async fn row(
        &self,
        inner: &Inner,
        _: Scope<'_>,
        table: &'static str,
        statement: Statement,
    ) -> Result<Option<QueryResult>, StoreError> {
        self.ask(inner, table, self.tx.query_one_raw(statement))
            .await
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
        let scope = Scope::Zone(&self.zone);
        let row = self
            .access
            .row(&self.inner, scope, T::TABLE, statement)
            .await?;
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
        let scope = if table == evidence::TABLE {
            Scope::Evidence(&self.zone)
        } else {
            Scope::Zone(&self.zone)
        };
        self.access.rows(&self.inner, scope, table, statement).await
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
        let backend = self.inner.dialect().backend();
        tracing::trace!(target: "caracal_store::sql", sql);
        Statement::from_sql_and_values(backend, sql, all)
    }
}

impl ZoneUnit {
    pub(crate) fn writing(
        inner: Arc<Inner>,
        zone: ZoneId,
        turn: WriterTurn,
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
            failed,
            _turn: turn,
        } = access;
        refuse_failed(&failed)?;
        write_changes(&tx, &inner, &zone, &changes).await?;
        if enqueued && inner.dialect() == Dialect::Postgres {
            wake_publishers(&tx, &zone).await?;
        }
        let committed = inner.wait(tx.commit()).await;
        let committed =
            committed.and_then(|done| done.map_err(|e| StoreError::Unavailable(e.to_string())));
        match committed {
            Ok(()) => {
                if !changes.is_empty() {
                    inner.publish(&zone, changes);
                }
                if enqueued {
                    inner.outbox.notify_one();
                }
                drop(turn);
                Ok(())
            }
            Err(error) => {
                inner.publish_doubt(&zone);
                Err(error)
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
        self.access.execute(&self.inner, table, statement).await
    }

    /// Runs a statement that may break a uniqueness rule; when it does, the unit goes on as if it had
    /// not been run.
    pub(crate) async fn execute_or_conflict(
        &mut self,
        table: &'static str,
        sql: impl Into<String>,
        values: Vec<Value>,
    ) -> Result<u64, StoreError> {
        let statement = self.statement(sql.into(), values);
        self.access
            .execute_or_conflict(&self.inner, table, statement)
            .await
    }

    /// Inserts one row; the first of `columns` is `zone_id` and takes the handle's zone. When a
    /// uniqueness rule forbids it, the unit goes on as if it had not been tried.
    pub(crate) async fn insert(
        &mut self,
        table: &'static str,
        columns: &str,
        values: Vec<Value>,
    ) -> Result<(), StoreError> {
        debug_assert!(columns.starts_with("zone_id"), "{table} has a zone");
        let marks = placeholders(1, values.len() + 1);
        let sql = format!("INSERT INTO {table} ({columns}) VALUES ({marks})");
        let statement = self.statement(sql, values);
        self.access.insert(&self.inner, table, statement).await
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
        let statement = self.statement(sql.into(), values);
        self.access
            .rows(&self.inner, Scope::Platform, table, statement)
            .await
    }

    fn statement(&self, sql: String, values: Vec<Value>) -> Statement {
        tracing::trace!(target: "caracal_store::sql", sql);
        Statement::from_sql_and_values(self.inner.dialect().backend(), sql, values)
    }
}

impl PlatformUnit {
    pub(crate) fn writing(inner: Arc<Inner>, turn: WriterTurn, tx: DatabaseTransaction) -> Self {
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
            tx,
            failed,
            _turn: turn,
            ..
        } = self.access;
        let inner = self.inner;
        refuse_failed(&failed)?;
        finish(async move {
            let result = inner.wait(tx.commit()).await;
            drop(turn);
            result?.map_err(|e| StoreError::Unavailable(e.to_string()))
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
        let statement = self.statement(sql.into(), values);
        self.access.execute(&self.inner, table, statement).await
    }

    /// Inserts one row. When a uniqueness rule forbids it, the unit goes on as if it had not been
    /// tried.
    pub(crate) async fn insert(
        &mut self,
        table: &'static str,
        columns: &str,
        values: Vec<Value>,
    ) -> Result<(), StoreError> {
        let marks = placeholders(1, values.len());
        let sql = format!("INSERT INTO {table} ({columns}) VALUES ({marks})");
        let statement = self.statement(sql, values);
        self.access.insert(&self.inner, table, statement).await
    }
}

impl Writing {
    fn new(turn: WriterTurn, tx: DatabaseTransaction) -> Self {
        Self {
            tx,
            changes: BTreeSet::new(),
            enqueued: false,
            failed: AtomicBool::new(false),
            _turn: turn,
        }
    }

    /// Runs a statement. When it fails, a server has given the transaction up; a file has only undone
    /// the statement.
    async fn ask<T>(
        &self,
        inner: &Inner,
        table: &'static str,
        answer: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, StoreError> {
        refuse_failed(&self.failed)?;
        let answer = match inner.wait(answer).await {
            Ok(answer) => answer.map_err(|e| inner.explain(table, &e)),
            Err(late) => Err(late),
        };
        if answer.is_err() && inner.dialect() == Dialect::Postgres {
            self.failed.store(true, Ordering::Relaxed);
        }
        answer
    }

    async fn execute(
        &self,
        inner: &Inner,
        table: &'static str,
        statement: Statement,
    ) -> Result<u64, StoreError> {
        let result = self
            .ask(inner, table, self.tx.execute_raw(statement))
            .await?;
        Ok(result.rows_affected())
    }

    async fn insert(
        &self,
        inner: &Inner,
        table: &'static str,
        statement: Statement,
    ) -> Result<(), StoreError> {
        if inner.dialect() == Dialect::Sqlite {
            return self.execute(inner, table, statement).await.map(|_| ());
        }
        // Costs nothing when the row is new; else the same again says which rule forbids it.
        let mut careful = statement.clone();
        careful.sql.push_str(" ON CONFLICT DO NOTHING");
        if self.execute(inner, table, careful).await? == 0 {
            self.execute_or_conflict(inner, table, statement).await?;
        }
        Ok(())
    }

    async fn execute_or_conflict(
        &self,
        inner: &Inner,
        table: &'static str,
        statement: Statement,
    ) -> Result<u64, StoreError> {
        if inner.dialect() == Dialect::Sqlite {
            return self.execute(inner, table, statement).await;
        }
        self.savepoint(inner, "SAVEPOINT statement").await?;
        match self.execute(inner, table, statement).await {
            Ok(touched) => {
                self.savepoint(inner, "RELEASE SAVEPOINT statement").await?;
                Ok(touched)
            }
            Err(error) => {
                self.failed.store(false, Ordering::Relaxed);
                self.savepoint(inner, "ROLLBACK TO SAVEPOINT statement")
                    .await?;
                Err(error)
            }
        }
    }

    async fn savepoint(&self, inner: &Inner, command: &str) -> Result<(), StoreError> {
        self.ask(inner, "store", self.tx.execute_unprepared(command))
            .await
            .map(|_| ())
    }
}

fn refuse_failed(failed: &AtomicBool) -> Result<(), StoreError> {
    if failed.load(Ordering::Relaxed) {
        return Err(StoreError::Unavailable(
            "an earlier statement of the unit failed".to_owned(),
        ));
    }
    Ok(())
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
    inner: &Inner,
    zone: &ZoneId,
    changes: &BTreeSet<Change>,
) -> Result<(), StoreError> {
    const TABLE: &str = "zone_changes";
    if changes.is_empty() {
        return Ok(());
    }
    let now = inner.now();
    let dialect = inner.dialect();
    let backend = dialect.backend();
    let count = i64::try_from(changes.len()).unwrap_or(i64::MAX);
    let advance =
        Statement::from_sql_and_values(backend, dialect.advance_sequence(), params![zone, count]);
    let row = tx
        .query_one_raw(advance)
        .await
        .map_err(|e| inner.explain(TABLE, &e))?;
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
            .map_err(|e| inner.explain(TABLE, &e))?;
    }
    if last / KEPT_CHANGES != (last - count) / KEPT_CHANGES {
        let prune = Statement::from_sql_and_values(
            backend,
            "DELETE FROM zone_changes WHERE zone_id = $1 AND seq <= $2",
            params![zone, last - KEPT_CHANGES],
        );
        tx.execute_raw(prune)
            .await
            .map_err(|e| inner.explain(TABLE, &e))?;
    }
    Ok(())
}

/// Wakes the publishers of all processes when the transaction commits.
async fn wake_publishers(tx: &DatabaseTransaction, zone: &ZoneId) -> Result<(), StoreError> {
    let notify = Statement::from_sql_and_values(
        tx.get_database_backend(),
        "SELECT pg_notify('caracal_outbox', $1)",
        params![zone],
    );
    let notified = tx.query_one_raw(notify).await;
    notified
        .map(|_| ())
        .map_err(|e| postgres::explain("outbox", &e))
}
