use caracal_core::Timestamp;
use caracal_core::id::{KeyId, ZoneId};

/// A zone's signing key at rest. The next key is published before it signs, and leaves only when no
/// live token can carry it.
#[derive(Debug, Clone)]
pub struct SigningKeyRow {
    /// Row id, the JWS `kid`.
    pub id: KeyId,
    /// Owning zone.
    pub zone_id: ZoneId,
    /// The PKCS#8 private key, sealed.
    pub sealed: Vec<u8>,
    /// Unpadded base64url x coordinate.
    pub x: String,
    /// Unpadded base64url y coordinate.
    pub y: String,
    /// Published from here on.
    pub created_at: Timestamp,
    /// Signs from here on; the live key with the latest past `signs_from` is the active one.
    pub signs_from: Timestamp,
    /// Published until here; `None` while the key is the newest.
    pub retires_at: Option<Timestamp>,
}
