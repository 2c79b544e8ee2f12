//! Whom a mandate or an authority record speaks for.

use serde::{Deserialize, Serialize};

/// `sub_type` of a mandate, type of an authority record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubjectType {
    /// The application itself.
    Application,
    /// A federated user.
    User,
}

impl SubjectType {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::User => "user",
        }
    }
}
