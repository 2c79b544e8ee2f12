//! The command line: names, flags, usage.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::Role;

/// `caracal`, the authority control plane for AI agents.
#[derive(Debug, Parser)]
#[command(
    name = "caracal",
    disable_version_flag = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the embedded stack: one process, five roles, nothing else to install.
    Up {
        /// Stay in the foreground and log to standard error.
        #[arg(long)]
        foreground: bool,
        /// Say on standard output, once, that the stack is ready.
        #[arg(long, hide = true)]
        announce: bool,
    },
    /// Stop the embedded stack.
    Down,
    /// Probe the five roles; exit 1 when one is down.
    Status {
        /// Probe readiness instead of health.
        #[arg(long)]
        ready: bool,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// See a governed call: authority given, narrowed, used, refused, revoked, and its evidence.
    Quickstart(QuickstartArgs),
    /// Load the governed call and print throughput, latency, CPU and memory.
    Bench(BenchArgs),
    /// Run roles on PostgreSQL and Redis: `caracal serve sts,gateway`.
    Serve {
        /// Roles, comma separated: api, sts, gateway, audit, coordinator.
        #[arg(value_delimiter = ',', required = true, value_parser = parse_role)]
        roles: Vec<Role>,
    },
    /// Ask the listeners of this host whether they are well; for container health checks.
    Healthcheck(HealthcheckArgs),
    /// Bring the PostgreSQL schema to this version, and give the roles their logins.
    Migrate(MigrateArgs),
    /// Check configuration, clocks, stores, keys and backlogs; one remedy for each defect.
    Doctor(DoctorArgs),
    /// Work with what is sealed at rest.
    Secrets {
        #[command(subcommand)]
        action: SecretsAction,
    },
    /// Look at messages that were not published, and have parked ones published after all.
    Outbox {
        #[command(subcommand)]
        action: OutboxAction,
    },
    /// Write a backup of the store, and of an embedded stack's secrets and audit log.
    Backup(BackupArgs),
    /// Put a backup back, and refuse all authority that was given before.
    Restore(RestoreArgs),
    /// Show the effective configuration.
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Work with evidence.
    Audit {
        #[command(subcommand)]
        action: AuditAction,
    },
    /// Work with policy.
    Policy {
        #[command(subcommand)]
        action: PolicyAction,
    },
    /// Print the version.
    Version {
        /// Answer in JSON, one line.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// Print every setting of the roles, secrets masked.
    Print {
        /// Print the table of variables instead, as JSON.
        #[arg(long)]
        schema: bool,
        /// Only these roles, as `caracal serve` would run them; default: the embedded stack.
        #[arg(long, value_delimiter = ',', value_parser = parse_role)]
        roles: Vec<Role>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditAction {
    /// Write a zone's evidence as a bundle that `verify` checks offline.
    Export {
        /// The zone.
        #[arg(long)]
        zone: String,
        /// Where to write; `-` is standard output.
        #[arg(long, default_value = "-")]
        out: PathBuf,
    },
    /// Check a bundle: every event included, nothing removed, order kept.
    Verify {
        /// The bundle; `-` is standard input.
        bundle: PathBuf,
        /// The signer's verifier key, when known from elsewhere: `name+id+base64`.
        #[arg(long)]
        key: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyAction {
    /// Print the decision contract in Rego, for auditors.
    Export,
}

#[derive(Debug, Args)]
pub(crate) struct QuickstartArgs {
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Keep what the tour made, and print how to use it.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Admin API of a stack that runs already; default: the embedded stack, started if needed.
    #[arg(long)]
    pub(crate) api_url: Option<String>,
    /// STS of that stack.
    #[arg(long)]
    pub(crate) sts_url: Option<String>,
    /// Coordinator of that stack.
    #[arg(long)]
    pub(crate) coordinator_url: Option<String>,
    /// Gateway of that stack.
    #[arg(long)]
    pub(crate) gateway_url: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Concurrent workers, comma separated: one run each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    pub(crate) workers: Vec<usize>,
    /// Seconds of each run.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Load roles apart on DATABASE_URL and REDIS_URL instead of an embedded stack.
    #[arg(long)]
    pub(crate) apart: bool,
    /// Admin API of a deployment that runs already; nothing is started then.
    #[arg(long, conflicts_with = "apart")]
    pub(crate) api_url: Option<String>,
    /// STS of that deployment.
    #[arg(long)]
    pub(crate) sts_url: Option<String>,
    /// Coordinator of that deployment.
    #[arg(long)]
    pub(crate) coordinator_url: Option<String>,
    /// Gateway of that deployment.
    #[arg(long)]
    pub(crate) gateway_url: Option<String>,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HealthcheckArgs {
    /// Roles that must be well, comma separated; default: whatever listens on this host.
    #[arg(long, value_delimiter = ',', value_parser = parse_role)]
    pub(crate) role: Vec<Role>,
    /// Ask for readiness instead of health.
    #[arg(long)]
    pub(crate) ready: bool,
    /// Longest wait for each answer, like 2s or 500ms.
    #[arg(long, value_parser = parse_timeout)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Only say what would be applied; exit 2 when something would.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The embedded stack, even when the environment names a database.
    #[arg(long)]
    pub(crate) embedded: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Roles whose configuration is checked, comma separated; default: all.
    #[arg(long, value_delimiter = ',', value_parser = parse_role)]
    pub(crate) roles: Vec<Role>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretsAction {
    /// Seal everything again under SECRET_STORE_KEK, then prove that nothing needs another key.
    Reseal(ResealArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ResealArgs {
    /// Only say what would be sealed again; exit 2 when something would.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The embedded stack, even when the environment names a database.
    #[arg(long)]
    pub(crate) embedded: bool,
    /// Rows that are written in one transaction.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) batch: u16,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OutboxAction {
    /// Print parked messages, oldest first.
    List(OutboxListArgs),
    /// Make parked messages pending again, as if never tried.
    Requeue(OutboxRequeueArgs),
}

#[derive(Debug, Args)]
pub(crate) struct OutboxListArgs {
    /// Only this zone's.
    #[arg(long)]
    pub(crate) zone: Option<String>,
    /// Those that wait to be published instead.
    #[arg(long)]
    pub(crate) pending: bool,
    /// The most to print.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) limit: u16,
    /// The embedded stack, even when the environment names a database.
    #[arg(long)]
    pub(crate) embedded: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OutboxRequeueArgs {
    /// Only this zone's.
    #[arg(long)]
    pub(crate) zone: Option<String>,
    /// This message.
    #[arg(long, required_unless_present = "all", conflicts_with = "all")]
    pub(crate) id: Option<String>,
    /// All that are parked, of the zone where one is named.
    #[arg(long)]
    pub(crate) all: bool,
    /// The embedded stack, even when the environment names a database.
    #[arg(long)]
    pub(crate) embedded: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The embedded stack, even when the environment names a database.
    #[arg(long)]
    pub(crate) embedded: bool,
    /// The directory to write; it must not exist yet.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The embedded stack, even when the environment names a database.
    #[arg(long)]
    pub(crate) embedded: bool,
    /// The directory that `caracal backup` wrote.
    #[arg(long)]
    pub(crate) from: PathBuf,
    /// Replace what is there. An embedded stack's directory is moved aside, never deleted; a
    /// PostgreSQL database is emptied.
    #[arg(long)]
    pub(crate) force: bool,
    /// Keep the admin tokens that the backup holds; a token that was revoked since lives again.
    #[arg(long)]
    pub(crate) keep_admin_tokens: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|timeout| !timeout.is_zero())
        .ok_or_else(|| "a positive duration like 500ms or 2s".to_owned())
}

fn parse_role(text: &str) -> Result<Role, String> {
    Role::from_name(text.trim()).ok_or_else(|| {
        format!("{text:?} is no role; the roles are api, sts, gateway, audit, coordinator")
    })
}

/// The roles as a set.
pub(crate) fn role_set(roles: &[Role]) -> BTreeSet<Role> {
    if roles.is_empty() {
        Role::ALL.into()
    } else {
        roles.iter().copied().collect()
    }
}

/// What `caracal help` prints.
pub(crate) const USAGE: &str = "\
caracal: the authority control plane for AI agents

usage: caracal <command> [options]

STACK
  up           start the embedded stack
  down         stop it
  status       probe the five roles
  serve        run roles on PostgreSQL and Redis

OPERATE
  migrate      bring the PostgreSQL schema to this version
  doctor       check everything; one remedy for each defect
  healthcheck  ask this host's listeners, for container health checks
  secrets      seal secrets again after a key rotation
  outbox       look at unpublished messages, requeue parked ones
  backup       write a backup
  restore      put a backup back

RUNTIME
  quickstart   see a governed call, its denials and its evidence
  bench        load the governed call
  config       show the effective configuration
  audit        export and verify evidence
  policy       print the decision contract
  version      print the version

global options
  -h, --help       show this text, or a command's own
  -v, --version    print the version
";

/// The commands that exist.
pub(crate) fn is_command(word: &str) -> bool {
    const NAMES: [&str; 17] = [
        "healthcheck",
        "migrate",
        "doctor",
        "secrets",
        "outbox",
        "backup",
        "restore",
        "up",
        "down",
        "status",
        "serve",
        "quickstart",
        "bench",
        "config",
        "audit",
        "policy",
        "version",
    ];
    NAMES.contains(&word)
}
