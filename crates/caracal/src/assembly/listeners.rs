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

/// The bound listeners.
pub(super) struct Listeners(BTreeMap<Role, TcpListener>);

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
        Ok(Self(listeners))
    }

    pub(super) fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        let address = |(role, listener): (&Role, &TcpListener)| {
            Some((role.name().to_owned(), listener.local_addr().ok()?))
        };
        self.0.iter().filter_map(address).collect()
    }

    /// The port that a role listens on, or would listen on.
    pub(super) fn port(&self, role: Role) -> u16 {
        let bound = self
            .0
            .get(&role)
            .and_then(|listener| listener.local_addr().ok());
        bound.map_or(role.port(), |address| address.port())
    }

    /// Serves what speaks HTTP through a router.
    pub(super) fn serve(
        &mut self,
        settings: &Settings,
        role: Role,
        router: Router,
        stop: &CancellationToken,
    ) -> Option<JoinHandle<()>> {
        let listener = self.0.remove(&role)?;
        let options = options(settings, role);
        let serving = caracal_http::serve(listener, router, options, stop.clone());
        Some(tokio::spawn(serving))
    }

    /// Serves the Gateway, which reads heads itself.
    pub(super) fn serve_gateway(
        &mut self,
        gateway: Arc<Gateway>,
        stop: CancellationToken,
    ) -> Option<JoinHandle<()>> {
        let listener = self.0.remove(&Role::Gateway)?;
        Some(tokio::spawn(async move {
            if let Err(error) = gateway.serve(listener, stop).await {
                tracing::error!(%error, "the Gateway does not serve");
            }
        }))
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
