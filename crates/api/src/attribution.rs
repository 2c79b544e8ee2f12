//! Who a change is attributed to.
//!
//! Only what was proved counts: the console account behind the request, else the token itself. No
//! header lets a caller name somebody else.

use caracal_store::entity::{Attribution, Author};
use serde::Serialize;

use crate::capability::Actor;

/// The name that rows and audit events carry.
pub(crate) fn name(actor: &Actor) -> String {
    match actor.account() {
        Some(account) => account.to_owned(),
        None => format!("admin:{}", actor.id),
    }
}

/// The author of what this actor makes and changes.
pub(crate) fn author(actor: &Actor) -> Author {
    Author {
        by: Some(name(actor)),
        via_operator: false,
    }
}

/// The attribution fields of every object on the wire.
#[derive(Debug, Serialize)]
pub(crate) struct AttributionView {
    created_by: Option<String>,
    created_via_operator: bool,
    updated_by: Option<String>,
    updated_via_operator: bool,
}

impl From<Attribution> for AttributionView {
    fn from(attribution: Attribution) -> Self {
        let Attribution {
            created_by,
            created_via_operator,
            updated_by,
            updated_via_operator,
        } = attribution;
        Self {
            created_by,
            created_via_operator,
            updated_by,
            updated_via_operator,
        }
    }
}
