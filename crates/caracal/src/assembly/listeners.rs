//! The sockets of a process, bound before anything is served.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use caracal_gateway::Gateway;
use caracal_http::ServeOptions;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::config::{Role, Settings};

/// A role's routes.
pub(super) struct Routers {
    pub(super) service: Router,
    /// Health, readiness and metrics.
    pub(super) operations: Router,
}

/// The bound listeners.
pub(super) struct Listeners {
    roles: BTreeMap<Role, TcpListener>,
    /// For operational routes alone, where they have a port of their own.
    operations: Option<TcpListener>,
}

impl Listeners {
    pub(super) async fn bind(
        settings: &Settings,
        roles: &BTreeSet<Role>,
    ) -> Result<Self, StartError> {
        let mut listeners = BTreeMap::new();
        for role in roles.iter().copied() {
            let address = settings.listen(role);
            let listener =
                TcpListener::bind(address)
                    .await
                    .map_err(|source| StartError::Listen {
                        role,
                        address,
                        source,
                    })?;
            listeners.insert(role, listener);
        }
        let operations = match (settings.operations(), roles.first()) {
            (Some(address), Some(role)) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| StartError::Operations {
                    role: *role,
                    address,
                    source,
                })?)
            }
            _ => None,
        };
        Ok(Self {
            roles: listeners,
            operations,
        })
    }

    pub(super) fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        let address = |(role, listener): (&Role, &TcpListener)| {
            Some((role.name().to_owned(), listener.local_addr().ok()?))
        };
        self.roles.iter().filter_map(address).collect()
    }

    /// The port that a role listens on, or would listen on.
    pub(super) fn port(&self, role: Role) -> u16 {
        let bound = self
            .roles
            .get(&role)
            .and_then(|listener| listener.local_addr().ok());
        bound.map_or(role.port(), |address| address.port())
    }

    /// Whether operational routes have a port of their own.
    pub(super) fn has_operations(&self) -> bool {
        self.operations.is_some()
    }

    /// Serves what speaks HTTP through routers: on one port, or operations on their own.
    pub(super) fn serve(
        &mut self,
        settings: &Settings,
        role: Role,
        routers: Routers,
        stop: &CancellationToken,
    ) -> Vec<JoinHandle<()>> {
        let Some(listener) = self.roles.remove(&role) else {
            return Vec::new();
        };
        let options = options(settings, role);
        let serve = |listener, router| {
            tokio::spawn(caracal_http::serve(listener, router, options, stop.clone()))
        };
        match self.operations.take() {
            Some(own) => vec![
                serve(listener, routers.service),
                serve(own, routers.operations),
            ],
            None => vec![serve(listener, routers.service.merge(routers.operations))],
        }
    }

    /// Serves the Gateway, which reads heads itself.
    pub(super) fn serve_gateway(
        &mut self,
        settings: &Settings,
        gateway: Arc<Gateway>,
        stop: &CancellationToken,
    ) -> Vec<JoinHandle<()>> {
        let Some(listener) = self.roles.remove(&Role::Gateway) else {
            return Vec::new();
        };
        let mut serving = Vec::new();
        if let Some(own) = self.operations.take() {
            serving.push(tokio::spawn(caracal_http::serve(
                own,
                gateway.operations_router(),
                options(settings, Role::Gateway),
                stop.clone(),
            )));
        }
        let stop = stop.clone();
        serving.push(tokio::spawn(async move {
            if let Err(error) = gateway.serve(listener, stop).await {
                tracing::error!(%error, "the Gateway does not serve");
            }
        }));
        serving
    }
}

fn options(settings: &Settings, role: Role) -> ServeOptions {
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
