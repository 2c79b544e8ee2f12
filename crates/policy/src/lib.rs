//! Policy documents to compiled zone policy to decision with explanation.
//!
//! Adopters author *data documents* in Rego syntax. They are read in three steps:
//!
//! 1. [`PolicyDocument::parse`]: one policy version's text becomes typed tables, or an error with
//!    document, path and line. Only here does a Rego interpreter run, once per version, on a
//!    document that was first shown to be closed and small.
//! 2. [`ZonePolicy::compile`]: the tables of all versions of a set become one [`ZonePolicy`], or a
//!    conflict that names both versions.
//! 3. [`ZonePolicy::decide`]: a pure function of (policy, request, instant) that allocates next to
//!    nothing and says which gate and which entry of which version decided.
//!
//! The same contract in Rego is [`contract_source`]: what auditors get, and what the tests hold the
//! native decision against. It never runs in production: on malformed data interpreters differ from
//! each other, and some of them allow.

mod compile;
mod decide;
mod document;
mod fuzz;
mod manifest;
mod oracle;
mod tables;
mod templates;

pub use compile::{BundleConflict, ZonePolicy};
pub use decide::{
    Action, Decision, DecisionInput, DecisionRequest, Delegation, DenyReason, Entry, Explanation,
    Gate, InvalidInput, Principal, PrincipalKind, SubjectClaims, Verdict, input_warnings,
};
pub use document::{DocumentError, PolicyDocument, Preview};
pub use fuzz::fuzz_document;
pub use manifest::manifest_sha256;
pub use oracle::{CONTRACT_VERSION, contract_sha256, contract_source};
pub use tables::{ApprovalTier, Approver, Privacy};
pub use templates::{PolicyTemplate, templates};

/// The input schema that decisions and simulations speak.
pub const SCHEMA_VERSION: &str = "2026-05-20";
