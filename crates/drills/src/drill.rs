//! One drill: a zone, a load in it, a fault, the recovery, and the judgement of the history.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::DrillError;
use crate::checker::{self, Verdict};
use crate::deployment::{Deployment, Role};
use crate::evidence;
use crate::fault::{Fault, Lengths};
use crate::history::{Fact, History, Written};
use crate::load::Load;
use crate::zone::Zone;

/// Concurrent workers of the load.
const WORKERS: usize = 6;

/// How long a client waits for an answer: more than a role may take to find that another is gone.
const PATIENCE: Duration = Duration::from_secs(8);

/// Calls before the fault, and after it before the drill ends.
const CALLS: usize = 40;

/// Without trouble for so long, the deployment has recovered.
const QUIET: Duration = Duration::from_secs(2);

/// Longest wait for the first calls, and for those after the bound of the recovery.
const WAIT: Duration = Duration::from_secs(20);

/// Plays a drill; the verdict, and how many events its evidence has. What is needed to look into a
/// failure is left in `keep`.
pub(crate) async fn run(
    deployment: &mut Deployment,
    fault: Fault,
    lengths: Lengths,
    keep: &Path,
) -> Result<(Verdict, usize), DrillError> {
    let prepared = fault.prepare(deployment).await?;
    let zone = Zone::plant(
        &deployment.service(Role::Api),
        &deployment.tokens,
        &fault.name(),
        &format!("http://{}", deployment.upstream.address()),
    )
    .await?;
    let history = History::new();
    let patient = zone.with_timeout(PATIENCE);
    let load = Load::start(patient, deployment.services(), history.clone(), WORKERS);
    await_calls(&history, Duration::ZERO, WAIT).await;
    let played = fault.play(deployment, &prepared, lengths, &history).await;
    let rules = fault.rules();
    await_recovery(&history, rules.recovery + WAIT).await;
    load.finish().await;
    history.note(Fact::Done);
    played?;
    let written = history.written();
    let wanted = checker::acknowledged(&written);
    let (evidence, defect) = evidence::gather(deployment, &zone.id, &wanted).await?;
    let arrivals = deployment.upstream.arrivals();
    let mut verdict = checker::check(&written, &arrivals, &evidence, rules);
    if let Some(defect) = defect {
        verdict.violations.push(format!("the chain: {defect}"));
    }
    if !verdict.violations.is_empty() {
        write_down(keep, fault, &written, &verdict);
    }
    fault.put_back(deployment, prepared).await?;
    Ok((verdict, evidence.events))
}

/// Waits until enough calls have succeeded since then.
pub(crate) async fn await_calls(history: &History, since: Duration, longest: Duration) {
    let deadline = Instant::now() + longest;
    while history.successes_since(since) < CALLS && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn await_recovery(history: &History, longest: Duration) {
    let healed = history.now();
    await_calls(history, healed, longest).await;
    let deadline = Instant::now() + longest;
    while Instant::now() < deadline {
        let last = history.last_trouble().unwrap_or_default().max(healed);
        if history.now() > last + QUIET {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn write_down(keep: &Path, fault: Fault, written: &Written, verdict: &Verdict) {
    let history = serde_json::to_vec_pretty(written).unwrap_or_default();
    let _ = std::fs::create_dir_all(keep);
    let _ = std::fs::write(keep.join(format!("{}.json", fault.name())), history);
    let violations = verdict.violations.join("\n");
    let _ = std::fs::write(keep.join(format!("{}.txt", fault.name())), violations);
}
