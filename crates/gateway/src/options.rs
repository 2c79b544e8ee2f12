//! What operators may set, with the documented defaults.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use caracal_core::{Mode, Secret};

/// A TLS key pair to terminate with.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// PEM certificate chain, leaf first.
    pub certificate: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
}

/// A network endpoint by name or address literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address literal, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// The Gateway's settings: already validated values, no parsing left to do.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// `ISSUER_URL`, byte for byte: the `iss` and the `aud` of every accepted mandate.
    pub issuer: Arc<str>,
    /// `CARACAL_MODE`.
    pub mode: Mode,
    /// `CARACAL_ADMIN_TOKEN`; without it the reload endpoint answers 404.
    pub admin_token: Option<Secret<String>>,
    /// `METRICS_BEARER`.
    pub metrics_bearer: Option<Secret<String>>,
    /// `STS_TIMEOUT`: one exchange, one key set.
    pub sts_timeout: Duration,
    /// `UPSTREAM_TIMEOUT`: from the end of the request to the response head.
    pub upstream_timeout: Duration,
    /// `READ_HEADER_TIMEOUT`: one request head, from its first byte.
    pub read_header_timeout: Duration,
    /// `READ_TIMEOUT`: one request body.
    pub read_timeout: Duration,
    /// `WRITE_TIMEOUT`: how long a caller may leave response bytes untaken.
    pub write_timeout: Duration,
    /// `STREAM_IDLE_TIMEOUT`: how long a body may be silent, in either direction.
    pub stream_idle_timeout: Duration,
    /// `IDLE_TIMEOUT`: how long a kept-alive connection waits for its next request.
    pub idle_timeout: Duration,
    /// `MAX_REQUEST_BYTES`.
    pub max_request_bytes: u64,
    /// Largest request head, bytes; over it the answer is 431.
    pub max_header_bytes: usize,
    /// `TLS_CERT_FILE` and `TLS_KEY_FILE`.
    pub tls: Option<TlsFiles>,
    /// `UPSTREAM_HOST_ALLOWLIST`, lower case; empty allows any host.
    pub upstream_host_allowlist: Vec<String>,
    /// `CARACAL_TLS_EXTRA_CA_FILE`: PEM roots beside the system's, for upstreams.
    pub extra_ca_file: Option<PathBuf>,
    /// `TRUST_PROXY`: whether the nearest hop's `X-Forwarded-For` and `-Proto` are believed.
    pub trust_proxy: bool,
    /// Longest wait for the freshness barrier.
    pub barrier_timeout: Duration,
    /// Longest time to judge a running stream again; no verdict in time ends the stream.
    pub rejudge_timeout: Duration,
    /// One TCP connect and one TLS handshake to an upstream address.
    pub connect_timeout: Duration,
    /// Concurrent requests to one upstream origin, shared fairly between the zones that call it; an
    /// eighth is kept for zones that come later.
    pub upstream_concurrency: usize,
    /// Requests of one zone that may wait for a place at one upstream origin.
    pub upstream_queue: usize,
    /// Longest wait for a place.
    pub upstream_queue_timeout: Duration,
    /// Idle connections kept to one upstream origin.
    pub upstream_idle_connections: usize,
    /// How long an idle upstream connection is kept.
    pub upstream_idle_timeout: Duration,
    /// How long judged addresses of a host name are used.
    pub dns_ttl: Duration,
    /// Replay marks held at once; past it calls are refused, never forgotten.
    pub replay_capacity: usize,
    /// Connections held at once.
    pub max_connections: usize,
    /// How long running requests may take once shutdown has begun.
    pub drain_timeout: Duration,
    /// TCP ports that this process listens on: no upstream on this machine may use them.
    pub own_ports: Vec<u16>,
    /// Endpoints that no upstream may be: databases, event stores, other roles.
    pub refused_endpoints: Vec<Endpoint>,
    /// Whether health, readiness, metrics and reload answer on the service port too.
    pub operations_on_service_port: bool,
}

impl GatewayOptions {
    /// The documented defaults for this issuer.
    #[must_use]
    pub fn new(issuer: &str) -> Self {
        Self {
            issuer: issuer.into(),
            mode: Mode::default(),
            admin_token: None,
            metrics_bearer: None,
            sts_timeout: Duration::from_secs(5),
            upstream_timeout: Duration::from_secs(30),
            read_header_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(45),
            write_timeout: Duration::from_secs(60),
            stream_idle_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(120),
            max_request_bytes: 10 * 1024 * 1024,
            max_header_bytes: 16 * 1024,
            tls: None,
            upstream_host_allowlist: Vec::new(),
            extra_ca_file: None,
            trust_proxy: false,
            barrier_timeout: Duration::from_secs(2),
            rejudge_timeout: Duration::from_millis(80),
            connect_timeout: Duration::from_secs(5),
            upstream_concurrency: 200,
            upstream_queue: 1_000,
            upstream_queue_timeout: Duration::from_secs(5),
            upstream_idle_connections: 100,
            upstream_idle_timeout: Duration::from_secs(90),
            dns_ttl: Duration::from_secs(30),
            replay_capacity: 4_000_000,
            max_connections: 20_000,
            drain_timeout: Duration::from_secs(14),
            own_ports: Vec::new(),
            refused_endpoints: Vec::new(),
            operations_on_service_port: true,
        }
    }
}
