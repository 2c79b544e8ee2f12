//! The table of variables.

use std::fmt;

/// A role of the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    Api,
    Coordinator,
    Sts,
    Gateway,
    Audit,
}

impl Role {
    pub(crate) const ALL: [Self; 5] = [
        Self::Api,
        Self::Sts,
        Self::Gateway,
        Self::Audit,
        Self::Coordinator,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Coordinator => "coordinator",
            Self::Sts => "sts",
            Self::Gateway => "gateway",
            Self::Audit => "audit",
        }
    }

    /// The port that clients, charts and probes expect.
    pub(crate) const fn port(self) -> u16 {
        match self {
            Self::Api => 3000,
            Self::Coordinator => 4000,
            Self::Sts => 8080,
            Self::Gateway => 8081,
            Self::Audit => 9090,
        }
    }

    /// The variable that gives the role a database login of its own.
    pub(crate) const fn database_variable(self) -> &'static str {
        match self {
            Self::Api => "CARACAL_API_DATABASE_URL",
            Self::Coordinator => "CARACAL_COORDINATOR_DATABASE_URL",
            Self::Sts => "CARACAL_STS_DATABASE_URL",
            Self::Gateway => "CARACAL_GATEWAY_DATABASE_URL",
            Self::Audit => "CARACAL_AUDIT_DATABASE_URL",
        }
    }

    /// The variable that moves the role's listener, `address:port`.
    pub(crate) const fn listen_variable(self) -> &'static str {
        match self {
            Self::Api => "CARACAL_API_LISTEN",
            Self::Coordinator => "CARACAL_COORDINATOR_LISTEN",
            Self::Sts => "CARACAL_STS_LISTEN",
            Self::Gateway => "CARACAL_GATEWAY_LISTEN",
            Self::Audit => "CARACAL_AUDIT_LISTEN",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Any non-empty text.
    Text,
    /// Any non-empty text that is never shown.
    Secret,
    /// Hex of at least 32 bytes, never shown.
    HexKey,
    /// Hex of exactly 32 bytes without a weak pattern, never shown.
    Kek,
    /// A whole number in this range.
    Integer { min: i64, max: i64 },
    /// `1/true/yes/on` or `0/false/no/off`.
    Flag,
    /// `250ms`, `30s`, `5m`, `1h`; positive.
    Duration,
    /// An absolute http or https URL without user info, query or fragment.
    Url,
    /// A connection URL of one of these schemes, never shown.
    Connection(&'static [&'static str]),
    /// A comma list.
    List,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A file or directory path.
    Path,
    /// `address:port`.
    Listen,
}

impl Kind {
    pub(crate) fn is_secret(self) -> bool {
        matches!(
            self,
            Self::Secret | Self::HexKey | Self::Kek | Self::Connection(_)
        )
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Secret => "secret",
            Self::HexKey => "hex key",
            Self::Kek => "256-bit hex key",
            Self::Integer { .. } => "integer",
            Self::Flag => "flag",
            Self::Duration => "duration",
            Self::Url => "url",
            Self::Connection(_) => "connection url",
            Self::List => "list",
            Self::Word(_) => "word",
            Self::Path => "path",
            Self::Listen => "address:port",
        }
    }
}

/// When a value must be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Never; no default either.
    Optional,
    /// Used when unset.
    Default(&'static str),
    /// Always.
    Required,
    /// In `rc` and `stable`.
    Published,
    /// By the roles apart; the embedded stack provides its own.
    Apart,
}

/// One variable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    pub(crate) roles: &'static [Role],
    pub(crate) kind: Kind,
    pub(crate) need: Need,
    /// Whether `NAME_FILE` is read.
    pub(crate) file: bool,
    pub(crate) about: &'static str,
}

use Kind::{
    Connection, Duration, Flag, HexKey, Integer, Kek, List, Listen, Path, Secret, Text, Url, Word,
};
use Need::{Apart, Default, Optional, Published, Required};
use Role::{Api, Audit, Coordinator, Gateway, Sts};

const ALL: &[Role] = &Role::ALL;
/// Read by tools, by no role.
const NOBODY: &[Role] = &[];
const DATA: &[Role] = &[Sts, Gateway, Audit];
const PLANE: &[Role] = &[Api, Coordinator];
const POSTGRES: Kind = Connection(&["postgres", "postgresql"]);
const REDIS_SCHEMES: &[&str] = &[
    "redis",
    "rediss",
    "unix",
    "redis-sentinel",
    "rediss-sentinel",
    "redis-cluster",
    "rediss-cluster",
];
const POSITIVE: Kind = Integer {
    min: 1,
    max: i64::MAX,
};
const COUNT: Kind = Integer {
    min: 0,
    max: i64::MAX,
};

const fn row(
    name: &'static str,
    roles: &'static [Role],
    kind: Kind,
    need: Need,
    about: &'static str,
) -> Variable {
    Variable {
        name,
        roles,
        kind,
        need,
        file: false,
        about,
    }
}

const fn file(
    name: &'static str,
    roles: &'static [Role],
    kind: Kind,
    need: Need,
    about: &'static str,
) -> Variable {
    Variable {
        name,
        roles,
        kind,
        need,
        file: true,
        about,
    }
}

#[rustfmt::skip]
pub(crate) static VARIABLES: &[Variable] = &[
    row("CARACAL_MODE", ALL, Word(&["dev", "rc", "stable"]), Optional, "Deployment mode. Unset: stable for `serve`, dev for `up`."),
    row("PORT", ALL, Integer { min: 1, max: 65_535 }, Optional, "The role's own port; any other value is refused. Only for a role alone."),
    row("CARACAL_OPS_PORT", ALL, Integer { min: 1, max: 65_535 }, Optional, "Moves health, readiness and metrics to a port of their own. Only for a role alone."),
    row("HOST", ALL, Text, Optional, "Listen address. Unset: 0.0.0.0 in rc and stable, 127.0.0.1 in dev."),
    row("CARACAL_API_LISTEN", &[Api], Listen, Optional, "Moves the Admin API's listener."),
    row("CARACAL_COORDINATOR_LISTEN", &[Coordinator], Listen, Optional, "Moves the Coordinator's listener."),
    row("CARACAL_STS_LISTEN", &[Sts], Listen, Optional, "Moves the STS's listener."),
    row("CARACAL_GATEWAY_LISTEN", &[Gateway], Listen, Optional, "Moves the Gateway's listener."),
    row("CARACAL_AUDIT_LISTEN", &[Audit], Listen, Optional, "Moves the Audit role's listener."),
    file("DATABASE_URL", ALL, POSTGRES, Optional, "PostgreSQL. The embedded stack keeps its own SQLite file."),
    file("CARACAL_API_DATABASE_URL", &[Api], POSTGRES, Optional, "The Admin API's own login. Unset: DATABASE_URL."),
    file("CARACAL_STS_DATABASE_URL", &[Sts], POSTGRES, Optional, "The STS's own login. Unset: DATABASE_URL."),
    file("CARACAL_GATEWAY_DATABASE_URL", &[Gateway], POSTGRES, Optional, "The Gateway's own login. Unset: DATABASE_URL."),
    file("CARACAL_AUDIT_DATABASE_URL", &[Audit], POSTGRES, Optional, "The Audit role's own login. Unset: DATABASE_URL."),
    file("CARACAL_COORDINATOR_DATABASE_URL", &[Coordinator], POSTGRES, Optional, "The Coordinator's own login. Unset: DATABASE_URL."),
    file("REDIS_URL", ALL, Connection(REDIS_SCHEMES), Apart, "Redis. The embedded stack needs none."),
    row("ISSUER_URL", &[Sts, Gateway, Coordinator], Url, Apart, "Issuer of mandates, byte for byte as clients are configured. Embedded: http://localhost:8080."),
    row("STS_URL", &[Gateway, Coordinator, Api], Url, Optional, "Where the STS answers. A Gateway without an STS in its process needs it."),
    row("CARACAL_GATEWAY_URL", &[Api], Url, Optional, "Where the Gateway answers."),
    row("CARACAL_COORDINATOR_URL", &[Api], Url, Optional, "Where the Coordinator answers."),

    file("SECRET_STORE_KEK", &[Api, Sts], Kek, Required, "Key-encryption key of everything sealed at rest."),
    file("SECRET_STORE_KEK", &[Coordinator], Kek, Optional, "Derives IDEMPOTENCY_HMAC_KEY where that is unset."),
    file("SECRET_STORE_KEK_PREVIOUS", &[Api, Sts], Kek, Optional, "The key before the last rotation; opens, never seals."),
    file("SECRET_STORE_KEK_PREVIOUS", &[Coordinator], Kek, Optional, "Derives the key of receipts from before the last rotation, where IDEMPOTENCY_HMAC_KEY is unset."),
    file("AUDIT_HMAC_KEY", ALL, HexKey, Published, "Signs audit events."),
    file("AUDIT_HMAC_KEY_PREVIOUS", &[Audit], HexKey, Optional, "The key before the last rotation; opens the shared checkpoint key once."),
    file("STREAMS_HMAC_KEY", PLANE, HexKey, Published, "Signs stream messages."),
    file("GATEWAY_STS_HMAC_KEY", &[Gateway, Sts, Api], HexKey, Published, "Authenticates the Gateway to the STS."),
    file("GATEWAY_STS_HMAC_KEY_PREVIOUS", &[Sts], HexKey, Optional, "The key before the last rotation; Gateways that still have it are heard."),
    file("IDEMPOTENCY_HMAC_KEY", &[Coordinator], HexKey, Optional, "Digests idempotency keys. Unset: derived from SECRET_STORE_KEK."),
    file("IDEMPOTENCY_HMAC_KEY_PREVIOUS", &[Coordinator], HexKey, Optional, "The key before the last rotation."),
    file("AUDIT_CHECKPOINT_KEY", &[Audit], HexKey, Optional, "Signs evidence checkpoints; no producer holds it. Unset: the Audit role keeps one in the store. Embedded: in the home directory."),
    file("CARACAL_ADMIN_TOKEN", &[Api, Gateway], Secret, Optional, "Bootstrap admin token; seeds the console tokens. At least 32 characters."),
    file("CARACAL_COORDINATOR_TOKEN", &[Coordinator], Secret, Optional, "Operator token of the Coordinator."),
    file("STS_ADMIN_TOKEN", &[Sts], Secret, Optional, "Enables signing-key rotation."),
    file("AUDIT_ADMIN_TOKEN", &[Audit], Secret, Optional, "Enables /api/audit."),
    file("METRICS_BEARER", ALL, Secret, Optional, "Bearer of the metrics routes. Unset: open in dev, closed otherwise."),
    row("CONTROL_AUDIENCE", &[Api, Sts], Text, Default("caracal-control"), "Identifier of the protected control resource."),
    row("AGENT_COORDINATOR_SCOPE", &[Coordinator], Text, Default("agent:lifecycle"), "Scope that the Coordinator demands."),

    row("CARACAL_AUDIT_DURABILITY", &[Sts, Gateway, Api, Coordinator], Word(&["process", "disk"]), Default("process"), "When an audit event counts as kept: written to the kernel, or synced to disk."),
    row("AUDIT_REPLAY_DIR", &[Sts, Gateway, Api], Path, Default("/var/lib/caracal/audit-replay"), "Directory of the local audit log. Embedded: in the home directory."),
    row("AUDIT_RETENTION_DAYS", &[Audit, Api], POSITIVE, Default("365"), "Longest retention of evidence."),
    row("AUDIT_MAX_DELIVERIES", &[Audit], POSITIVE, Default("8"), "Deliveries before an entry is dead-lettered."),
    row("AUDIT_CLAIM_IDLE_SECS", &[Audit], POSITIVE, Default("30"), "Idle time before an entry is reclaimed."),
    row("AUDIT_TAMPER_ROLLING_HOURS", &[Audit], POSITIVE, Default("4"), "Look-back of the hourly tamper sweep."),
    row("AUDIT_READY_DLQ_MAX", &[Audit], POSITIVE, Optional, "Readiness threshold of dead-lettered entries."),
    row("AUDIT_READY_LAG_MAX", &[Audit], POSITIVE, Optional, "Readiness threshold of the ingest lag, events."),
    row("AUDIT_READY_PEL_OLDEST_SECS_MAX", &[Audit], POSITIVE, Optional, "Readiness threshold of the oldest pending entry."),

    row("STS_MINT_RATE_LIMIT_PER_MIN", &[Sts, Api], POSITIVE, Default("1000"), "Mints a minute for each zone, resource and application."),
    row("STS_SECRET_VERIFY_CONCURRENCY", &[Sts], Integer { min: 1, max: 64 }, Default("2"), "Slots for deriving operator-chosen secrets."),
    row("MAX_GRANT_TTL_SECONDS", &[Sts], POSITIVE, Default("3600"), "Cap of provider token lifetimes."),
    row("OPA_POLL_SECONDS", &[Sts], Integer { min: 1, max: 300 }, Default("60"), "Interval of the policy freshness check that backs the barrier."),
    row("CARACAL_PRIVATE_EGRESS_HOSTS", &[Sts, Api], List, Optional, "Hosts that may resolve to private addresses."),
    row("CARACAL_TLS_EXTRA_CA_FILE", ALL, Path, Optional, "PEM roots added to the system's for outbound TLS."),
    row("CARACAL_SECRET_BACKEND", &[Api, Sts], Word(&["builtin"]), Default("builtin"), "Where sealed secrets are kept."),

    row("STS_TIMEOUT", &[Gateway], Duration, Default("5s"), "Budget of one exchange."),
    row("UPSTREAM_TIMEOUT", &[Gateway], Duration, Default("30s"), "Time to the upstream's response head."),
    row("READ_HEADER_TIMEOUT", &[Gateway], Duration, Default("5s"), "Time for a request head."),
    row("READ_TIMEOUT", &[Gateway], Duration, Default("45s"), "Time for a whole request; more than STS_TIMEOUT plus UPSTREAM_TIMEOUT."),
    row("IDLE_TIMEOUT", &[Gateway], Duration, Default("120s"), "Idle time of a kept-alive connection."),
    row("WRITE_TIMEOUT", &[Gateway], Duration, Default("60s"), "Longest pause of a caller that reads."),
    row("STREAM_IDLE_TIMEOUT", &[Gateway], Duration, Default("60s"), "Longest pause of an upstream body."),
    row("MAX_REQUEST_BYTES", &[Gateway], POSITIVE, Default("10485760"), "Largest request body."),
    row("TLS_CERT_FILE", &[Gateway], Path, Optional, "Certificate chain; with TLS_KEY_FILE the Gateway serves TLS."),
    row("TLS_KEY_FILE", &[Gateway], Path, Optional, "Private key of TLS_CERT_FILE."),
    row("UPSTREAM_HOST_ALLOWLIST", &[Gateway], List, Optional, "Upstream hosts; empty allows any."),
    row("JTI_FAIL_OPEN", &[Gateway], Flag, Default("false"), "Accepted for compatibility; true is refused in every mode."),
    row("TRUST_PROXY", &[Gateway, Api, Coordinator], Flag, Default("false"), "The nearest proxy's X-Forwarded-For entry is the peer."),

    row("MAX_AGENTS_PER_ZONE", &[Coordinator], POSITIVE, Default("50"), "Live Sessions of a zone."),
    row("MAX_AGENTS_PER_APP", &[Coordinator], POSITIVE, Default("200"), "Live Sessions of an application."),
    row("SERVICE_AGENT_LEASE_SECONDS", &[Coordinator], POSITIVE, Default("120"), "Length of a service lease."),
    row("OUTBOX_INTERVAL_MS", PLANE, POSITIVE, Default("1000"), "Fallback poll of the outbox."),
    row("OUTBOX_BATCH_SIZE", PLANE, POSITIVE, Default("50"), "Outbox rows a batch."),
    row("OUTBOX_MAX_ATTEMPTS", PLANE, POSITIVE, Default("10"), "Attempts before a row is parked."),
    row("STREAMS_MAXLEN", PLANE, POSITIVE, Default("100000"), "Approximate length of a stream."),
    row("TTL_SWEEP_INTERVAL_MS", &[Coordinator], POSITIVE, Default("60000"), "Pause of the lifetime sweeper."),
    row("SERVICE_LEASE_SWEEP_INTERVAL_MS", &[Coordinator], POSITIVE, Default("30000"), "Pause of the lease sweeper."),
    row("DEADLINE_SWEEP_INTERVAL_MS", &[Coordinator], POSITIVE, Default("5000"), "Pause of the deadline sweeper."),
    row("SWEEPER_BATCH_SIZE", &[Coordinator], POSITIVE, Default("500"), "Rows a sweep."),
    row("RETENTION_CLEANUP_INTERVAL_MS", &[Coordinator], POSITIVE, Default("900000"), "Pause of the retention cleaner."),
    row("RETENTION_CLEANUP_BATCH_SIZE", &[Coordinator], POSITIVE, Default("500"), "Rows a clean-up."),
    row("SESSION_RETENTION_DAYS", &[Coordinator], POSITIVE, Default("90"), "Days that ended Sessions are kept."),
    row("DELEGATION_RETENTION_DAYS", &[Coordinator], POSITIVE, Default("90"), "Days that ended delegations are kept."),
    row("OUTBOX_RETENTION_DAYS", &[Coordinator], POSITIVE, Default("7"), "Days that published outbox rows are kept."),
    row("IDEMPOTENCY_RETENTION_SECONDS", &[Coordinator], Integer { min: 3600, max: i64::MAX }, Default("604800"), "Life of a caller's idempotency key."),
    row("GENERATED_IDEMPOTENCY_RETENTION_SECONDS", &[Coordinator], Integer { min: 3600, max: i64::MAX }, Default("86400"), "Life of a generated idempotency key."),
    row("IDEMPOTENCY_MAX_RECEIPTS_PER_SCOPE", &[Coordinator], Integer { min: 100, max: i64::MAX }, Default("10000"), "Receipts of one application and operation."),
    row("COORDINATOR_BODY_LIMIT_BYTES", &[Coordinator], Integer { min: 1024, max: 16_777_216 }, Default("262144"), "Largest request body."),
    row("COORDINATOR_RATE_LIMIT_PER_MIN", &[Coordinator], COUNT, Default("600"), "Requests a minute from one address; 0 is off."),
    row("INVOCATION_RATE_LIMIT_PER_MIN", &[Coordinator], COUNT, Default("120"), "Invocation writes a minute; 0 is off."),
    row("VERIFY_RATE_LIMIT_PER_MIN", &[Coordinator], COUNT, Default("60"), "Calls of /v1/verify a minute from one address; 0 is off."),
    row("READY_RATE_LIMIT_PER_MIN", PLANE, COUNT, Default("120"), "Readiness calls a minute from one address; 0 is off."),
    row("JWKS_CACHE_MAX", &[Coordinator], POSITIVE, Default("256"), "Zones whose key sets are cached."),

    row("API_BODY_LIMIT_BYTES", &[Api], Integer { min: 1, max: 16_777_216 }, Default("1048576"), "Largest request body."),
    row("API_V1_RATE_LIMIT_PER_MIN", &[Api], COUNT, Default("600"), "Requests a minute, from one address and by one token; 0 is off."),
    row("ADMIN_AUTH_FAIL_LIMIT_PER_MIN", &[Api], COUNT, Default("60"), "Failed authentications a minute from one address; 0 is off."),
    row("ADMIN_TOKEN_LAST_USED_DEBOUNCE_SEC", &[Api], COUNT, Default("60"), "Pause between two updates of a token's last use."),
    row("API_MAX_RESOURCES_PER_ZONE", &[Api], COUNT, Default("100000"), "Resources of a zone; 0 is off."),
    row("API_READY_OUTBOX_DEAD_MAX", &[Api], COUNT, Optional, "Parked outbox rows beyond which the role is not ready. Unset: they are reported by metrics alone."),
    row("API_ENABLE_DOCS", &[Api], Flag, Optional, "API documentation, in dev only."),

    row("REQUEST_TIMEOUT_MS", PLANE, POSITIVE, Default("30000"), "Longest time of one request."),
    row("KEEP_ALIVE_TIMEOUT_MS", PLANE, POSITIVE, Default("75000"), "Idle time of a kept-alive connection."),
    row("SHUTDOWN_GRACE_MS", PLANE, POSITIVE, Default("15000"), "How long shutdown waits for running requests."),
    row("DB_MAX_CONNS", DATA, POSITIVE, Default("20"), "Largest connection pool."),
    row("DB_MIN_CONNS", DATA, COUNT, Default("2"), "Smallest connection pool."),
    row("DB_MAX_CONN_LIFETIME", DATA, Duration, Default("30m"), "Life of a database connection."),
    row("DB_MAX_CONN_IDLE", DATA, Duration, Default("5m"), "Idle time of a database connection."),
    row("DB_HEALTH_CHECK_PERIOD", DATA, Duration, Default("30s"), "Pause between connection checks."),
    row("DB_CONNECT_TIMEOUT", DATA, Duration, Default("10s"), "Time to connect to the database."),
    row("DB_POOL_MAX", PLANE, POSITIVE, Default("20"), "Largest connection pool."),
    row("DB_STATEMENT_TIMEOUT_MS", PLANE, POSITIVE, Default("10000"), "Longest statement."),
    row("DB_IDLE_IN_TX_TIMEOUT_MS", &[Api], POSITIVE, Default("30000"), "Longest pause inside a transaction."),
    row("DB_CONNECTION_TIMEOUT_MS", PLANE, POSITIVE, Default("5000"), "Time to connect to the database."),
    row("DB_IDLE_TIMEOUT_MS", PLANE, POSITIVE, Default("30000"), "Idle time of a database connection."),
    row("REDIS_DIAL_TIMEOUT", &[Gateway], Duration, Default("5s"), "Time to connect to Redis."),
    row("REDIS_READ_TIMEOUT", &[Gateway], Duration, Default("3s"), "Time for a Redis answer."),
    row("REDIS_WRITE_TIMEOUT", &[Gateway], Duration, Default("3s"), "Time to send to Redis."),
    row("REDIS_POOL_SIZE", &[Gateway], POSITIVE, Default("20"), "Redis connections."),
    row("REDIS_MIN_IDLE_CONNS", &[Gateway], COUNT, Default("2"), "Idle Redis connections."),
    row("REDIS_POOL_TIMEOUT", &[Gateway], Duration, Default("4s"), "Wait for a Redis connection."),

    file("CARACAL_MIGRATION_DATABASE_URL", NOBODY, POSTGRES, Optional, "The administrative login of migrate, secrets reseal, backup and restore. Unset: DATABASE_URL."),
    file("CARACAL_API_DB_PASSWORD", NOBODY, Secret, Optional, "With it, migrate lets the Admin API's database role log in."),
    file("CARACAL_STS_DB_PASSWORD", NOBODY, Secret, Optional, "With it, migrate lets the STS's database role log in."),
    file("CARACAL_GATEWAY_DB_PASSWORD", NOBODY, Secret, Optional, "With it, migrate lets the Gateway's database role log in."),
    file("CARACAL_AUDIT_DB_PASSWORD", NOBODY, Secret, Optional, "With it, migrate lets the Audit role's database role log in."),
    file("CARACAL_COORDINATOR_DB_PASSWORD", NOBODY, Secret, Optional, "With it, migrate lets the Coordinator's database role log in."),
    row("MIGRATION_CONNECT_RETRIES", NOBODY, Integer { min: 0, max: 3_600 }, Default("30"), "How often migrate asks a database that does not answer yet."),
    row("MIGRATION_CONNECT_SLEEP_SECONDS", NOBODY, Integer { min: 0, max: 3_600 }, Default("1"), "Pause between."),
    row("HEALTH_HOST", NOBODY, Text, Optional, "The IP address that healthcheck asks. Unset: HOST, or the loopback."),
    row("HEALTH_PATH", NOBODY, Text, Default("/health"), "What healthcheck asks for without --ready."),
    row("HEALTH_TIMEOUT_MS", NOBODY, POSITIVE, Default("2000"), "The longest that healthcheck waits for an answer."),

    row("LOG_LEVEL", ALL, Word(&["debug", "info", "warn", "error"]), Default("info"), "Least level that is logged."),
    row("CARACAL_ENV", ALL, Text, Optional, "Environment name in log lines."),
    row("INSECURE_STS", ALL, Flag, Optional, "Refused in rc and stable."),
    row("INSECURE_HTTP", ALL, Flag, Optional, "Refused in rc and stable."),
];
