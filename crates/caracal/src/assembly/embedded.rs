//! The embedded stack: five roles in one process, on one SQLite file and one local audit log.

use std::collections::BTreeSet;
use std::sync::Arc;

use caracal_audit::{Audit, AuditParts, Source, StoreLedger};
use caracal_core::{Clock, Random};
use caracal_events::InProcessBus;
use caracal_evidence::log::Journal;
use caracal_http::Dependencies;
use caracal_http::ops::Metrics;
use caracal_store::Store;
use tokio_util::sync::CancellationToken;

use super::adapters::EvidenceOf;
use super::ground::{Footing, Ground, api_routers};
use super::listeners::Listeners;
use super::stack::{Stack, spawn_upkeep};
use super::{StartError, options, outbox};
use crate::config::{Role, Settings};
use crate::home::Home;

/// Messages that a slow subscriber may be behind.
const BUS: usize = 1_024;

/// Starts every role; returns when all listeners are bound and all roles can take traffic.
pub(crate) async fn start(
    settings: &Settings,
    home: &Home,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<Stack, StartError> {
    let metrics = Metrics::install().map_err(|error| StartError::Setup(error.to_string()))?;
    let mut listeners = Listeners::bind(settings, &BTreeSet::from(Role::ALL)).await?;
    let ground = Ground {
        settings,
        clock,
        random,
        metrics,
        issuer: options::issuer(settings, &listeners),
        dependencies: Dependencies::default(),
    };
    let keys = options::key_ring(settings)?;
    let footing = Footing::on(ground.keyed(open_store(&ground, home).await?));
    let journal = open_journal(&ground, home)?;

    let audit = Audit::new(AuditParts {
        ledger: Arc::new(StoreLedger::new(footing.store.clone())),
        source: Source::Log(journal.clone()),
        producer_key: options::hmac_key(settings, "AUDIT_HMAC_KEY")?,
        checkpoint_key: options::checkpoint_key(settings, home)?,
        clock: ground.clock.clone(),
        random: ground.random.clone(),
        options: options::audit(settings),
    });
    let sts = ground.sts(&footing, &journal, &keys, None)?;
    let coordinator = ground.coordinator(&footing, sts.clone(), Some(&keys))?;
    let in_process = (sts.clone() as _, sts.clone() as _);
    let gateway = ground.gateway(&footing, &journal, &listeners, in_process, None);
    let evidence = Arc::new(EvidenceOf(audit.clone()));
    let api = ground.api(&footing, &journal, &keys, evidence).await?;

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
        footing.store.clone(),
        ground.clock.clone(),
        Arc::new(InProcessBus::new(BUS)),
        settings,
        stop_jobs.clone(),
    )?);
    working.push(spawn_upkeep(ground.metrics.clone(), stop_jobs.clone()));

    let addresses = listeners.addresses();
    let routers = [
        (Role::Api, api_routers(&api)),
        (Role::Sts, ground.sts_routers(&sts, None)),
        (Role::Audit, ground.audit_routers(&audit)),
        (Role::Coordinator, ground.coordinator_routers(&coordinator)),
    ];
    let mut serving = Vec::new();
    for (role, router) in routers {
        serving.extend(listeners.serve(settings, role, router, &stop_listeners));
    }
    serving.extend(listeners.serve_gateway(settings, gateway, &stop_listeners));
    Ok(Stack {
        addresses,
        issuer: ground.issuer,
        listeners: stop_listeners,
        jobs: stop_jobs,
        serving,
        working,
        journal: Some(journal),
        emptying: Some(ingest),
        stores: vec![footing.store],
    })
}

async fn open_store(ground: &Ground<'_>, home: &Home) -> Result<Store, StartError> {
    Store::open_sqlite(
        &home.database(),
        ground.clock.clone(),
        ground.random.clone(),
    )
    .await
    .map_err(|error| StartError::Store(error.to_string()))
}

fn open_journal(ground: &Ground<'_>, home: &Home) -> Result<Journal, StartError> {
    let directory = ground.settings.path("AUDIT_REPLAY_DIR");
    let directory = directory.unwrap_or_else(|| home.journal());
    options::open_journal(ground.settings, &directory, &*ground.random)
}
