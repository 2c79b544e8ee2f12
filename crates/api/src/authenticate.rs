//! Who asks: admin tokens and, for the console, the account behind it.
//!
//! Every request looks its token up by digest in the store, so a revoked token is refused from the
//! next request on. Failures are counted per peer; a token that verifies is never held back by them.

mod last_used;
mod seed;

use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use caracal_core::Secret;
use caracal_crypto::admin_token::{token_digest, verify_account_assertion};
use caracal_http::bearer;
use caracal_store::entity::AdminToken;
use http::HeaderMap;

pub(crate) use last_used::LastUsed;
pub(crate) use seed::seed;

use crate::api::Api;
use crate::capability::{Account, Actor, Origin};
use crate::error::{ApiError, Code};

/// `created_by` of the deployment's own token.
const BOOTSTRAP: &str = "env-bootstrap";
/// How `created_by` of the console's tokens begins.
const CONSOLE_PREFIX: &str = "env-derived";
/// The longest token that is looked at, bytes.
const MAX_TOKEN_BYTES: usize = 4_096;

/// The caller behind these headers.
pub(crate) async fn authenticate(
    api: &Api,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<Actor, ApiError> {
    match find(api, headers).await? {
        Some(token) => Ok(actor(api, token, headers)),
        None => {
            metrics::counter!("caracal_api_auth_failures_total").increment(1);
            api.limits.failure(peer)?;
            Err(Code::InvalidAdminToken.into())
        }
    }
}

async fn find(api: &Api, headers: &HeaderMap) -> Result<Option<AdminToken>, ApiError> {
    let presented = bearer::strict(headers).filter(|token| token.len() <= MAX_TOKEN_BYTES);
    let Some(presented) = presented else {
        return Ok(None);
    };
    let digest = digest(&Secret::new(presented.to_owned()));
    let found = api.store.platform().find_admin_token(&digest).await?;
    Ok(found.filter(|token| {
        token.revoked_at.is_none()
            && verify_slices_are_equal(token.digest.as_bytes(), digest.as_bytes()).is_ok()
    }))
}

/// What the store looks a token up by.
pub(crate) fn digest(token: &Secret<String>) -> String {
    hex::encode(token_digest(token))
}

fn actor(api: &Api, token: AdminToken, headers: &HeaderMap) -> Actor {
    let origin = match token.created_by.as_str() {
        BOOTSTRAP => Origin::Bootstrap,
        other if other.starts_with(CONSOLE_PREFIX) => Origin::Console,
        _ => Origin::Minted,
    };
    Actor {
        id: token.id,
        name: token.name,
        zone: token.zone_id,
        capability: token.capability,
        reveal: token.reveal,
        origin,
        account: account(api, origin, headers),
    }
}

/// Without the deployment's token nothing can be proved, so a left-over console token acts for
/// nobody.
fn account(api: &Api, origin: Origin, headers: &HeaderMap) -> Account {
    if origin != Origin::Console {
        return Account::NotNeeded;
    }
    let assertion = headers
        .get("x-caracal-account")
        .and_then(|value| value.to_str().ok());
    let proved = assertion
        .zip(api.options.admin_token.as_ref())
        .and_then(|(assertion, key)| {
            verify_account_assertion(key, assertion, api.clock.now()).ok()
        });
    proved.map_or(Account::Unproven, Account::Bound)
}
