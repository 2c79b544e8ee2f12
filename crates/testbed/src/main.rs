//! `caracal-testbed`: starts a PostgreSQL and a Redis server, says on standard output where they
//! are as one line of JSON, and stops them when standard input ends.
//!
//! The JSON: `database_url` and `superuser_url` of an empty database, `redis_url`, and the process
//! ids `postgres_pid` and `redis_pid`.

use std::io::{Read, Write};
use std::process::ExitCode;

use caracal_testbed::{Postgres, Redis, TestbedError};

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), TestbedError> {
    let durable = std::env::args().any(|argument| argument == "--durable");
    let postgres = Postgres::start(durable)?;
    let redis = Redis::start()?;
    let database = postgres.database()?;
    let said = serde_json::json!({
        "database_url": database.owner_url,
        "superuser_url": database.superuser_url,
        "redis_url": redis.url(),
        "postgres_pid": postgres.pid(),
        "redis_pid": redis.pid(),
    });
    let mut output = std::io::stdout();
    let wrote = writeln!(output, "{said}").and_then(|()| output.flush());
    wrote.map_err(|e| TestbedError::Io("standard output", e))?;
    let mut rest = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut rest);
    Ok(())
}
