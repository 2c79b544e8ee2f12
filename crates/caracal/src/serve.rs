//! `caracal serve <roles>`: roles on PostgreSQL and Redis.

use std::collections::BTreeSet;

use caracal_core::Mode;

use crate::CommandResult;
use crate::config::{Environment, Role, Settings};

/// Checks the whole configuration of the roles, then refuses: this version has the embedded store
/// only, and it never stands in for the one that was asked for.
pub(crate) fn serve(environment: &Environment, roles: &BTreeSet<Role>) -> CommandResult {
    Settings::load(environment, roles, Mode::Stable, false)?;
    Err(
        "the configuration is complete, but this version has no PostgreSQL store yet; \
         `caracal up` runs the embedded stack"
            .into(),
    )
}
