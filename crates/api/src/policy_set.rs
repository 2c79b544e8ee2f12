//! Policy sets: which policy versions govern a zone together.

mod activate;
mod activation_status;
mod contract;
mod create;
mod delete;
mod read;
mod simulate;
mod version;
mod view;

pub(crate) use activate::activate;
pub(crate) use activation_status::activation_status;
pub(crate) use create::create;
pub(crate) use delete::delete;
pub(crate) use read::{list, list_versions, read, read_version};
pub(crate) use simulate::simulate;
pub(crate) use version::add_version;

use caracal_core::id::{PolicySetId, PolicySetVersionId};
use caracal_store::entity::{PolicySet, PolicySetVersion};
use caracal_store::{Access, InZone};

use crate::error::{ApiError, Code};

/// The set, when it exists and is not archived.
async fn live<A: Access>(handle: &InZone<A>, id: &PolicySetId) -> Result<PolicySet, ApiError> {
    let found = handle
        .get_policy_set(id)
        .await?
        .filter(|set| set.archived_at.is_none());
    found.ok_or_else(|| Code::PolicySetNotFound.into())
}

/// The version of a live set that a body names.
async fn live_version<A: Access>(
    handle: &InZone<A>,
    set: &PolicySetId,
    version: &str,
) -> Result<PolicySetVersion, ApiError> {
    let set = handle
        .get_policy_set(set)
        .await?
        .filter(|set| set.archived_at.is_none());
    let set = set.ok_or(Code::VersionNotFound)?;
    let id = PolicySetVersionId::parse(version).map_err(|_| Code::VersionNotFound)?;
    let found = handle.get_policy_set_version(&set.id, &id).await?;
    found.ok_or_else(|| Code::VersionNotFound.into())
}
