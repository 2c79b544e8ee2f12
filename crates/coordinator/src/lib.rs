//! The Coordinator: governed Sessions, service leases, and the delegations between Sessions.
//!
//! It mints nothing. It keeps the graph that the STS and the Gateway judge by: who runs, below whom,
//! and which part of whose authority was handed on. A request passes, in this order:
//!
//! | step | file |
//! |---|---|
//! | context, request id, latency | `caracal_http::Observed` |
//! | rate limit | `limits` |
//! | authentication, before any body is read | `authenticate`, `caller` |
//! | the body and the query, parsed | `body`, `query`, `session/request`, `delegation/request` |
//! | one transaction of the zone: idempotency, checks, change, messages, audit row | `idempotency`, `session/*`, `delegation/*`, `events`, `audit` |
//! | refusals, each to one status and code | `error` |
//!
//! A 2xx leaves after the commit, and a commit makes every cache of the zone's authority fresh before
//! it returns: what was revoked is refused everywhere from then on. What time ends is ended by
//! `sweep`, but nothing waits for a sweep: the effective end of a Session or an edge is worked out at
//! use (`liveness`).

mod answer;
mod audit;
mod authenticate;
mod body;
mod call;
mod caller;
mod canonical;
mod delegation;
mod error;
mod events;
mod idempotency;
mod limits;
mod liveness;
mod ops;
mod options;
mod outbox;
mod page;
mod query;
mod routes;
mod session;
mod stats;
mod sweep;
mod verify;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use axum::Router;
use caracal_core::{Clock, Random};
use caracal_http::Dependencies;
use caracal_http::ops::Metrics;
use caracal_roles::KeySource;
use caracal_store::{Authority, Store};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::audit::Refusals;
use crate::limits::Limits;
use crate::stats::{Tables, Tally};
use crate::sweep::Sweep;

pub use options::CoordinatorOptions;

/// The role.
pub struct Coordinator {
    options: CoordinatorOptions,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    store: Store,
    authority: Arc<Authority>,
    keys: Arc<dyn KeySource>,
    dependencies: Dependencies,
    limits: Arc<Limits>,
    refusals: Refusals,
    tally: Arc<Tally>,
    tables: Tables,
    stop: OnceLock<CancellationToken>,
}

impl Coordinator {
    /// The role over a store, its fresh view and a source of verifying keys. `dependencies` is what
    /// readiness asks for besides the store.
    #[must_use]
    pub fn new(
        options: CoordinatorOptions,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        authority: Arc<Authority>,
        keys: Arc<dyn KeySource>,
        dependencies: Dependencies,
    ) -> Arc<Self> {
        Arc::new(Self {
            limits: Arc::new(Limits::new(&options, &clock)),
            options,
            clock,
            random,
            store: authority.store().clone(),
            authority,
            keys,
            dependencies,
            refusals: Refusals::default(),
            tally: Arc::default(),
            tables: Tables::default(),
            stop: OnceLock::new(),
        })
    }

    /// Sessions, delegations and `/v1/verify`. Unknown routes are answered here too, after
    /// authentication: merge the operational routes into it.
    pub fn router(self: &Arc<Self>) -> Router {
        routes::router(self)
    }

    /// `/health`, `/ready`, `/metrics` and `/stats`, to be merged into [`Coordinator::router`] or served on a
    /// port of their own.
    pub fn ops_router(self: &Arc<Self>, metrics: Metrics) -> Router {
        ops::router(self, metrics)
    }

    /// Starts the sweeps and the writer of refusals. They end soon after `stop` is cancelled, which
    /// also makes `/ready` answer that the role is draining.
    #[must_use]
    pub fn spawn_jobs(self: &Arc<Self>, stop: &CancellationToken) -> Vec<JoinHandle<()>> {
        self.stop.get_or_init(|| stop.clone());
        let mut jobs: Vec<JoinHandle<()>> = Sweep::ALL
            .into_iter()
            .map(|sweep| self.spawn_sweep(sweep, stop.clone()))
            .collect();
        let (coordinator, stop) = (Arc::clone(self), stop.clone());
        jobs.push(tokio::spawn(async move {
            coordinator.refusals.run(&coordinator.store, &stop).await;
        }));
        jobs
    }

    fn is_draining(&self) -> bool {
        self.stop.get().is_some_and(CancellationToken::is_cancelled)
    }
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator").finish_non_exhaustive()
    }
}
