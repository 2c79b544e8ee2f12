//! `caracal outbox`: look at messages that wait or were parked, and have parked ones published after
//! all. Works on the store alone, with the administrative login or on a stopped embedded stack.

use std::fmt::Write as _;
use std::process::ExitCode;

use caracal_core::id::{OutboxId, ZoneId};
use caracal_core::{Clock as _, SystemClock, Timestamp};
use caracal_store::{OutboxMessage, OutboxStats, OutboxStatus, PlatformLane, Store, StoreError};
use serde_json::json;
use thiserror::Error;

use crate::CommandResult;
use crate::cli::{OutboxAction, OutboxListArgs, OutboxRequeueArgs};
use crate::config::Environment;
use crate::deployment::{Deployment, DeploymentError};

#[derive(Debug, Error)]
enum OutboxError {
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0:?} is no id")]
    Id(String),
}

pub(crate) async fn run(environment: &Environment, action: OutboxAction) -> CommandResult {
    match action {
        OutboxAction::List(args) => list(environment, &args).await,
        OutboxAction::Requeue(args) => requeue(environment, &args).await,
    }
}

async fn list(environment: &Environment, args: &OutboxListArgs) -> CommandResult {
    let store = open(environment, args.embedded).await?;
    let status = if args.pending {
        OutboxStatus::Pending
    } else {
        OutboxStatus::Dead
    };
    let zone = args.zone.as_deref().map(zone).transpose()?;
    let platform = store.platform();
    let found = platform.outbox_messages(status, zone.as_ref(), i64::from(args.limit));
    let (found, stats) = (found.await?, platform.outbox_stats().await?);
    store.close().await;
    crate::say(&if args.json {
        json_list(&found, &stats)
    } else {
        table(&found, &stats, SystemClock.now())
    });
    Ok(ExitCode::SUCCESS)
}

/// Exits 1 when the named message is not parked.
async fn requeue(environment: &Environment, args: &OutboxRequeueArgs) -> CommandResult {
    let zone = args.zone.as_deref().map(zone).transpose()?;
    let id = args.id.as_deref().map(message_id).transpose()?;
    let store = open(environment, args.embedded).await?;
    let mut unit = store.begin_platform_work(PlatformLane::Publishing).await?;
    let requeued = unit
        .requeue_outbox_messages(zone.as_ref(), id.as_ref())
        .await?;
    unit.commit().await?;
    store.close().await;
    crate::say(&if args.json {
        format!("{}\n", json!({ "requeued": requeued }))
    } else {
        match requeued {
            0 => "no parked message matches\n".to_owned(),
            1 => "1 message is pending again\n".to_owned(),
            many => format!("{many} messages are pending again\n"),
        }
    });
    Ok(match requeued {
        0 if id.is_some() => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

async fn open(environment: &Environment, embedded: bool) -> Result<Store, OutboxError> {
    let deployment = Deployment::of(environment, embedded).map_err(DeploymentError::from)?;
    let environment = deployment.environment(environment);
    Ok(deployment.open(&environment).await?.store)
}

fn zone(text: &str) -> Result<ZoneId, OutboxError> {
    ZoneId::parse(text).map_err(|_| OutboxError::Id(text.to_owned()))
}

fn message_id(text: &str) -> Result<OutboxId, OutboxError> {
    OutboxId::parse(text).map_err(|_| OutboxError::Id(text.to_owned()))
}

fn json_list(found: &[OutboxMessage], stats: &OutboxStats) -> String {
    let messages: Vec<serde_json::Value> = found
        .iter()
        .map(|message| {
            json!({
                "id": message.id.as_str(),
                "zone_id": message.zone_id.as_str(),
                "topic": message.topic,
                "dedupe_key": message.dedupe_key,
                "status": message.status.as_str(),
                "attempts": message.attempts,
                "created_at": message.created_at.to_rfc3339_seconds(),
                "available_at": message.available_at.to_rfc3339_seconds(),
                "last_error": message.last_error,
            })
        })
        .collect();
    let document = json!({
        "pending": stats.count(OutboxStatus::Pending),
        "dead": stats.count(OutboxStatus::Dead),
        "messages": messages,
    });
    format!("{document:#}\n")
}

fn table(found: &[OutboxMessage], stats: &OutboxStats, now: Timestamp) -> String {
    let mut out = format!(
        "{} pending, {} parked\n",
        stats.count(OutboxStatus::Pending),
        stats.count(OutboxStatus::Dead)
    );
    for message in found {
        let _ = writeln!(
            out,
            "{}  zone {}  {}  {} attempts, {} s old{}",
            message.id,
            message.zone_id,
            message.topic,
            message.attempts,
            now.since(message.created_at).as_secs(),
            message
                .last_error
                .as_ref()
                .map_or(String::new(), |error| format!(": {error}")),
        );
    }
    out
}
