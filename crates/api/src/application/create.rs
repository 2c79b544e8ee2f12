//! Creating a managed application.

use std::sync::Arc;

use caracal_core::id::ApplicationId;
use caracal_store::entity::{Application, RegistrationMethod};
use caracal_store::{StoreError, UniqueConstraint};
use serde_json::Value;

use super::custody::Custody;
use super::traits::check_traits;
use super::view::IssuedView;
use super::{ApplicationName, trait_authority};
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;
use crate::request::fields::{Fields, List};
use crate::reserved::Reserved;
use crate::{admin_audit, attribution, zone};

struct NewApplication {
    name: String,
    traits: Vec<String>,
}

impl NewApplication {
    fn read(body: Option<Value>) -> Result<Self, ApiError> {
        let mut fields = Fields::of(body, Code::InvalidApplication)?;
        let name = fields.required::<ApplicationName>("name")?.0;
        if fields.required::<String>("registration_method")? != "managed" {
            return Err(fields.refuse("registration_method", "is 'managed'"));
        }
        let List(traits) = fields
            .optional::<List<String, 0, { usize::MAX }>>("traits")?
            .unwrap_or(List(vec![]));
        fields.refuse_others()?;
        Ok(Self { name, traits })
    }
}

/// `POST /v1/zones/{z}/applications`.
pub(crate) async fn create(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let zone_id = call.zone()?;
    zone::live(&api.store.read(&zone_id)).await?;
    let new = NewApplication::read(call.body.clone())?;
    Reserved::Name.check(&new.name, &call.actor)?;
    check_traits(&new.traits, trait_authority(&call.actor))?;
    let id = ApplicationId::generate(&*api.clock, &*api.random);
    let (secret, custody) = Custody::generate(&api, &zone_id, &id)?;
    let (hash, sealed) = custody.into_parts();
    let application = Application {
        id,
        zone_id: zone_id.clone(),
        name: new.name,
        registration_method: RegistrationMethod::Managed,
        traits: new.traits,
        secret_hash: Some(hash),
        sealed_secret: Some(sealed),
        expires_at: None,
        attribution: attribution::author(&call.actor).creates(),
        created_at: api.clock.now(),
        updated_at: None,
        archived_at: None,
    };
    let mut unit = api.store.begin(&zone_id).await?;
    zone::live_in(&unit).await?;
    match unit.insert_application(&application).await {
        Err(StoreError::Conflict(UniqueConstraint::ApplicationName)) => {
            return Err(Code::ApplicationNameTaken.into());
        }
        other => other?,
    };
    unit.record_admin_audit(&admin_audit::created(&call, application.id.as_str()))
        .await?;
    unit.commit().await?;
    Reply::created(&IssuedView::of(application, &secret))
}
