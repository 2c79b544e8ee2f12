//! What a bench loads: an embedded stack of its own, roles apart of its own on the PostgreSQL and Redis
//! that the environment names, or a deployment that runs already.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use caracal_core::{Secret, SystemRandom, random};

use super::counters::Counters;
use super::meter::Meter;
use super::{RAISED, TemporaryHome};
use crate::cli::BenchArgs;
use crate::config::{Environment, Role};
use crate::role_process::{RoleCommand, RoleProcess};
use crate::stack_process::StackProcess;
use crate::tour::Endpoints;

type Failure = Box<dyn std::error::Error>;

/// Longest wait for a role to be ready.
const START: Duration = Duration::from_secs(60);

/// Keys and tokens that roles apart share; made for the bench and forgotten with it.
const SECRETS: [&str; 10] = [
    "CARACAL_ADMIN_TOKEN",
    "CARACAL_COORDINATOR_TOKEN",
    "METRICS_BEARER",
    "SECRET_STORE_KEK",
    "AUDIT_HMAC_KEY",
    "STREAMS_HMAC_KEY",
    "IDEMPOTENCY_HMAC_KEY",
    "AUDIT_CHECKPOINT_KEY",
    "GATEWAY_STS_HMAC_KEY",
    "AUDIT_ADMIN_TOKEN",
];

/// What roles apart read from the caller's environment.
const GIVEN: [&str; 6] = [
    "DATABASE_URL",
    "DATABASE_URL_FILE",
    "REDIS_URL",
    "REDIS_URL_FILE",
    "CARACAL_TLS_EXTRA_CA_FILE",
    "CARACAL_AUDIT_DURABILITY",
];

/// Something to load; what it started ends when it is dropped.
pub(crate) struct Target {
    pub(crate) shape: &'static str,
    pub(crate) endpoints: Endpoints,
    /// The stack's processes, where they are known.
    pub(crate) meter: Meter,
    /// The stores' counters, where the environment names the stores.
    pub(crate) counters: Option<Counters>,
    _held: Held,
}

/// Kept alive for the time of the bench.
enum Held {
    Embedded(#[allow(dead_code, reason = "held, not read")] StackProcess),
    Apart(#[allow(dead_code, reason = "held, not read")] Vec<RoleProcess>),
    Elsewhere,
}

impl Target {
    pub(crate) async fn start(
        environment: &Environment,
        args: &BenchArgs,
        home: &TemporaryHome,
    ) -> Result<Self, Failure> {
        if args.api_url.is_some() {
            Self::elsewhere(environment, args).await
        } else if args.apart {
            Self::apart(environment, &home.0).await
        } else {
            Self::embedded(environment, &home.0).await
        }
    }

    async fn embedded(environment: &Environment, home: &Path) -> Result<Self, Failure> {
        let settings = raised(environment);
        let stack = StackProcess::start(&std::env::current_exe()?, home, &settings).await?;
        Ok(Self {
            shape: "embedded",
            endpoints: stack.endpoints.clone(),
            meter: Meter::of([stack.pid()]),
            counters: None,
            _held: Held::Embedded(stack),
        })
    }

    async fn elsewhere(environment: &Environment, args: &BenchArgs) -> Result<Self, Failure> {
        let url = |given: &Option<String>, role: Role| {
            let url = given.clone();
            let url = url.unwrap_or_else(|| format!("http://localhost:{}", role.port()));
            url.trim_end_matches('/').to_owned()
        };
        Ok(Self {
            shape: "running",
            endpoints: Endpoints {
                api: url(&args.api_url, Role::Api),
                sts: url(&args.sts_url, Role::Sts),
                coordinator: url(&args.coordinator_url, Role::Coordinator),
                gateway: url(&args.gateway_url, Role::Gateway),
                admin_token: Endpoints::token_of(environment)?,
            },
            meter: Meter::of([]),
            counters: Counters::of(environment).await?,
            _held: Held::Elsewhere,
        })
    }

    async fn apart(environment: &Environment, home: &Path) -> Result<Self, Failure> {
        let counters = Counters::of(environment).await?;
        if counters.is_none() {
            return Err("--apart needs DATABASE_URL and REDIS_URL of servers to load".into());
        }
        std::fs::create_dir_all(home)?;
        let mut addresses = BTreeMap::new();
        for role in Role::ALL {
            addresses.insert(role, free_address()?);
        }
        let variables = variables(environment, home, &addresses);
        migrate(&variables)?;
        let mut processes = Vec::new();
        for (role, address) in &addresses {
            processes.push(command(*role, *address, home, &variables)?.spawn()?);
        }
        for process in &mut processes {
            process.ready(START).await?;
        }
        let url = |role| format!("http://{}", addresses[&role]);
        let admin_token = variables.get("CARACAL_ADMIN_TOKEN").cloned();
        Ok(Self {
            shape: "apart",
            endpoints: Endpoints {
                api: url(Role::Api),
                sts: url(Role::Sts),
                coordinator: url(Role::Coordinator),
                gateway: url(Role::Gateway),
                admin_token: Secret::new(admin_token.unwrap_or_default()),
            },
            meter: Meter::of(processes.iter().map(RoleProcess::pid)),
            counters,
            _held: Held::Apart(processes),
        })
    }
}

/// The raised limits, or what the caller sets them to.
pub(super) fn raised(environment: &Environment) -> Vec<(&str, &str)> {
    let set = |(name, value)| (name, environment.get(name).unwrap_or(value));
    RAISED.into_iter().map(set).collect()
}

fn variables(
    environment: &Environment,
    home: &Path,
    addresses: &BTreeMap<Role, SocketAddr>,
) -> BTreeMap<String, String> {
    let url = |role| format!("http://{}", addresses[&role]);
    let secret = || hex::encode(random::bytes::<32>(&SystemRandom));
    let given = GIVEN.into_iter().filter_map(|name| {
        let value = environment.get(name)?;
        Some((name, value.to_owned()))
    });
    let own = [
        ("CARACAL_MODE", "rc".to_owned()),
        ("HOME", home.display().to_string()),
        ("ISSUER_URL", url(Role::Sts)),
        ("STS_URL", url(Role::Sts)),
        ("CARACAL_GATEWAY_URL", url(Role::Gateway)),
        ("CARACAL_COORDINATOR_URL", url(Role::Coordinator)),
        ("READY_RATE_LIMIT_PER_MIN", "0".to_owned()),
    ];
    let raised = raised(environment);
    let raised = raised
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()));
    own.into_iter()
        .chain(given)
        .chain(raised)
        .chain(SECRETS.map(|name| (name, secret())))
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn migrate(variables: &BTreeMap<String, String>) -> Result<(), Failure> {
    let output = Command::new(std::env::current_exe()?)
        .arg("migrate")
        .envs(variables)
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("migrate: {}", String::from_utf8_lossy(&output.stderr)).into())
}

fn command(
    role: Role,
    address: SocketAddr,
    home: &Path,
    variables: &BTreeMap<String, String>,
) -> std::io::Result<RoleCommand> {
    let replay = home.join("audit-replay").join(role.name());
    std::fs::create_dir_all(&replay)?;
    let mut variables = variables.clone();
    variables.insert(role.listen_variable().to_owned(), address.to_string());
    variables.insert("AUDIT_REPLAY_DIR".to_owned(), replay.display().to_string());
    Ok(RoleCommand {
        binary: std::env::current_exe()?,
        wrapper: Vec::new(),
        roles: role.name().to_owned(),
        variables,
        address,
        log: home.join(format!("{}.log", role.name())),
    })
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}
