//! One connection, kept up, that fails fast while it is down.
//!
//! The driver would wait for a lost connection and send again what was in flight. Both are switched
//! off: a command that meets a lost connection fails at once, and whoever sent it decides. After a
//! loss the driver tries again at once and then with growing pauses.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::{Client, WithOptions};
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::Builder;
use fred::types::ClientState;
use fred::types::config::{
    Options, ReconnectPolicy, Server, TlsConfig, TlsConnector, TlsHostMapping, UnresponsiveConfig,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::address::RedisAddress;
use super::error::RedisError;
use super::tls;

/// Pauses between attempts to connect, in milliseconds.
const FIRST_PAUSE: u32 = 20;
const LONGEST_PAUSE: u32 = 2_000;

/// Pause before a driver that gave up is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(2);

/// How to reach Redis.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Where it is.
    pub address: RedisAddress,
    /// `CARACAL_TLS_EXTRA_CA_FILE`: PEM roots beside the system's.
    pub extra_ca_file: Option<PathBuf>,
    /// The longest that connecting may take, TLS and login included.
    pub connect_timeout: Duration,
    /// The longest that a command may take.
    pub command_timeout: Duration,
    /// The most commands that may wait to be sent; further ones fail at once.
    pub max_waiting: usize,
}

impl RedisOptions {
    /// The usual limits: 5 s to connect, 3 s a command, 8,192 commands waiting.
    #[must_use]
    pub fn new(address: RedisAddress) -> Self {
        Self {
            address,
            extra_ca_file: None,
            connect_timeout: Duration::from_secs(5),
            command_timeout: Duration::from_secs(3),
            max_waiting: 8_192,
        }
    }
}

/// A connection to Redis. Cheap to clone; all clones are one connection, closed with the last.
#[derive(Debug, Clone)]
pub struct Redis(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    options: RedisOptions,
    client: Client,
    commands: WithOptions<Client>,
    health: Arc<Health>,
    _upkeep: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Health {
    losses: watch::Sender<u64>,
    last_error: Mutex<Option<String>>,
}

impl Redis {
    /// Begins to connect and returns at once; until the connection stands, commands fail. Must run
    /// inside a Tokio runtime.
    ///
    /// # Errors
    /// [`RedisError::Roots`] when TLS is asked for and trusted roots can't be loaded,
    /// [`RedisError::Refused`] when the driver does not take the settings.
    pub fn open(options: &RedisOptions) -> Result<Self, RedisError> {
        Self::open_with(options, options.command_timeout)
    }

    /// Another connection of the same options, for commands that wait up to `longest` on the server.
    pub(super) fn open_blocking(&self, longest: Duration) -> Result<Self, RedisError> {
        let options = &self.0.options;
        Self::open_with(options, longest.saturating_add(options.command_timeout))
    }

    fn open_with(options: &RedisOptions, command_timeout: Duration) -> Result<Self, RedisError> {
        let client = driver(options, command_timeout)?;
        let health = Arc::new(Health {
            losses: watch::Sender::new(0),
            last_error: Mutex::new(None),
        });
        let upkeep = tokio::spawn(keep_up(client.clone(), Arc::clone(&health)));
        let commands = client.with_options(&Options {
            fail_fast: true,
            ..Options::default()
        });
        Ok(Self(Arc::new(Connection {
            options: options.clone(),
            client,
            commands,
            health,
            _upkeep: AbortOnDropHandle::new(upkeep),
        })))
    }

    /// Waits until the connection stands.
    ///
    /// # Errors
    /// [`RedisError::Unreachable`] with the last reason when it does not within `patience`.
    pub async fn connected(&self, patience: Duration) -> Result<(), RedisError> {
        match tokio::time::timeout(patience, self.0.client.wait_for_connect()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(self.unreachable()),
        }
    }

    /// Asks the server whether it is there: readiness.
    ///
    /// # Errors
    /// [`RedisError`] when it does not answer.
    pub async fn ping(&self) -> Result<(), RedisError> {
        let answer: String = self.run(self.0.commands.ping(None)).await?;
        if answer == "PONG" {
            Ok(())
        } else {
            Err(RedisError::Unexpected("PING"))
        }
    }

    /// Whether it is a cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.0.options.address.is_cluster()
    }

    /// The driver, for building commands that [`Redis::run`] runs.
    pub(super) fn commands(&self) -> &WithOptions<Client> {
        &self.0.commands
    }

    /// Each server that the connection talks to, by name, with a driver that asks it.
    pub(super) fn each_server(&self) -> Vec<(String, WithOptions<Client>)> {
        let servers = self.0.client.active_connections();
        let name = |server: &Server| match server.port {
            0 => server.host.to_string(),
            port => format!("{}:{port}", server.host),
        };
        if !self.is_cluster() {
            let commands = self.0.commands.clone();
            return servers
                .iter()
                .take(1)
                .map(|server| (name(server), commands.clone()))
                .collect();
        }
        let asking = |server: &Server| {
            self.0.client.with_options(&Options {
                fail_fast: true,
                cluster_node: Some(server.clone()),
                ..Options::default()
            })
        };
        servers
            .iter()
            .map(|server| (name(server), asking(server)))
            .collect()
    }

    /// Runs a command; a connection that is lost meanwhile ends it at once.
    pub(super) async fn run<T>(
        &self,
        command: impl Future<Output = Result<T, fred::error::Error>>,
    ) -> Result<T, RedisError> {
        let mut losses = self.0.health.losses.subscribe();
        if self.0.client.state() != ClientState::Connected {
            return Err(self.unreachable());
        }
        let outcome = tokio::select! {
            outcome = command => outcome.map_err(RedisError::from),
            _ = losses.changed() => Err(self.unreachable()),
        };
        if let Err(RedisError::Unable(detail)) = &outcome
            && detail.starts_with("READONLY")
        {
            self.look_for_the_primary();
        }
        outcome
    }

    /// A server that became a replica keeps its connections; the primary is elsewhere now.
    fn look_for_the_primary(&self) {
        let client = self.0.client.clone();
        tokio::spawn(async move {
            if let Err(error) = client.force_reconnection().await {
                tracing::debug!(%error, "redis not reconnected");
            }
        });
    }

    fn unreachable(&self) -> RedisError {
        let reason = self.0.health.last_error.lock().clone();
        RedisError::Unreachable(reason.unwrap_or_else(|| "not connected".to_owned()))
    }
}

fn driver(options: &RedisOptions, command_timeout: Duration) -> Result<Client, RedisError> {
    let mut config = options.address.config();
    config.fail_fast = false;
    if options.address.is_tls() {
        let tls = tls::client_config(options.extra_ca_file.as_deref())?;
        config.tls = Some(TlsConfig {
            connector: TlsConnector::from(tls),
            hostnames: TlsHostMapping::DefaultHost,
        });
    }
    let mut builder = Builder::from_config(config);
    builder
        .with_performance_config(|performance| {
            performance.default_command_timeout = command_timeout;
        })
        .with_connection_config(|connection| {
            connection.connection_timeout = options.connect_timeout;
            connection.internal_command_timeout = options.connect_timeout;
            connection.max_command_buffer_len = options.max_waiting;
            connection.reconnect_on_auth_error = true;
            connection.tcp.nodelay = Some(true);
            connection.unresponsive = UnresponsiveConfig {
                max_timeout: Some(command_timeout),
                interval: command_timeout / 3,
            };
        })
        .set_policy(ReconnectPolicy::new_exponential(
            0,
            FIRST_PAUSE,
            LONGEST_PAUSE,
            2,
        ));
    Ok(builder.build()?)
}

/// Runs the driver's connection and notes every loss, until dropped.
async fn keep_up(client: Client, health: Arc<Health>) {
    let mut errors = client.error_rx();
    loop {
        let mut driven = AbortOnDropHandle::new(client.connect());
        loop {
            tokio::select! {
                error = errors.recv() => {
                    if let Ok((error, _)) = error {
                        health.note(&error);
                    }
                }
                ended = &mut driven => {
                    if let Ok(Err(error)) = ended {
                        health.note(&error);
                    }
                    break;
                }
            }
        }
        tokio::time::sleep(RESTART_PAUSE).await;
        errors = client.error_rx();
    }
}

impl Health {
    fn note(&self, error: &fred::error::Error) {
        let text = error.to_string();
        let mut last = self.last_error.lock();
        if last.as_deref() != Some(&text) {
            tracing::warn!(%error, "redis connection lost");
        }
        *last = Some(text);
        drop(last);
        self.losses
            .send_modify(|losses| *losses = losses.wrapping_add(1));
    }
}
