//! What a version would decide, without making it govern.

use std::sync::Arc;

use caracal_core::id::{PolicySetId, ZoneId};
use caracal_policy::{Decision, DecisionInput, SCHEMA_VERSION, ZonePolicy, input_warnings};
use caracal_store::entity::PolicySetVersion;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{contract, live_version};
use crate::admin_audit;
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::policy::compile::BundleError;
use crate::reply::Reply;
use crate::request::Call;
use crate::request::fields::Fields;

/// What came of the question.
struct Outcome {
    evaluation: &'static str,
    reason: String,
    decision: Option<Decision>,
    warning: Option<String>,
}

impl Outcome {
    fn failed(code: &str, reason: String) -> Self {
        let warning = Some(format!("sts_simulation_failed:{code}"));
        Self {
            evaluation: "failed",
            reason,
            decision: None,
            warning,
        }
    }
}

/// `POST /v1/zones/{z}/policy-sets/{id}/simulate`. Changes nothing; that somebody asked is recorded.
pub(crate) async fn simulate(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let (zone, set): (ZoneId, PolicySetId) = (call.zone()?, call.id("id")?);
    let mut fields = Fields::of(call.body.clone(), Code::InvalidBody)?;
    let named: String = fields.required("version_id")?;
    let input = fields
        .nullable::<Map<String, Value>>("input")?
        .flatten()
        .map(Value::Object);
    let reader = api.store.read(&zone);
    let version = live_version(&reader, &set, &named).await?;
    let documents = contract::check(&reader, &version.manifest).await?;
    let mut warnings = input
        .as_ref()
        .map_or_else(Vec::new, |input| input_warnings(input, &zone));
    let outcome = match api.compiler.compile(documents).await? {
        Ok(policy) => decide(&api, &policy, input.as_ref()),
        Err(BundleError::Document(id, error)) => {
            return Err(contract::refuse(format!(
                "policy version {id}: {}",
                error.code()
            )));
        }
        Err(BundleError::Conflict(conflict)) => {
            Outcome::failed("invalid_policy_bundle", conflict.to_string())
        }
    };
    let would_activate = warnings.is_empty() && outcome.evaluation != "failed";
    warnings.extend(outcome.warning.clone());
    record(&api, &call).await?;
    Reply::ok(&json!({
        "dry_run": true,
        "would_activate": would_activate,
        "policy_set_id": set,
        "version_id": version.id,
        "schema_version": version.schema_version,
        "input_schema_version": SCHEMA_VERSION,
        "manifest_sha256": version.manifest_sha256,
        "policies": version.manifest,
        "warnings": warnings,
        "explanation": explanation(&version, &outcome),
        "result": outcome.decision.as_ref().map(Decision::to_result_json),
    }))
}

async fn record(api: &Api, call: &Call) -> Result<(), ApiError> {
    let mut unit = api.store.begin(&call.zone()?).await?;
    unit.record_admin_audit(&admin_audit::changed(call, StatusCode::OK))
        .await?;
    Ok(unit.commit().await?)
}

fn decide(api: &Api, policy: &ZonePolicy, input: Option<&Value>) -> Outcome {
    let Some(input) = input else {
        let reason = "no input was given".to_owned();
        return Outcome {
            evaluation: "not_executed",
            reason,
            decision: None,
            warning: None,
        };
    };
    let input = match DecisionInput::from_json(input) {
        Ok(input) => input,
        Err(error) => return Outcome::failed("invalid_input", error.to_string()),
    };
    let decision = policy.decide(&input.request(), api.clock.now());
    let reason = "the version was asked".to_owned();
    Outcome {
        evaluation: "executed",
        reason,
        decision: Some(decision),
        warning: None,
    }
}

fn explanation(version: &PolicySetVersion, outcome: &Outcome) -> Value {
    let mut told = json!({ "evaluation": outcome.evaluation, "reason": outcome.reason });
    if let Some(decision) = &outcome.decision {
        told["decision"] = json!(if decision.is_allow() { "allow" } else { "deny" });
        told["policy_set_version_id"] = json!(version.id);
        told["manifest_sha256"] = json!(version.manifest_sha256);
        told["determined_by"] = json!(decision.explanation);
    }
    told
}
