//! The tokens that a deployment has from its environment.
//!
//! The configured token and the three that the console derives from it must work after every start,
//! also after somebody revoked their rows or the variable went back to an earlier value. Rows of
//! earlier values are revoked.

use caracal_core::id::AdminTokenId;
use caracal_core::{Clock, Random, Secret};
use caracal_crypto::admin_token::ConsoleToken;
use caracal_store::entity::{AdminToken, Capability};
use caracal_store::{Store, StoreError};

use super::{BOOTSTRAP, CONSOLE_PREFIX, digest};

struct Seed {
    name: &'static str,
    created_by: String,
    capability: Capability,
    value: Secret<String>,
}

/// Makes the rows of the configured token and revokes those of earlier ones.
pub(crate) async fn seed(
    store: &Store,
    admin_token: &Secret<String>,
    clock: &dyn Clock,
    random: &dyn Random,
) -> Result<(), StoreError> {
    let mut unit = store.begin_platform().await?;
    let now = clock.now();
    for seed in seeds(admin_token) {
        unit.ensure_seeded_token(&AdminToken {
            id: AdminTokenId::generate(clock, random),
            name: seed.name.to_owned(),
            digest: digest(&seed.value),
            zone_id: None,
            capability: seed.capability,
            reveal: seed.created_by == BOOTSTRAP,
            created_by: seed.created_by,
            created_at: now,
            last_used_at: None,
            revoked_at: None,
        })
        .await?;
    }
    unit.commit().await
}

fn seeds(admin_token: &Secret<String>) -> [Seed; 4] {
    let console = |name, suffix: &str, capability, token: ConsoleToken| Seed {
        name,
        created_by: format!("{CONSOLE_PREFIX}{suffix}"),
        capability,
        value: token.derive(admin_token),
    };
    [
        Seed {
            name: "bootstrap",
            created_by: BOOTSTRAP.to_owned(),
            capability: Capability::Write,
            value: admin_token.clone(),
        },
        console(
            "console-read-only",
            "",
            Capability::Read,
            ConsoleToken::Read,
        ),
        console(
            "console-write",
            "-write",
            Capability::Write,
            ConsoleToken::Write,
        ),
        console(
            "console-approve",
            "-approve",
            Capability::Approve,
            ConsoleToken::Approve,
        ),
    ]
}
