//! Ends all authority that a restored state gives.
//!
//! In each live zone, in one transaction: every authority record, Session and delegation is ended and
//! told to resource servers; the delegation epoch rises far above any that can have been reached since
//! the backup; every signing key retires at once and a new one signs, so that no mandate from before
//! verifies anywhere, also none whose Session the backup does not know. The zone's audit chain tells
//! of it. Above the zones, admin tokens are revoked.
//!
//! Replay marks need nothing: they are of mandates that no key verifies any more.

use caracal_core::id::{EventId, ZoneId};
use caracal_core::{Clock, Random};
use caracal_crypto::KeyRing;
use caracal_events::{Message, Reason};
use caracal_store::{AdminAudit, EndedAuthority, Store, StoreError, ZoneUnit};
use caracal_sts::{KeyCreationError, create_zone_key};
use serde::Serialize;
use serde_json::json;
use thiserror::Error;

use super::Terms;

/// How far the epoch rises. It rises by one for each explicit revoke, so a million of them may have
/// happened between the backup and now.
const EPOCH_STEPS: u32 = 1_000_000;

/// Why records, Sessions and delegations ended.
const REASON: &str = "restored_from_backup";

/// The old authority could not be ended.
#[derive(Debug, Error)]
pub(super) enum FenceError {
    #[error("old authority could not be ended: {0}; start nothing on this state and restore again")]
    Store(#[from] StoreError),
    #[error("a zone could not get a new signing key: {0}; start nothing and restore again")]
    Key(#[from] KeyCreationError),
}

/// What was ended.
#[derive(Debug, Default, Serialize)]
pub(super) struct Fenced {
    zones: usize,
    authority_records: usize,
    sessions: usize,
    delegations: usize,
    signing_keys: usize,
    admin_tokens: u64,
    kept_admin_tokens: bool,
}

impl Fenced {
    pub(super) fn text(&self) -> String {
        let tokens = if self.kept_admin_tokens {
            "⚠ admin tokens are as the backup has them: one that was revoked since lives again\n"
                .to_owned()
        } else {
            format!(
                "✓ {} admin tokens revoked; those that the configuration defines work again when the \
                 Admin API starts, make the others anew\n",
                self.admin_tokens
            )
        };
        format!(
            "✓ no mandate from before is accepted: in {} zones {} authority records, {} Sessions and {} \
             delegations ended, {} signing keys retired and replaced, delegation epochs raised\n{tokens}",
            self.zones, self.authority_records, self.sessions, self.delegations, self.signing_keys
        )
    }
}

/// Ends everything.
pub(super) async fn raise(
    store: &Store,
    ring: &KeyRing,
    terms: Terms,
    clock: &dyn Clock,
    random: &dyn Random,
) -> Result<Fenced, FenceError> {
    let mut fenced = Fenced {
        kept_admin_tokens: terms.keep_admin_tokens,
        ..Fenced::default()
    };
    for zone in store.platform().zone_ids().await? {
        let mut unit = store.begin(&zone).await?;
        if !unit.get_zone().await?.is_some_and(|zone| zone.is_live()) {
            continue;
        }
        let ended = unit.end_all_authority(REASON).await?;
        announce(&mut unit, &zone, &ended).await?;
        fenced.signing_keys += replace_keys(&mut unit, ring, clock, random).await?;
        unit.record_admin_audit(&audit(terms, &ended, clock, random))
            .await?;
        unit.commit().await?;
        fenced.zones += 1;
        fenced.authority_records += ended.records.len();
        fenced.sessions += ended.sessions.len();
        fenced.delegations += ended.delegations.len();
    }
    let mut unit = store.begin_platform().await?;
    if !terms.keep_admin_tokens {
        fenced.admin_tokens = unit.revoke_every_admin_token().await?;
    }
    let nothing = EndedAuthority::default();
    unit.record_admin_audit(&audit(terms, &nothing, clock, random))
        .await?;
    unit.commit().await?;
    Ok(fenced)
}

/// Tells resource servers, which see no change log, what has ended.
async fn announce(
    unit: &mut ZoneUnit,
    zone: &ZoneId,
    ended: &EndedAuthority,
) -> Result<(), StoreError> {
    let reason = Reason::parse(REASON).unwrap_or(Reason::REQUESTED);
    for record in &ended.records {
        enqueue(
            unit,
            &Message::authority_record_revoked(zone, record, &reason),
        )
        .await?;
    }
    for session in &ended.sessions {
        enqueue(unit, &Message::session_revoked(zone, &session.id, &reason)).await?;
        let parent = session.parent_id.as_ref();
        let terminated = Message::session_terminated(zone, &session.id, parent, &reason);
        enqueue(unit, &terminated).await?;
    }
    for edge in &ended.delegations {
        enqueue(unit, &Message::delegation_revoked(zone, edge, &reason)).await?;
    }
    let epoch = unit.raise_delegation_epoch(EPOCH_STEPS).await?;
    let epoch = u64::try_from(epoch).unwrap_or(0);
    let edges = ended.delegations.len();
    let raised = Message::epoch_raised_by_kill_switch(zone, &reason, edges, epoch);
    enqueue(unit, &raised).await
}

async fn enqueue(unit: &mut ZoneUnit, message: &Message) -> Result<(), StoreError> {
    let fields = message.payload().iter();
    let payload = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let topic = message.topic();
    unit.enqueue(topic.as_str(), message.dedupe_key(), payload.collect())
        .await
        .map(|_| ())
}

/// Retires every key now and makes one that signs at once.
async fn replace_keys(
    unit: &mut ZoneUnit,
    ring: &KeyRing,
    clock: &dyn Clock,
    random: &dyn Random,
) -> Result<usize, FenceError> {
    let now = clock.now();
    let mut retired = 0;
    for key in unit.list_signing_keys().await? {
        if key.is_published(now) {
            unit.retire_signing_key(&key.id, now).await?;
            retired += 1;
        }
    }
    let zone = unit.zone_id().clone();
    let kid = create_zone_key(unit, ring, clock, random).await?;
    enqueue(unit, &Message::keys_invalidated(&zone, &kid)).await?;
    Ok(retired)
}

fn audit(
    terms: Terms,
    ended: &EndedAuthority,
    clock: &dyn Clock,
    random: &dyn Random,
) -> AdminAudit {
    let payload = json!({
        "backup_created_at": terms.backup_at,
        "admin_tokens_kept": terms.keep_admin_tokens,
        "authority_records": ended.records.len(),
        "sessions": ended.sessions.len(),
        "delegations": ended.delegations.len(),
    });
    AdminAudit {
        request_id: EventId::generate(clock, random).to_string(),
        actor_id: Some("operator:restore".to_owned()),
        actor_name: None,
        actor_scope: None,
        action: "RESTORE".to_owned(),
        method: "CLI".to_owned(),
        path: "caracal restore".to_owned(),
        entity_type: Some("backups".to_owned()),
        entity_id: None,
        status_code: 200,
        payload: Some(payload.to_string()),
    }
}
