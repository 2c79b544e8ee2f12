//! What was applied or would be.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use caracal_crypto::sha256_hex;
use caracal_store::{AppliedMigration, PlannedMigration, PostgresFindings};
use serde::Serialize;

/// The line of a migration that says that the version before can't work with the schema after it.
const CONTRACT: &str = "-- caracal:phase contract";

/// Whether the version before this one still works with the schema after the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// It does: roll the services after the migration.
    Expand,
    /// It does not: stop the old services first.
    Contract,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    version: i64,
    name: &'static str,
    checksum: String,
    phase: Phase,
}

impl Step {
    pub(super) fn of(planned: &PlannedMigration) -> Self {
        let contract = planned.sql.lines().any(|line| line.trim() == CONTRACT);
        Self {
            version: planned.version,
            name: planned.name,
            checksum: sha256_hex(planned.sql.as_bytes()),
            phase: if contract {
                Phase::Contract
            } else {
                Phase::Expand
            },
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    planned_only: bool,
    login: String,
    server: String,
    /// The newest version that was there before.
    from: i64,
    migrations: Vec<Step>,
    /// Roles that got their login.
    pub(super) logins: Vec<&'static str>,
}

impl Report {
    pub(super) fn new(planned_only: bool, before: &PostgresFindings, steps: Vec<Step>) -> Self {
        let newest = before.migrations.as_ref().and_then(|rows| rows.last());
        Self {
            planned_only,
            login: before.login.clone(),
            server: server_version(before.version),
            from: newest.map_or(0, |row| row.version),
            migrations: steps,
            logins: Vec::new(),
        }
    }

    /// Another run may have applied some meanwhile: says only what this one did.
    pub(super) fn keep_applied(&mut self, applied: &[AppliedMigration]) {
        let mine: BTreeSet<i64> = applied.iter().map(|row| row.version).collect();
        self.migrations.retain(|step| mine.contains(&step.version));
    }

    pub(super) fn has_steps(&self) -> bool {
        !self.migrations.is_empty()
    }

    pub(super) fn json(&self) -> String {
        let document = serde_json::to_value(self).unwrap_or_default();
        format!("{document:#}\n")
    }

    pub(super) fn text(&self) -> String {
        let mut out = format!("ℹ PostgreSQL {}, as {}\n", self.server, self.login);
        let verb = if self.planned_only {
            "would apply"
        } else {
            "applied"
        };
        for step in &self.migrations {
            let phase = match step.phase {
                Phase::Expand => "expand: running services keep working",
                Phase::Contract => "contract: stop services of the version before first",
            };
            let _ = writeln!(
                out,
                "{} {verb} {:04}_{}  sha256:{}  {phase}",
                if self.planned_only { "ℹ" } else { "✓" },
                step.version,
                step.name,
                step.checksum
            );
        }
        if self.migrations.is_empty() {
            let _ = writeln!(out, "✓ the schema is up to date, version {}", self.from);
        }
        for role in &self.logins {
            let _ = writeln!(out, "✓ {role} may log in with its configured password");
        }
        out
    }
}

/// `150004` as people write it.
pub(crate) fn server_version(number: i64) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_says_whether_the_version_before_can_stay() {
        let planned = |sql| PlannedMigration {
            version: 3,
            name: "next",
            sql,
        };
        let expand = Step::of(&planned("CREATE TABLE t (id BIGINT);"));
        assert_eq!(expand.phase, Phase::Expand);
        let contract = Step::of(&planned("-- caracal:phase contract\nDROP TABLE t;"));
        assert_eq!(contract.phase, Phase::Contract);
        assert_eq!(server_version(150_004), "15.4");
    }
}
