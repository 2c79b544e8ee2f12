//! Providers: the credentials that the Gateway injects.

mod change;
mod config;
mod create;
mod custody;
mod identifier;
mod read;
mod view;

pub(crate) use change::{delete, patch};
pub(crate) use create::{create, none_provider};
pub(crate) use read::{list, read};

use caracal_store::entity::ProviderKind;
use serde_json::Value;

use crate::request::fields::{Field, Misfit};

/// A kind that can be created: those that obtain tokens by OAuth are not offered.
struct OfferedKind(ProviderKind);

impl Field for OfferedKind {
    fn read(value: Value) -> Result<Self, Misfit> {
        match value.as_str().and_then(ProviderKind::from_name) {
            Some(ProviderKind::Oauth2ClientCredentials | ProviderKind::Oauth2AuthorizationCode) => {
                Err(Misfit::new("is a kind that this server does not offer"))
            }
            Some(kind) => Ok(Self(kind)),
            None => Err(Misfit::new(
                "is 'none', 'caracal_mandate', 'api_key', 'bearer_token' or 'http_basic'",
            )),
        }
    }
}

/// A display name; blank counts as absent.
struct ProviderName(Option<String>);

/// The longest display name, in characters.
const MAX_NAME: usize = 200;

impl Field for ProviderName {
    fn read(value: Value) -> Result<Self, Misfit> {
        let name = String::read(value)?.trim().to_owned();
        if name.chars().count() > MAX_NAME {
            return Err(Misfit::new("has at most 200 characters"));
        }
        Ok(Self((!name.is_empty()).then_some(name)))
    }
}
