//! Reading policy sets and their versions.

use std::sync::Arc;

use caracal_core::id::{PolicySetId, PolicySetVersionId};

use super::live;
use super::view::{GoverningSetView, SetVersionDetail, SetVersionView};
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::page::{self, Listed, OBJECTS};
use crate::reply::Reply;
use crate::request::Call;

/// `GET /v1/zones/{z}/policy-sets`.
pub(crate) async fn list(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let page = page::requested(&call.query, OBJECTS)?;
    let sets = api
        .store
        .read(&call.zone()?)
        .list_policy_sets(&page)
        .await?;
    Reply::ok(&Listed::from(sets.map(GoverningSetView::from)))
}

/// `GET /v1/zones/{z}/policy-sets/{id}`.
pub(crate) async fn read(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let set = live(&api.store.read(&call.zone()?), &call.id("id")?).await?;
    Reply::ok(&GoverningSetView::from(set))
}

/// `GET /v1/zones/{z}/policy-sets/{id}/versions`.
pub(crate) async fn list_versions(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let page = page::requested(&call.query, OBJECTS)?;
    let reader = api.store.read(&call.zone()?);
    let set = live(&reader, &call.id("id")?).await?;
    let versions = reader.list_policy_set_versions(&set.id, &page).await?;
    Reply::ok(&Listed::from(versions.map(SetVersionView::from)))
}

/// `GET /v1/zones/{z}/policy-sets/{id}/versions/{version}`; of archived sets too.
pub(crate) async fn read_version(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let (set, version): (PolicySetId, PolicySetVersionId) =
        (call.id("id")?, call.id("version_id")?);
    let found = api
        .store
        .read(&call.zone()?)
        .get_policy_set_version(&set, &version)
        .await?;
    Reply::ok(&SetVersionDetail::from(
        found.ok_or(Code::PolicySetVersionNotFound)?,
    ))
}
