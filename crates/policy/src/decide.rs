//! The platform decision contract: a pure function of policy, request and instant.
//!
//! Shapes of a request, allow rules and denials stand here in the contract's order. The same
//! contract in Rego is `oracle/contract.rego`; the property tests hold both against each other.

mod input;
mod request;
mod result;

use std::sync::Arc;

use caracal_core::scope::AGENT_LIFECYCLE;
use caracal_core::{Scope, ScopeSet, Timestamp};

pub use input::{DecisionInput, InvalidInput, input_warnings};
pub use request::{Action, DecisionRequest, Delegation, Principal, PrincipalKind, SubjectClaims};
pub use result::{Decision, DenyReason, Entry, Explanation, Gate, Verdict};

use crate::compile::{Active, Grant, Role, ZonePolicy};

const BOOTSTRAP: &str = "caracal-bootstrap";
const WORKLOAD_MINT: &str = "caracal-workload-mint";

impl ZonePolicy {
    /// Decides one request as of `now`.
    ///
    /// A mint that needs a human's approval is an allow whose gates are not empty.
    #[must_use]
    pub fn decide(&self, request: &DecisionRequest<'_>, now: Timestamp) -> Decision {
        let Some(active) = &self.active else {
            return Decision::deny(DenyReason::NoActivePolicySet, Gate::ActiveSet);
        };
        if let Some(freeze) = active
            .freezes
            .iter()
            .find(|freeze| freeze.window.holds(now))
        {
            return Decision::deny(DenyReason::RestrictionActive, Gate::Restriction)
                .because_of(&freeze.entry);
        }
        if is_bootstrap(request) {
            match active.owned(request) {
                Ok(grant) => return Decision::allow(Arc::from(BOOTSTRAP)).because_of(&grant.entry),
                Err(_) if is_workload(request) => {}
                Err(denied) => return denied.for_reason(DenyReason::NoRuleMatched),
            }
        }
        if is_workload(request) {
            return active.gated(Decision::allow(Arc::from(WORKLOAD_MINT)), request);
        }
        if is_mint(request) {
            return active.mint(request);
        }
        match presented(request) {
            Some(mandate) => active.usage(request, mandate),
            None => Decision::deny(DenyReason::NoRuleMatched, Gate::Shape),
        }
    }
}

/// Asks for nothing but the lifecycle scope, on nobody's authority but its own.
fn is_bootstrap(request: &DecisionRequest<'_>) -> bool {
    let scopes = request.requested_scopes;
    !scopes.is_empty()
        && scopes.iter().all(|scope| scope.as_str() == AGENT_LIFECYCLE)
        && stands_alone(request)
}

/// A stored credential for a workload: the stored binding is the grant.
fn is_workload(request: &DecisionRequest<'_>) -> bool {
    request.principal.kind == PrincipalKind::Workload
        && request.action == Action::CredentialInjection
        && stands_alone(request)
}

fn stands_alone(request: &DecisionRequest<'_>) -> bool {
    request.subject.is_none() && request.delegation.is_none() && !request.agent_session
}

/// A Session asks for scopes through a delegation.
fn is_mint(request: &DecisionRequest<'_>) -> bool {
    let scopes = request.requested_scopes;
    request
        .delegation
        .as_ref()
        .is_some_and(|edge| edge.id.is_some())
        && request.agent_session
        && request.subject.is_none()
        && !scopes.is_empty()
        && scopes.iter().all(|scope| scope.as_str() != AGENT_LIFECYCLE)
}

/// A mandate that was minted through a delegation is presented for use.
fn presented<'r>(request: &DecisionRequest<'r>) -> Option<SubjectClaims<'r>> {
    let claims = request.subject?;
    let delegated = !claims.delegation_edge_id.is_empty();
    let bare = request.requested_scopes.is_empty();
    (delegated && bare && carried(claims).next().is_some()).then_some(claims)
}

/// The scopes of a presented mandate: split at single spaces, and at nothing else.
fn carried(claims: SubjectClaims<'_>) -> impl Iterator<Item = &str> + Clone {
    claims.scope.split(' ').filter(|scope| !scope.is_empty())
}

impl Active {
    fn mint(&self, request: &DecisionRequest<'_>) -> Decision {
        let grant = match self.owned(request) {
            Ok(grant) => grant,
            Err(denied) => return denied,
        };
        let requested = request.requested_scopes.iter().map(Scope::as_str);
        let delegated = request
            .delegation
            .as_ref()
            .map_or(&[][..], |edge| edge.scopes);
        let holds = |scope: &str| delegated.iter().any(|held| held.as_str() == scope);
        if let Some(scope) = requested.clone().find(|scope| !holds(scope)) {
            return Decision::deny(DenyReason::DelegationScopeExceeded, Gate::DelegationScopes)
                .at_scope(scope);
        }
        match self.within_caps_and_role(grant, request.principal.labels, &requested) {
            Ok(role) => {
                let allowed = Decision::allow(grant.mint.clone()).because_of(&role.entry);
                self.gated(allowed, request)
            }
            Err(denied) => denied,
        }
    }

    fn usage(&self, request: &DecisionRequest<'_>, mandate: SubjectClaims<'_>) -> Decision {
        if !mandate
            .target
            .iter()
            .any(|target| target.as_str() == request.resource)
        {
            return Decision::deny(DenyReason::MandateTargetMismatch, Gate::Target);
        }
        let grant = match self.owned(request) {
            Ok(grant) => grant,
            Err(denied) => return denied,
        };
        match self.within_caps_and_role(grant, request.principal.labels, &carried(mandate)) {
            Ok(role) => Decision::allow(grant.usage.clone()).because_of(&role.entry),
            Err(denied) => denied,
        }
    }

    /// The resource's grant, when the principal is its owner.
    fn owned(&self, request: &DecisionRequest<'_>) -> Result<&Grant, Decision> {
        let denied = || Decision::deny(DenyReason::ResourceNotGranted, Gate::Ownership);
        let grant = self.grants.get(request.resource).ok_or_else(denied)?;
        match &grant.owner {
            Some(owner) if **owner == *request.principal.id => Ok(grant),
            _ => Err(denied().because_of(&grant.entry)),
        }
    }

    /// Every cap that a label of the principal falls under holds all scopes, and one label's role
    /// alone holds all of them: roles never combine.
    fn within_caps_and_role<'s>(
        &self,
        grant: &'s Grant,
        labels: &[String],
        scopes: &(impl Iterator<Item = &'s str> + Clone),
    ) -> Result<&'s Role, Decision> {
        let covers = |prefix: &str| labels.iter().any(|label| label.starts_with(prefix));
        for cap in self.caps.iter().filter(|cap| covers(&cap.label_prefix)) {
            if let Some(scope) = outside(&cap.scopes, scopes.clone()) {
                return Err(
                    Decision::deny(DenyReason::ConfinementViolation, Gate::Confinement)
                        .because_of(&cap.entry)
                        .at_scope(scope),
                );
            }
        }
        let mut roles = labels
            .iter()
            .filter_map(|label| grant.roles.get(label.as_str()));
        roles
            .find(|role| outside(&role.scopes, scopes.clone()).is_none())
            .ok_or_else(|| {
                Decision::deny(DenyReason::RoleScopeMismatch, Gate::Role).because_of(&grant.entry)
            })
    }

    /// Adds the risk classes of the requested scopes and the approval tiers that they call for.
    fn gated(&self, mut allowed: Decision, request: &DecisionRequest<'_>) -> Decision {
        if self.risk.is_empty() {
            return allowed;
        }
        let classified = |scope: &Scope| Some((scope.clone(), self.risk.get(scope)?.clone()));
        let mut risk: Vec<_> = request
            .requested_scopes
            .iter()
            .filter_map(classified)
            .collect();
        risk.sort();
        risk.dedup();
        let calls = |tier: &&Arc<_>| matches_tier(&risk, tier);
        let gates = self.approval_tiers.iter().filter(calls).cloned().collect();
        if let Verdict::Allow {
            gates: slot,
            risk: classes,
            ..
        } = &mut allowed.verdict
        {
            *slot = gates;
            *classes = risk;
        }
        allowed
    }
}

fn outside<'s>(held: &ScopeSet, mut scopes: impl Iterator<Item = &'s str>) -> Option<&'s str> {
    scopes.find(|scope| !held.contains(scope))
}

fn matches_tier(risk: &[(Scope, Arc<str>)], declared: &crate::tables::ApprovalTier) -> bool {
    risk.iter().any(|(_, tier)| *tier == declared.tier)
}
