//! A zone's evidence, exported and verified as an auditor does: by the command line.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::DrillError;
use crate::checker::Decision;
use crate::deployment::Deployment;

/// Longest wait for acknowledged decisions to be stored.
const ARRIVAL: Duration = Duration::from_secs(60);

/// Pause between two exports.
const AGAIN: Duration = Duration::from_millis(500);

/// The decisions that a bundle holds.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    decisions: BTreeSet<Decision>,
    /// Events of the bundle.
    pub(crate) events: usize,
}

impl Evidence {
    pub(crate) fn holds(&self, decision: &Decision) -> bool {
        self.decisions.contains(decision)
    }

    #[cfg(test)]
    pub(crate) fn of_decisions(decisions: Vec<Decision>) -> Self {
        Self {
            events: decisions.len(),
            decisions: decisions.into_iter().collect(),
        }
    }

    fn read(bundle: &[u8]) -> Self {
        let mut evidence = Self::default();
        for line in bundle.split(|byte| *byte == b'\n').skip(1) {
            let Ok(line) = serde_json::from_slice::<Value>(line) else {
                continue;
            };
            let event = &line["event"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let request = text(&event["request_id"]);
            let decision = match (event["event_type"].as_str(), event["decision"].as_str()) {
                (Some("token_exchange"), Some("allow")) => {
                    Decision::Mandate(text(&event["metadata_json"]["jti"]))
                }
                (Some("token_exchange"), Some("deny")) => Decision::Denial { request },
                (Some("gateway_request_started"), _) => Decision::Call { request },
                _ => continue,
            };
            evidence.decisions.insert(decision);
        }
        evidence.events = bundle.iter().filter(|byte| **byte == b'\n').count();
        evidence
    }
}

/// Waits until the zone's evidence holds these decisions, and verifies the bundle offline; the
/// evidence, and what is wrong with the chain.
pub(crate) async fn gather(
    deployment: &Deployment,
    zone: &str,
    wanted: &[Decision],
) -> Result<(Evidence, Option<String>), DrillError> {
    let path = deployment
        .directory()
        .join(format!("evidence-{zone}.jsonl"));
    let deadline = Instant::now() + ARRIVAL;
    loop {
        let exported = export(deployment, zone, &path).await;
        if let Ok(bundle) = &exported {
            let evidence = Evidence::read(bundle);
            let whole = wanted.iter().all(|decision| evidence.holds(decision));
            if whole || Instant::now() > deadline {
                let defect = verify(deployment, &path).await?;
                return Ok((evidence, defect));
            }
        } else if Instant::now() > deadline {
            exported?;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn export(deployment: &Deployment, zone: &str, path: &Path) -> Result<Vec<u8>, DrillError> {
    let mut command = deployment.command(["audit", "export", "--zone", zone, "--out"]);
    let output = command.arg(path).output().await;
    let output = output.map_err(|e| DrillError::Io("caracal audit export", e))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(DrillError::Command("caracal audit export", said));
    }
    tokio::fs::read(path)
        .await
        .map_err(|e| DrillError::Io("the bundle", e))
}

async fn verify(deployment: &Deployment, path: &Path) -> Result<Option<String>, DrillError> {
    let output = deployment
        .command(["audit", "verify"])
        .arg(path)
        .output()
        .await
        .map_err(|e| DrillError::Io("caracal audit verify", e))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok((!output.status.success()).then_some(said))
}
