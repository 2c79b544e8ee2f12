//! Who calls, and what that caller may do.

use std::sync::Arc;

use caracal_core::ScopeSet;
use caracal_core::id::{ApplicationId, AuthorityRecordId, ZoneId};

/// The scope that acts on any application's Sessions and edges.
pub(crate) const ADMIN_SCOPE: &str = "coordinator.admin";

/// The name under which the operator token acts.
const OPERATOR: &str = "caracal-operator";

/// An application, proven by its mandate.
#[derive(Debug, Clone)]
pub(crate) struct Bearer {
    /// The zone of the mandate.
    pub(crate) zone: ZoneId,
    /// The application.
    pub(crate) client_id: ApplicationId,
    /// The mandate's subject.
    pub(crate) subject: Arc<str>,
    /// The mandate's authority record.
    pub(crate) sid: AuthorityRecordId,
    /// The mandate's scopes.
    pub(crate) scopes: ScopeSet,
}

impl Bearer {
    /// Whether the caller may start Sessions for an application.
    pub(crate) fn may_start_for(&self, application: &ApplicationId) -> bool {
        self.client_id == *application || self.holds("coordinator.spawn_for", application)
    }

    /// Whether the caller may start children under a Session of an application.
    pub(crate) fn may_start_under(&self, application: &ApplicationId) -> bool {
        self.client_id == *application || self.holds("coordinator.spawn_under", application)
    }

    /// Whether the caller may delegate on behalf of an application.
    pub(crate) fn may_delegate_from(&self, issuer: &ApplicationId) -> bool {
        self.client_id == *issuer || self.holds("coordinator.delegate_from", issuer)
    }

    /// Whether the caller may delegate without naming a resource.
    pub(crate) fn may_delegate_broadly(&self, issuer: &ApplicationId) -> bool {
        self.scopes.contains(ADMIN_SCOPE)
            || self.scopes.contains("coordinator.delegate_broad")
            || self.holds("coordinator.delegate_broad", issuer)
    }

    fn holds(&self, right: &str, application: &ApplicationId) -> bool {
        self.scopes.contains(&format!("{right}:{application}"))
    }
}

/// Whoever passed authentication.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// An application with a lifecycle mandate.
    Application(Arc<Bearer>),
    /// The holder of the operator token, in the zone of the path.
    Operator(ZoneId),
}

impl Caller {
    /// The zone that the caller acts in.
    pub(crate) fn zone(&self) -> &ZoneId {
        match self {
            Self::Application(bearer) => &bearer.zone,
            Self::Operator(zone) => zone,
        }
    }

    /// Whether the caller acts on every application's objects.
    pub(crate) fn is_admin(&self) -> bool {
        match self {
            Self::Application(bearer) => bearer.scopes.contains(ADMIN_SCOPE),
            Self::Operator(_) => true,
        }
    }

    /// Whether the caller may suspend, resume and end Sessions of an application.
    pub(crate) fn controls(&self, application: &ApplicationId) -> bool {
        match self {
            Self::Application(bearer) => self.is_admin() || bearer.may_start_for(application),
            Self::Operator(_) => true,
        }
    }

    /// Whether the caller may revoke delegations of an issuer.
    pub(crate) fn may_revoke_from(&self, issuer: &ApplicationId) -> bool {
        match self {
            Self::Application(bearer) => self.is_admin() || bearer.may_delegate_from(issuer),
            Self::Operator(_) => true,
        }
    }

    /// The application whose objects the caller sees; `None` sees all.
    pub(crate) fn reader(&self) -> Option<&ApplicationId> {
        match self {
            Self::Application(bearer) if !self.is_admin() => Some(&bearer.client_id),
            _ => None,
        }
    }

    /// Whether the caller is this application itself.
    pub(crate) fn is_application(&self, application: &ApplicationId) -> bool {
        matches!(self, Self::Application(bearer) if bearer.client_id == *application)
    }

    /// The actor of audit rows: id, name, scopes.
    pub(crate) fn actor(&self) -> (String, String, String) {
        match self {
            Self::Application(bearer) => (
                bearer.subject.to_string(),
                bearer.client_id.to_string(),
                bearer.scopes.to_claim(),
            ),
            Self::Operator(_) => (
                OPERATOR.to_owned(),
                OPERATOR.to_owned(),
                ADMIN_SCOPE.to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(scopes: &str) -> Arc<Bearer> {
        Arc::new(Bearer {
            zone: ZoneId::parse("z").unwrap(),
            client_id: ApplicationId::parse("a").unwrap(),
            subject: "a".into(),
            sid: AuthorityRecordId::parse("r").unwrap(),
            scopes: ScopeSet::parse(scopes),
        })
    }

    fn other() -> ApplicationId {
        ApplicationId::parse("b").unwrap()
    }

    #[test]
    fn the_admin_scope_ends_any_session_but_starts_and_delegates_for_nobody() {
        let admin = bearer("agent:lifecycle coordinator.admin");
        assert!(!admin.may_start_for(&other()));
        assert!(!admin.may_delegate_from(&other()));
        let admin = Caller::Application(admin);
        assert!(admin.controls(&other()) && admin.may_revoke_from(&other()));
        assert_eq!(admin.reader(), None);
    }

    #[test]
    fn a_right_names_the_application_that_it_is_for() {
        let bearer = bearer("agent:lifecycle coordinator.spawn_for:b coordinator.delegate_from:b");
        assert!(bearer.may_start_for(&other()));
        assert!(bearer.may_delegate_from(&other()));
        assert!(!bearer.may_start_under(&other()));
        assert!(!bearer.may_delegate_broadly(&other()));
    }

    #[test]
    fn a_plain_application_sees_its_own_objects() {
        let caller = Caller::Application(bearer("agent:lifecycle"));
        assert_eq!(caller.reader().map(ApplicationId::as_str), Some("a"));
        assert!(!caller.controls(&other()));
    }
}
