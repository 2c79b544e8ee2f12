//! Applications on the wire.

use caracal_core::id::{ApplicationId, ZoneId};
use caracal_core::{Secret, Timestamp};
use caracal_store::entity::{Application, RegistrationMethod};
use serde::Serialize;

use crate::attribution::AttributionView;
use crate::capability::Actor;

/// An application in lists and reads. Traits are for global actors only.
#[derive(Debug, Serialize)]
pub(super) struct ApplicationView {
    id: ApplicationId,
    zone_id: ZoneId,
    name: String,
    registration_method: RegistrationMethod,
    #[serde(skip_serializing_if = "Option::is_none")]
    traits: Option<Vec<String>>,
    expires_at: Option<Timestamp>,
    archived_at: Option<Timestamp>,
    #[serde(flatten)]
    attribution: AttributionView,
    created_at: Timestamp,
    updated_at: Option<Timestamp>,
}

impl ApplicationView {
    /// The application as `actor` may see it.
    pub(super) fn of(application: Application, actor: &Actor) -> Self {
        Self {
            id: application.id,
            zone_id: application.zone_id,
            name: application.name,
            registration_method: application.registration_method,
            traits: actor.is_global().then_some(application.traits),
            expires_at: application.expires_at,
            archived_at: application.archived_at,
            attribution: application.attribution.into(),
            created_at: application.created_at,
            updated_at: application.updated_at,
        }
    }
}

/// An application together with the secret that was just made for it: the only time it is shown
/// unasked.
#[derive(Debug, Serialize)]
pub(super) struct IssuedView<'a> {
    id: ApplicationId,
    zone_id: ZoneId,
    name: String,
    registration_method: RegistrationMethod,
    expires_at: Option<Timestamp>,
    #[serde(flatten)]
    attribution: AttributionView,
    created_at: Timestamp,
    updated_at: Option<Timestamp>,
    client_secret: &'a str,
}

impl<'a> IssuedView<'a> {
    /// Shows `secret`.
    pub(super) fn of(application: Application, secret: &'a Secret<String>) -> Self {
        Self {
            id: application.id,
            zone_id: application.zone_id,
            name: application.name,
            registration_method: application.registration_method,
            expires_at: application.expires_at,
            attribution: application.attribution.into(),
            created_at: application.created_at,
            updated_at: application.updated_at,
            client_secret: secret.expose(),
        }
    }
}
