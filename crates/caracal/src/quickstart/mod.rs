//! `caracal quickstart`: one governed call, shown, refused, revoked and proven.
//!
//! The tour provisions a small world on a running stack, does what an agent does, tries what an agent
//! must not be able to do, and checks every outcome: it is the smoke test of a stack as much as a
//! lesson. The exit code tells.

mod show;

use std::process::ExitCode;
use std::time::Duration;

use caracal_core::Secret;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::CommandResult;
use crate::bench::upstream::Upstream;
use crate::cli::QuickstartArgs;
use crate::client::{Answer, Client};
use crate::config::Environment;
use crate::evidence_tools::{self, ChainReport, EvidenceSource};
use crate::tour::{Endpoints, READ, Session, TourError, WRITE, World};
use crate::up;

/// Life of the tour's Sessions and delegation, seconds.
const LIFE: i64 = 600;

/// The event that ends a call's trail.
const LAST_EVENT: &str = "gateway_resource_request";

/// How long evidence may take from its role to the store, and how often the tour looks.
const STORED: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);

/// What one attempt must answer, and what it did.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) what: &'static str,
    pub(crate) expected: &'static [u16],
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) reason: String,
}

impl Attempt {
    fn of(what: &'static str, expected: &'static [u16], answer: &Answer) -> Self {
        let body = answer.json();
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        Self {
            what,
            expected,
            status: answer.status.as_u16(),
            code: text("error"),
            reason: text("error_description"),
        }
    }

    pub(crate) fn holds(&self) -> bool {
        self.expected.contains(&self.status)
    }
}

/// Everything that the tour saw.
#[derive(Debug)]
pub(crate) struct Tour {
    pub(crate) zone: String,
    pub(crate) application: String,
    pub(crate) granted: Attempt,
    /// Whether the upstream received the real credential.
    pub(crate) upstream_got_credential: bool,
    /// Whether the credential occurs in anything that the agent received.
    pub(crate) agent_saw_credential: bool,
    pub(crate) denials: Vec<Attempt>,
    pub(crate) request_id: String,
    pub(crate) trail: Vec<Value>,
    pub(crate) chain: ChainReport,
}

impl Tour {
    pub(crate) fn holds(&self) -> bool {
        self.granted.holds()
            && self.upstream_got_credential
            && !self.agent_saw_credential
            && self.denials.iter().all(Attempt::holds)
            && self.trail.len() >= 2
            && self.chain.verified
    }
}

/// Runs the tour against the embedded stack, or the one given by URL.
pub(crate) async fn run(environment: &Environment, args: &QuickstartArgs) -> CommandResult {
    let (endpoints, source) = target(environment, args).await?;
    let upstream = Upstream::start(true).await?;
    let client = Client::new(Duration::from_secs(15));
    let name = format!(
        "quickstart-{}",
        hex::encode(caracal_core::random::bytes::<4>(
            &caracal_core::SystemRandom
        ))
    );
    let world = World::provision(client, endpoints, &name, &upstream.url()).await?;
    let tour = walk(&world, &source).await;
    if !args.keep {
        world.remove().await?;
    }
    let tour = tour?;
    crate::say(&if args.json {
        show::json(&tour)
    } else {
        show::screen(&tour)
    });
    if args.keep {
        crate::say(&show::how_to_go_on(&world));
    }
    Ok(if tour.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn target(
    environment: &Environment,
    args: &QuickstartArgs,
) -> Result<(Endpoints, EvidenceSource), Box<dyn std::error::Error>> {
    if args.api_url.is_none() {
        let (home, run) = up::ensure_running(environment).await?;
        let endpoints = Endpoints::of(&home, &run, environment)?;
        return Ok((endpoints, EvidenceSource::of(&home, &run, environment)?));
    }
    let url = |given: &Option<String>, port: u16| {
        let url = given
            .clone()
            .unwrap_or_else(|| format!("http://localhost:{port}"));
        url.trim_end_matches('/').to_owned()
    };
    let endpoints = Endpoints {
        api: url(&args.api_url, 3000),
        sts: url(&args.sts_url, 8080),
        coordinator: url(&args.coordinator_url, 4000),
        gateway: url(&args.gateway_url, 8081),
        admin_token: Endpoints::token_of(environment)?,
    };
    Ok((endpoints, EvidenceSource::of_environment(environment)?))
}

async fn walk(world: &World, source: &EvidenceSource) -> Result<Tour, TourError> {
    let lifecycle = world.lifecycle_token().await?;
    let parent = world.open_session(&lifecycle, None, LIFE).await?;
    let child = world.open_session(&lifecycle, Some(&parent), LIFE).await?;
    let edge = world.delegate(&lifecycle, &parent, &child, LIFE).await?;

    let mandate = World::mandate(&world.mint(&child, &edge, READ).await?)?;
    let granted = world.call(&mandate, Method::GET, "/v1/items").await?;
    let key = world.upstream_key.expose().as_str();
    let seen = granted.json();
    let upstream_got_credential = seen["headers"]["x-api-key"] == key;
    let agent_saw_credential =
        mandate.expose().contains(key) || holds_key_outside_echo(&granted, key);
    let request_id = granted
        .headers
        .get("x-request-id")
        .and_then(|id| id.to_str().ok())
        .unwrap_or_default()
        .to_owned();

    let denials = refuse(world, &lifecycle, &child, &edge, &mandate).await?;
    let trail = trail(world, &request_id).await?;
    let chain = evidence_tools::verify_zone(source, &world.zone).await;
    Ok(Tour {
        zone: world.zone.clone(),
        application: world.application.clone(),
        granted: Attempt::of("GET /v1/items through the Gateway", &[200], &granted),
        upstream_got_credential,
        agent_saw_credential,
        denials,
        request_id,
        trail,
        chain: chain.unwrap_or_else(|error| ChainReport::failed(&error.to_string())),
    })
}

/// The echoing upstream repeats what it received, the key too: everything but that echo counts.
fn holds_key_outside_echo(answer: &Answer, key: &str) -> bool {
    answer
        .headers
        .values()
        .any(|value| String::from_utf8_lossy(value.as_bytes()).contains(key))
}

async fn refuse(
    world: &World,
    lifecycle: &Secret<String>,
    child: &Session,
    edge: &str,
    used: &Secret<String>,
) -> Result<Vec<Attempt>, TourError> {
    let mut denials = Vec::new();
    let beyond = world.mint(child, edge, WRITE).await?;
    denials.push(Attempt::of(
        "mint items:write, which was never delegated",
        &[403],
        &beyond,
    ));
    let fresh = World::mandate(&world.mint(child, edge, READ).await?)?;
    let write = world.call(&fresh, Method::POST, "/v1/items").await?;
    denials.push(Attempt::of(
        "POST /v1/items with an items:read mandate",
        &[403],
        &write,
    ));
    let again = world.call(used, Method::GET, "/v1/items").await?;
    denials.push(Attempt::of(
        "the first mandate a second time",
        &[401],
        &again,
    ));

    let unspent = World::mandate(&world.mint(child, edge, READ).await?)?;
    world.revoke(lifecycle, edge).await?;
    let call = world.call(&unspent, Method::GET, "/v1/items").await?;
    denials.push(Attempt::of(
        "an unspent mandate after the revocation",
        &[401, 403],
        &call,
    ));
    let mint = world.mint(child, edge, READ).await?;
    denials.push(Attempt::of(
        "a new mint after the revocation",
        &[403],
        &mint,
    ));
    Ok(denials)
}

/// The events of a call. Where roles run apart they are stored a moment after the call.
async fn trail(world: &World, request_id: &str) -> Result<Vec<Value>, TourError> {
    let path = format!("/v1/zones/{}/audit/by-request/{request_id}", world.zone);
    let deadline = tokio::time::Instant::now() + STORED;
    loop {
        let whole = match world.admin(Method::GET, &path, &Value::Null).await {
            Ok(Value::Array(events)) => {
                let ended = events.iter().any(|event| event["event_type"] == LAST_EVENT);
                ended.then_some(Ok(events))
            }
            Ok(_) => Some(Ok(vec![json!({})])),
            Err(TourError::Refused { status, .. }) if status == StatusCode::NOT_FOUND => None,
            Err(error) => Some(Err(error)),
        };
        match whole {
            Some(trail) => return trail,
            None if tokio::time::Instant::now() >= deadline => {
                return Err(TourError::Unusable(format!(
                    "the evidence of {request_id} is not stored; does the Audit role run?"
                )));
            }
            None => tokio::time::sleep(LOOK).await,
        }
    }
}
