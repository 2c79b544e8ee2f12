//! A deployment of one's own: PostgreSQL, Redis, two replicas of each role as processes of the built
//! binary, a round robin before the replicas of each role, and a wire between each Gateway and the STS.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use caracal::role_process::{RoleCommand, RoleProcess};
use caracal_core::{Secret, SystemRandom, random};
use caracal_testbed::{Database, Postgres, Redis};
use tempfile::TempDir;

use crate::DrillError;
use crate::balancer::Balancer;
use crate::history::History;
use crate::load::{Load, Services};
use crate::upstream::Upstream;
use crate::wire::Wire;
use crate::zone::{Tokens, Zone};

/// Replicas of each role.
pub(crate) const REPLICAS: usize = 2;

/// Longest wait for a replica to be ready.
const START: Duration = Duration::from_secs(60);

/// So long nothing is refused in a deployment that has settled.
const SETTLED: Duration = Duration::from_secs(3);

/// Limits that a load from one address would hit, and times that suit a drill.
const SETTINGS: [(&str, &str); 14] = [
    ("CARACAL_MODE", "rc"),
    ("LOG_LEVEL", "warn"),
    ("MAX_AGENTS_PER_ZONE", "1000000"),
    ("MAX_AGENTS_PER_APP", "1000000"),
    ("STS_MINT_RATE_LIMIT_PER_MIN", "100000000"),
    ("COORDINATOR_RATE_LIMIT_PER_MIN", "0"),
    ("API_V1_RATE_LIMIT_PER_MIN", "0"),
    ("ADMIN_AUTH_FAIL_LIMIT_PER_MIN", "0"),
    ("READY_RATE_LIMIT_PER_MIN", "0"),
    ("VERIFY_RATE_LIMIT_PER_MIN", "0"),
    ("STS_TIMEOUT", "2s"),
    ("DB_CONNECT_TIMEOUT", "2s"),
    ("DB_CONNECTION_TIMEOUT_MS", "2000"),
    ("DB_STATEMENT_TIMEOUT_MS", "2000"),
];

/// Keys that all replicas share.
const KEYS: [&str; 7] = [
    "SECRET_STORE_KEK",
    "AUDIT_HMAC_KEY",
    "STREAMS_HMAC_KEY",
    "IDEMPOTENCY_HMAC_KEY",
    "AUDIT_CHECKPOINT_KEY",
    "GATEWAY_STS_HMAC_KEY",
    "METRICS_BEARER",
];

/// What runs a replica: it ends with this process, however that ends, and a file that may not grow is
/// an error to it and not its end.
const WRAPPER: [&str; 8] = [
    "setpriv",
    "--pdeathsig",
    "KILL",
    "--",
    "sh",
    "-c",
    "trap '' XFSZ; exec \"$@\"",
    "sh",
];

/// A role of the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Api,
    Sts,
    Coordinator,
    Gateway,
    Audit,
}

impl Role {
    /// In the order of their start: a Gateway is ready when an STS is.
    pub(crate) const ALL: [Self; 5] = [
        Self::Api,
        Self::Sts,
        Self::Coordinator,
        Self::Gateway,
        Self::Audit,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Sts => "sts",
            Self::Coordinator => "coordinator",
            Self::Gateway => "gateway",
            Self::Audit => "audit",
        }
    }
}

/// One replica, running or not.
#[derive(Debug)]
struct Replica {
    command: RoleCommand,
    process: Option<RoleProcess>,
}

/// A running deployment; everything ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Deployment {
    replicas: BTreeMap<(Role, usize), Replica>,
    balancers: BTreeMap<Role, Balancer>,
    wires: Vec<Wire>,
    pub(crate) upstream: Upstream,
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
    pub(crate) tokens: Tokens,
    binary: PathBuf,
    audit_token: Secret<String>,
    directory: TempDir,
}

impl Deployment {
    /// Starts everything and waits until every replica is ready.
    pub(crate) async fn start(binary: &Path) -> Result<Self, DrillError> {
        let (postgres, redis) = (Postgres::start(true)?, Redis::start()?);
        let database = postgres.database()?;
        let mut deployment = Self {
            replicas: BTreeMap::new(),
            balancers: BTreeMap::new(),
            wires: Vec::new(),
            upstream: Upstream::start().await.map_err(network)?,
            tokens: Tokens {
                admin: token(),
                operator: token(),
            },
            binary: binary.to_owned(),
            audit_token: token(),
            directory: tempfile::tempdir().map_err(|e| DrillError::Io("directory", e))?,
            postgres,
            redis,
        };
        let mut addresses = BTreeMap::new();
        for role in Role::ALL {
            let own = [free_address()?, free_address()?];
            let balancer = Balancer::start(own.to_vec()).await.map_err(network)?;
            deployment.balancers.insert(role, balancer);
            addresses.insert(role, own);
        }
        let sts = deployment.balancers[&Role::Sts].address();
        for _ in 0..REPLICAS {
            let wire = Wire::start(sts).await.map_err(network)?;
            deployment.wires.push(wire);
        }
        let shared = deployment.shared_variables(&database);
        deployment.migrate(&shared).await?;
        for role in Role::ALL {
            for (number, address) in addresses[&role].into_iter().enumerate() {
                let command = deployment.command_of(role, number, address, &shared)?;
                let process = None;
                let replica = Replica { command, process };
                deployment.replicas.insert((role, number), replica);
            }
        }
        for role in Role::ALL {
            for number in 0..REPLICAS {
                deployment.spawn(role, number)?;
            }
        }
        for role in Role::ALL {
            deployment.ready(role).await?;
        }
        deployment.settle().await?;
        Ok(deployment)
    }

    /// Waits until nothing is refused any more: a Redis without a past refuses, for some seconds, every
    /// mandate that it might have forgotten.
    async fn settle(&self) -> Result<(), DrillError> {
        let upstream = format!("http://{}", self.upstream.address());
        let zone = Zone::plant(&self.service(Role::Api), &self.tokens, "settle", &upstream).await?;
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            let history = History::new();
            let load = Load::start(zone.clone(), self.services(), history.clone(), 1);
            tokio::time::sleep(SETTLED).await;
            load.finish().await;
            if history.written().is_untroubled() {
                break;
            }
        }
        Ok(())
    }

    fn shared_variables(&self, database: &Database) -> BTreeMap<String, String> {
        let service = |role| format!("http://{}", self.balancers[&role].address());
        let secret = |secret: &Secret<String>| secret.expose().clone();
        let mut variables: BTreeMap<String, String> = SETTINGS
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .chain(KEYS.map(|name| (name.to_owned(), secret(&token()))))
            .collect();
        let own = [
            ("DATABASE_URL", database.owner_url.clone()),
            ("REDIS_URL", self.redis.url()),
            ("ISSUER_URL", service(Role::Sts)),
            ("STS_URL", service(Role::Sts)),
            ("CARACAL_GATEWAY_URL", service(Role::Gateway)),
            ("CARACAL_COORDINATOR_URL", service(Role::Coordinator)),
            ("CARACAL_ADMIN_TOKEN", secret(&self.tokens.admin)),
            ("CARACAL_COORDINATOR_TOKEN", secret(&self.tokens.operator)),
            ("AUDIT_ADMIN_TOKEN", secret(&self.audit_token)),
            ("HOME", self.directory.path().display().to_string()),
        ];
        variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
        variables
    }

    fn command_of(
        &self,
        role: Role,
        number: usize,
        address: SocketAddr,
        shared: &BTreeMap<String, String>,
    ) -> Result<RoleCommand, DrillError> {
        let log = self.audit_log(role, number);
        std::fs::create_dir_all(&log).map_err(|e| DrillError::Io("directory", e))?;
        let mut variables = shared.clone();
        let listen = format!("CARACAL_{}_LISTEN", role.name().to_uppercase());
        variables.insert(listen, address.to_string());
        variables.insert("AUDIT_REPLAY_DIR".to_owned(), log.display().to_string());
        if role == Role::Gateway {
            let wire = format!("http://{}", self.wires[number].address());
            variables.insert("STS_URL".to_owned(), wire);
        }
        let wrapper = WRAPPER.map(str::to_owned);
        Ok(RoleCommand {
            binary: self.binary.clone(),
            wrapper: wrapper.to_vec(),
            roles: role.name().to_owned(),
            variables,
            address,
            log: self
                .directory
                .path()
                .join(format!("{}-{number}.log", role.name())),
        })
    }

    async fn migrate(&self, variables: &BTreeMap<String, String>) -> Result<(), DrillError> {
        let output = self.command(["migrate"]).envs(variables).output().await;
        let output = output.map_err(|e| DrillError::Io("caracal migrate", e))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(DrillError::Command("caracal migrate", said))
    }

    /// A command of the binary that may read evidence.
    pub(crate) fn command<const N: usize>(&self, arguments: [&str; N]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.binary);
        let audit = format!("http://{}", self.balancers[&Role::Audit].address());
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory.path())
            .env("CARACAL_AUDIT_URL", audit)
            .env("AUDIT_ADMIN_TOKEN", self.audit_token.expose());
        command
    }

    /// Where the logs and exports are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The directory of a replica's local audit log.
    pub(crate) fn audit_log(&self, role: Role, number: usize) -> PathBuf {
        let name = format!("{}-{number}", role.name());
        self.directory.path().join("audit-replay").join(name)
    }

    /// The balancers, as clients know the roles.
    pub(crate) fn services(&self) -> Services {
        Services {
            sts: self.service(Role::Sts),
            coordinator: self.service(Role::Coordinator),
            gateway: self.service(Role::Gateway),
        }
    }

    /// The base URL of a role's balancer.
    pub(crate) fn service(&self, role: Role) -> String {
        format!("http://{}", self.balancers[&role].address())
    }

    /// The base URL of one replica.
    pub(crate) fn replica(&self, role: Role, number: usize) -> String {
        let address = self.replicas[&(role, number)].command.address;
        format!("http://{address}")
    }

    /// The wire from a Gateway to the STS.
    pub(crate) fn wire(&self, gateway: usize) -> &Wire {
        &self.wires[gateway]
    }

    fn spawn(&mut self, role: Role, number: usize) -> Result<(), DrillError> {
        if let Some(replica) = self.replicas.get_mut(&(role, number)) {
            replica.process = Some(replica.command.spawn()?);
        }
        Ok(())
    }

    /// Waits until every running replica of the role is ready.
    pub(crate) async fn ready(&mut self, role: Role) -> Result<(), DrillError> {
        for number in 0..REPLICAS {
            let replica = self.replicas.get_mut(&(role, number));
            if let Some(process) = replica.and_then(|replica| replica.process.as_mut()) {
                let ready = process.ready(START).await;
                ready.map_err(|e| DrillError::Start(e, self.log_tails()))?;
            }
        }
        Ok(())
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, role: Role, number: usize) {
        let replica = self.replicas.get_mut(&(role, number));
        if let Some(process) = replica.and_then(|replica| replica.process.take()) {
            process.kill();
        }
    }

    /// Starts a replica that was killed and waits until it is ready.
    pub(crate) async fn restart(&mut self, role: Role, number: usize) -> Result<(), DrillError> {
        self.spawn(role, number)?;
        self.ready(role).await
    }

    /// Kills a replica and starts it again with these variables too.
    pub(crate) async fn restart_with(
        &mut self,
        role: Role,
        number: usize,
        variables: &[(&str, String)],
    ) -> Result<(), DrillError> {
        self.kill(role, number);
        if let Some(replica) = self.replicas.get_mut(&(role, number)) {
            let added = variables.iter().cloned();
            let added = added.map(|(name, value)| (name.to_owned(), value));
            replica.command.variables.extend(added);
        }
        self.restart(role, number).await
    }

    /// Kills a replica and starts it again without these variables.
    pub(crate) async fn restart_without(
        &mut self,
        role: Role,
        number: usize,
        names: &[&str],
    ) -> Result<(), DrillError> {
        self.kill(role, number);
        if let Some(replica) = self.replicas.get_mut(&(role, number)) {
            let variables = &mut replica.command.variables;
            variables.retain(|name, _| !names.contains(&name.as_str()));
        }
        self.restart(role, number).await
    }

    /// The running process of a replica.
    pub(crate) fn process(&self, role: Role, number: usize) -> Option<&RoleProcess> {
        self.replicas[&(role, number)].process.as_ref()
    }

    /// The end of every replica's log, for a failed drill.
    pub(crate) fn log_tails(&self) -> String {
        let mut out = String::new();
        for replica in self.replicas.values() {
            let path = &replica.command.log;
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(12)..];
            if !tail.is_empty() {
                out.push_str(&format!("--- {}\n{}\n", path.display(), tail.join("\n")));
            }
        }
        out
    }
}

fn network(error: std::io::Error) -> DrillError {
    DrillError::Io("network", error)
}

fn token() -> Secret<String> {
    Secret::new(hex::encode(random::bytes::<32>(&SystemRandom)))
}

fn free_address() -> Result<SocketAddr, DrillError> {
    let listener = TcpListener::bind(("127.0.0.1", 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map_err(network)
}
