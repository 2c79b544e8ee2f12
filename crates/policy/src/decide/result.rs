//! A decision, its explanation, and the document that goes on the wire.

use std::fmt;
use std::sync::Arc;

use caracal_core::Scope;
use caracal_core::id::PolicyVersionId;
use serde::Serialize;
use serde_json::{Value, json};

use crate::tables::ApprovalTier;

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Allow or deny.
    pub verdict: Verdict,
    /// Which gate and which entry decided.
    pub explanation: Explanation,
}

/// Allow or deny.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The request may go on; a mint with gates only after a human's approval.
    Allow {
        /// `caracal-bootstrap`, `caracal-KEY-mint`, `caracal-KEY-use` or `caracal-workload-mint`.
        policy_name: Arc<str>,
        /// The declarations that hold the mint for a human, in Rego's order of values.
        gates: Vec<Arc<ApprovalTier>>,
        /// The classified scopes and their tiers, sorted by scope.
        risk: Vec<(Scope, Arc<str>)>,
    },
    /// The request is refused.
    Deny {
        /// Why.
        reason: DenyReason,
    },
}

/// Why a request is refused, in the order in which the contract asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DenyReason {
    /// The zone has no active policy set.
    NoActivePolicySet,
    /// The zone is frozen.
    RestrictionActive,
    /// Reserved: malformed `risk` data is refused before it can be active.
    MalformedRiskData,
    /// Reserved: malformed `approval_tiers` data is refused before it can be active.
    MalformedApprovalData,
    /// The principal does not own the resource.
    ResourceNotGranted,
    /// The delegation does not hand on every requested scope.
    DelegationScopeExceeded,
    /// A cap on one of the labels leaves a scope out.
    ConfinementViolation,
    /// No single label's role holds all scopes.
    RoleScopeMismatch,
    /// The presented mandate is not for this resource.
    MandateTargetMismatch,
    /// The request has none of the shapes that a rule is about.
    NoRuleMatched,
}

impl DenyReason {
    /// The code that operators, runbooks and clients know.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoActivePolicySet => "no_active_policy_set",
            Self::RestrictionActive => "restriction_active",
            Self::MalformedRiskData => "malformed_risk_data",
            Self::MalformedApprovalData => "malformed_approval_data",
            Self::ResourceNotGranted => "resource_not_granted",
            Self::DelegationScopeExceeded => "delegation_scope_exceeded",
            Self::ConfinementViolation => "confinement_violation",
            Self::RoleScopeMismatch => "role_scope_mismatch",
            Self::MandateTargetMismatch => "mandate_target_mismatch",
            Self::NoRuleMatched => "no_rule_matched",
        }
    }
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which gate and which entry decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The gate that failed; none when the request is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// The entry that decided, where one did: the role that allowed, the cap that was exceeded, the
    /// grant that belongs to another, the freeze.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<Entry>,
    /// The first scope at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// A gate of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// The zone has an active set.
    ActiveSet,
    /// No freeze holds.
    Restriction,
    /// The request has the shape of a rule.
    Shape,
    /// The mandate is for the resource.
    Target,
    /// The principal owns the resource.
    Ownership,
    /// The delegation hands the scopes on.
    DelegationScopes,
    /// The caps on the labels hold the scopes.
    Confinement,
    /// One label's role holds the scopes.
    Role,
}

/// An entry of a policy document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The policy version whose document it is.
    pub policy_version_id: PolicyVersionId,
    /// Document and path.
    pub path: Arc<str>,
}

impl Decision {
    pub(super) fn allow(policy_name: Arc<str>) -> Self {
        Self {
            verdict: Verdict::Allow {
                policy_name,
                gates: Vec::new(),
                risk: Vec::new(),
            },
            explanation: Explanation::default(),
        }
    }

    pub(super) fn deny(reason: DenyReason, gate: Gate) -> Self {
        let explanation = Explanation {
            gate: Some(gate),
            ..Explanation::default()
        };
        Self {
            verdict: Verdict::Deny { reason },
            explanation,
        }
    }

    pub(super) fn because_of(mut self, entry: &Entry) -> Self {
        self.explanation.entry = Some(entry.clone());
        self
    }

    pub(super) fn for_reason(self, reason: DenyReason) -> Self {
        Self {
            verdict: Verdict::Deny { reason },
            ..self
        }
    }

    pub(super) fn at_scope(mut self, scope: &str) -> Self {
        self.explanation.scope = Some(Scope::new(scope));
        self
    }

    /// Whether the request may go on, gated or not.
    #[must_use]
    pub fn is_allow(&self) -> bool {
        matches!(self.verdict, Verdict::Allow { .. })
    }

    /// The names of the policies that allowed, as audit events list them.
    #[must_use]
    pub fn determining_policies(&self) -> Value {
        match &self.verdict {
            Verdict::Allow { policy_name, .. } => json!([{ "policy": **policy_name }]),
            Verdict::Deny { .. } => json!([]),
        }
    }

    /// What goes with the verdict: gates and risk classes, or the reason.
    #[must_use]
    pub fn diagnostics(&self) -> Value {
        let mut diagnostics = Vec::new();
        match &self.verdict {
            Verdict::Deny { reason } => diagnostics.push(json!({ "reason": reason.as_str() })),
            Verdict::Allow { gates, risk, .. } => {
                if !gates.is_empty() {
                    let tiers: Vec<&Value> = gates.iter().map(|gate| &gate.authored).collect();
                    diagnostics.push(
                        json!({ "step_up_required": { "type": "human_approval", "tiers": tiers } }),
                    );
                }
                if !risk.is_empty() {
                    let classes: Vec<Value> = risk
                        .iter()
                        .map(|(scope, tier)| json!({ "scope": scope.as_str(), "tier": **tier }))
                        .collect();
                    diagnostics.push(json!({ "risk": classes }));
                }
            }
        }
        Value::Array(diagnostics)
    }

    /// The result document.
    #[must_use]
    pub fn to_result_json(&self) -> Value {
        json!({
            "decision": if self.is_allow() { "allow" } else { "deny" },
            "evaluation_status": "complete",
            "determining_policies": self.determining_policies(),
            "diagnostics": self.diagnostics(),
        })
    }
}
