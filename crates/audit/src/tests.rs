//! The role as a whole, over a ledger in memory.

mod apart;
mod http_surface;
mod in_the_store;
mod ingestion;
mod over_the_stream;
mod queue;
mod tampering;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use caracal_core::id::{EventId, ZoneId};
use caracal_core::{ManualClock, RequestId, SeededRandom, SystemRandom, Timestamp};
use caracal_crypto::HmacKey;
use caracal_evidence::{Decision, Event, EventType, Journal, JournalOptions, NoteKey, Stamp};

use crate::ledger::memory::MemoryLedger;
use crate::{Audit, AuditOptions, AuditParts, Ledger, Source};

const NOW: i64 = 1_767_225_600;

/// A running role, its log and its ledger.
struct Running {
    audit: Audit,
    journal: Journal,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.journal.close().await;
        self.task.await.unwrap();
    }

    /// Waits until the role ended by itself, because its log is closed.
    async fn signed(&mut self) {
        (&mut self.task).await.unwrap();
    }

    async fn append(&self, events: &[Event]) {
        self.journal.append(events).await.unwrap();
    }

    async fn settle(&self) {
        self.audit.caught_up(Duration::from_secs(5)).await.unwrap();
    }
}

fn key() -> HmacKey {
    HmacKey::from_secret_bytes(&[7; 32])
}

fn open(dir: &Path, key: Option<HmacKey>) -> Journal {
    Journal::open(dir, JournalOptions::default(), key, &SystemRandom).unwrap()
}

fn parts(journal: Journal, ledger: &Arc<MemoryLedger>) -> AuditParts {
    parts_over(journal, &(Arc::clone(ledger) as Arc<dyn Ledger>))
}

fn parts_over(journal: Journal, ledger: &Arc<dyn Ledger>) -> AuditParts {
    parts_from(Source::Log(journal), ledger)
}

fn parts_from(source: Source, ledger: &Arc<dyn Ledger>) -> AuditParts {
    AuditParts {
        ledger: Arc::clone(ledger),
        source,
        producer_key: Some(key()),
        checkpoint_key: NoteKey::from_seed(&NoteKey::generate_seed(&SeededRandom::new(3))).unwrap(),
        clock: Arc::new(ManualClock::at(Timestamp::from_seconds(NOW))),
        random: Arc::new(SystemRandom),
        options: AuditOptions::default(),
    }
}

fn start(journal: Journal, ledger: &Arc<MemoryLedger>) -> Running {
    start_over(journal, &(Arc::clone(ledger) as Arc<dyn Ledger>))
}

fn start_over(journal: Journal, ledger: &Arc<dyn Ledger>) -> Running {
    let audit = Audit::new(parts_over(journal.clone(), ledger));
    let task = tokio::spawn({
        let audit = audit.clone();
        async move { audit.run().await }
    });
    Running {
        audit,
        journal,
        task,
    }
}

fn zone(name: &str) -> ZoneId {
    ZoneId::parse(name).unwrap()
}

fn event_at(id: &str, zone: &ZoneId, decision: Decision, seconds: i64) -> Event {
    let clock = ManualClock::at(Timestamp::from_seconds(seconds));
    let request = RequestId::accept(Some(&format!("req-{id}")), &clock, &SeededRandom::new(1));
    let stamp = Stamp::of(
        EventId::parse(id).unwrap(),
        Timestamp::from_seconds(seconds),
    );
    Event::new(
        stamp,
        zone,
        &request,
        EventType::TokenExchange,
        decision,
        "complete",
    )
    .with("application_id", "app-1")
    .with("agent_labels", ["batch"])
}

fn event(id: &str, zone: &ZoneId) -> Event {
    event_at(id, zone, Decision::Allow, NOW - 60)
}
