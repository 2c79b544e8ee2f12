//! `caracal secrets reseal`: seals everything at rest under the current key-encryption key.
//!
//! Every sealed column of every zone is walked in the order of its ids, a bounded batch at a time.
//! What is not under the current key is opened, sealed again and put back only if nobody replaced it
//! meanwhile; so the walk may run beside a working stack, be interrupted, and be run again. A keyed
//! hash of a client secret names the key that it was made under, so it is made again from the sealed
//! copy of the secret.
//!
//! Nothing is called resealed before it is proven: a second walk opens every row with the current key
//! alone.

mod judge;
mod prove;
mod report;
mod walk;

use std::process::ExitCode;
use std::time::Duration;

use caracal_core::{Clock, SystemClock, SystemRandom};
use caracal_crypto::client_secret::Peppers;
use caracal_crypto::derive::DeriveError;
use caracal_store::{Store, StoreError};
use thiserror::Error;

use crate::CommandResult;
use crate::cli::ResealArgs;
use crate::config::Environment;
use crate::deployment::{Deployment, DeploymentError, Keks};
use report::Report;

/// The walk could not go on. What was resealed before stays so; run it again.
#[derive(Debug, Error)]
enum ResealError {
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    #[error("{0}; what was sealed again stays so: run the command again")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

pub(crate) async fn run(environment: &Environment, args: &ResealArgs) -> CommandResult {
    let deployment = Deployment::of(environment, args.embedded)?;
    let environment = deployment.environment(environment);
    let report = reseal(&deployment, &environment, args).await?;
    crate::say(&if args.json {
        report.json()
    } else {
        report.text(args.dry_run)
    });
    let note = receipts_note(&environment);
    if let Some(note) = note.filter(|_| !args.dry_run && !args.json && report.is_proven()) {
        crate::say(&note);
    }
    Ok(report.exit_code(args.dry_run))
}

async fn reseal(
    deployment: &Deployment,
    environment: &Environment,
    args: &ResealArgs,
) -> Result<Report, ResealError> {
    let keks = Keks::of(environment)?;
    let opened = deployment.open(environment).await?;
    let ring = keks.ring()?;
    let walk = walk::Walk {
        store: &opened.store,
        peppers: Peppers::derive(&ring)?,
        ring,
        random: &SystemRandom,
        batch: args.batch,
        dry_run: args.dry_run,
    };
    let mut report = walk.run().await?;
    if !args.dry_run {
        let ring = keks.current()?;
        let proof = prove::Proof {
            store: &opened.store,
            peppers: Peppers::derive(&ring)?,
            ring,
            batch: args.batch,
        };
        report.left = proof.run().await?;
        report.proved = report.left.is_empty();
    }
    opened.store.close().await;
    Ok(report)
}

/// How the sealed rows of a store stand with the keys at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Rows that need the current key alone.
    pub(crate) current: u64,
    /// Rows that need the previous one.
    pub(crate) previous: u64,
    /// Rows that need a key that was not given, or can't be opened at all.
    pub(crate) unopened: usize,
}

/// Looks at every sealed row; changes nothing.
///
/// # Errors
/// A text that says why it could not.
pub(crate) async fn survey(store: &Store, keks: &Keks) -> Result<Sealed, String> {
    let ring = keks.ring().map_err(|error| error.to_string())?;
    let walk = walk::Walk {
        store,
        peppers: Peppers::derive(&ring).map_err(|error| error.to_string())?,
        ring,
        random: &SystemRandom,
        batch: 500,
        dry_run: true,
    };
    let report = walk.run().await.map_err(|error| error.to_string())?;
    Ok(Sealed {
        current: report.current,
        previous: report.found,
        unopened: report.left.len(),
    })
}

/// Receipts of idempotency keys name no key: those made before the rotation are found only while the
/// key that they were made under is known.
fn receipts_note(environment: &Environment) -> Option<String> {
    let own_key = ["IDEMPOTENCY_HMAC_KEY", "IDEMPOTENCY_HMAC_KEY_FILE"]
        .iter()
        .any(|name| environment.get(name).is_some());
    let rotating = [
        "SECRET_STORE_KEK_PREVIOUS",
        "SECRET_STORE_KEK_PREVIOUS_FILE",
    ]
    .iter()
    .any(|name| environment.get(name).is_some());
    if own_key || !rotating {
        return None;
    }
    let seconds = environment
        .get("IDEMPOTENCY_RETENTION_SECONDS")
        .and_then(|text| text.parse().ok())
        .unwrap_or(604_800);
    let until = SystemClock.now().plus(Duration::from_secs(seconds));
    Some(format!(
        "ℹ keep SECRET_STORE_KEK_PREVIOUS at the Coordinator until {}: until then receipts of \
         idempotency keys may have been made under it\n",
        until.to_rfc3339_seconds()
    ))
}

impl Report {
    fn exit_code(&self, dry_run: bool) -> ExitCode {
        if !self.left.is_empty() || (!dry_run && !self.proved) {
            ExitCode::FAILURE
        } else if dry_run && self.pending() > 0 {
            ExitCode::from(2)
        } else {
            ExitCode::SUCCESS
        }
    }

    fn is_proven(&self) -> bool {
        self.proved
    }
}
