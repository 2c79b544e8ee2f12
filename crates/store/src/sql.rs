//! Statements and rows: how values go into SQL and come back out, checked.

use std::sync::Arc;

use caracal_core::id::{
    AdminTokenId, ApplicationId, AuthorityRecordId, DelegationId, EventId, KeyId, OutboxId,
    PolicyId, PolicySetId, PolicySetVersionId, PolicyVersionId, ProviderId, ResourceId, SessionId,
    ZoneId,
};
use caracal_core::{ResourceIdentifier, Timestamp};
use sea_orm::{QueryResult, TryGetable, Value};
use serde::de::DeserializeOwned;

use crate::error::StoreError;
use crate::page::Page;

/// A value that a statement takes.
pub(crate) trait Bind {
    fn bind(&self) -> Value;
    /// The absent value of the same type.
    fn null() -> Value;
}

impl<T: Bind + ?Sized> Bind for &T {
    fn bind(&self) -> Value {
        T::bind(self)
    }
    fn null() -> Value {
        T::null()
    }
}

impl<T: Bind> Bind for Option<T> {
    fn bind(&self) -> Value {
        self.as_ref().map_or_else(T::null, Bind::bind)
    }
    fn null() -> Value {
        T::null()
    }
}

impl Bind for str {
    fn bind(&self) -> Value {
        Value::String(Some(self.to_owned()))
    }
    fn null() -> Value {
        Value::String(None)
    }
}

impl Bind for String {
    fn bind(&self) -> Value {
        self.as_str().bind()
    }
    fn null() -> Value {
        Value::String(None)
    }
}

impl Bind for Arc<str> {
    fn bind(&self) -> Value {
        (**self).bind()
    }
    fn null() -> Value {
        Value::String(None)
    }
}

impl Bind for i64 {
    fn bind(&self) -> Value {
        Value::BigInt(Some(*self))
    }
    fn null() -> Value {
        Value::BigInt(None)
    }
}

impl Bind for bool {
    fn bind(&self) -> Value {
        Value::Bool(Some(*self))
    }
    fn null() -> Value {
        Value::Bool(None)
    }
}

impl Bind for [u8] {
    fn bind(&self) -> Value {
        Value::Bytes(Some(self.to_vec()))
    }
    fn null() -> Value {
        Value::Bytes(None)
    }
}

impl Bind for Vec<u8> {
    fn bind(&self) -> Value {
        self.as_slice().bind()
    }
    fn null() -> Value {
        Value::Bytes(None)
    }
}

impl Bind for Timestamp {
    fn bind(&self) -> Value {
        self.micros().bind()
    }
    fn null() -> Value {
        Value::BigInt(None)
    }
}

impl Bind for ResourceIdentifier {
    fn bind(&self) -> Value {
        self.as_str().bind()
    }
    fn null() -> Value {
        Value::String(None)
    }
}

/// A value that a column holds.
pub(crate) trait Column: Sized {
    type Raw: TryGetable;
    fn parse(raw: Self::Raw) -> Result<Self, String>;
}

macro_rules! plain_columns {
    ($($type:ty),+) => {$(
        impl Column for $type {
            type Raw = Self;
            fn parse(raw: Self) -> Result<Self, String> {
                Ok(raw)
            }
        }
    )+};
}
plain_columns!(String, i64, bool, Vec<u8>);

impl Column for Arc<str> {
    type Raw = String;
    fn parse(raw: String) -> Result<Self, String> {
        Ok(raw.into())
    }
}

impl Column for Timestamp {
    type Raw = i64;
    fn parse(raw: i64) -> Result<Self, String> {
        Ok(Self::from_micros(raw))
    }
}

impl Column for ResourceIdentifier {
    type Raw = String;
    fn parse(raw: String) -> Result<Self, String> {
        Ok(Self::new(&raw))
    }
}

macro_rules! id_columns {
    ($($id:ty),+ $(,)?) => {$(
        impl Bind for $id {
            fn bind(&self) -> Value {
                self.as_str().bind()
            }
            fn null() -> Value {
                Value::String(None)
            }
        }

        impl Column for $id {
            type Raw = String;
            fn parse(raw: String) -> Result<Self, String> {
                Self::parse(&raw).map_err(|_| format!("{raw:?} is not an id"))
            }
        }
    )+};
}
id_columns!(
    ZoneId,
    ApplicationId,
    ResourceId,
    ProviderId,
    PolicyId,
    PolicyVersionId,
    PolicySetId,
    PolicySetVersionId,
    SessionId,
    DelegationId,
    AuthorityRecordId,
    KeyId,
    AdminTokenId,
    EventId,
    OutboxId,
);

/// The values of a statement, in order.
macro_rules! params {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::Bind::bind(&$value)),*] };
}
pub(crate) use params;

/// A row of `table`, read by column name.
pub(crate) struct Row<'a> {
    result: &'a QueryResult,
    table: &'static str,
}

impl<'a> Row<'a> {
    pub(crate) fn new(result: &'a QueryResult, table: &'static str) -> Self {
        Self { result, table }
    }

    /// The value of a column that is never null.
    pub(crate) fn get<T: Column>(&self, name: &str) -> Result<T, StoreError> {
        let raw = self
            .result
            .try_get_by::<T::Raw, _>(name)
            .map_err(|e| self.bad(name, e))?;
        T::parse(raw).map_err(|e| self.bad(name, e))
    }

    /// The value of a column that may be null.
    pub(crate) fn opt<T: Column>(&self, name: &str) -> Result<Option<T>, StoreError>
    where
        Option<T::Raw>: TryGetable,
    {
        let raw = self
            .result
            .try_get_by::<Option<T::Raw>, _>(name)
            .map_err(|e| self.bad(name, e))?;
        raw.map(T::parse).transpose().map_err(|e| self.bad(name, e))
    }

    /// The value of a JSON column.
    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, StoreError> {
        let text: String = self.get(name)?;
        serde_json::from_str(&text).map_err(|e| self.bad(name, e))
    }

    pub(crate) fn bad(&self, name: &str, error: impl std::fmt::Display) -> StoreError {
        StoreError::corrupt(self.table, format!("{name}: {error}"))
    }
}

/// A table whose rows are read as `Self`.
pub(crate) trait Entity: Sized {
    const TABLE: &'static str;
    const COLUMNS: &'static str;
    fn read(row: &Row<'_>) -> Result<Self, StoreError>;
}

/// JSON text of a value that the program built.
pub(crate) fn json_text<T: serde::Serialize + ?Sized>(
    table: &'static str,
    value: &T,
) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::corrupt(table, e.to_string()))
}

/// `$from, $from+1, …`: placeholders for `count` values.
pub(crate) fn placeholders(from: usize, count: usize) -> String {
    let mut out = String::with_capacity(count * 5);
    for index in from..from + count {
        if index > from {
            out.push_str(", ");
        }
        out.push('$');
        out.push_str(&index.to_string());
    }
    out
}

/// The most values of one `IN` list.
pub(crate) const IN_LIST: usize = 400;

/// A `WHERE` clause that grows by conditions.
pub(crate) struct Where {
    sql: String,
    bound: usize,
    params: Vec<Value>,
}

impl Where {
    /// Rows of the handle's zone, which the handle binds to `$1`.
    pub(crate) fn zone() -> Self {
        Self {
            sql: "zone_id = $1".to_owned(),
            bound: 1,
            params: Vec::new(),
        }
    }

    /// Rows of the handle's zone, by the zone column of a joined table.
    pub(crate) fn zone_of(table: &str) -> Self {
        Self {
            sql: format!("{table}.zone_id = $1"),
            bound: 1,
            params: Vec::new(),
        }
    }

    /// Rows of every zone: platform handles only.
    pub(crate) fn any() -> Self {
        Self {
            sql: "1 = 1".to_owned(),
            bound: 0,
            params: Vec::new(),
        }
    }

    /// Adds a condition; each `?` in it takes the next of `values`.
    pub(crate) fn and(mut self, condition: &str, values: Vec<Value>) -> Self {
        self.sql.push_str(" AND ");
        let mut next = self.bound + self.params.len() + 1;
        for part in condition.split_inclusive('?') {
            match part.strip_suffix('?') {
                Some(text) => {
                    self.sql.push_str(text);
                    self.sql.push_str(&format!("${next}"));
                    next += 1;
                }
                None => self.sql.push_str(part),
            }
        }
        self.params.extend(values);
        self
    }

    /// Adds `column = value` when there is a value.
    pub(crate) fn and_some<T: Bind>(self, column: &str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.and(&format!("{column} = ?"), vec![value.bind()]),
            None => self,
        }
    }

    /// Adds `column IN (values)`.
    pub(crate) fn and_in<T: Bind>(self, column: &str, values: &[T]) -> Self {
        let marks = vec!["?"; values.len()].join(", ");
        self.and(
            &format!("{column} IN ({marks})"),
            values.iter().map(Bind::bind).collect(),
        )
    }

    /// The tail of a `SELECT` for one page of rows ordered by (`at`, `id`) descending, with one row
    /// more than the page wants.
    pub(crate) fn page(self, at: &str, id: &str, page: &Page) -> (String, Vec<Value>) {
        let scoped = match &page.after {
            Some(cursor) => self.and(
                &format!("({at}, {id}) < (?, ?)"),
                params![cursor.at, cursor.id],
            ),
            None => self,
        };
        let limit = page.rows() + 1;
        (
            format!(
                "WHERE {} ORDER BY {at} DESC, {id} DESC LIMIT {limit}",
                scoped.sql
            ),
            scoped.params,
        )
    }

    /// The tail of a `SELECT` without an order.
    pub(crate) fn tail(self, rest: &str) -> (String, Vec<Value>) {
        (format!("WHERE {} {rest}", self.sql), self.params)
    }
}
