//! Fault drills on the built binary: what clients received must be in the evidence, whatever killed
//! the process.
//!
//! `CARACAL_DRILL_ROUNDS` sets the number of kills (default 200).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail the test"
)]

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use caracal::bench::upstream::Upstream;
use caracal::client::Client;
use caracal::stack_process::StackProcess;
use caracal::tour::{READ, Session, World};
use caracal_core::Random;
use caracal_evidence::verify::{Trust, verify};
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

const WORKERS: usize = 6;

const SETTINGS: [(&str, &str); 5] = [
    ("MAX_AGENTS_PER_ZONE", "100000"),
    ("STS_MINT_RATE_LIMIT_PER_MIN", "1000000000"),
    ("COORDINATOR_RATE_LIMIT_PER_MIN", "0"),
    ("API_V1_RATE_LIMIT_PER_MIN", "0"),
    ("LOG_LEVEL", "warn"),
];

/// What clients hold in their hands: mandates by `jti`, proxied responses by request id.
#[derive(Default)]
struct Received {
    mandates: HashSet<String>,
    responses: HashSet<String>,
}

impl Received {
    fn merge(&mut self, other: Self) {
        self.mandates.extend(other.mandates);
        self.responses.extend(other.responses);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_decision_is_lost_when_the_process_is_killed() {
    let rounds = rounds(200);
    let home = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(false).await.unwrap();
    let mut stack = start(home.path()).await;
    let world = provision(&stack, &upstream).await;
    let lanes = open_lanes(&world).await;

    let mut received = Received::default();
    for _ in 0..rounds {
        let world = Arc::new(world.at(stack.endpoints.clone()));
        let load = spawn_load(&world, &lanes);
        tokio::time::sleep(random_millis(15, 160)).await;
        stack.kill();
        received.merge(collect(load).await);
        stack = start(home.path()).await;
    }
    assert!(
        received.mandates.len() >= rounds,
        "the load reached the stack between the kills"
    );

    let bundle = export(&stack, home.path(), &world).await;
    verify(bundle.as_slice(), &Trust::default()).unwrap();
    let evidence = read_evidence(&bundle);
    let lost: Vec<_> = received
        .mandates
        .difference(&evidence.mandates)
        .take(3)
        .collect();
    assert!(lost.is_empty(), "mandates without evidence: {lost:?}");
    let lost: Vec<_> = received
        .responses
        .difference(&evidence.responses)
        .take(3)
        .collect();
    assert!(lost.is_empty(), "responses without evidence: {lost:?}");
    println!(
        "{rounds} kills: {} mandates and {} responses received, all in the evidence; chain verified",
        received.mandates.len(),
        received.responses.len()
    );
}

fn rounds(default: usize) -> usize {
    std::env::var("CARACAL_DRILL_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

async fn start(home: &Path) -> StackProcess {
    let binary = Path::new(env!("CARGO_BIN_EXE_caracal"));
    StackProcess::start(binary, home, &SETTINGS).await.unwrap()
}

async fn provision(stack: &StackProcess, upstream: &Upstream) -> World {
    let client = Client::new(Duration::from_secs(10));
    World::provision(client, stack.endpoints.clone(), "drill", &upstream.url())
        .await
        .unwrap()
}

async fn open_lanes(world: &World) -> Vec<(Session, String)> {
    let lifecycle = world.lifecycle_token().await.unwrap();
    let mut lanes = Vec::new();
    for _ in 0..WORKERS {
        let source = world.open_session(&lifecycle, None, 86_400).await.unwrap();
        let target = world.open_session(&lifecycle, None, 86_400).await.unwrap();
        let edge = world
            .delegate(&lifecycle, &source, &target, 86_000)
            .await
            .unwrap();
        lanes.push((target, edge));
    }
    lanes
}

fn spawn_load(world: &Arc<World>, lanes: &[(Session, String)]) -> JoinSet<Received> {
    let mut load = JoinSet::new();
    for lane in lanes {
        let (world, (target, edge)) = (world.clone(), lane.clone());
        load.spawn(async move {
            let mut received = Received::default();
            while governed_call(&world, &target, &edge, &mut received)
                .await
                .is_some()
            {}
            received
        });
    }
    load
}

/// One governed call; `None` once the stack is gone.
async fn governed_call(
    world: &World,
    target: &Session,
    edge: &str,
    received: &mut Received,
) -> Option<()> {
    let minted = world.mint(target, edge, READ).await.ok()?;
    let mandate = World::mandate(&minted).ok()?;
    received.mandates.insert(jti(mandate.expose()));
    let answer = world.call(&mandate, Method::GET, "/v1/items").await.ok()?;
    assert_eq!(
        answer.status,
        StatusCode::OK,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    received
        .responses
        .insert(answer.headers["x-request-id"].to_str().unwrap().to_owned());
    Some(())
}

async fn collect(mut load: JoinSet<Received>) -> Received {
    let mut all = Received::default();
    while let Some(received) = load.join_next().await {
        all.merge(received.unwrap());
    }
    all
}

fn jti(token: &str) -> String {
    let payload = BASE64_URL_SAFE_NO_PAD
        .decode(token.split('.').nth(1).unwrap())
        .unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    claims["jti"].as_str().unwrap().to_owned()
}

/// The zone's evidence; the Audit role stores and signs everything logged before it answers.
async fn export(stack: &StackProcess, home: &Path, world: &World) -> Vec<u8> {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_caracal"))
        .args(["audit", "export", "--zone", &world.zone])
        .env("CARACAL_HOME", home)
        .output()
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "pid {}: {}",
        stack.pid(),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn read_evidence(bundle: &[u8]) -> Received {
    let mut evidence = Received::default();
    for line in bundle
        .split(|byte| *byte == b'\n')
        .skip(1)
        .filter(|line| !line.is_empty())
    {
        let line: Value = serde_json::from_slice(line).unwrap();
        let event = &line["event"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match event["event_type"].as_str() {
            Some("token_exchange") if event["decision"] == "allow" => {
                evidence
                    .mandates
                    .insert(text(&event["metadata_json"]["jti"]));
            }
            Some("gateway_request_started") => {
                evidence.responses.insert(text(&event["request_id"]));
            }
            _ => {}
        }
    }
    evidence
}

fn random_millis(from: u64, to: u64) -> Duration {
    let mut bytes = [0; 8];
    caracal_core::SystemRandom.fill(&mut bytes);
    Duration::from_millis(from + u64::from_le_bytes(bytes) % (to - from))
}
