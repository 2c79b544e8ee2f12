use caracal_core::Timestamp;
use caracal_core::id::{AdminTokenId, ZoneId};

use super::wire_names;

/// What an admin token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Reads.
    Read,
    /// Reads and changes.
    Write,
    /// Reads and decides holds.
    Approve,
}

wire_names!(Capability { Read => "read", Write => "write", Approve => "approve" });

/// An admin token at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminToken {
    /// Row id.
    pub id: AdminTokenId,
    /// For people.
    pub name: String,
    /// The only zone that it may touch; `None` for a global token.
    pub zone_id: Option<ZoneId>,
    /// What it may do.
    pub capability: Capability,
    /// Whether it may read stored secrets in clear.
    pub reveal: bool,
    /// Digest of the token, never the token. The key it is found by.
    pub digest: String,
    /// `admin:<token id>`, or the name of a seeded token's origin.
    pub created_by: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last used, to within a minute.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}
