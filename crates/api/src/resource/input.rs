//! The fields of a resource as a caller sends them, each within its bounds.

use caracal_core::Scope;
use caracal_core::id::ProviderId;
use caracal_store::entity::Enforcement;
use serde_json::Value;

use super::identifier::is_upstream_url;
use super::operations::OperationInput;
use crate::error::{ApiError, Code};
use crate::request::fields::{Field, Fields, List, Misfit, Text};

/// What a body says of a resource. Unknown members are ignored.
///
/// The outer `Option` of a nullable field says whether it was sent, the inner one whether it was
/// null.
#[derive(Debug)]
pub(super) struct ResourceInput {
    pub(super) name: Option<String>,
    pub(super) identifier: Option<String>,
    pub(super) upstream_url: Option<Option<String>>,
    pub(super) scopes: Option<Vec<Scope>>,
    pub(super) credential_provider_id: Option<Option<ProviderRef>>,
    pub(super) operations: Option<Vec<OperationInput>>,
    pub(super) operation_enforcement: Option<Enforcement>,
}

impl ResourceInput {
    /// Reads a body; every defect is `invalid_resource`.
    pub(super) fn read(body: Option<Value>) -> Result<Self, ApiError> {
        let mut fields = Fields::of(body, Code::InvalidResource)?;
        let input = Self {
            name: fields.optional::<Name>("name")?.map(|name| name.0),
            identifier: fields
                .optional::<Text<1, 512>>("identifier")?
                .map(|text| text.0),
            upstream_url: fields
                .nullable::<UpstreamUrl>("upstream_url")?
                .map(|u| u.map(|u| u.0)),
            scopes: fields
                .optional::<List<ScopeInput, 1, 64>>("scopes")?
                .map(|scopes| scopes.0.into_iter().map(|scope| scope.0).collect()),
            credential_provider_id: fields.nullable("credential_provider_id")?,
            operations: fields
                .optional::<List<OperationInput, 0, 256>>("operations")?
                .map(|operations| operations.0),
            operation_enforcement: fields
                .optional::<EnforcementInput>("operation_enforcement")?
                .map(|enforcement| enforcement.0),
        };
        fields.optional::<bool>("check")?;
        Ok(input)
    }
}

/// A name as sent; blanks alone are no name.
struct Name(String);

impl Field for Name {
    fn read(value: Value) -> Result<Self, Misfit> {
        let Text::<1, 200>(text) = Text::read(value)?;
        if text.trim().is_empty() {
            Err(Misfit::new("is not blank"))
        } else {
            Ok(Self(text))
        }
    }
}

struct UpstreamUrl(String);

impl Field for UpstreamUrl {
    fn read(value: Value) -> Result<Self, Misfit> {
        let Text::<1, 2048>(text) = Text::read(value)?;
        if is_upstream_url(&text) {
            Ok(Self(text))
        } else {
            Err(Misfit::new("is an http or https URL without credentials"))
        }
    }
}

/// A scope goes into a space-separated claim, so it holds no white space.
struct ScopeInput(Scope);

impl Field for ScopeInput {
    fn read(value: Value) -> Result<Self, Misfit> {
        let Text::<1, 200>(text) = Text::read(value)?;
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            Err(Misfit::new("has no white space"))
        } else {
            Ok(Self(Scope::new(&text)))
        }
    }
}

/// What a body names as the provider: nothing, an id, or a text that no provider can have.
#[derive(Debug, Clone)]
pub(super) enum ProviderRef {
    Empty,
    Id(ProviderId),
    Unknown,
}

impl Field for ProviderRef {
    fn read(value: Value) -> Result<Self, Misfit> {
        let text = String::read(value)?;
        Ok(match ProviderId::parse(&text) {
            Ok(id) => Self::Id(id),
            Err(_) if text.is_empty() => Self::Empty,
            Err(_) => Self::Unknown,
        })
    }
}

struct EnforcementInput(Enforcement);

impl Field for EnforcementInput {
    fn read(value: Value) -> Result<Self, Misfit> {
        let found = value.as_str().and_then(Enforcement::from_name);
        found
            .map(Self)
            .ok_or_else(|| Misfit::new("is 'enforced' or 'transport_uniform'"))
    }
}
