//! Telling other roles, from within the transaction that changes something.

use caracal_core::id::OutboxId;
use caracal_events::Message;
use caracal_store::ZoneUnit;

use crate::error::ApiError;

/// Stores a message that leaves when the unit commits.
pub(crate) async fn enqueue(unit: &mut ZoneUnit, message: &Message) -> Result<OutboxId, ApiError> {
    let payload = message
        .payload()
        .iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    Ok(unit
        .enqueue(message.topic().as_str(), message.dedupe_key(), payload)
        .await?)
}
