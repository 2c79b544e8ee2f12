//! Which of the requested resources are granted.
//!
//! Each resource passes the same steps, in sorted order. One that fails a native check is skipped, and
//! the others go on: a mandate covers what passed. What the whole request means is settled at the end.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use caracal_core::scope::AGENT_LIFECYCLE;
use caracal_core::{ResourceIdentifier, ScopeSet};
use caracal_evidence::Metadata;
use caracal_store::entity::Resource;

use crate::Sts;
use crate::audit::{self, Authority, Trail};
use crate::client_auth::Client;
use crate::decide::{Action, Decided};
use crate::error::Refusal;
use crate::form::TokenForm;
use crate::lineage::Lineage;

/// A resource that policy granted.
#[derive(Debug)]
pub(crate) struct Granted {
    /// The resource.
    pub(crate) resource: Arc<Resource>,
    /// The decision, for the allow event.
    pub(crate) decided: Decided,
}

/// Why a resource is not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Skipped {
    NotFound,
    ScopeNotDeclared,
    OutsideDelegation,
    MintLimited(Duration),
    Denied(Cow<'static, str>),
}

impl Skipped {
    /// The `evaluation_status` of the deny event; a denial by policy has an event of its own.
    fn audit_status(&self) -> Option<&'static str> {
        match self {
            Self::NotFound => Some("resource_not_found"),
            Self::ScopeNotDeclared => Some("scope_mismatch"),
            Self::OutsideDelegation => Some("resource_outside_delegation"),
            Self::MintLimited(_) => Some("rate_limited"),
            Self::Denied(_) => None,
        }
    }
}

/// An exchange whose caller and references have been judged.
pub(crate) struct Asked<'a> {
    /// The caller.
    pub(crate) client: &'a Client,
    /// What it asks for.
    pub(crate) form: &'a TokenForm,
    /// What it acts under.
    pub(crate) lineage: &'a Lineage,
    /// The same, for events.
    pub(crate) authority: &'a Authority,
}

impl Sts {
    /// Judges every requested resource.
    pub(crate) async fn judge_resources(
        &self,
        asked: &Asked<'_>,
        trail: &mut Trail,
    ) -> Result<Vec<Granted>, Refusal> {
        let mut granted: Vec<Granted> = Vec::with_capacity(asked.form.resources.len());
        let mut skipped = Vec::new();
        for name in &asked.form.resources {
            match self.judge_resource(asked, name, trail).await? {
                Ok(grant)
                    if granted
                        .iter()
                        .any(|held| held.resource.id == grant.resource.id) => {}
                Ok(grant) => granted.push(grant),
                Err(reason) => {
                    if let Some(status) = reason.audit_status() {
                        trail.deny(status, &about(name, asked, &reason));
                    }
                    skipped.push(reason);
                }
            }
        }
        if granted.is_empty() {
            Err(settle(&skipped, asked.lineage))
        } else {
            Ok(granted)
        }
    }

    /// The outer error ends the exchange, the inner one skips the resource.
    async fn judge_resource(
        &self,
        asked: &Asked<'_>,
        name: &str,
        trail: &mut Trail,
    ) -> Result<Result<Granted, Skipped>, Refusal> {
        let Client {
            view, application, ..
        } = asked.client;
        let found = view.resource_by_name(name).await?;
        let Some(resource) = found.filter(|found| found.archived_at.is_none()) else {
            return Ok(Err(Skipped::NotFound));
        };
        let scopes = asked.form.scope.set();
        if !declares(&resource, scopes) {
            return Ok(Err(Skipped::ScopeNotDeclared));
        }
        if !asked.lineage.covers(&resource) {
            return Ok(Err(Skipped::OutsideDelegation));
        }
        let counted = self
            .mint_limit
            .count(&application.zone_id, &resource.id, &application.id);
        if let Err(over) = counted {
            return Ok(Err(Skipped::MintLimited(over.0)));
        }
        if self.is_control_resource(&resource.identifier) {
            return Err(Refusal::ControlResource);
        }
        let action = Action::Mint {
            lineage: asked.lineage,
            scopes: asked.form.scope.words(),
        };
        let decided = self.decide(asked.client, &resource, &action, trail).await?;
        match decided.denial() {
            None => Ok(Ok(Granted { resource, decided })),
            Some(reason) => {
                trail.policy_denied(resource.identifier.as_str(), &decided, asked.authority);
                Ok(Err(Skipped::Denied(reason)))
            }
        }
    }

    pub(crate) fn is_control_resource(&self, identifier: &ResourceIdentifier) -> bool {
        identifier.as_str() == self.options.control_audience
    }
}

/// Whether the resource declares every scope; what has an upstream also takes lifecycle mandates.
pub(crate) fn declares(resource: &Resource, scopes: &ScopeSet) -> bool {
    scopes.iter().all(|scope| {
        resource.scopes.contains(scope)
            || (resource.upstream_url.is_some() && scope.as_str() == AGENT_LIFECYCLE)
    })
}

fn about(name: &str, asked: &Asked<'_>, reason: &Skipped) -> Metadata {
    let mut about = Metadata::new();
    about.set("resource", name);
    if *reason == Skipped::OutsideDelegation {
        about.set_all(&audit::delegation_of(asked.lineage));
    }
    about
}

/// What a request without any grant is told: the one native reason that all its resources share, else
/// a denial. A Session without a Delegation is always a denial: no resource could have helped.
fn settle(skipped: &[Skipped], lineage: &Lineage) -> Refusal {
    let denial = || {
        let reason = skipped.iter().find_map(|reason| match reason {
            Skipped::Denied(reason) => Some(reason.clone()),
            _ => None,
        });
        Refusal::Denied(reason)
    };
    if matches!(lineage, Lineage::Session(_)) {
        return denial();
    }
    let all = |matches: fn(&Skipped) -> bool| !skipped.is_empty() && skipped.iter().all(matches);
    if all(|reason| *reason == Skipped::NotFound) {
        return Refusal::ResourceNotFound;
    }
    if all(|reason| *reason == Skipped::ScopeNotDeclared) {
        return Refusal::ScopeInsufficient;
    }
    let longest = skipped.iter().filter_map(|reason| match reason {
        Skipped::MintLimited(after) => Some(*after),
        _ => None,
    });
    match longest.max() {
        Some(after) if all(|reason| matches!(reason, Skipped::MintLimited(_))) => {
            Refusal::MintLimited(after)
        }
        _ => denial(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rows;

    const WAIT: Duration = Duration::from_secs(7);

    fn settled(skipped: &[Skipped]) -> &'static str {
        settle(skipped, &Lineage::Application).status_and_code().1
    }

    #[test]
    fn one_native_reason_for_every_resource_gives_its_own_code() {
        assert_eq!(
            settled(&[Skipped::NotFound, Skipped::NotFound]),
            "resource_not_found"
        );
        assert_eq!(settled(&[Skipped::ScopeNotDeclared]), "scope_insufficient");
        assert_eq!(
            settled(&[Skipped::MintLimited(WAIT)]),
            "provider_rate_limited"
        );
    }

    #[test]
    fn mixed_reasons_are_a_denial_that_names_policys_first_reason() {
        let mixed = [
            Skipped::NotFound,
            Skipped::Denied("role_scope_mismatch".into()),
            Skipped::Denied("resource_not_granted".into()),
        ];
        let refusal = settle(&mixed, &Lineage::Application);
        assert_eq!(refusal.to_string(), "policy denied (role_scope_mismatch)");
        assert_eq!(settled(&[Skipped::OutsideDelegation]), "access_denied");
    }

    #[test]
    fn the_longest_wait_is_told() {
        let limited = [
            Skipped::MintLimited(Duration::from_secs(3)),
            Skipped::MintLimited(WAIT),
        ];
        assert_eq!(
            settle(&limited, &Lineage::Application).retry_after(),
            Some(WAIT)
        );
    }

    #[test]
    fn lifecycle_is_declared_by_an_upstream_only() {
        let mut ledger = rows::resource("resource://ledger", &["ledger:read"]);
        let lifecycle = ScopeSet::parse(AGENT_LIFECYCLE);
        assert!(declares(&ledger, &lifecycle));
        ledger.upstream_url = None;
        assert!(!declares(&ledger, &lifecycle));
        assert!(declares(&ledger, &ScopeSet::parse("ledger:read")));
        assert!(!declares(&ledger, &ScopeSet::parse("Ledger:read")));
    }
}
