//! Reading documents and compiling sets, off the async threads and a few at a time.

use std::sync::Arc;
use std::time::Duration;

use caracal_core::id::PolicyVersionId;
use caracal_policy::{BundleConflict, DocumentError, PolicyDocument, ZonePolicy};
use caracal_store::entity::PolicyVersion;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ApiError, Code};

/// How many compilations run at a time.
const RUNNING: usize = 2;
/// The longest wait for one's turn.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Takes turns at compiling.
#[derive(Debug, Clone)]
pub(crate) struct Compiler(Arc<Semaphore>);

impl Default for Compiler {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(RUNNING)))
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
        self.run(move || PolicyDocument::parse(&content)).await
    }

    /// Reads all documents of a manifest and compiles them.
    pub(crate) async fn compile(
        &self,
        versions: Vec<PolicyVersion>,
    ) -> Result<Result<ZonePolicy, BundleError>, ApiError> {
        self.run(move || compile(&versions)).await
    }

    /// The turn ends with the work, also when the caller has gone.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = self.turn().await?;
        let job = tokio::task::spawn_blocking(move || {
            let outcome = work();
            drop(turn);
            outcome
        });
        job.await.map_err(|error| {
            tracing::error!(%error, "a compilation ended abnormally");
            Code::Internal.into()
        })
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let turn = Arc::clone(&self.0).acquire_owned();
        match tokio::time::timeout(LONGEST_WAIT, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(ApiError::busy()),
        }
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
