//! Step 11: whose mandate is it, and may it be used here.
//!
//! First the signature against the zone's keys, then the claims that can be judged locally. Not
//! getting the keys is a dependency failure, never a verdict. A token that names a zone nobody knows
//! costs one look-up at most, and only a few such look-ups run at a time, so unsigned tokens with
//! made-up zones can't crowd out callers of real ones.

use std::sync::Arc;
use std::time::Duration;

use caracal_core::Timestamp;
use caracal_core::id::ZoneId;
use caracal_core::path::RequestPath;
use caracal_crypto::{
    Claims, Expectation, KeySet, MandateError, MandateUse, VerifiedMandate, verify,
};
use caracal_roles::KeySource;
use http::Method;
use moka::sync::Cache;
use tokio::sync::Semaphore;

use crate::call::{Call, Correlation};
use crate::preflight::{Framing, Preflight};
use crate::refusal::Refusal;

/// How far a mandate's `iat` may lie ahead.
const LEEWAY_SECONDS: i64 = 60;

/// Zones remembered as existing, and as not existing.
const REMEMBERED_ZONES: u64 = 4_096;

/// How long a zone that does not exist is taken not to.
const ABSENCE_TTL: Duration = Duration::from_secs(1);

/// Concurrent key look-ups for zones that have not proven to exist.
const STRANGER_LOOKUPS: usize = 16;

/// Longest wait for such a look-up's turn.
const STRANGER_WAIT: Duration = Duration::from_millis(250);

/// Proves mandates.
pub(crate) struct Prover {
    keys: Arc<dyn KeySource>,
    issuer: Arc<str>,
    timeout: Duration,
    known: Cache<ZoneId, ()>,
    absent: Cache<ZoneId, ()>,
    strangers: Semaphore,
}

/// A call whose mandate is genuine and was minted for this gateway and this resource. Only
/// [`Prover::prove`] makes one.
#[derive(Debug, Clone)]
pub(crate) struct Proven(ProvenParts);

/// What a proven call consists of.
#[derive(Debug, Clone)]
pub(crate) struct ProvenParts {
    pub(crate) call: Arc<Call>,
    pub(crate) mandate: VerifiedMandate,
    pub(crate) path: RequestPath,
    pub(crate) framing: Framing,
}

impl Proven {
    /// Who calls.
    pub(crate) fn call(&self) -> &Arc<Call> {
        &self.0.call
    }

    /// The verified claims.
    pub(crate) fn claims(&self) -> &Claims {
        self.0.mandate.claims()
    }

    /// Takes it apart.
    pub(crate) fn into_parts(self) -> ProvenParts {
        self.0
    }
}

/// Why there is no proof, and whose call it was once that is known.
pub(crate) struct Unproven {
    pub(crate) refusal: Refusal,
    pub(crate) call: Option<Box<Call>>,
}

impl From<Refusal> for Unproven {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            call: None,
        }
    }
}

impl Prover {
    /// Accepts mandates of `issuer` only.
    pub(crate) fn new(keys: Arc<dyn KeySource>, issuer: Arc<str>, timeout: Duration) -> Self {
        Self {
            keys,
            issuer,
            timeout,
            known: Cache::new(REMEMBERED_ZONES),
            absent: Cache::builder()
                .max_capacity(REMEMBERED_ZONES)
                .time_to_live(ABSENCE_TTL)
                .build(),
            strangers: Semaphore::new(STRANGER_LOOKUPS),
        }
    }

    /// Verifies the signature, then the claims.
    pub(crate) async fn prove(
        &self,
        preflight: Preflight,
        method: &Method,
        correlation: &Correlation,
        now: Timestamp,
    ) -> Result<Proven, Unproven> {
        let keys = self.keys_of(&preflight.zone).await?;
        let expect = Expectation {
            issuer: &self.issuer,
            audience: &self.issuer,
            zone: &preflight.zone,
            uses: &[MandateUse::Gateway],
            now,
            leeway_seconds: LEEWAY_SECONDS,
        };
        let mandate = verify(preflight.token(), &keys, &expect)
            .map_err(|error| judged(error, &preflight, method, correlation))?;
        let call = Call::identified(&preflight, method, correlation, Some(mandate.claims()));
        if !mandate.claims().targets(preflight.resource.as_str()) {
            return Err(Unproven {
                refusal: Refusal::TargetMismatch,
                call: Some(Box::new(call)),
            });
        }
        Ok(Proven(ProvenParts {
            call: Arc::new(call),
            mandate,
            path: preflight.path,
            framing: preflight.framing,
        }))
    }

    async fn keys_of(&self, zone: &ZoneId) -> Result<Arc<KeySet>, Refusal> {
        if self.known.contains_key(zone) {
            return self.look_up(zone).await;
        }
        if self.absent.contains_key(zone) {
            return Err(Refusal::Signature);
        }
        let turn = tokio::time::timeout(STRANGER_WAIT, self.strangers.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Refusal::KeysUnavailable);
        };
        self.look_up(zone).await
    }

    async fn look_up(&self, zone: &ZoneId) -> Result<Arc<KeySet>, Refusal> {
        let asked = tokio::time::timeout(self.timeout, self.keys.verifying_keys(zone)).await;
        match asked {
            Ok(Ok(Some(keys))) => {
                if !self.known.contains_key(zone) {
                    self.known.insert(zone.clone(), ());
                }
                Ok(keys)
            }
            Ok(Ok(None)) => {
                self.known.invalidate(zone);
                self.absent.insert(zone.clone(), ());
                Err(Refusal::Signature)
            }
            Ok(Err(error)) => {
                tracing::warn!(%zone, %error, "key set unavailable");
                Err(Refusal::KeysUnavailable)
            }
            Err(_) => Err(Refusal::KeysUnavailable),
        }
    }
}

/// Before the signature nobody is identified; after it the caller is, whatever the claims say.
fn judged(
    error: MandateError,
    preflight: &Preflight,
    method: &Method,
    correlation: &Correlation,
) -> Unproven {
    match error {
        MandateError::Malformed
        | MandateError::AlgorithmNotAllowed
        | MandateError::UnknownKey
        | MandateError::SignatureInvalid => Refusal::Signature.into(),
        claim => Unproven {
            refusal: Refusal::Mandate(claim),
            call: Some(Box::new(Call::identified(
                preflight,
                method,
                correlation,
                None,
            ))),
        },
    }
}
