//! Roles on PostgreSQL and Redis: some of the five in this process, the others elsewhere.
//!
//! Each role has a database login, or at least a database role, of its own, and so a store of its own.
//! Roles in one process call each other; roles apart ask over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use caracal_audit::{Audit, AuditOptions, AuditParts, RedisQueue, Source, StoreLedger};
use caracal_core::id::EventId;
use caracal_core::{Clock, Random, Secret};
use caracal_crypto::KeyRing;
use caracal_events::redis::{
    Redis, RedisAddress, RedisMarks, RedisNonces, RedisPublisher, SharedWindow, StreamWriter,
};
use caracal_evidence::log::Journal;
use caracal_evidence::ship::{Shipper, ShipperOptions, ShipperParts};
use caracal_gateway::{HttpExchange, HttpExchangeDeps, HttpExchangeOptions, StsUrl};
use caracal_http::Dependencies;
use caracal_http::ops::Metrics;
use caracal_roles::{Exchange, KeySource, StoredKeys};
use caracal_store::{OpenError, ServiceRole, Store, StoreError};
use caracal_sts::{GatewayLeg, Sts};
use tokio_util::sync::CancellationToken;

use super::ground::{Footing, Ground, api_routers};
use super::listeners::{Listeners, Routers};
use super::shared::{
    AuditStream, OwnEvidence, RedisNeeded, SharedMarks, SharedMints, SharedNonces, StoredEvidence,
};
use super::stack::{Stack, spawn_upkeep};
use super::{StartError, options, outbox};
use crate::config::{Role, Settings};

/// How long stores may take to answer at the start, before the process gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// How long evidence is let gather on the stream: storing costs a dozen statements however much it is.
const BATCH_LINGER: Duration = Duration::from_millis(150);

/// How long the Audit role may take to store what it has read when it stops.
const LAST_BATCH: Duration = Duration::from_secs(5);

/// The window of mints, and how many triples of zone, resource and application are counted at a time.
const MINT_WINDOW: Duration = Duration::from_secs(60);
const MINT_KEYS: usize = 65_536;

/// Starts the roles; returns when their listeners are bound and they can take traffic.
pub(crate) async fn start(
    settings: &Settings,
    roles: &BTreeSet<Role>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<Stack, StartError> {
    let metrics = Metrics::install().map_err(|error| StartError::Setup(error.to_string()))?;
    let mut listeners = Listeners::bind(settings, roles).await?;
    let redis = connect_redis(settings).await?;
    let ground = Ground {
        settings,
        clock,
        random,
        metrics,
        issuer: options::issuer(settings, &listeners),
        dependencies: Dependencies::new(vec![Arc::new(RedisNeeded(redis.clone()))]),
    };
    let mut process = Process::new(&ground, roles, redis).await?;
    process.addresses = listeners.addresses();
    for role in [
        Role::Sts,
        Role::Audit,
        Role::Coordinator,
        Role::Api,
        Role::Gateway,
    ] {
        if roles.contains(&role) {
            process.add(role, &mut listeners).await?;
        }
    }
    process
        .working
        .push(spawn_upkeep(ground.metrics.clone(), process.jobs.clone()));
    Ok(process.into_stack())
}

/// A process that is being put together.
struct Process<'a> {
    ground: &'a Ground<'a>,
    redis: Redis,
    /// The log of this process's events, where a role writes any.
    journal: Option<Journal>,
    keys: Option<Arc<KeyRing>>,
    sts: Option<Arc<Sts>>,
    addresses: BTreeMap<String, std::net::SocketAddr>,
    stop_listeners: CancellationToken,
    jobs: CancellationToken,
    serving: Vec<tokio::task::JoinHandle<()>>,
    working: Vec<tokio::task::JoinHandle<()>>,
    emptying: Option<tokio::task::JoinHandle<()>>,
    stores: BTreeMap<Role, Store>,
}

impl<'a> Process<'a> {
    async fn new(
        ground: &'a Ground<'a>,
        roles: &BTreeSet<Role>,
        redis: Redis,
    ) -> Result<Self, StartError> {
        let settings = ground.settings;
        let has_key = settings.text("SECRET_STORE_KEK").is_some();
        let mut process = Self {
            ground,
            redis,
            journal: None,
            keys: has_key.then(|| options::key_ring(settings)).transpose()?,
            sts: None,
            addresses: BTreeMap::new(),
            stop_listeners: CancellationToken::new(),
            jobs: CancellationToken::new(),
            serving: Vec::new(),
            working: Vec::new(),
            emptying: None,
            stores: BTreeMap::new(),
        };
        let writers = [Role::Sts, Role::Gateway, Role::Api];
        if let Some(role) = writers.into_iter().find(|role| roles.contains(role)) {
            process.open_journal(role).await?;
        }
        Ok(process)
    }

    /// Opens the log and ships it, asking what is stored through the login of one of its writers.
    async fn open_journal(&mut self, writer: Role) -> Result<(), StartError> {
        let settings = self.ground.settings;
        let directory = settings.path("AUDIT_REPLAY_DIR").unwrap_or_default();
        let journal = options::open_journal(settings, &directory, &*self.ground.random)?;
        let shipper = Shipper::new(ShipperParts {
            journal: journal.clone(),
            stream: Arc::new(AuditStream(StreamWriter::new(self.redis.clone()))),
            stored: Arc::new(StoredEvidence(self.store(writer).await?)),
            key: options::hmac_key(settings, "AUDIT_HMAC_KEY")?,
            random: self.ground.random.clone(),
            options: ShipperOptions::default(),
        });
        self.emptying = Some(tokio::spawn(async move { shipper.run().await }));
        self.journal = Some(journal);
        Ok(())
    }

    async fn add(&mut self, role: Role, listeners: &mut Listeners) -> Result<(), StartError> {
        let footing = Footing::on(self.ground.keyed(self.store(role).await?));
        match role {
            Role::Sts => self.add_sts(&footing, listeners),
            Role::Gateway => self.add_gateway(&footing, listeners),
            Role::Api => self.add_api(footing, listeners).await,
            Role::Coordinator => self.add_coordinator(footing, listeners),
            Role::Audit => self.add_audit(footing, listeners).await,
        }
    }

    fn add_sts(&mut self, footing: &Footing, listeners: &mut Listeners) -> Result<(), StartError> {
        let (ground, settings) = (self.ground, self.ground.settings);
        let counts = SharedWindow::new(
            self.redis.clone(),
            ground.clock.clone(),
            "rl",
            settings.count("STS_MINT_RATE_LIMIT_PER_MIN"),
            MINT_WINDOW,
            MINT_KEYS,
        );
        let counts = Arc::new(SharedMints(counts));
        let sts = ground.sts(footing, self.journal()?, self.keys()?, Some(counts))?;
        let previous = options::hmac_key(settings, "GATEWAY_STS_HMAC_KEY_PREVIOUS")?;
        let leg = options::hmac_key(settings, "GATEWAY_STS_HMAC_KEY")?.map(|key| GatewayLeg {
            key,
            previous,
            nonces: Arc::new(SharedNonces(RedisNonces::new(self.redis.clone()))),
        });
        self.working.extend(sts.spawn_jobs(self.jobs.clone()));
        let routers = ground.sts_routers(&sts, leg);
        self.serve(Role::Sts, routers, listeners);
        self.sts = Some(sts);
        Ok(())
    }

    fn add_gateway(
        &mut self,
        footing: &Footing,
        listeners: &mut Listeners,
    ) -> Result<(), StartError> {
        let (keys, sts): (Arc<dyn KeySource>, Arc<dyn Exchange>) = match &self.sts {
            Some(sts) => (sts.clone(), sts.clone()),
            None => (self.stored_keys(footing), self.sts_elsewhere()?),
        };
        let marks = Arc::new(SharedMarks(RedisMarks::new(self.redis.clone())));
        let journal = self.journal()?;
        let gateway = self
            .ground
            .gateway(footing, journal, listeners, (keys, sts), Some(marks));
        self.working.extend(gateway.spawn_jobs(self.jobs.clone()));
        let serving = listeners.serve_gateway(self.ground.settings, gateway, &self.stop_listeners);
        self.serving.extend(serving);
        Ok(())
    }

    async fn add_api(
        &mut self,
        footing: Footing,
        listeners: &mut Listeners,
    ) -> Result<(), StartError> {
        let evidence = Arc::new(OwnEvidence {
            journal: self.journal()?.clone(),
            stored: Arc::new(StoredEvidence(footing.store.clone())),
        });
        let api = self
            .ground
            .api(&footing, self.journal()?, self.keys()?, evidence)
            .await?;
        self.working.extend(api.spawn_jobs(self.jobs.clone()));
        self.publish_outbox(footing.store)?;
        self.serve(Role::Api, api_routers(&api), listeners);
        Ok(())
    }

    fn add_coordinator(
        &mut self,
        footing: Footing,
        listeners: &mut Listeners,
    ) -> Result<(), StartError> {
        let keys: Arc<dyn KeySource> = match &self.sts {
            Some(sts) => sts.clone(),
            None => self.stored_keys(&footing),
        };
        let coordinator = self
            .ground
            .coordinator(&footing, keys, self.keys.as_deref())?;
        self.working.extend(coordinator.spawn_jobs(&self.jobs));
        self.publish_outbox(footing.store)?;
        let routers = self.ground.coordinator_routers(&coordinator);
        self.serve(Role::Coordinator, routers, listeners);
        Ok(())
    }

    async fn add_audit(
        &mut self,
        footing: Footing,
        listeners: &mut Listeners,
    ) -> Result<(), StartError> {
        let (ground, settings) = (self.ground, self.ground.settings);
        let consumer = format!(
            "audit-{}",
            EventId::generate(&*ground.clock, &*ground.random)
        );
        let queue = RedisQueue::open(&self.redis, &consumer)
            .map_err(|error| StartError::Setup(format!("the audit stream: {error}")))?;
        let audit = Audit::new(AuditParts {
            checkpoint_key: options::shared_checkpoint_key(ground, &footing.store).await?,
            ledger: Arc::new(StoreLedger::new(footing.store)),
            source: Source::Stream(Arc::new(queue)),
            producer_key: options::hmac_key(settings, "AUDIT_HMAC_KEY")?,
            clock: ground.clock.clone(),
            random: ground.random.clone(),
            options: AuditOptions {
                linger: BATCH_LINGER,
                ..options::audit(settings)
            },
        });
        let (running, stop) = (audit.clone(), self.jobs.clone());
        self.working.push(tokio::spawn(async move {
            let stopping = async {
                stop.cancelled().await;
                running.stop();
                tokio::time::sleep(LAST_BATCH).await;
            };
            tokio::select! {
                () = running.run() => {}
                () = stopping => {
                    tracing::warn!("events that were read and not stored are taken over by another replica");
                }
            }
        }));
        let routers = ground.audit_routers(&audit);
        self.serve(Role::Audit, routers, listeners);
        Ok(())
    }

    /// Publishes what the role enqueues; every process with such a role does its part.
    fn publish_outbox(&mut self, store: Store) -> Result<(), StartError> {
        let settings = self.ground.settings;
        let longest = u64::try_from(settings.integer("STREAMS_MAXLEN")).unwrap_or(u64::MAX);
        let publisher = RedisPublisher::new(self.redis.clone(), longest);
        self.working.push(outbox::spawn(
            store,
            self.ground.clock.clone(),
            Arc::new(publisher),
            settings,
            self.jobs.clone(),
        )?);
        Ok(())
    }

    fn serve(&mut self, role: Role, routers: Routers, listeners: &mut Listeners) {
        let settings = self.ground.settings;
        let serving = listeners.serve(settings, role, routers, &self.stop_listeners);
        self.serving.extend(serving);
    }

    /// The role's store, opened on first use.
    async fn store(&mut self, role: Role) -> Result<Store, StartError> {
        if let Some(store) = self.stores.get(&role) {
            return Ok(store.clone());
        }
        let store = open_store(self.ground, role).await?;
        self.stores.insert(role, store.clone());
        Ok(store)
    }

    fn journal(&self) -> Result<&Journal, StartError> {
        let journal = self.journal.as_ref();
        journal.ok_or_else(|| StartError::Journal("it is not open".to_owned()))
    }

    fn keys(&self) -> Result<&Arc<KeyRing>, StartError> {
        let keys = self.keys.as_ref();
        keys.ok_or_else(|| StartError::Keys("SECRET_STORE_KEK is not set".to_owned()))
    }

    fn stored_keys(&self, footing: &Footing) -> Arc<StoredKeys> {
        StoredKeys::new(footing.authority.clone(), self.ground.clock.clone())
    }

    fn sts_elsewhere(&self) -> Result<Arc<HttpExchange>, StartError> {
        let settings = self.ground.settings;
        let url = settings.text("STS_URL").unwrap_or_default();
        let url = StsUrl::parse(url, settings.mode)
            .map_err(|error| StartError::Setup(format!("STS_URL: {error}")))?;
        let key = options::hmac_key(settings, "GATEWAY_STS_HMAC_KEY")?;
        let key =
            key.ok_or_else(|| StartError::Keys("GATEWAY_STS_HMAC_KEY is not set".to_owned()))?;
        Ok(HttpExchange::new(
            HttpExchangeOptions {
                extra_ca_file: settings.path("CARACAL_TLS_EXTRA_CA_FILE"),
                ..HttpExchangeOptions::new(url, settings.duration("STS_TIMEOUT"))
            },
            HttpExchangeDeps {
                key,
                clock: self.ground.clock.clone(),
                random: self.ground.random.clone(),
                resolver: None,
            },
        ))
    }

    fn into_stack(self) -> Stack {
        Stack {
            addresses: self.addresses,
            issuer: self.ground.issuer.clone(),
            listeners: self.stop_listeners,
            jobs: self.jobs,
            serving: self.serving,
            working: self.working,
            journal: self.journal,
            emptying: self.emptying,
            stores: self.stores.into_values().collect(),
        }
    }
}

fn service_role(role: Role) -> ServiceRole {
    match role {
        Role::Api => ServiceRole::Api,
        Role::Sts => ServiceRole::Sts,
        Role::Gateway => ServiceRole::Gateway,
        Role::Audit => ServiceRole::Audit,
        Role::Coordinator => ServiceRole::Coordinator,
    }
}

async fn open_store(ground: &Ground<'_>, role: Role) -> Result<Store, StartError> {
    let mut waited = Duration::ZERO;
    loop {
        let options = options::postgres(ground.settings, role, service_role(role))?;
        let opened =
            Store::open_postgres(options, ground.clock.clone(), ground.random.clone()).await;
        match opened {
            Ok(store) => return Ok(store),
            Err(OpenError::Store(StoreError::Unavailable(cause))) if waited < PATIENCE => {
                tracing::warn!(role = role.name(), %cause, "waiting for PostgreSQL");
                tokio::time::sleep(PAUSE).await;
                waited += PAUSE;
            }
            Err(error) => return Err(StartError::Store(error.to_string())),
        }
    }
}

/// Connects, and says what the server's settings would cost; only a server that is too old is refused.
async fn connect_redis(settings: &Settings) -> Result<Redis, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Setup(format!("REDIS_URL: {error}"));
    let url = settings
        .secret("REDIS_URL")
        .unwrap_or_else(|| Secret::new(String::new()));
    let address = RedisAddress::parse(&url).map_err(|error| failed(&error))?;
    let redis = Redis::open(&options::redis(settings, address)).map_err(|error| failed(&error))?;
    redis
        .connected(PATIENCE)
        .await
        .map_err(|error| failed(&error))?;
    for report in redis
        .server_findings()
        .await
        .map_err(|error| failed(&error))?
    {
        for finding in &report.findings {
            if finding.is_fatal() {
                return Err(failed(finding));
            }
            tracing::warn!(server = %report.server, %finding, "redis settings");
        }
    }
    Ok(redis)
}
