//! The receiver uses an edge from another application, which makes it count.
//!
//! Anybody may offer an edge to any Session. Until its receiver has used it, such an offer neither
//! narrows the receiver nor stands in for its parent.

use caracal_store::entity::Delegation;
use caracal_store::{StoreError, ZoneUnit};

/// The edge, marked as used by its receiver.
pub(crate) async fn accept(
    unit: &mut ZoneUnit,
    mut edge: Delegation,
) -> Result<Delegation, StoreError> {
    if !edge.counts_as_parent() {
        unit.mark_delegation_accepted(&edge.id).await?;
        edge.accepted = true;
    }
    Ok(edge)
}
