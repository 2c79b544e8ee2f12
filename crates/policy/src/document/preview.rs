//! What a document declares, for people who are about to save it.

use std::collections::BTreeSet;

use serde::Serialize;

use super::PACKAGE;
use super::facts::Facts;
use super::syntax::Head;

/// The preview that validation answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// The package, always `caracal.authz`.
    pub package: String,
    /// The documents defined, sorted.
    pub rules: Vec<String>,
    /// Whether a default `result` exists; a data document has none.
    pub default_result: bool,
    /// The decisions that literals name, sorted.
    pub decisions: Vec<String>,
    /// The parts of the request read; a data document reads none.
    pub inputs_referenced: Vec<String>,
    /// The documents named by their full path, sorted.
    pub data_referenced: Vec<String>,
}

impl Preview {
    pub(super) fn new(heads: &[Head<'_>], facts: &Facts) -> Self {
        let rules: BTreeSet<&str> = heads.iter().map(|head| head.document.as_str()).collect();
        Self {
            package: PACKAGE.join("."),
            rules: rules.into_iter().map(str::to_owned).collect(),
            default_result: false,
            decisions: facts.decisions.iter().cloned().collect(),
            inputs_referenced: Vec::new(),
            data_referenced: facts.data.iter().cloned().collect(),
        }
    }
}
