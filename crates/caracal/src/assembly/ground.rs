//! What every role of a process stands on, and how each role is put on it.

use std::sync::Arc;
use std::time::Duration;

use caracal_api::{Api, ApiParts, EvidenceBarrier};
use caracal_audit::Audit;
use caracal_coordinator::Coordinator;
use caracal_core::{Clock, Random};
use caracal_crypto::KeyRing;
use caracal_crypto::client_secret::Peppers;
use caracal_evidence::log::Journal;
use caracal_gateway::{Gateway, GatewayDeps, ReplayMarks};
use caracal_http::ops::{Metrics, Ops};
use caracal_http::{Dependencies, MetricsAccess, Observed, Readiness, WithDependencies};
use caracal_roles::{Exchange, KeySource};
use caracal_store::{Authority, Store};
use caracal_sts::{GatewayLeg, SharedCounts, Sts, StsDependencies};

use super::adapters::KeysOf;
use super::listeners::{Listeners, Routers};
use super::{StartError, options};
use crate::config::Settings;

/// Judging a running stream takes a database and an STS that busy networks may hold up. Nothing of the
/// stream is passed on meanwhile.
const REJUDGE_OVER_NETWORK: Duration = Duration::from_millis(500);

/// Time, chance, settings, metrics: the same for all roles of a process.
#[derive(Clone)]
pub(super) struct Ground<'a> {
    pub(super) settings: &'a Settings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) metrics: Metrics,
    pub(super) issuer: String,
    /// What every role needs besides its store.
    pub(super) dependencies: Dependencies,
}

/// One role's store and its fresh view of it.
#[derive(Clone)]
pub(super) struct Footing {
    pub(super) store: Store,
    pub(super) authority: Arc<Authority>,
}

impl Footing {
    pub(super) fn on(store: Store) -> Self {
        let authority = Authority::new(store.clone(), caracal_store::AuthorityLimits::default());
        Self { store, authority }
    }
}

impl Ground<'_> {
    fn access(&self) -> MetricsAccess {
        let bearer = self.settings.secret("METRICS_BEARER");
        MetricsAccess::new(self.settings.mode, bearer)
    }

    fn ready(&self, role: Arc<dyn Readiness>) -> Arc<dyn Readiness> {
        Arc::new(WithDependencies {
            role,
            dependencies: self.dependencies.clone(),
        })
    }

    pub(super) fn sts(
        &self,
        footing: &Footing,
        journal: &Journal,
        keys: &Arc<KeyRing>,
        mint_counts: Option<Arc<dyn SharedCounts>>,
    ) -> Result<Arc<Sts>, StartError> {
        let secrets = options::secret_verifier(self.settings, keys, &self.clock, &*self.random)?;
        Ok(Sts::new(
            options::sts(self.settings, &self.issuer),
            StsDependencies {
                clock: self.clock.clone(),
                random: self.random.clone(),
                store: footing.store.clone(),
                authority: footing.authority.clone(),
                journal: journal.clone(),
                key_ring: keys.clone(),
                secrets,
                mint_counts,
            },
        ))
    }

    /// The STS's routes; with a `leg` it hears Gateways in other processes.
    pub(super) fn sts_routers(&self, sts: &Arc<Sts>, leg: Option<GatewayLeg>) -> Routers {
        let figures = sts.clone();
        let ops = Ops {
            readiness: self.ready(sts.clone()),
            health_body: None,
            access: self.access(),
            metrics: self.metrics.clone(),
            json: Some(Arc::new(move || figures.metrics_json())),
        };
        Routers {
            service: match leg {
                Some(leg) => sts.router_for_gateways(leg),
                None => sts.router(),
            },
            operations: ops.routes(),
        }
    }

    pub(super) fn coordinator(
        &self,
        footing: &Footing,
        keys: Arc<dyn KeySource>,
        ring: Option<&KeyRing>,
    ) -> Result<Arc<Coordinator>, StartError> {
        Ok(Coordinator::new(
            options::coordinator(self.settings, &self.issuer, ring)?,
            self.clock.clone(),
            self.random.clone(),
            footing.authority.clone(),
            keys,
            self.dependencies.clone(),
        ))
    }

    pub(super) fn coordinator_routers(&self, coordinator: &Arc<Coordinator>) -> Routers {
        Routers {
            service: coordinator.router(),
            operations: coordinator.ops_router(self.metrics.clone()),
        }
    }

    pub(super) fn gateway(
        &self,
        footing: &Footing,
        journal: &Journal,
        listeners: &Listeners,
        (keys, sts): (Arc<dyn KeySource>, Arc<dyn Exchange>),
        marks: Option<Arc<dyn ReplayMarks>>,
    ) -> Arc<Gateway> {
        let mut options = options::gateway(self.settings, &self.issuer, listeners);
        if marks.is_some() {
            options.rejudge_timeout = REJUDGE_OVER_NETWORK;
        }
        Gateway::new(
            options,
            GatewayDeps {
                clock: self.clock.clone(),
                random: self.random.clone(),
                authority: footing.authority.clone(),
                journal: journal.clone(),
                keys,
                sts,
                metrics: self.metrics.clone(),
                marks,
                resolver: None,
            },
        )
    }

    pub(super) async fn api(
        &self,
        footing: &Footing,
        journal: &Journal,
        keys: &Arc<KeyRing>,
        evidence: Arc<dyn EvidenceBarrier>,
    ) -> Result<Arc<Api>, StartError> {
        let peppers = Peppers::derive(keys).map_err(|error| StartError::Keys(error.to_string()))?;
        let zone_keys = KeysOf::new(keys.clone(), self.clock.clone(), self.random.clone());
        let api = Api::new(
            options::api(self.settings),
            ApiParts {
                store: footing.store.clone(),
                journal: journal.clone(),
                keys: keys.clone(),
                peppers,
                zone_keys: Arc::new(zone_keys),
                evidence,
                clock: self.clock.clone(),
                random: self.random.clone(),
                metrics: self.metrics.clone(),
                dependencies: self.dependencies.clone(),
            },
        );
        api.seed_tokens()
            .await
            .map_err(|error| StartError::Store(error.to_string()))?;
        Ok(api)
    }

    pub(super) fn audit_routers(&self, audit: &Audit) -> Routers {
        let ops = Ops {
            readiness: self.ready(audit.readiness()),
            health_body: None,
            access: self.access(),
            metrics: self.metrics.clone(),
            json: Some(audit.json_metrics()),
        };
        let observed = Observed::new("audit", self.clock.clone(), self.random.clone(), false);
        let service = audit.router(self.settings.secret("AUDIT_ADMIN_TOKEN"));
        Routers {
            service: service.layer(observed.clone()),
            operations: ops.routes().layer(observed),
        }
    }

    /// Signs the admin audit chain with the audit key, where there is one.
    pub(super) fn keyed(&self, store: Store) -> Store {
        let key = self.settings.secret("AUDIT_HMAC_KEY");
        match key.map(|key| hex::decode(key.expose())) {
            Some(Ok(key)) => store.with_admin_audit_key(key.into()),
            _ => store,
        }
    }
}

pub(super) fn api_routers(api: &Arc<Api>) -> Routers {
    Routers {
        service: api.service_router(),
        operations: api.operations_router(),
    }
}
