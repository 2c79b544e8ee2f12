//! Reading providers.

use std::sync::Arc;

use caracal_core::id::ProviderId;
use caracal_store::entity::Provider;

use super::view::ProviderView;
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::page::{self, Listed, OBJECTS};
use crate::reply::Reply;
use crate::request::Call;

/// `GET /v1/zones/{z}/providers`.
pub(crate) async fn list(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let page = page::requested(&call.query, OBJECTS)?;
    let status = page::status(&call.query)?;
    let providers = api
        .store
        .read(&call.zone()?)
        .list_providers(status, &page)
        .await?;
    Reply::ok(&Listed::from(providers.map(ProviderView::from)))
}

/// `GET /v1/zones/{z}/providers/{id}`.
pub(crate) async fn read(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let id: ProviderId = call.id("id")?;
    let found = api.store.read(&call.zone()?).get_provider(&id).await?;
    let provider = live(found)?;
    Reply::ok(&ProviderView::from(provider))
}

/// The provider, when it exists and is not archived.
pub(super) fn live(found: Option<Provider>) -> Result<Provider, ApiError> {
    let live = found.filter(|provider| provider.archived_at.is_none());
    live.ok_or_else(|| Code::ProviderNotFound.into())
}
