//! Marks of used mandates and of used request nonces.

use std::time::Duration;

use caracal_core::Timestamp;
use caracal_core::id::{MandateId, ZoneId, uuid_v7_millis};

use super::connection::Redis;
use super::error::RedisError;
use super::once::{Once, OnceGate, YOUTH};

/// A request carries the whole second of its signature, so its nonce passes up to a second after a
/// mandate of the same moment would. A mandate waits for that: it must not be spent on an exchange that
/// is then refused.
pub(super) const UNTIL_NONCES_PASS: Duration = Duration::from_millis(1_500);

/// The replay memory that all Gateways share. A mark is `seen:jti:{shard}:zone:jti`.
#[derive(Debug, Clone)]
pub struct RedisMarks(OnceGate);

impl RedisMarks {
    /// Marks over this connection.
    #[must_use]
    pub fn new(redis: Redis) -> Self {
        Self(OnceGate::new(redis, "seen:jti").young_for(YOUTH + UNTIL_NONCES_PASS))
    }

    /// Marks the mandate as used until `expires`. A `jti` that carries no time is never the first.
    ///
    /// # Errors
    /// [`RedisError`] when the use can't be judged: refuse then.
    pub async fn mark(
        &self,
        zone: &ZoneId,
        jti: &MandateId,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Once, RedisError> {
        let Some(made) = uuid_v7_millis(jti.as_str()) else {
            return Ok(Once::Predates);
        };
        self.0
            .pass(&format!("{zone}:{jti}"), made, expires.since(now))
            .await
    }

    /// Whether mandates can be marked now; `Some` says how long they still are refused because the
    /// server's memory is new.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn check(&self) -> Result<Option<Duration>, RedisError> {
        let young = self.0.check().await?;
        Ok((!young.is_zero()).then_some(young))
    }
}

/// The nonces of signed requests that all STS share. A mark is
/// `caracal:sts:gw-nonce:{shard}:nonce`.
#[derive(Debug, Clone)]
pub struct RedisNonces(OnceGate);

impl RedisNonces {
    /// Marks over this connection.
    #[must_use]
    pub fn new(redis: Redis) -> Self {
        Self(OnceGate::new(redis, "caracal:sts:gw-nonce"))
    }

    /// Marks the nonce of a request signed at `signed` as used for `valid`, the time for which the
    /// signature is accepted.
    ///
    /// # Errors
    /// [`RedisError`] when the use can't be judged: refuse then.
    pub async fn mark(
        &self,
        nonce: &str,
        signed: Timestamp,
        valid: Duration,
    ) -> Result<Once, RedisError> {
        let Ok(signed) = u64::try_from(signed.millis()) else {
            return Ok(Once::Predates);
        };
        self.0.pass(nonce, signed, valid).await
    }
}
