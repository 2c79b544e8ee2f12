//! The audit trail of what callers change.
//!
//! A change and its row are one transaction: there is no change without its row and no row without
//! its change. Refusals of identified callers are kept as well, but never in a caller's way: they wait
//! in a bounded queue and are written in batches.

use std::collections::{BTreeMap, VecDeque};

use axum::response::Response;
use caracal_core::RequestId;
use caracal_core::id::{DelegationId, OutboxId, SessionId, ZoneId, is_id};
use caracal_store::{AdminAudit, Store, StoreError, ZoneUnit};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::call::Call;
use crate::caller::Caller;

/// Refusals that wait to be written; more are counted and dropped.
const MAX_WAITING: usize = 1_024;

/// Refusals of one transaction.
const BATCH: usize = 128;

/// The longest path that is kept, characters.
const MAX_PATH: usize = 1_024;

/// What a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entity {
    /// A Session.
    Session(SessionId),
    /// A delegation.
    Delegation(DelegationId),
    /// A message of the outbox.
    Message(OutboxId),
}

impl Entity {
    fn row(&self) -> (String, String) {
        match self {
            Self::Session(id) => ("agents".to_owned(), id.to_string()),
            Self::Delegation(id) => ("delegations".to_owned(), id.to_string()),
            Self::Message(id) => ("outbox".to_owned(), id.to_string()),
        }
    }
}

/// Writes the row of a change into the change's own transaction.
pub(crate) async fn record(
    unit: &mut ZoneUnit,
    call: &Call,
    entity: &Entity,
    status: StatusCode,
) -> Result<(), StoreError> {
    let row = row(
        &call.caller,
        &call.request_id,
        (&call.method, call.path()),
        Some(entity.row()),
        status.as_u16(),
    );
    unit.record_admin_audit(&row).await.map(|_| ())
}

/// Marks an answer whose row is written, though it is a refusal.
#[derive(Debug, Clone, Copy)]
struct Recorded;

/// Marks a refusal that changed something, and so has its row already.
pub(crate) fn recorded(mut response: Response) -> Response {
    response.extensions_mut().insert(Recorded);
    response
}

/// A refusal of an identified caller.
#[derive(Debug)]
pub(crate) struct Refused {
    caller: Caller,
    request_id: RequestId,
    method: Method,
    path: String,
    entity: Option<(String, String)>,
    status: u16,
}

impl Refused {
    /// What will be told if the call is refused.
    pub(crate) fn of(
        caller: &Caller,
        request_id: &RequestId,
        (method, path): (&Method, &str),
        params: &[(String, String)],
    ) -> Self {
        Self {
            caller: caller.clone(),
            request_id: request_id.clone(),
            method: method.clone(),
            path: path.chars().take(MAX_PATH).collect(),
            entity: entity(path, params),
            status: 0,
        }
    }

    /// The refusal, when the answer is one that has no row yet.
    pub(crate) fn by(mut self, answer: &Response) -> Option<Self> {
        self.status = answer.status().as_u16();
        let has_row = answer.extensions().get::<Recorded>().is_some();
        (self.status >= 400 && !has_row).then_some(self)
    }

    fn row(&self) -> AdminAudit {
        row(
            &self.caller,
            &self.request_id,
            (&self.method, &self.path),
            self.entity.clone(),
            self.status,
        )
    }
}

fn entity(path: &str, params: &[(String, String)]) -> Option<(String, String)> {
    let param = |wanted: &str| {
        let found = params
            .iter()
            .find(|(name, value)| name == wanted && is_id(value));
        found.map(|(_, value)| value.clone())
    };
    let kind = if path.contains("/delegations/") {
        "delegations"
    } else if path.contains("/outbox/") {
        "outbox"
    } else {
        "agents"
    };
    param("id")
        .map(|id| (kind.to_owned(), id))
        .or_else(|| param("session_id").map(|id| ("agents".to_owned(), id)))
}

fn row(
    caller: &Caller,
    request_id: &RequestId,
    (method, path): (&Method, &str),
    entity: Option<(String, String)>,
    status: u16,
) -> AdminAudit {
    let (actor_id, actor_name, actor_scope) = caller.actor();
    let (entity_type, entity_id) = entity.unzip();
    AdminAudit {
        request_id: request_id.to_string(),
        actor_id: Some(actor_id),
        actor_name: Some(actor_name),
        actor_scope: Some(actor_scope),
        action: format!("{method} {path}"),
        method: method.to_string(),
        path: path.to_owned(),
        entity_type,
        entity_id,
        status_code: status,
        payload: None,
    }
}

/// Refusals on their way to the audit trail.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    waiting: Mutex<VecDeque<Refused>>,
    arrived: Notify,
}

impl Refusals {
    /// Queues a refusal.
    pub(crate) fn note(&self, refused: Refused) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MAX_WAITING {
            metrics::counter!("caracal_coordinator_refusals_unrecorded_total").increment(1);
            return;
        }
        waiting.push_back(refused);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Writes refusals as they come, and what is left at the end.
    pub(crate) async fn run(&self, store: &Store, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.arrived.notified() => {}
                () = stop.cancelled() => {}
            }
            self.drain(store).await;
        }
    }

    /// Writes everything that waits.
    pub(crate) async fn drain(&self, store: &Store) {
        loop {
            let batch: Vec<Refused> = {
                let mut waiting = self.waiting.lock();
                let count = waiting.len().min(BATCH);
                waiting.drain(..count).collect()
            };
            if batch.is_empty() {
                return;
            }
            let mut zones: BTreeMap<ZoneId, Vec<AdminAudit>> = BTreeMap::new();
            for refused in &batch {
                let zone = refused.caller.zone().clone();
                zones.entry(zone).or_default().push(refused.row());
            }
            for (zone, rows) in zones {
                if let Err(error) = write(store, &zone, &rows).await {
                    let lost = u64::try_from(rows.len()).unwrap_or(u64::MAX);
                    metrics::counter!("caracal_coordinator_refusals_unrecorded_total")
                        .increment(lost);
                    tracing::warn!(zone = %zone, %error, lost, "refusals_not_recorded");
                }
            }
        }
    }
}

async fn write(store: &Store, zone: &ZoneId, rows: &[AdminAudit]) -> Result<(), StoreError> {
    let mut unit = store.begin(zone).await?;
    for row in rows {
        unit.record_admin_audit(row).await?;
    }
    unit.commit().await
}
