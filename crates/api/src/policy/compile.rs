//! Reading documents and compiling sets, off the async threads and a few at a time.

use std::sync::Arc;

use caracal_core::id::PolicyVersionId;
use caracal_policy::{BundleConflict, DocumentError, PolicyDocument, ZonePolicy};
use caracal_store::entity::PolicyVersion;

use crate::error::ApiError;
use crate::turns::Turns;

/// How many compilations run at a time.
const RUNNING: usize = 2;

/// Reads and compiles documents.
#[derive(Debug, Clone)]
pub(crate) struct Compiler(Turns);

impl Default for Compiler {
    fn default() -> Self {
        Self(Turns::of(RUNNING))
    }
}

/// Why documents do not make a policy.
#[derive(Debug)]
pub(crate) enum BundleError {
    /// One of them is refused by itself.
    Document(PolicyVersionId, DocumentError),
    /// Two of them contradict each other.
    Conflict(BundleConflict),
}

impl Compiler {
    /// Reads one document.
    pub(crate) async fn parse(
        &self,
        content: String,
    ) -> Result<Result<PolicyDocument, DocumentError>, ApiError> {
        self.0.run(move || PolicyDocument::parse(&content)).await
    }

    /// Reads all documents of a manifest and compiles them.
    pub(crate) async fn compile(
        &self,
        versions: Vec<PolicyVersion>,
    ) -> Result<Result<ZonePolicy, BundleError>, ApiError> {
        self.0.run(move || compile(&versions)).await
    }
}

fn compile(versions: &[PolicyVersion]) -> Result<ZonePolicy, BundleError> {
    let mut documents = Vec::with_capacity(versions.len());
    for version in versions {
        let document = PolicyDocument::parse(&version.content)
            .map_err(|error| BundleError::Document(version.id.clone(), error))?;
        documents.push((version.id.clone(), Arc::new(document)));
    }
    ZonePolicy::compile(&documents).map_err(BundleError::Conflict)
}
