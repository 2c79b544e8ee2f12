//! How search and ingest hold up with many events in PostgreSQL.
//!
//! ```sh
//! cargo run --release -p caracal-audit --example evidence_scale -- 10000000 200000 12
//! ```
//!
//! Starts a PostgreSQL and a Redis of its own, fills the database with the first number of events on
//! the server, over the third number of months, times every kind of search over them, then ships the
//! second number of events through a producer's log, the stream and one Audit role, and prints the
//! rates. Needs about 2.2 KB of disk an event, and 4 GB for PostgreSQL's log.

#![allow(clippy::print_stdout, reason = "a tool that prints what it measures")]

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use caracal_audit::{Audit, AuditOptions, AuditParts, RedisQueue, Source, StoreLedger};
use caracal_core::id::{EventId, ZoneId};
use caracal_core::{Clock, Random, RequestId, SystemClock, SystemRandom, Timestamp};
use caracal_crypto::HmacKey;
use caracal_events::redis::{Redis, RedisAddress, RedisOptions, StreamWriter, Trim};
use caracal_evidence::log::{Journal, JournalOptions, Position, ProducerId};
use caracal_evidence::ship::{
    EntryId, EvidenceStream, Field, STREAM, Shipper, ShipperOptions, ShipperParts, StoredUpto,
    TransportError,
};
use caracal_evidence::{Decision, Event, EventType, NoteKey, Stamp};
use caracal_store::{
    AuditRecord, AuditSearch, AuditWalk, Cursor, Page, PostgresOptions, ServiceRole, Store,
    StoreError, ZoneReader, migrate_postgres,
};
use caracal_testbed::{Database, Postgres};

const LOAD: &str = include_str!("../../store/tests/suite/evidence_load.sql");
const ROUNDS: u32 = 40;
const DAY: i64 = 86_400;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<i64>());
    let events = numbers.next().transpose()?.unwrap_or(1_000_000);
    let shipped = numbers.next().transpose()?.unwrap_or(100_000);
    let months = numbers.next().transpose()?.unwrap_or(12);
    let server = Postgres::start(true)?;
    let database = server.database()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let owner = PostgresOptions::new(database.owner_url.clone());
    migrate_postgres(&owner, clock.now()).await?;
    fill(&server, &database, events, months)?;
    let api = open(&database, ServiceRole::Api, &clock).await?;
    println!("| read | p50 ms | p95 ms | max ms | rows |");
    println!("|---|---:|---:|---:|---:|");
    for (name, number, of_zone) in [("large zone", 0, events / 2), ("zone", 7, events / 40)] {
        let reader = api.read(&zone(number)?);
        search_zone(name, &reader, of_zone, clock.now()).await?;
    }
    ingest(&database, &clock, shipped).await
}

fn fill(server: &Postgres, database: &Database, events: i64, months: i64) -> Result<(), Failure> {
    let started = Instant::now();
    let load = LOAD
        .replace("{events}", &events.to_string())
        .replace("{months}", &months.to_string());
    server.psql(&database.name, &load)?;
    server.psql(&database.name, "CHECKPOINT")?;
    let size = "SELECT pg_size_pretty(pg_database_size(current_database()))";
    let size = server.psql(&database.name, size)?;
    let (size, seconds) = (size.trim(), started.elapsed().as_secs());
    println!("{events} events over {months} months, {size} on disk, filled in {seconds} s");
    Ok(())
}

async fn open(
    database: &Database,
    role: ServiceRole,
    clock: &Arc<dyn Clock>,
) -> Result<Store, Failure> {
    let options = PostgresOptions::new(database.owner_url.clone()).acting_as(role);
    Ok(Store::open_postgres(options, clock.clone(), Arc::new(SystemRandom)).await?)
}

fn zone(number: i64) -> Result<ZoneId, Failure> {
    let id = format!("00000000-0000-7000-8000-{number:012}");
    Ok(ZoneId::parse(&id).map_err(|_| id)?)
}

/// Times a read, round after round.
async fn time<F: Future<Output = Result<usize, StoreError>>>(
    name: &str,
    read: impl Fn(u32) -> F,
) -> Result<(), Failure> {
    let mut times = Vec::new();
    let mut rows = 0;
    for round in 0..ROUNDS {
        let started = Instant::now();
        rows = rows.max(read(round).await?);
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    let (half, most, all) = (at(50), at(95), at(100));
    println!("| {name} | {half:.1} | {most:.1} | {all:.1} | {rows} |");
    Ok(())
}

async fn search_zone(
    zone: &str,
    reader: &ZoneReader,
    of_zone: i64,
    now: Timestamp,
) -> Result<(), Failure> {
    let middle = AuditWalk {
        after: u64::try_from(of_zone / 2)?,
        limit: 1,
        ..AuditWalk::default()
    };
    let sample = reader.walk_audit_events(&middle).await?.pop();
    let sample = sample.ok_or("no event in the middle")?;
    for (name, search) in searches(&sample, now)? {
        let search = &search;
        time(&format!("{name} ({zone})"), |round| async move {
            // Every other round asks for a later page.
            let page = if round % 2 == 0 {
                Page::first(100)
            } else {
                let at = now.plus_seconds(-i64::from(round) * DAY * 8);
                Page::after(100, Cursor { at, id: "x".into() })
            };
            Ok(reader.search_audit_events(search, &page).await?.items.len())
        })
        .await?;
    }
    let request = sample.request_id.as_str();
    time(&format!("events of a request ({zone})"), |_| async move {
        Ok(reader.audit_events_of_request(request).await?.len())
    })
    .await?;
    time(&format!("decisions of a day ({zone})"), |_| async move {
        let counts = reader.count_decisions(now.plus_seconds(-DAY)).await;
        counts.map(|_| 1)
    })
    .await?;
    for (name, walk) in walks(&sample, now) {
        let walk = &walk;
        time(&format!("{name} ({zone})"), |_| async move {
            Ok(reader.walk_audit_events(walk).await?.len())
        })
        .await?;
    }
    Ok(())
}

fn searches(
    sample: &AuditRecord,
    now: Timestamp,
) -> Result<Vec<(&'static str, AuditSearch)>, Failure> {
    let text = |text: &str| Some(text.to_owned());
    let none = AuditSearch::default;
    let data: serde_json::Value = serde_json::from_str(sample.data.as_deref().unwrap_or("null"))?;
    let session = data["metadata_json"]["agent_session_id"].as_str();
    let request = |id: Option<String>| AuditSearch {
        request_id: id,
        ..none()
    };
    let of_session = |id: Option<String>| AuditSearch {
        agent_session_id: id,
        ..none()
    };
    let application = |id: Option<String>| AuditSearch {
        application_id: id,
        ..none()
    };
    let of_type = |name: &str| AuditSearch {
        event_types: vec![name.to_owned()],
        ..none()
    };
    let label = |label: Option<String>| AuditSearch { label, ..none() };
    let refused = AuditSearch {
        decision: text("deny"),
        ..none()
    };
    let old = AuditSearch {
        until: Some(now.plus_seconds(-100 * DAY)),
        ..none()
    };
    let refused_of_one = AuditSearch {
        application_id: text("application-7"),
        ..refused.clone()
    };
    let unknown_record = AuditSearch {
        authority_record_id: text("nothing"),
        ..none()
    };
    Ok(vec![
        ("list, newest", none()),
        ("list, 100 days ago", old),
        ("by request", request(text(&sample.request_id))),
        ("by unknown request", request(text("nothing"))),
        ("by Session", of_session(session.map(str::to_owned))),
        ("by unknown Session", of_session(text("nothing"))),
        ("by unknown record", unknown_record),
        ("by application", application(text("application-7"))),
        ("by unknown application", application(text("nothing"))),
        ("refused", refused),
        ("refused of an application", refused_of_one),
        ("by rare type", of_type("replay_detected")),
        ("by absent type", of_type("run_launch")),
        ("by common type", of_type("token_exchange")),
        ("by label", label(text("label-3"))),
        ("by unknown label", label(text("nothing"))),
    ])
}

fn walks(sample: &AuditRecord, now: Timestamp) -> Vec<(&'static str, AuditWalk)> {
    let days = |from: i64, to: i64| AuditWalk {
        since: Some(now.plus_seconds(-from * DAY)),
        until: Some(now.plus_seconds(-to * DAY)),
        limit: 100,
        ..AuditWalk::default()
    };
    let refused = |walk: AuditWalk| AuditWalk {
        decision: Some("deny".to_owned()),
        ..walk
    };
    let request = AuditWalk {
        request_id: Some(sample.request_id.clone()),
        limit: 100,
        ..AuditWalk::default()
    };
    let page = AuditWalk {
        after: sample.seq,
        limit: 500,
        ..AuditWalk::default()
    };
    vec![
        ("chain, last day", days(1, 0)),
        ("chain, a day 200 days ago", days(201, 200)),
        ("chain, half a year", days(180, 0)),
        ("chain, refused of the last day", refused(days(1, 0))),
        ("chain, refused of half a year", refused(days(180, 0))),
        ("chain, a request", request),
        ("chain, a page of 500", page),
    ]
}

#[derive(Debug)]
struct Stream(StreamWriter);

#[async_trait]
impl EvidenceStream for Stream {
    async fn append(&self, entry: &[Field]) -> Result<EntryId, TransportError> {
        let owned = |(name, value): &Field| ((*name).to_owned(), value.clone());
        let fields = caracal_events::Fields::from_entry(entry.iter().map(owned));
        let id = self.0.append(STREAM, &fields, Trim::Never).await;
        id.map(|id| EntryId::new(id.to_string()))
            .map_err(|error| failed(&error))
    }

    async fn holds(&self, id: &EntryId) -> Result<bool, TransportError> {
        let id = id.as_str().parse().map_err(|error| failed(&error))?;
        let entry = self.0.entry(STREAM, id).await;
        entry
            .map(|entry| entry.is_some())
            .map_err(|error| failed(&error))
    }
}

#[derive(Debug)]
struct Stored(Store);

#[async_trait]
impl StoredUpto for Stored {
    async fn stored(&self, producer: ProducerId) -> Result<Option<Position>, TransportError> {
        let platform = self.0.platform();
        let stored = platform.audit_watermark(&producer.to_string()).await;
        let stored = stored.map_err(|error| failed(&error))?;
        Ok(stored.map(Position::new))
    }
}

fn failed(error: &dyn std::fmt::Display) -> TransportError {
    TransportError(error.to_string())
}

async fn connect(server: &caracal_testbed::Redis) -> Result<Redis, Failure> {
    let address = RedisAddress::parse(&server.url().into())?;
    let redis = Redis::open(&RedisOptions::new(address))?;
    redis.connected(Duration::from_secs(10)).await?;
    Ok(redis)
}

/// Ships events, then lets one Audit role store them; then both at once.
async fn ingest(database: &Database, clock: &Arc<dyn Clock>, events: i64) -> Result<(), Failure> {
    let redis = caracal_testbed::Redis::start()?;
    let directory = tempfile::tempdir()?;
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let key = HmacKey::from_secret_bytes(&[7; 32]);
    let journal = Journal::open(
        directory.path(),
        JournalOptions::default(),
        Some(key.clone()),
        &SystemRandom,
    )?;
    let shipper = Shipper::new(ShipperParts {
        journal: journal.clone(),
        stream: Arc::new(Stream(StreamWriter::new(connect(&redis).await?))),
        stored: Arc::new(Stored(open(database, ServiceRole::Sts, clock).await?)),
        key: Some(key.clone()),
        random: random.clone(),
        options: ShipperOptions {
            unstored_bytes: 1 << 30,
            ..ShipperOptions::default()
        },
    });
    let store = open(database, ServiceRole::Audit, clock).await?;
    let queue = RedisQueue::open(&connect(&redis).await?, "scale")?;
    let audit = Audit::new(AuditParts {
        ledger: Arc::new(StoreLedger::new(store)),
        source: Source::Stream(Arc::new(queue)),
        producer_key: Some(key),
        checkpoint_key: NoteKey::from_seed(&NoteKey::generate_seed(&SystemRandom))?,
        clock: clock.clone(),
        random,
        options: AuditOptions::default(),
    });
    let shipping = shipper.clone();
    let ships = tokio::spawn(async move { shipping.run().await });
    let started = Instant::now();
    append(&journal, clock, events).await?;
    while shipper.gauges().events < u64::try_from(events)? {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    rate("appended and shipped", events, started);
    let running = audit.clone();
    let started = Instant::now();
    let runs = tokio::spawn(async move { running.run().await });
    released(&journal).await;
    rate("stored by one Audit role", events, started);
    let started = Instant::now();
    append(&journal, clock, events).await?;
    released(&journal).await;
    rate("appended, shipped and stored at once", events, started);
    journal.close().await;
    ships.await?;
    audit.stop();
    runs.await?;
    Ok(())
}

async fn released(journal: &Journal) {
    while journal.released() < journal.last() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn rate(what: &str, events: i64, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let each = f64::from(u32::try_from(events).unwrap_or(u32::MAX)) / seconds;
    println!("{what}: {events} events in {seconds:.1} s, {each:.0} events/s");
}

/// Appends as a Gateway under load does: several events at once, of several zones.
async fn append(journal: &Journal, clock: &Arc<dyn Clock>, events: i64) -> Result<(), Failure> {
    let random = SystemRandom;
    for group in 0..events / 20 {
        let zone = zone(group % 20)?;
        let made: Vec<Event> = (0..20)
            .map(|_| {
                let request = RequestId::accept(None, &**clock, &random);
                let stamp = Stamp::of(EventId::generate(&**clock, &random), clock.now());
                let (kind, how) = (EventType::TokenExchange, Decision::Allow);
                Event::new(stamp, &zone, &request, kind, how, "complete")
                    .with("application_id", "application-7")
                    .with("agent_session_id", &zone)
                    .with("resource", "resource://ledger")
                    .with("requested_scopes", ["ledger.read"])
            })
            .collect();
        journal.append(&made).await?;
    }
    Ok(())
}
