//! The embedded stack: five roles in one process, on one SQLite file and one local audit log.
//!
//! Every role gets plain values and the traits it needs; nothing here decides anything. Start order:
//! store, log, roles, listeners. Stop order: listeners drain, jobs end, the log's last events are
//! stored, the store closes.

mod adapters;
mod options;
mod outbox;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use caracal_api::{Api, ApiParts};
use caracal_audit::{Audit, AuditParts, StoreLedger};
use caracal_coordinator::Coordinator;
use caracal_core::{Clock, Random};
use caracal_crypto::KeyRing;
use caracal_crypto::client_secret::Peppers;
use caracal_evidence::log::Journal;
use caracal_gateway::{Gateway, GatewayDeps};
use caracal_http::ops::{Metrics, Ops};
use caracal_http::{MetricsAccess, Observed, ServeOptions};
use caracal_store::{Authority, Store};
use caracal_sts::{Sts, StsDependencies};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Role, Settings};
use crate::home::Home;

use adapters::{EvidenceOf, KeysOf};

/// How often recorded samples move into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// How long the last events may take to be stored at shutdown; what is not stored then is read from
/// the log at the next start.
const LAST_EVENTS: Duration = Duration::from_secs(5);

/// The stack could not be started.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error("the store: {0}")]
    Store(String),
    #[error("the audit log: {0}")]
    Journal(String),
    #[error("keys: {0}")]
    Keys(String),
    #[error("{role} can't listen on {address}: {source}; {variable} moves it", variable = role.listen_variable())]
    Listen {
        role: Role,
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("{0}")]
    Setup(String),
}

/// The running stack.
pub(crate) struct Stack {
    addresses: BTreeMap<String, SocketAddr>,
    issuer: String,
    listeners: CancellationToken,
    jobs: CancellationToken,
    serving: Vec<JoinHandle<()>>,
    working: Vec<JoinHandle<()>>,
    ingest: JoinHandle<()>,
    journal: Journal,
    store: Store,
}

impl Stack {
    /// Starts every role; returns when all listeners are bound and all roles can take traffic.
    pub(crate) async fn start(
        settings: &Settings,
        home: &Home,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StartError> {
        let metrics = Metrics::install().map_err(|error| StartError::Setup(error.to_string()))?;
        let listeners = bind(settings).await?;
        let issuer = options::issuer(settings, &listeners);
        let keys = options::key_ring(settings)?;
        let store = open_store(settings, home, &clock, &random).await?;
        let journal = open_journal(settings, home, &*random)?;
        let authority = Authority::new(store.clone(), caracal_store::AuthorityLimits::default());

        let audit = Audit::new(AuditParts {
            ledger: Arc::new(StoreLedger::new(store.clone())),
            journal: journal.clone(),
            producer_key: options::hmac_key(settings, "AUDIT_HMAC_KEY")?,
            checkpoint_key: options::checkpoint_key(settings, home)?,
            clock: clock.clone(),
            random: random.clone(),
            options: options::audit(settings),
        });
        let sts = Sts::new(
            options::sts(settings, &issuer),
            StsDependencies {
                clock: clock.clone(),
                random: random.clone(),
                store: store.clone(),
                authority: authority.clone(),
                journal: journal.clone(),
                key_ring: keys.clone(),
                secrets: options::secret_verifier(settings, &keys, &clock, &*random)?,
            },
        );
        let coordinator = Coordinator::new(
            options::coordinator(settings, &issuer, &keys)?,
            clock.clone(),
            random.clone(),
            authority.clone(),
            sts.clone(),
        );
        let gateway = Gateway::new(
            options::gateway(settings, &issuer, &listeners),
            GatewayDeps {
                clock: clock.clone(),
                random: random.clone(),
                authority: authority.clone(),
                journal: journal.clone(),
                keys: sts.clone(),
                sts: sts.clone(),
                metrics: metrics.clone(),
                marks: None,
                resolver: None,
            },
        );
        let api = Api::new(
            options::api(settings),
            ApiParts {
                store: store.clone(),
                journal: journal.clone(),
                keys: keys.clone(),
                peppers: peppers(&keys)?,
                zone_keys: Arc::new(KeysOf::new(keys.clone(), clock.clone(), random.clone())),
                evidence: Arc::new(EvidenceOf(audit.clone())),
                clock: clock.clone(),
                random: random.clone(),
                metrics: metrics.clone(),
            },
        );
        api.seed_tokens()
            .await
            .map_err(|error| StartError::Store(error.to_string()))?;

        let (stop_listeners, stop_jobs) = (CancellationToken::new(), CancellationToken::new());
        let ingest = tokio::spawn({
            let audit = audit.clone();
            async move { audit.run().await }
        });
        let mut working = sts.spawn_jobs(stop_jobs.clone());
        working.extend(coordinator.spawn_jobs(&stop_jobs));
        working.extend(gateway.spawn_jobs(stop_jobs.clone()));
        working.extend(api.spawn_jobs(stop_jobs.clone()));
        working.push(outbox::spawn(
            store.clone(),
            clock.clone(),
            settings,
            stop_jobs.clone(),
        )?);
        working.push(spawn_upkeep(metrics.clone(), stop_jobs.clone()));

        let access = MetricsAccess::new(settings.mode, settings.secret("METRICS_BEARER"));
        let sts_routes = sts.router().merge(
            Ops {
                readiness: sts.clone(),
                health_body: None,
                access: access.clone(),
                metrics: metrics.clone(),
                json: Some(Arc::new(move || sts.metrics_json())),
            }
            .routes(),
        );
        let audit_ops = Ops {
            readiness: audit.readiness(),
            health_body: None,
            access,
            metrics: metrics.clone(),
            json: Some(audit.json_metrics()),
        };
        let audit_routes = audit
            .router(settings.secret("AUDIT_ADMIN_TOKEN"))
            .merge(audit_ops.routes())
            .layer(Observed::new("audit", clock.clone(), random.clone(), false));

        let routers = [
            (Role::Api, api.router()),
            (Role::Sts, sts_routes),
            (Role::Audit, audit_routes),
            (
                Role::Coordinator,
                coordinator
                    .router()
                    .merge(coordinator.ops_router(metrics.clone())),
            ),
        ];
        let addresses = listeners.addresses();
        let serving = serve(settings, listeners, routers, &gateway, &stop_listeners);
        Ok(Self {
            addresses,
            issuer,
            listeners: stop_listeners,
            jobs: stop_jobs,
            serving,
            working,
            ingest,
            journal,
            store,
        })
    }

    /// Where each role listens.
    pub(crate) fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        self.addresses.clone()
    }

    /// The issuer of mandates.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Drains and stops everything; no acknowledged event is left only in memory.
    pub(crate) async fn stop(self) {
        self.listeners.cancel();
        for listener in self.serving {
            let _ = listener.await;
        }
        self.jobs.cancel();
        for job in self.working {
            let _ = job.await;
        }
        self.journal.close().await;
        if tokio::time::timeout(LAST_EVENTS, self.ingest)
            .await
            .is_err()
        {
            tracing::warn!("the last events stay in the log and are stored at the next start");
        }
        self.store.close().await;
    }
}

/// The bound listeners, before anything is served.
pub(crate) struct Listeners(BTreeMap<Role, TcpListener>);

impl Listeners {
    fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        let address = |(role, listener): (&Role, &TcpListener)| {
            Some((role.name().to_owned(), listener.local_addr().ok()?))
        };
        self.0.iter().filter_map(address).collect()
    }

    fn port(&self, role: Role) -> u16 {
        let bound = self
            .0
            .get(&role)
            .and_then(|listener| listener.local_addr().ok());
        bound.map_or(role.port(), |address| address.port())
    }

    fn take(&mut self, role: Role) -> Option<TcpListener> {
        self.0.remove(&role)
    }
}

async fn bind(settings: &Settings) -> Result<Listeners, StartError> {
    let mut listeners = BTreeMap::new();
    for role in Role::ALL {
        let address = settings.listen(role);
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| StartError::Listen {
                role,
                address,
                source,
            })?;
        listeners.insert(role, listener);
    }
    Ok(Listeners(listeners))
}

async fn open_store(
    settings: &Settings,
    home: &Home,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Result<Store, StartError> {
    let store = Store::open_sqlite(&home.database(), clock.clone(), random.clone())
        .await
        .map_err(|error| StartError::Store(error.to_string()))?;
    Ok(
        match settings
            .secret("AUDIT_HMAC_KEY")
            .map(|key| hex::decode(key.expose()))
        {
            Some(Ok(key)) => store.with_admin_audit_key(key.into()),
            _ => store,
        },
    )
}

fn open_journal(
    settings: &Settings,
    home: &Home,
    random: &dyn Random,
) -> Result<Journal, StartError> {
    let directory = settings
        .path("AUDIT_REPLAY_DIR")
        .unwrap_or_else(|| home.journal());
    let key = options::hmac_key(settings, "AUDIT_HMAC_KEY")?;
    let journal = Journal::open(&directory, options::journal(settings), key, random);
    journal.map_err(|error| StartError::Journal(error.to_string()))
}

fn peppers(keys: &KeyRing) -> Result<Peppers, StartError> {
    Peppers::derive(keys).map_err(|error| StartError::Keys(error.to_string()))
}

fn spawn_upkeep(metrics: Metrics, stop: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut due = tokio::time::interval(UPKEEP);
        loop {
            tokio::select! {
                _ = due.tick() => metrics.upkeep(),
                () = stop.cancelled() => break,
            }
        }
    })
}

fn serve(
    settings: &Settings,
    mut listeners: Listeners,
    routers: [(Role, Router); 4],
    gateway: &Arc<Gateway>,
    stop: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    let mut serving = Vec::new();
    for (role, router) in routers {
        if let Some(listener) = listeners.take(role) {
            let options = serve_options(settings, role);
            serving.push(tokio::spawn(caracal_http::serve(
                listener,
                router,
                options,
                stop.clone(),
            )));
        }
    }
    if let Some(listener) = listeners.take(Role::Gateway) {
        let (gateway, stop) = (gateway.clone(), stop.clone());
        serving.push(tokio::spawn(async move {
            if let Err(error) = gateway.serve(listener, stop).await {
                tracing::error!(%error, "the Gateway does not serve");
            }
        }));
    }
    serving
}

fn serve_options(settings: &Settings, role: Role) -> ServeOptions {
    match role {
        Role::Api | Role::Coordinator => ServeOptions {
            header_read_timeout: settings.millis("KEEP_ALIVE_TIMEOUT_MS"),
            drain: settings.millis("SHUTDOWN_GRACE_MS"),
            ..ServeOptions::default()
        },
        _ => ServeOptions {
            header_read_timeout: Duration::from_secs(60),
            ..ServeOptions::default()
        },
    }
}
