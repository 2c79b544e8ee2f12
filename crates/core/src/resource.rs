//! Resource identifiers: the public name of a protected resource, an absolute URI.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A resource's public identifier, compared byte for byte (`resource://ledger`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceIdentifier(Arc<str>);

impl ResourceIdentifier {
    /// Takes the text as it is; what a *declared* identifier must look like is the Admin API's rule,
    /// and a name that nobody declared finds no resource.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ResourceIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ResourceIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for ResourceIdentifier {
    fn borrow(&self) -> &str {
        &self.0
    }
}
