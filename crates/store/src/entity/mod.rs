//! The rows of the store as domain values: parsed once when read, trusted afterwards.

mod admin_token;
mod application;
mod authority_record;
mod delegation;
mod policy;
mod provider;
mod resource;
mod session;
mod signing_key;
mod zone;

pub use admin_token::{AdminToken, Capability};
pub use application::{Application, RegistrationMethod};
pub use authority_record::{AuthorityRecord, RecordStatus};
pub use delegation::{Constraints, Delegation, DelegationStatus};
pub use policy::{ActivePolicySet, Policy, PolicySet, PolicySetVersion, PolicyVersion};
pub use provider::{Provider, ProviderKind};
pub use resource::{Enforcement, Operation, Resource};
pub use session::{Lease, Lifecycle, Session, SessionStatus};
pub use signing_key::SigningKeyRow;
pub use zone::{Attribution, Author, Zone};

/// Gives an enum its names on the wire and in the store, both ways.
macro_rules! wire_names {
    ($name:ident { $($variant:ident => $text:literal),+ $(,)? }) => {
        impl $name {
            /// The name on the wire and in the store.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The value of that name; `None` for any other text.
            #[must_use]
            pub fn from_name(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl $crate::sql::Bind for $name {
            fn bind(&self) -> sea_orm::Value {
                $crate::sql::Bind::bind(self.as_str())
            }
            fn null() -> sea_orm::Value {
                sea_orm::Value::String(None)
            }
        }

        impl $crate::sql::Column for $name {
            type Raw = String;
            fn parse(raw: String) -> Result<Self, String> {
                Self::from_name(&raw).ok_or_else(|| format!("{raw:?} is not a known name"))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                Self::from_name(&text).ok_or_else(|| serde::de::Error::custom("unknown name"))
            }
        }
    };
}
pub(crate) use wire_names;
