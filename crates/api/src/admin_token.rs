//! Admin tokens: who may use this API at all.

use std::sync::Arc;

use caracal_core::id::{AdminTokenId, ZoneId};
use caracal_core::{Secret, Timestamp};
use caracal_crypto::client_secret::SecretKind;
use caracal_store::entity::{AdminToken, Capability};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use crate::api::Api;
use crate::authenticate::digest;
use crate::capability::Actor;
use crate::error::{ApiError, Code};
use crate::page::{self, Listed, OBJECTS};
use crate::reply::Reply;
use crate::request::Call;
use crate::request::fields::{Field, Fields, Misfit, Trimmed};
use crate::{admin_audit, attribution};

struct NewToken {
    name: String,
    is_global: bool,
    zone_id: Option<String>,
    capability: Capability,
    reveal: bool,
}

struct CapabilityInput(Capability);

impl Field for CapabilityInput {
    fn read(value: Value) -> Result<Self, Misfit> {
        let found = value.as_str().and_then(Capability::from_name);
        found
            .map(Self)
            .ok_or_else(|| Misfit::new("is 'read', 'write' or 'approve'"))
    }
}

impl NewToken {
    fn read(body: Option<Value>) -> Result<Self, ApiError> {
        let mut fields = Fields::of(body, Code::InvalidTokenRequest)?;
        let name = fields.required::<Trimmed<1, 120>>("name")?.0;
        let is_global = match fields.required::<String>("scope")?.as_str() {
            "global" => true,
            "zone" => false,
            _ => return Err(fields.refuse("scope", "is 'global' or 'zone'")),
        };
        let new = Self {
            name,
            is_global,
            zone_id: fields.optional("zone_id")?,
            capability: fields
                .optional::<CapabilityInput>("capability")?
                .map_or(Capability::Write, |capability| capability.0),
            reveal: fields.optional("reveal")?.unwrap_or(false),
        };
        fields.refuse_others()?;
        Ok(new)
    }

    /// Nobody hands on a right that they do not have. Approving is no part of writing, so only the
    /// bootstrap token, which has both, makes approvers.
    fn check_rights(&self, actor: &Actor) -> Result<(), ApiError> {
        if self.capability == Capability::Approve && !actor.is_bootstrap() {
            return Err(Code::ApproveRequired.into());
        }
        if self.reveal && !actor.may_reveal() {
            return Err(Code::RevealRequired.into());
        }
        Ok(())
    }

    async fn zone(&self, api: &Api) -> Result<Option<ZoneId>, ApiError> {
        match (&self.zone_id, self.is_global) {
            (None, true) => Ok(None),
            (None, false) => Err(Code::ZoneIdRequired.into()),
            (Some(_), true) => Err(Code::ZoneIdNotAllowed.into()),
            (Some(text), false) => {
                let id = ZoneId::parse(text).map_err(|_| Code::ZoneNotFound)?;
                crate::zone::live(&api.store.read(&id)).await?;
                Ok(Some(id))
            }
        }
    }
}

#[derive(Debug, Serialize)]
struct TokenView {
    id: AdminTokenId,
    name: String,
    scope: &'static str,
    capability: Capability,
    reveal: bool,
    zone_id: Option<ZoneId>,
    created_by: String,
    created_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct ListedToken {
    #[serde(flatten)]
    token: TokenView,
    last_used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

#[derive(Serialize)]
struct IssuedToken<'a> {
    #[serde(flatten)]
    token: TokenView,
    #[serde(rename = "token")]
    value: &'a str,
}

impl From<AdminToken> for TokenView {
    fn from(token: AdminToken) -> Self {
        Self {
            id: token.id,
            name: token.name,
            scope: if token.zone_id.is_none() {
                "global"
            } else {
                "zone"
            },
            capability: token.capability,
            reveal: token.reveal,
            zone_id: token.zone_id,
            created_by: token.created_by,
            created_at: token.created_at,
        }
    }
}

impl From<AdminToken> for ListedToken {
    fn from(token: AdminToken) -> Self {
        let (last_used_at, revoked_at) = (token.last_used_at, token.revoked_at);
        Self {
            token: token.into(),
            last_used_at,
            revoked_at,
        }
    }
}

/// `POST /v1/admin-tokens`: the token is shown this once.
pub(crate) async fn create(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let new = NewToken::read(call.body.clone())?;
    new.check_rights(&call.actor)?;
    let zone_id = new.zone(&api).await?;
    let value: Secret<String> = SecretKind::AdminToken.generate(&*api.random);
    let row = AdminToken {
        id: AdminTokenId::generate(&*api.clock, &*api.random),
        name: new.name,
        zone_id,
        capability: new.capability,
        reveal: new.reveal,
        digest: digest(&value),
        created_by: attribution::name(&call.actor),
        created_at: api.clock.now(),
        last_used_at: None,
        revoked_at: None,
    };
    let mut unit = api.store.begin_platform().await?;
    unit.insert_admin_token(&row).await?;
    unit.record_admin_audit(&admin_audit::created(&call, row.id.as_str()))
        .await?;
    unit.commit().await?;
    Reply::created(&IssuedToken {
        token: row.into(),
        value: value.expose(),
    })
}

/// `GET /v1/admin-tokens`: revoked and seeded ones too.
pub(crate) async fn list(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let page = page::requested(&call.query, OBJECTS)?;
    let tokens = api.store.platform().list_admin_tokens(&page).await?;
    Reply::ok(&Listed::from(tokens.map(ListedToken::from)))
}

/// `DELETE /v1/admin-tokens/{id}`: refused from the next request on.
pub(crate) async fn revoke(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let text = call.params.get("token_id").unwrap_or_default();
    let id = AdminTokenId::parse(text).map_err(|_| Code::TokenNotFound)?;
    let mut unit = api.store.begin_platform().await?;
    if !unit.revoke_admin_token(&id).await? {
        return Err(Code::TokenNotFound.into());
    }
    unit.record_admin_audit(&admin_audit::changed(&call, StatusCode::NO_CONTENT))
        .await?;
    unit.commit().await?;
    Ok(Reply::no_content())
}
