//! From checked settings to each role's options.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use caracal_api::{ApiOptions, RateLimits};
use caracal_audit::AuditOptions;
use caracal_coordinator::CoordinatorOptions;
use caracal_core::{Clock, Random, Scope, Secret};
use caracal_crypto::client_secret::Peppers;
use caracal_crypto::derive::{Purpose, derive_hmac_key};
use caracal_crypto::{HmacKey, Kek, KeyRing, SecretVerifier};
use caracal_events::redis::{RedisAddress, RedisOptions};
use caracal_evidence::log::{Durability, Journal, JournalOptions};
use caracal_evidence::note::NoteKey;
use caracal_gateway::{GatewayOptions, TlsFiles};
use caracal_store::{PostgresOptions, ServiceRole, Store};
use caracal_sts::StsOptions;

use super::StartError;
use super::ground::Ground;
use super::listeners::Listeners;
use crate::config::{Role, Settings};
use crate::home::Home;

fn keys_error(error: impl std::fmt::Display) -> StartError {
    StartError::Keys(error.to_string())
}

/// The issuer: as configured, else where the STS listens.
pub(super) fn issuer(settings: &Settings, listeners: &Listeners) -> String {
    match settings.text("ISSUER_URL") {
        Some(issuer) => issuer.to_owned(),
        None => format!("http://localhost:{}", listeners.port(Role::Sts)),
    }
}

pub(super) fn key_ring(settings: &Settings) -> Result<Arc<KeyRing>, StartError> {
    let kek = |name| {
        settings
            .secret(name)
            .map(|hex| Kek::from_hex(&hex))
            .transpose()
            .map_err(keys_error)
    };
    let current =
        kek("SECRET_STORE_KEK")?.ok_or_else(|| keys_error("SECRET_STORE_KEK is not set"))?;
    Ok(Arc::new(KeyRing::new(
        current,
        kek("SECRET_STORE_KEK_PREVIOUS")?,
    )))
}

/// The role's database login and pool.
pub(super) fn postgres(
    settings: &Settings,
    role: Role,
    acting_as: ServiceRole,
) -> Result<PostgresOptions, StartError> {
    let url = settings.database(role);
    let url = url.ok_or_else(|| StartError::Store("DATABASE_URL is not set".to_owned()))?;
    let options = PostgresOptions {
        extra_ca: settings.path("CARACAL_TLS_EXTRA_CA_FILE"),
        application_name: format!("caracal-{role}"),
        ..PostgresOptions::new(url)
    };
    let options = options.acting_as(acting_as);
    Ok(match role {
        Role::Api | Role::Coordinator => PostgresOptions {
            max_connections: settings.count("DB_POOL_MAX"),
            connect_timeout: settings.millis("DB_CONNECTION_TIMEOUT_MS"),
            acquire_timeout: settings.millis("DB_CONNECTION_TIMEOUT_MS"),
            idle_timeout: settings.millis("DB_IDLE_TIMEOUT_MS"),
            statement_timeout: settings.millis("DB_STATEMENT_TIMEOUT_MS"),
            ..options
        },
        Role::Sts | Role::Gateway | Role::Audit => PostgresOptions {
            max_connections: settings.count("DB_MAX_CONNS"),
            min_connections: settings.count("DB_MIN_CONNS"),
            connect_timeout: settings.duration("DB_CONNECT_TIMEOUT"),
            idle_timeout: settings.duration("DB_MAX_CONN_IDLE"),
            max_lifetime: settings.duration("DB_MAX_CONN_LIFETIME"),
            ..options
        },
    })
}

/// How Redis is reached.
pub(super) fn redis(settings: &Settings, address: RedisAddress) -> RedisOptions {
    let or = |name, default: Duration| {
        let given = settings.duration(name);
        if given.is_zero() { default } else { given }
    };
    let usual = RedisOptions::new(address);
    RedisOptions {
        extra_ca_file: settings.path("CARACAL_TLS_EXTRA_CA_FILE"),
        connect_timeout: or("REDIS_DIAL_TIMEOUT", usual.connect_timeout),
        command_timeout: or("REDIS_READ_TIMEOUT", usual.command_timeout),
        ..usual
    }
}

pub(super) fn hmac_key(
    settings: &Settings,
    name: &'static str,
) -> Result<Option<HmacKey>, StartError> {
    settings
        .secret(name)
        .map(|hex| HmacKey::from_hex(&hex))
        .transpose()
        .map_err(keys_error)
}

/// The key that signs checkpoints: the configured one, or the home's own.
pub(super) fn checkpoint_key(settings: &Settings, home: &Home) -> Result<NoteKey, StartError> {
    let text = match settings.secret("AUDIT_CHECKPOINT_KEY") {
        Some(text) => text,
        None => std::fs::read_to_string(home.secret_path("auditCheckpointKey"))
            .map(|text| Secret::new(text.trim_end().to_owned()))
            .map_err(keys_error)?,
    };
    note_key(&text)
}

fn journal(settings: &Settings) -> JournalOptions {
    let durability = match settings.text("CARACAL_AUDIT_DURABILITY") {
        Some("disk") => Durability::Disk,
        _ => Durability::Process,
    };
    JournalOptions {
        durability,
        ..JournalOptions::default()
    }
}

fn note_key(text: &Secret<String>) -> Result<NoteKey, StartError> {
    let seed = hex::decode(text.expose())
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let seed = seed.ok_or_else(|| keys_error("AUDIT_CHECKPOINT_KEY is not 32 bytes of hex"))?;
    NoteKey::from_seed(&Secret::new(seed)).map_err(keys_error)
}

/// The key that signs a deployment's checkpoints: the configured one, or the one that its Audit
/// replicas share in the store.
pub(super) async fn shared_checkpoint_key(
    ground: &Ground<'_>,
    store: &Store,
) -> Result<NoteKey, StartError> {
    let settings = ground.settings;
    if let Some(text) = settings.secret("AUDIT_CHECKPOINT_KEY") {
        return note_key(&text);
    }
    let current = hmac_key(settings, "AUDIT_HMAC_KEY")?;
    let current =
        current.ok_or_else(|| keys_error("set AUDIT_HMAC_KEY, or AUDIT_CHECKPOINT_KEY"))?;
    let previous = hmac_key(settings, "AUDIT_HMAC_KEY_PREVIOUS")?;
    let (clock, random) = (&ground.clock, &ground.random);
    caracal_audit::shared_checkpoint_key(store, &current, previous.as_ref(), clock, random)
        .await
        .map_err(keys_error)
}

/// Opens the local audit log in `directory`.
pub(super) fn open_journal(
    settings: &Settings,
    directory: &Path,
    random: &dyn Random,
) -> Result<Journal, StartError> {
    let key = hmac_key(settings, "AUDIT_HMAC_KEY")?;
    let journal = Journal::open(directory, journal(settings), key, random);
    journal.map_err(|error| StartError::Journal(error.to_string()))
}

pub(super) fn audit(settings: &Settings) -> AuditOptions {
    let threshold = |name| {
        settings
            .text(name)
            .map(|_| u64::try_from(settings.integer(name)).unwrap_or(0))
    };
    let number = |name| u64::try_from(settings.integer(name)).unwrap_or(0);
    let hours = number("AUDIT_TAMPER_ROLLING_HOURS");
    AuditOptions {
        tamper_lookback: Duration::from_secs(hours.saturating_mul(60 * 60)),
        ready_lag_max: threshold("AUDIT_READY_LAG_MAX"),
        ready_oldest_max: threshold("AUDIT_READY_PEL_OLDEST_SECS_MAX").map(Duration::from_secs),
        ready_dead_max: threshold("AUDIT_READY_DLQ_MAX"),
        claim_idle: Duration::from_secs(number("AUDIT_CLAIM_IDLE_SECS")),
        max_deliveries: number("AUDIT_MAX_DELIVERIES"),
        retention_days: settings.integer("AUDIT_RETENTION_DAYS"),
        ..AuditOptions::default()
    }
}

pub(super) fn sts(settings: &Settings, issuer: &str) -> StsOptions {
    StsOptions {
        issuer: issuer.into(),
        control_audience: settings
            .text("CONTROL_AUDIENCE")
            .unwrap_or_default()
            .to_owned(),
        admin_token: settings.secret("STS_ADMIN_TOKEN"),
        mint_limit_per_minute: settings.count("STS_MINT_RATE_LIMIT_PER_MIN"),
        trust_proxy: settings.flag("TRUST_PROXY"),
    }
}

pub(super) fn secret_verifier(
    settings: &Settings,
    keys: &KeyRing,
    clock: &Arc<dyn Clock>,
    random: &dyn Random,
) -> Result<SecretVerifier, StartError> {
    let peppers = Peppers::derive(keys).map_err(keys_error)?;
    let slots = settings.size("STS_SECRET_VERIFY_CONCURRENCY");
    Ok(SecretVerifier::new(peppers, slots, clock.clone(), random))
}

pub(super) fn coordinator(
    settings: &Settings,
    issuer: &str,
    keys: Option<&KeyRing>,
) -> Result<CoordinatorOptions, StartError> {
    let previous = hmac_key(settings, "IDEMPOTENCY_HMAC_KEY_PREVIOUS")?;
    let (idempotency, previous) = match (hmac_key(settings, "IDEMPOTENCY_HMAC_KEY")?, keys) {
        (Some(key), _) => (key, previous),
        (None, Some(keys)) => {
            let derived = |kek| derive_hmac_key(kek, Purpose::Idempotency).map_err(keys_error);
            // Receipts from before a rotation of the key-encryption key are found under its subkey.
            let previous = match (previous, keys.previous()) {
                (Some(key), _) => Some(key),
                (None, kek) => kek.map(derived).transpose()?,
            };
            (derived(keys.current())?, previous)
        }
        (None, None) => {
            return Err(keys_error(
                "set IDEMPOTENCY_HMAC_KEY, or SECRET_STORE_KEK to derive it from",
            ));
        }
    };
    let days =
        |name| Duration::from_secs(86_400 * u64::try_from(settings.integer(name)).unwrap_or(0));
    let seconds = |name| Duration::from_secs(u64::try_from(settings.integer(name)).unwrap_or(0));
    Ok(CoordinatorOptions {
        mode: settings.mode,
        required_scope: Scope::new(settings.text("AGENT_COORDINATOR_SCOPE").unwrap_or_default()),
        operator_tokens: settings
            .secret("CARACAL_COORDINATOR_TOKEN")
            .into_iter()
            .collect(),
        metrics_bearer: settings.secret("METRICS_BEARER"),
        previous_idempotency_key: previous,
        max_sessions_per_zone: settings.count("MAX_AGENTS_PER_ZONE"),
        max_sessions_per_application: settings.count("MAX_AGENTS_PER_APP"),
        lease: seconds("SERVICE_AGENT_LEASE_SECONDS"),
        ttl_sweep_interval: settings.millis("TTL_SWEEP_INTERVAL_MS"),
        lease_sweep_interval: settings.millis("SERVICE_LEASE_SWEEP_INTERVAL_MS"),
        retention_interval: settings.millis("RETENTION_CLEANUP_INTERVAL_MS"),
        sweep_batch: settings.size("SWEEPER_BATCH_SIZE"),
        retention_batch: settings.size("RETENTION_CLEANUP_BATCH_SIZE"),
        session_retention: days("SESSION_RETENTION_DAYS"),
        delegation_retention: days("DELEGATION_RETENTION_DAYS"),
        outbox_retention: days("OUTBOX_RETENTION_DAYS"),
        receipt_retention: seconds("IDEMPOTENCY_RETENTION_SECONDS"),
        generated_receipt_retention: seconds("GENERATED_IDEMPOTENCY_RETENTION_SECONDS"),
        max_receipts_per_scope: settings.integer("IDEMPOTENCY_MAX_RECEIPTS_PER_SCOPE"),
        body_limit: settings.size("COORDINATOR_BODY_LIMIT_BYTES"),
        requests_per_minute: settings.count("COORDINATOR_RATE_LIMIT_PER_MIN"),
        verifications_per_minute: settings.count("VERIFY_RATE_LIMIT_PER_MIN"),
        ready_checks_per_minute: settings.count("READY_RATE_LIMIT_PER_MIN"),
        trust_proxy: settings.flag("TRUST_PROXY"),
        ..CoordinatorOptions::new(issuer, idempotency)
    })
}

pub(super) fn gateway(settings: &Settings, issuer: &str, listeners: &Listeners) -> GatewayOptions {
    let tls = match (
        settings.path("TLS_CERT_FILE"),
        settings.path("TLS_KEY_FILE"),
    ) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        _ => None,
    };
    GatewayOptions {
        mode: settings.mode,
        admin_token: settings.secret("CARACAL_ADMIN_TOKEN"),
        metrics_bearer: settings.secret("METRICS_BEARER"),
        sts_timeout: settings.duration("STS_TIMEOUT"),
        upstream_timeout: settings.duration("UPSTREAM_TIMEOUT"),
        read_header_timeout: settings.duration("READ_HEADER_TIMEOUT"),
        read_timeout: settings.duration("READ_TIMEOUT"),
        write_timeout: settings.duration("WRITE_TIMEOUT"),
        stream_idle_timeout: settings.duration("STREAM_IDLE_TIMEOUT"),
        idle_timeout: settings.duration("IDLE_TIMEOUT"),
        max_request_bytes: u64::try_from(settings.integer("MAX_REQUEST_BYTES")).unwrap_or(0),
        tls,
        upstream_host_allowlist: settings.list("UPSTREAM_HOST_ALLOWLIST"),
        extra_ca_file: settings.path("CARACAL_TLS_EXTRA_CA_FILE"),
        trust_proxy: settings.flag("TRUST_PROXY"),
        operations_on_service_port: !listeners.has_operations(),
        own_ports: Role::ALL
            .into_iter()
            .map(|role| listeners.port(role))
            .collect(),
        ..GatewayOptions::new(issuer)
    }
}

pub(super) fn api(settings: &Settings) -> ApiOptions {
    let seconds = |name| Duration::from_secs(u64::try_from(settings.integer(name)).unwrap_or(0));
    ApiOptions {
        mode: settings.mode,
        admin_token: settings.secret("CARACAL_ADMIN_TOKEN"),
        metrics_bearer: settings.secret("METRICS_BEARER"),
        body_limit: settings.size("API_BODY_LIMIT_BYTES"),
        request_timeout: settings.millis("REQUEST_TIMEOUT_MS"),
        rates: RateLimits {
            v1: settings.count("API_V1_RATE_LIMIT_PER_MIN"),
            auth_failures: settings.count("ADMIN_AUTH_FAIL_LIMIT_PER_MIN"),
            ready: settings.count("READY_RATE_LIMIT_PER_MIN"),
        },
        last_used_debounce: seconds("ADMIN_TOKEN_LAST_USED_DEBOUNCE_SEC"),
        max_resources_per_zone: u64::try_from(settings.integer("API_MAX_RESOURCES_PER_ZONE"))
            .unwrap_or(0),
        ready_dead_outbox_max: settings
            .text("API_READY_OUTBOX_DEAD_MAX")
            .map(|_| u64::try_from(settings.integer("API_READY_OUTBOX_DEAD_MAX")).unwrap_or(0)),
        control_audience: settings
            .text("CONTROL_AUDIENCE")
            .unwrap_or_default()
            .to_owned(),
        trust_proxy: settings.flag("TRUST_PROXY"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use caracal_core::Mode;

    use super::*;
    use crate::config::Environment;

    const OLD: &str = "8affeb86aaed33bfa011aafdd6b56492c518074449d71a505cb490a3ce5562f3";
    const NEW: &str = "30c18d2f7fd1c40a95e2ce1bf55303c33917ea3adf94885182cfdf623d1422a9";

    fn of(pairs: &[(&str, &str)]) -> CoordinatorOptions {
        let mut environment = Environment::default();
        for (name, value) in pairs {
            environment.set(name, *value);
        }
        let roles = BTreeSet::from([Role::Api, Role::Coordinator]);
        let settings = Settings::load(&environment, &roles, Mode::Dev, true).unwrap();
        let ring = key_ring(&settings).unwrap();
        coordinator(&settings, "https://sts.example", Some(&ring)).unwrap()
    }

    #[test]
    fn receipts_from_before_a_rotation_of_the_key_encryption_key_are_still_found() {
        let before = of(&[("SECRET_STORE_KEK", OLD)]);
        let during = of(&[
            ("SECRET_STORE_KEK", NEW),
            ("SECRET_STORE_KEK_PREVIOUS", OLD),
        ]);
        let digest = |key: &HmacKey| key.sign(b"a key of a caller");
        assert_ne!(
            digest(&during.idempotency_key),
            digest(&before.idempotency_key)
        );
        let previous = during.previous_idempotency_key.as_ref().map(digest);
        assert_eq!(previous, Some(digest(&before.idempotency_key)));
    }

    #[test]
    fn a_key_of_its_own_does_not_change_with_the_key_encryption_key() {
        let own = ("IDEMPOTENCY_HMAC_KEY", OLD);
        let rotating = [
            ("SECRET_STORE_KEK", NEW),
            ("SECRET_STORE_KEK_PREVIOUS", OLD),
        ];
        let during = of(&[own, rotating[0], rotating[1]]);
        assert!(during.previous_idempotency_key.is_none());
    }
}
