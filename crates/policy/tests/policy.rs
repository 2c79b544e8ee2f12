//! The policy crate from outside: documents, decisions, and the contract in Rego as an oracle.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail loudly, and the oracle prints which rules it met"
)]

#[path = "policy/documents.rs"]
mod documents;
#[path = "policy/hostile.rs"]
mod hostile;
#[path = "policy/inputs.rs"]
mod inputs;
#[path = "policy/mutations.rs"]
mod mutations;
#[path = "policy/oracle.rs"]
mod oracle;
#[path = "policy/rego.rs"]
mod rego;
#[path = "policy/truth_table.rs"]
mod truth_table;
#[path = "policy/zones.rs"]
mod zones;

/// A document with the marker, the package and `body`.
fn document(body: &str) -> String {
    format!("# caracal:data-document\npackage caracal.authz\nimport rego.v1\n{body}\n")
}
