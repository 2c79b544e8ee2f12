//! Asking the zone's policy.
//!
//! The active set is read through the request's view, so a policy that was activated before the
//! request arrived decides it. Compiled policies are kept under their version's id, which names one
//! immutable text; a version is compiled once, off the async threads, however many requests wait for
//! it. A policy that can't be read or compiled is trouble (503), never a verdict.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use caracal_core::id::PolicySetVersionId;
use caracal_core::{Scope, Timestamp};
use caracal_crypto::Claims;
use caracal_evidence::Event;
use caracal_policy::{
    Decision, DecisionRequest, Delegation, PolicyDocument, Principal, PrincipalKind, SubjectClaims,
    Verdict, ZonePolicy,
};
use caracal_store::entity::{ActivePolicySet, Resource};
use moka::sync::Cache;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::Sts;
use crate::audit::Trail;
use crate::client_auth::Client;
use crate::error::Refusal;
use crate::lineage::{DelegatedLine, Lineage};
use crate::measure::Measures;

/// Policy versions whose compiled form is kept.
const REMEMBERED: u64 = 1_024;

/// What policy is asked about.
#[derive(Debug)]
pub(crate) enum Action<'a> {
    /// An application mints for itself.
    Mint {
        /// What it acts under.
        lineage: &'a Lineage,
        /// What it asks for.
        scopes: &'a [Scope],
    },
    /// A mandate is used at the Gateway.
    Use {
        /// What the mandate rests on.
        lineage: &'a Lineage,
        /// What it says.
        claims: &'a Claims,
    },
}

impl<'a> Action<'a> {
    fn lineage(&self) -> &'a Lineage {
        match self {
            Self::Mint { lineage, .. } | Self::Use { lineage, .. } => lineage,
        }
    }

    fn scopes(&self) -> &'a [Scope] {
        match self {
            Self::Mint { scopes, .. } => scopes,
            Self::Use { .. } => &[],
        }
    }

    fn subject(&self) -> Option<SubjectClaims<'a>> {
        match self {
            Self::Mint { .. } => None,
            Self::Use { claims, .. } => Some(SubjectClaims {
                delegation_edge_id: claims
                    .delegation_edge_id
                    .as_ref()
                    .map_or("", |id| id.as_str()),
                target: &claims.target,
                scope: claims.scope.as_deref().unwrap_or_default(),
            }),
        }
    }
}

/// A verdict with the policy that gave it.
#[derive(Debug)]
pub(crate) struct Decided {
    decision: Decision,
    active: Option<Arc<ActivePolicySet>>,
}

impl Decided {
    /// Why policy says no; `None` when it allows.
    pub(crate) fn denial(&self) -> Option<Cow<'static, str>> {
        match &self.decision.verdict {
            Verdict::Allow { .. } => None,
            Verdict::Deny { reason } => Some(Cow::Borrowed(reason.as_str())),
        }
    }

    /// Whether the grant waits for a person.
    pub(crate) fn is_gated(&self) -> bool {
        matches!(&self.decision.verdict, Verdict::Allow { gates, .. } if !gates.is_empty())
    }

    /// Puts the verdict, its explanation and the policy's identity on an event.
    pub(crate) fn stamp(&self, event: Event) -> Event {
        let event = event
            .determining_policies(members(self.decision.determining_policies()))
            .diagnostics(members(self.decision.diagnostics()));
        let event = match &self.active {
            Some(active) => event
                .policy_set(&active.policy_set_id)
                .policy_set_version(&active.version_id)
                .manifest_sha(active.manifest_sha256.as_str()),
            None => event.manifest_sha("no_active_policy_set"),
        };
        let explanation = &self.decision.explanation;
        event
            .with_some("policy_gate", explanation.gate.as_ref())
            .with_some("policy_entry", explanation.entry.as_ref())
            .with_some("policy_scope", explanation.scope.as_ref())
    }
}

fn members(list: Value) -> Vec<Value> {
    match list {
        Value::Array(members) => members,
        other => vec![other],
    }
}

/// Compiled policies.
#[derive(Debug)]
pub(crate) struct Policies(Cache<PolicySetVersionId, Arc<OnceCell<Arc<ZonePolicy>>>>);

impl Policies {
    pub(crate) fn new() -> Self {
        Self(Cache::new(REMEMBERED))
    }

    /// The compiled form of a version; one caller compiles, the others wait for it.
    async fn compiled(
        &self,
        active: &Arc<ActivePolicySet>,
        measures: &Measures,
    ) -> Result<Arc<ZonePolicy>, String> {
        let cell = match self.0.get(&active.version_id) {
            Some(cell) => cell,
            None => self.0.get_with(active.version_id.clone(), Arc::default),
        };
        let policy = cell.get_or_try_init(|| async {
            let began = Instant::now();
            let source = Arc::clone(active);
            let compiled = tokio::task::spawn_blocking(move || compile(&source)).await;
            let compiled = compiled.unwrap_or_else(|error| Err(error.to_string()));
            measures.compiled(began.elapsed(), compiled.is_ok());
            compiled.map(Arc::new)
        });
        policy.await.map(Arc::clone)
    }
}

fn compile(active: &ActivePolicySet) -> Result<ZonePolicy, String> {
    let mut documents = Vec::with_capacity(active.documents.len());
    for (id, text) in &active.documents {
        let document = PolicyDocument::parse(text)
            .map_err(|error| format!("policy version {id} cannot be read: {error}"))?;
        documents.push((id.clone(), Arc::new(document)));
    }
    ZonePolicy::compile(&documents).map_err(|conflict| conflict.to_string())
}

impl Sts {
    /// Asks the zone's policy about one resource.
    pub(crate) async fn decide(
        &self,
        client: &Client,
        resource: &Resource,
        action: &Action<'_>,
        trail: &mut Trail,
    ) -> Result<Decided, Refusal> {
        let active = client.view.active_policy().await?;
        let policy = match &active {
            None => Arc::clone(&self.deny_all),
            Some(active) => match self.policies.compiled(active, &self.measures).await {
                Ok(policy) => policy,
                Err(cause) => {
                    self.measures.evaluation_failed();
                    let zone = &client.application.zone_id;
                    tracing::error!(%zone, %cause, "policy cannot be evaluated");
                    trail.policy_failed(resource.identifier.as_str(), active, &cause);
                    return Err(Refusal::PolicyUnavailable);
                }
            },
        };
        let began = Instant::now();
        let decision = ask(&policy, client, resource, action, client.now);
        self.measures.evaluated(began.elapsed());
        Ok(Decided { decision, active })
    }
}

fn ask(
    policy: &ZonePolicy,
    client: &Client,
    resource: &Resource,
    action: &Action<'_>,
    now: Timestamp,
) -> Decision {
    let lineage = action.lineage();
    let leaf = lineage.delegated().map(DelegatedLine::leaf);
    let request = DecisionRequest {
        principal: Principal {
            kind: PrincipalKind::Application,
            id: client.application.id.as_str(),
            labels: lineage.session().map_or(&[], |session| &session.labels),
        },
        resource: resource.identifier.as_str(),
        action: caracal_policy::Action::TokenExchange,
        requested_scopes: action.scopes(),
        agent_session: lineage.session().is_some(),
        delegation: leaf.map(|leaf| Delegation {
            id: Some(leaf.id.as_str()),
            scopes: leaf.scopes.as_slice(),
        }),
        subject: action.subject(),
    };
    policy.decide(&request, now)
}
