//! Parameters of statements that run without the object-relational layer.

use sea_orm::sqlx::postgres::PgArguments;
use sea_orm::sqlx::query::Query;
use sea_orm::sqlx::{Arguments, AssertSqlSafe, Error, Postgres};
use sea_orm::{Statement, Value};

/// The statement with its parameters. Only the types that [`crate::sql::Bind`] makes can occur.
pub(super) fn query(statement: &Statement) -> Result<Query<'static, Postgres, PgArguments>, Error> {
    let mut arguments = PgArguments::default();
    for value in statement.values.iter().flat_map(|values| &values.0) {
        let added = match value {
            Value::String(text) => arguments.add(text),
            Value::BigInt(number) => arguments.add(number),
            Value::Bool(flag) => arguments.add(flag),
            Value::Bytes(bytes) => arguments.add(bytes),
            other => Err(format!("cannot bind {other:?}").into()),
        };
        added.map_err(Error::Encode)?;
    }
    Ok(sqlx::query_with(
        AssertSqlSafe(statement.sql.clone()),
        arguments,
    ))
}
