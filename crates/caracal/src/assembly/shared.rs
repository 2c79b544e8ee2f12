//! What the replicas of a role share through Redis and the store, in the terms of the roles.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use caracal_api::EvidenceBarrier;
use caracal_core::Timestamp;
use caracal_core::id::{MandateId, ZoneId};
use caracal_crypto::request_signature::{NONCE_SECONDS, UnspentNonce};
use caracal_events::Fields;
use caracal_events::redis::{
    EntryId, Once, Redis, RedisMarks, RedisNonces, SharedWindow, StreamWriter, Trim,
};
use caracal_evidence::log::{Journal, Position, ProducerId};
use caracal_evidence::ship::{self, EvidenceStream, Field, STREAM, StoredUpto, TransportError};
use caracal_gateway::{Mark, MarksUnavailable, ReplayMarks};
use caracal_http::Dependency;
use caracal_store::Store;
use caracal_sts::{NonceStore, NoncesUnavailable, SharedCounts, Spent};

/// How often somebody who waits for his own events looks whether they are stored.
const LOOK: Duration = Duration::from_millis(20);

/// Redis, as readiness asks for it.
pub(super) struct RedisNeeded(pub(super) Redis);

#[async_trait]
impl Dependency for RedisNeeded {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn check(&self) -> Result<(), &'static str> {
        self.0.ping().await.map_err(|error| {
            tracing::warn!(%error, "redis is not reachable");
            "redis_unreachable"
        })
    }
}

/// The replay memory of all Gateways.
pub(super) struct SharedMarks(pub(super) RedisMarks);

#[async_trait]
impl ReplayMarks for SharedMarks {
    async fn mark(
        &self,
        zone: &ZoneId,
        jti: &MandateId,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Mark, MarksUnavailable> {
        match self.0.mark(zone, jti, expires, now).await {
            Ok(Once::First) => Ok(Mark::First),
            Ok(Once::Again) => Ok(Mark::Again),
            Ok(Once::Predates) => Ok(Mark::Predates),
            Err(error) => Err(MarksUnavailable(error.to_string())),
        }
    }

    async fn check(&self) -> Result<(), MarksUnavailable> {
        match self.0.check().await {
            Ok(None) => Ok(()),
            // A Gateway that still refuses every mandate must not get traffic.
            Ok(Some(left)) => Err(MarksUnavailable(format!(
                "the server is new: mandates are refused for {left:.1?}"
            ))),
            Err(error) => Err(MarksUnavailable(error.to_string())),
        }
    }

    fn held(&self) -> u64 {
        0
    }
}

/// The nonce memory of all STS.
pub(super) struct SharedNonces(pub(super) RedisNonces);

#[async_trait]
impl NonceStore for SharedNonces {
    async fn spend(
        &self,
        nonce: &UnspentNonce,
        signed_at: Timestamp,
        _now: Timestamp,
    ) -> Result<Spent, NoncesUnavailable> {
        let valid = Duration::from_secs(NONCE_SECONDS.unsigned_abs());
        match self.0.mark(nonce.as_str(), signed_at, valid).await {
            Ok(Once::First) => Ok(Spent::First),
            Ok(Once::Again) => Ok(Spent::Again),
            Ok(Once::Predates) => Ok(Spent::Predates),
            Err(error) => Err(NoncesUnavailable(error.to_string())),
        }
    }
}

/// The mint windows of all STS.
#[derive(Debug)]
pub(super) struct SharedMints(pub(super) SharedWindow);

impl SharedCounts for SharedMints {
    fn count(&self, key: &str) -> Result<(), Duration> {
        self.0.check(key)
    }
}

/// The audit stream, as producers write it.
#[derive(Debug)]
pub(super) struct AuditStream(pub(super) StreamWriter);

#[async_trait]
impl EvidenceStream for AuditStream {
    async fn append(&self, entry: &[Field]) -> Result<ship::EntryId, TransportError> {
        let fields = entry
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        let fields = Fields::from_entry(fields);
        let id = self.0.append(STREAM, &fields, Trim::Never).await;
        id.map(|id| ship::EntryId::new(id.to_string()))
            .map_err(failed)
    }

    async fn holds(&self, id: &ship::EntryId) -> Result<bool, TransportError> {
        let id: EntryId = id.as_str().parse().map_err(failed)?;
        let entry = self.0.entry(STREAM, id).await.map_err(failed)?;
        Ok(entry.is_some())
    }
}

/// What the Audit role has stored, as the store says.
#[derive(Debug)]
pub(super) struct StoredEvidence(pub(super) Store);

#[async_trait]
impl StoredUpto for StoredEvidence {
    async fn stored(&self, producer: ProducerId) -> Result<Option<Position>, TransportError> {
        let (stored, producer) = (self.0.platform(), producer.to_string());
        let watermark = stored.audit_watermark(&producer).await.map_err(failed)?;
        Ok(watermark.map(Position::new))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "a map_err target")]
fn failed(error: impl std::fmt::Display) -> TransportError {
    TransportError(error.to_string())
}

/// Lets a search wait until this process's own events are stored.
pub(super) struct OwnEvidence {
    pub(super) journal: Journal,
    pub(super) stored: Arc<dyn StoredUpto>,
}

impl OwnEvidence {
    async fn until_stored(&self) {
        let (producer, last) = (self.journal.origin().producer, self.journal.last());
        let first = self.journal.origin().first;
        if last < first {
            return;
        }
        loop {
            let stored = self.stored.stored(producer).await;
            if matches!(stored, Ok(Some(upto)) if upto >= last) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[async_trait]
impl EvidenceBarrier for OwnEvidence {
    async fn caught_up(&self, timeout: Duration) -> bool {
        tokio::time::timeout(timeout, self.until_stored())
            .await
            .is_ok()
    }
}
