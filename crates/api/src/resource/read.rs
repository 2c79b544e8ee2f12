//! Reading resources.

use std::sync::Arc;

use caracal_core::ResourceIdentifier;
use caracal_core::id::ResourceId;
use caracal_store::ResourceFilter;

use super::rules::may_see;
use super::view::ResourceView;
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::page::{self, Listed, OBJECTS};
use crate::reply::Reply;
use crate::request::Call;

/// `GET /v1/zones/{z}/resources`; the control resource is listed for global actors only.
pub(crate) async fn list(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let page = page::requested(&call.query, OBJECTS)?;
    let control = ResourceIdentifier::new(&api.options.control_audience);
    let filter = ResourceFilter {
        status: page::status(&call.query)?,
        except: (!call.actor.is_global()).then_some(control),
    };
    let resources = api
        .store
        .read(&call.zone()?)
        .list_resources(&filter, &page)
        .await?;
    Reply::ok(&Listed::from(resources.map(ResourceView::from)))
}

/// `GET /v1/zones/{z}/resources/{id}`.
pub(crate) async fn read(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let id: ResourceId = call.id("id")?;
    let found = api.store.read(&call.zone()?).get_resource(&id).await?;
    let resource = found
        .filter(|resource| resource.archived_at.is_none())
        .filter(|resource| may_see(&api, &call.actor, &resource.identifier))
        .ok_or(Code::ResourceNotFound)?;
    Reply::ok(&ResourceView::from(resource))
}
