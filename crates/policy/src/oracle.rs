//! The platform decision contract in Rego: what auditors read and can run on any Rego engine.
//!
//! It means the same as [`crate::decide`]; the property tests hold both against each other on
//! random zones and requests. Production never evaluates it.

use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, digest};

/// The contract's version. It changes only when the contract's meaning does: approvals are bound
/// to it.
pub const CONTRACT_VERSION: &str = "2026-07-12";

/// The contract's source.
#[must_use]
pub fn contract_source() -> &'static str {
    include_str!("oracle/contract.rego")
}

/// Lower-case hex SHA-256 of [`contract_source`].
#[must_use]
pub fn contract_sha256() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| hex::encode(digest(&SHA256, contract_source().as_bytes())))
}
