//! Names that belong to the system: only the bootstrap token gives them.

use crate::capability::Actor;
use crate::error::{ApiError, Code};

/// A field that has a reserved prefix.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reserved {
    /// Names of zones, applications, policies and policy sets.
    Name,
    /// Slugs of zones.
    ZoneSlug,
    /// Identifiers of resources.
    ResourceIdentifier,
    /// Identifiers of providers.
    ProviderIdentifier,
}

impl Reserved {
    fn prefix(self) -> &'static str {
        match self {
            Self::Name => "caracal.sys/",
            Self::ZoneSlug => "caracal-sys-",
            Self::ResourceIdentifier => "caracal-sys://",
            Self::ProviderIdentifier => "provider://caracal-sys-",
        }
    }

    /// Refuses a reserved value to everybody but bootstrap.
    pub(crate) fn check(self, value: &str, actor: &Actor) -> Result<(), ApiError> {
        let prefix = self.prefix();
        if actor.is_bootstrap() || !value.trim().to_lowercase().starts_with(prefix) {
            return Ok(());
        }
        let text = format!("names that begin with '{prefix}' are reserved");
        Err(ApiError::from(Code::ReservedNamespace).describe(text))
    }
}
