//! `caracal restore`: puts a backup back, and makes sure that nothing which was given before stands.
//!
//! An old state brings old authority back: Sessions that were ended since, delegations that were
//! revoked since, admin tokens that were withdrawn since. So once the state is there, and before any
//! role starts on it, all of that is ended ([`fence`]): whoever holds a mandate starts again.
//!
//! The manifest and every checksum are checked before anything is touched. The new state is made
//! whole beside the old one and takes its place in one step; the old one is moved aside.

mod embedded;
mod fence;
mod postgres;

use std::process::ExitCode;

use caracal_core::Timestamp;
use serde_json::json;

use crate::CommandResult;
use crate::backup::manifest::{Manifest, Shape};
use crate::cli::RestoreArgs;
use crate::config::Environment;
use crate::deployment::Deployment;
use crate::doctor::{self, Check, Verdict};
use fence::Fenced;

/// What a restore did.
struct Restored {
    fenced: Fenced,
    /// Where the state before is, when there was one.
    aside: Option<std::path::PathBuf>,
    checks: Vec<Check>,
}

/// What is raised above the state that was put back.
#[derive(Debug, Clone, Copy)]
struct Terms {
    backup_at: Timestamp,
    keep_admin_tokens: bool,
}

pub(crate) async fn run(environment: &Environment, args: &RestoreArgs) -> CommandResult {
    let manifest = Manifest::verified(&args.from)?;
    let terms = Terms {
        backup_at: manifest.created_at,
        keep_admin_tokens: args.keep_admin_tokens,
    };
    let deployment = Deployment::of(environment, args.embedded)?;
    let restored = match (&deployment, manifest.shape) {
        (Deployment::Embedded(home), Shape::Embedded) => {
            embedded::restore(home, environment, args, &manifest, terms).await?
        }
        (Deployment::Postgres, Shape::Postgres) => {
            postgres::restore(environment, args, &manifest, terms).await?
        }
        (_, Shape::Embedded) => {
            return Err("the backup is of an embedded stack; add --embedded to restore it".into());
        }
        (_, Shape::Postgres) => {
            return Err(
                "the backup is of PostgreSQL; name the database in DATABASE_URL or \
                 CARACAL_MIGRATION_DATABASE_URL"
                    .into(),
            );
        }
    };
    crate::say(&if args.json {
        restored.json(&manifest)
    } else {
        restored.text(&manifest)
    });
    let failed = |check: &Check| check.verdict == Verdict::Fail;
    Ok(if restored.checks.iter().any(failed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

impl Restored {
    fn text(&self, manifest: &Manifest) -> String {
        let at = manifest.created_at.to_rfc3339_seconds();
        let mut out = format!("✓ restored the state of {at}\n");
        out.push_str(&self.fenced.text());
        if let Some(aside) = &self.aside {
            out.push_str(&format!(
                "ℹ the state before is kept at {}\n",
                aside.display()
            ));
        }
        out.push_str(&format!(
            "⚠ what was changed after {at} is as it was then: policies, applications and their client \
             secrets, providers and their credentials. Withdraw again what was withdrawn since\n\
             ⚠ evidence that was stored after {at} is not in this ledger; checkpoints signed since \
             then continue in what was moved aside or in exports, not here\n"
        ));
        out.push_str(&doctor::lines(&self.checks));
        out
    }

    fn json(&self, manifest: &Manifest) -> String {
        let document = json!({
            "restored": manifest.created_at,
            "ended": self.fenced,
            "aside": self.aside,
            "checks": self.checks,
        });
        format!("{document:#}\n")
    }
}
