//! Parameters of statements that run without the object-relational layer.

use sea_orm::sqlx::postgres::PgArguments;
use sea_orm::sqlx::query::Query;
use sea_orm::sqlx::{Arguments, AssertSqlSafe, Postgres};
use sea_orm::{Statement, Value};

use crate::error::StoreError;

/// The statement with its parameters. Only the types that [`crate::sql::Bind`] makes can occur.
pub(crate) fn query(
    table: &'static str,
    statement: Statement,
) -> Result<Query<'static, Postgres, PgArguments>, StoreError> {
    let mut arguments = PgArguments::default();
    let values = statement.values.map(|values| values.0).unwrap_or_default();
    for value in values {
        let added = match value {
            Value::String(text) => arguments.add(text),
            Value::BigInt(number) => arguments.add(number),
            Value::Bool(flag) => arguments.add(flag),
            Value::Bytes(bytes) => arguments.add(bytes),
            other => return Err(StoreError::corrupt(table, format!("cannot bind {other:?}"))),
        };
        added.map_err(|e| StoreError::corrupt(table, e.to_string()))?;
    }
    Ok(sqlx::query_with(AssertSqlSafe(statement.sql), arguments))
}
