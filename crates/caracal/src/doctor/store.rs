//! What a store holds: sealed values, signing keys, messages, alerts.

use std::time::Duration;

use caracal_core::{Clock, SystemClock};
use caracal_store::{OutboxStatus, Page, Store, StoreError, published};

use super::check::Check;
use crate::config::Environment;
use crate::deployment::Keks;
use crate::reseal::{self, Sealed};

/// A signing key that signed longer should be replaced.
const OLD_KEY: Duration = Duration::from_secs(90 * 86_400);

/// A message that waits longer says that nothing publishes.
const OLD_MESSAGE: Duration = Duration::from_secs(300);

pub(super) async fn examine(store: &Store, environment: &Environment) -> Vec<Check> {
    let mut checks = vec![sealed(store, environment).await];
    checks.push(or_unreadable("signing keys", signing_keys(store).await));
    checks.push(or_unreadable("outbox", outbox(store).await));
    checks.push(or_unreadable("evidence alerts", alerts(store).await));
    checks
}

fn or_unreadable(name: &'static str, outcome: Result<Check, StoreError>) -> Check {
    outcome.unwrap_or_else(|error| {
        let remedy = "make the store answer, then run this again";
        Check::fail(name, error.to_string(), remedy)
    })
}

/// Whether the keys at hand open everything, and whether the previous one is still needed.
async fn sealed(store: &Store, environment: &Environment) -> Check {
    const NAME: &str = "sealed values";
    let keks = match Keks::of(environment) {
        Ok(keks) => keks,
        Err(error) => {
            return Check::fail(
                NAME,
                error.to_string(),
                "give this command the keys that the API and the STS have",
            );
        }
    };
    let found = match reseal::survey(store, &keks).await {
        Ok(found) => found,
        Err(error) => {
            let remedy = "make the store answer, then run this again";
            return Check::fail(NAME, error, remedy);
        }
    };
    let Sealed {
        current,
        previous,
        unopened,
    } = found;
    let counts = format!("{current} under the current key, {previous} under the previous one");
    if unopened > 0 {
        return Check::fail(
            NAME,
            format!("{counts}, {unopened} that no given key opens"),
            "`caracal secrets reseal --dry-run` lists them and what to do for each",
        );
    }
    if previous > 0 {
        return Check::warn(
            NAME,
            counts,
            "run `caracal secrets reseal`, then remove SECRET_STORE_KEK_PREVIOUS",
        );
    }
    if keks.has_previous() {
        return Check::warn(
            NAME,
            format!("{counts}; the previous key opens nothing any more"),
            "remove SECRET_STORE_KEK_PREVIOUS from the API and the STS",
        );
    }
    Check::ok(NAME, format!("{current} under the current key"))
}

async fn signing_keys(store: &Store) -> Result<Check, StoreError> {
    const NAME: &str = "signing keys";
    let now = SystemClock.now();
    let (mut zones, mut old, mut oldest) = (0_u64, 0_u64, Duration::ZERO);
    let mut without = Vec::new();
    for zone in store.platform().zone_ids().await? {
        let reader = store.read(&zone);
        if !reader.get_zone().await?.is_some_and(|zone| zone.is_live()) {
            continue;
        }
        zones += 1;
        let keys = published(&reader.list_signing_keys().await?, now);
        match keys.first().filter(|key| key.signs_from <= now) {
            Some(active) => {
                let age = now.since(active.signs_from);
                oldest = oldest.max(age);
                old += u64::from(age > OLD_KEY);
            }
            None => without.push(zone.to_string()),
        }
    }
    if let Some(zone) = without.first() {
        return Ok(Check::fail(
            NAME,
            format!(
                "{} zones have no key that signs, one is {zone}",
                without.len()
            ),
            "POST /internal/zones/<zone>/signing-key/rotate at the STS, with STS_ADMIN_TOKEN",
        ));
    }
    let days = oldest.as_secs() / 86_400;
    let found = format!("{zones} zones, the oldest key signs since {days} days");
    Ok(if old > 0 {
        Check::warn(
            NAME,
            format!("{found}, {old} of them more than 90"),
            "POST /internal/zones/<zone>/signing-key/rotate at the STS, with STS_ADMIN_TOKEN",
        )
    } else {
        Check::ok(NAME, found)
    })
}

async fn outbox(store: &Store) -> Result<Check, StoreError> {
    const NAME: &str = "outbox";
    let stats = store.platform().outbox_stats().await?;
    let (pending, dead) = (
        stats.count(OutboxStatus::Pending),
        stats.count(OutboxStatus::Dead),
    );
    let waits = stats
        .oldest_pending
        .map_or(Duration::ZERO, |at| SystemClock.now().since(at));
    let found = format!(
        "{pending} pending, oldest {} s, {dead} parked",
        waits.as_secs()
    );
    Ok(if dead > 0 {
        Check::warn(
            NAME,
            found,
            "see why with `caracal outbox list`, then `caracal outbox requeue`",
        )
    } else if waits > OLD_MESSAGE {
        Check::warn(
            NAME,
            found,
            "see whether the API and the Coordinator run and reach Redis",
        )
    } else {
        Check::ok(NAME, found)
    })
}

/// What the Audit role raised: tampering, lost or dead-lettered evidence.
async fn alerts(store: &Store) -> Result<Check, StoreError> {
    const NAME: &str = "evidence alerts";
    let (mut raised, mut newest) = (0_usize, None);
    let page = Page::first(100);
    for zone in store.platform().zone_ids().await? {
        let alerts = store.read(&zone).list_audit_alerts(&page).await?;
        raised += alerts.items.len();
        let latest = alerts.items.into_iter().next();
        newest = newest.into_iter().chain(latest).max_by_key(|a| a.raised_at);
    }
    Ok(match newest {
        None => Check::ok(NAME, "none"),
        Some(alert) => Check::warn(
            NAME,
            format!(
                "{raised}, the newest {} in zone {} at {}",
                alert.kind,
                alert.zone_id,
                alert.raised_at.to_rfc3339_seconds()
            ),
            "export the zone with `caracal audit export`, verify it, and investigate",
        ),
    })
}
