//! How searches find events among many, on a server: newest month first, by an index that has the
//! order, so that a page reads about as many rows as it shows.

use std::sync::{Arc, Mutex};

use caracal_core::id::ZoneId;
use caracal_core::{Clock, SystemClock};
use caracal_store::{
    AuditSearch, AuditWalk, Page, PostgresOptions, ServiceRole, Store, ZoneReader,
};
use caracal_testbed::Postgres;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::world::{Backend, Place, World, on};

const LOAD: &str = include_str!("evidence_load.sql");
const EVENTS: i64 = 100_000;
const MONTHS: i64 = 6;

/// The last statement that the store ran on a zone.
#[derive(Clone, Default)]
struct Statement(Arc<Mutex<String>>);

impl<S: tracing::Subscriber> Layer<S> for Statement {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "caracal_store::sql" {
            event.record(&mut &*self);
        }
    }
}

impl tracing::field::Visit for &Statement {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if field.name() == "sql" {
            *self.0.lock().unwrap() = value.to_owned();
        }
    }

    fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn std::fmt::Debug) {}
}

/// What the server did for a statement whose parameters it did not look at, as for one that is
/// prepared.
fn plan(database: &str, zone: &ZoneId, sql: &str, values: &[&str]) -> String {
    let values: Vec<String> = std::iter::once(zone.as_str())
        .chain(values.iter().copied())
        .map(|value| format!("'{value}'"))
        .collect();
    let asked = format!(
        "SET ROLE caracalapi; SET search_path = caracal; SET caracal.zone = '{zone}';
         SET plan_cache_mode = force_generic_plan; SET enable_sort = off; SET enable_seqscan = off;
         SET enable_bitmapscan = off; SET jit = off; SET max_parallel_workers_per_gather = 0;
         PREPARE asked AS {sql}; EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE asked({})",
        values.join(", ")
    );
    Postgres::shared().unwrap().psql(database, &asked).unwrap()
}

/// The rows that scans of events, labels and places gave and took, all together.
fn rows_read(plan: &str) -> u64 {
    let mut scans = false;
    let mut read = 0;
    for line in plan.lines() {
        if line.contains("->") || !line.starts_with(' ') {
            scans = line.contains("Scan") && line.contains("audit_");
        }
        let number = |from: &str| {
            let behind = line.split(from).nth(1)?;
            behind.split([' ', ')']).next()?.parse::<f64>().ok()
        };
        let rows = number("actual rows=").or(number("Rows Removed by Filter: "));
        if scans && let Some(rows) = rows {
            let loops = number("loops=").unwrap_or(1.0);
            read += (rows * loops) as u64;
        }
    }
    read
}

#[test]
fn a_page_of_any_search_reads_about_as_many_rows_as_it_shows() {
    on(Backend::Postgres, |world: Box<World>| async move {
        let Place::Server(server) = &world.place else {
            return;
        };
        let load = LOAD
            .replace("{events}", &EVENTS.to_string())
            .replace("{months}", &MONTHS.to_string());
        Postgres::shared()
            .unwrap()
            .psql(&server.name, &load)
            .unwrap();
        let options = PostgresOptions::new(server.owner_url.clone());
        let options = options.acting_as(ServiceRole::Api);
        let store = Store::open_postgres(options, world.clock.clone(), world.random.clone());
        let store = store.await.unwrap();
        let zone = ZoneId::parse("00000000-0000-7000-8000-000000000000").unwrap();
        let reader = store.read(&zone);
        let statement = Statement::default();
        let subscriber = tracing_subscriber::registry().with(statement.clone());
        let _guard = tracing::subscriber::set_default(subscriber);

        searches_are_in_order(&reader, &server.name, &zone, &statement).await;
        walks_are_in_order(&reader, &server.name, &zone, &statement).await;
    });
}

async fn searches_are_in_order(
    reader: &ZoneReader,
    database: &str,
    zone: &ZoneId,
    statement: &Statement,
) {
    let text = |text: &str| Some(text.to_owned());
    let none = AuditSearch::default;
    let cases = [
        (none(), vec![], 50),
        (
            AuditSearch {
                request_id: text("x"),
                ..none()
            },
            vec!["x"],
            0,
        ),
        (
            AuditSearch {
                decision: text("deny"),
                ..none()
            },
            vec!["deny"],
            50,
        ),
        (
            AuditSearch {
                application_id: text("application-7"),
                ..none()
            },
            vec!["application-7"],
            50,
        ),
        (
            AuditSearch {
                decision: text("deny"),
                application_id: text("application-7"),
                ..none()
            },
            vec!["deny", "application-7"],
            34,
        ),
        (
            AuditSearch {
                agent_session_id: text("x"),
                ..none()
            },
            vec!["x"],
            0,
        ),
        (
            AuditSearch {
                authority_record_id: text("x"),
                ..none()
            },
            vec!["x"],
            0,
        ),
        (
            AuditSearch {
                event_types: vec!["replay_detected".into()],
                ..none()
            },
            vec!["replay_detected"],
            50,
        ),
        (
            AuditSearch {
                label: text("label-3"),
                ..none()
            },
            vec!["label-3"],
            50,
        ),
    ];
    for (search, values, expected) in cases {
        let found = reader
            .search_audit_events(&search, &Page::first(50))
            .await
            .unwrap();
        assert_eq!(found.items.len(), expected, "{search:?}");
        let sql = statement.0.lock().unwrap().clone();
        let plan = plan(database, zone, &sql, &values);
        assert!(!plan.contains("Sort"), "{search:?} sorts:\n{plan}");
        assert!(!plan.contains("Seq Scan"), "{search:?} scans:\n{plan}");
        let read = rows_read(&plan);
        // Each has its label, its own place twice, and the place before it.
        assert!(read <= 260, "{search:?} reads {read} rows:\n{plan}");
        let is_full = expected == 50;
        if is_full {
            assert!(
                plan.contains("never executed"),
                "{search:?} reads every month:\n{plan}"
            );
        }
    }
}

async fn walks_are_in_order(
    reader: &ZoneReader,
    database: &str,
    zone: &ZoneId,
    statement: &Statement,
) {
    // By the server's clock: the load ends now.
    let now = SystemClock.now();
    let period = AuditWalk {
        since: Some(now.plus_seconds(-150 * 86_400)),
        until: Some(now),
        limit: 50,
        ..AuditWalk::default()
    };
    let found = reader.walk_audit_events(&period).await.unwrap();
    assert_eq!(found.len(), 50);
    assert!(found.is_sorted_by_key(|record| record.seq));
    assert!(
        found
            .iter()
            .all(|record| Some(record.occurred_at) >= period.since)
    );
    let sql = statement.0.lock().unwrap().clone();
    let (first, last) = (found[0].seq.to_string(), EVENTS.to_string());
    let (since, until) = (
        period.since.unwrap().micros().to_string(),
        now.micros().to_string(),
    );
    let values = [
        first.as_str(),
        last.as_str(),
        "0",
        since.as_str(),
        until.as_str(),
    ];
    let plan = plan(database, zone, &sql, &values);
    let read = rows_read(&plan);
    assert!(!plan.contains("Sort  "), "the walk sorts:\n{plan}");
    assert!(read <= 300, "the walk reads {read} rows:\n{plan}");
    let all = AuditWalk {
        after: 1_000,
        limit: 50,
        ..AuditWalk::default()
    };
    let found = reader.walk_audit_events(&all).await.unwrap();
    let sql = statement.0.lock().unwrap().clone();
    let plan = self::plan(database, zone, &sql, &["1000"]);
    let read = rows_read(&plan);
    assert!(
        read <= 200,
        "the whole chain's page reads {read} rows:\n{plan}"
    );
    let places: Vec<u64> = found.iter().map(|record| record.seq).collect();
    assert_eq!(places, (1_001..=1_050).collect::<Vec<u64>>());
    assert!(
        found
            .iter()
            .all(|record| record.data.is_some() && record.chain_hash_before.is_some())
    );
}
