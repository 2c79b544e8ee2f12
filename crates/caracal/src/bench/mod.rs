//! `caracal bench`: the governed call under closed-loop load.
//!
//! The bench starts a stack of its own in a temporary home, with the limits raised that a load test
//! must raise, and drives it from this process: each worker mints a one-shot mandate at the STS and
//! spends it at the Gateway, again and again. The upstream is local. What is measured is the whole
//! governed call as a client sees it; CPU and memory are the stack's own, read from `/proc`. With
//! roles apart the stores tell what they were asked.

mod counters;
mod lane;
mod meter;
mod report;
mod target;
pub mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::CommandResult;
use crate::cli::BenchArgs;
use crate::client::Client;
use crate::config::Environment;
use crate::tour::{READ, World};

use counters::Counted;
use lane::{Lane, Tally};
use meter::Meter;
use report::Run;
use target::Target;
use upstream::Upstream;

/// Limits that the bench raises on its own stack.
const RAISED: [(&str, &str); 5] = [
    ("LOG_LEVEL", "warn"),
    ("MAX_AGENTS_PER_ZONE", "100000"),
    ("MAX_AGENTS_PER_APP", "100000"),
    ("STS_MINT_RATE_LIMIT_PER_MIN", "1000000000"),
    ("COORDINATOR_RATE_LIMIT_PER_MIN", "0"),
];

/// Calls of each worker before its run is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// Runs the load once for each number of workers.
pub(crate) async fn run(environment: &Environment, args: &BenchArgs) -> CommandResult {
    let home = TemporaryHome::new();
    let target = Target::start(environment, args, &home).await?;
    let upstream = Upstream::start(false).await?;
    let client = Client::new(Duration::from_secs(10));
    let endpoints = target.endpoints.clone();
    let world = World::provision(client, endpoints, "bench", &upstream.url()).await?;
    let world = Arc::new(world);
    let mut runs = Vec::new();
    for workers in &args.workers {
        runs.push(measure(&world, &target, *workers, Duration::from_secs(args.seconds)).await?);
    }
    let report = report::Report {
        shape: target.shape,
        raised: target::raised(environment),
        seconds: args.seconds,
        runs,
    };
    crate::say(&if args.json {
        report.json()
    } else {
        report.table()
    });
    Ok(if report.has_failures() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn measure(
    world: &Arc<World>,
    target: &Target,
    workers: usize,
    length: Duration,
) -> Result<Run, Box<dyn std::error::Error>> {
    let lifecycle = world.lifecycle_token().await?;
    let mut lanes = Vec::with_capacity(workers);
    for _ in 0..workers {
        let source = world.open_session(&lifecycle, None, 7_200).await?;
        let target = world.open_session(&lifecycle, None, 7_200).await?;
        let edge = world.delegate(&lifecycle, &source, &target, 7_200).await?;
        let fields = [
            ("scope", READ),
            ("agent_session_id", target.id.as_str()),
            ("delegation_edge_id", &edge),
        ];
        lanes.push(
            Lane::connect(&world.endpoints, world.token_form(&fields))
                .await
                .map_err(|error| error.to_string())?,
        );
    }
    let mut lanes = drive(lanes, WARM_UP).await?.0;
    let asked_before = asked(target).await?;
    let before = target.meter.read()?;
    let own_before = Meter::of_this_process().read()?;
    let began = Instant::now();
    let tally;
    (lanes, tally) = drive(lanes, length).await?;
    let elapsed = began.elapsed();
    let after = target.meter.read()?;
    let own_after = Meter::of_this_process().read()?;
    let asked_after = asked(target).await?;
    drop(lanes);
    Ok(Run {
        workers,
        elapsed,
        tally,
        stack_cpu: after.cpu.saturating_sub(before.cpu),
        load_cpu: own_after.cpu.saturating_sub(own_before.cpu),
        resident: after.resident,
        asked: asked_after
            .zip(asked_before)
            .map(|(after, before)| after.since(&before)),
    })
}

async fn asked(target: &Target) -> Result<Option<Counted>, Box<dyn std::error::Error>> {
    match &target.counters {
        Some(counters) => counters.read().await.map(Some),
        None => Ok(None),
    }
}

async fn drive(
    lanes: Vec<Lane>,
    length: Duration,
) -> Result<(Vec<Lane>, Tally), Box<dyn std::error::Error>> {
    let until = Instant::now() + length;
    let running: Vec<_> = lanes
        .into_iter()
        .map(|lane| tokio::spawn(lane.run_until(until)))
        .collect();
    let (mut lanes, mut total) = (Vec::new(), Tally::default());
    for lane in running {
        let (lane, tally) = lane.await?;
        lanes.push(lane);
        total.merge(tally);
    }
    Ok((lanes, total))
}

/// A directory that goes away with the bench.
struct TemporaryHome(PathBuf);

impl TemporaryHome {
    fn new() -> Self {
        let unique = caracal_core::id::uuid_v4(&caracal_core::SystemRandom);
        Self(std::env::temp_dir().join(format!("caracal-bench-{unique}")))
    }
}

impl Drop for TemporaryHome {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
