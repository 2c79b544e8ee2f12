//! Control keys: applications whose traits let them mint tokens for the control plane.
//!
//! A control token is the one mandate that no policy decides: the traits, which only an
//! administrator of all zones may set, are the grant. So everything here is exact, and what cannot be
//! read counts as absent or expired.

use caracal_core::{Scope, ScopeSet, Timestamp};
use caracal_store::entity::Application;

use crate::form::TokenForm;

const INVOKE: &str = "control:invoke";
const SCOPE_PREFIX: &str = "control:scope:";
const MAX_TTL_PREFIX: &str = "control:max-ttl:";
const EXPIRES_PREFIX: &str = "control:expires:";

/// Whether every scope of a control token begins like this.
const CONTROL_SCOPE: &str = "control:";

/// The right of an application to mint control tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ControlKey {
    scopes: ScopeSet,
    /// Cap of the token's life, seconds.
    pub(crate) max_ttl: Option<i64>,
    /// End of the right.
    pub(crate) expires_at: Option<Timestamp>,
}

impl ControlKey {
    /// Reads the application's traits; `None` when it is no control key, or none any more.
    pub(crate) fn of(application: &Application, now: Timestamp) -> Option<Self> {
        let traits = || application.traits.iter().map(String::as_str);
        if !traits().any(|held| held == INVOKE) {
            return None;
        }
        let mut expires_at = None;
        for text in traits().filter_map(|held| held.strip_prefix(EXPIRES_PREFIX)) {
            let end = Timestamp::parse_rfc3339(text).filter(|end| *end > now)?;
            expires_at = Some(expires_at.map_or(end, |earlier: Timestamp| earlier.min(end)));
        }
        let scopes = traits()
            .filter_map(|held| held.strip_prefix(SCOPE_PREFIX))
            .filter(|scope| scope.starts_with(CONTROL_SCOPE))
            .map(Scope::new)
            .collect();
        let max_ttl = traits()
            .filter_map(|held| held.strip_prefix(MAX_TTL_PREFIX)?.parse().ok())
            .find(|seconds: &i64| *seconds > 0);
        Some(Self {
            scopes,
            max_ttl,
            expires_at,
        })
    }

    /// Whether the key may mint a token with exactly these scopes.
    pub(crate) fn grants(&self, requested: &ScopeSet) -> bool {
        !requested.is_empty() && requested.is_subset_of(&self.scopes)
    }
}

/// Whether the request asks for a control token and nothing else.
pub(crate) fn is_pure_request(form: &TokenForm, control_audience: &str) -> bool {
    let names_authority = form.subject.is_some()
        || form.authority_record_id.is_some()
        || form.session_id.is_some()
        || form.delegation_id.is_some();
    let scopes = form.scope.set();
    !names_authority
        && form.resources.len() == 1
        && form
            .resources
            .iter()
            .all(|resource| resource == control_audience)
        && !scopes.is_empty()
        && scopes
            .iter()
            .all(|scope| scope.as_str().starts_with(CONTROL_SCOPE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rows;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn key(traits: &[&str]) -> Option<ControlKey> {
        let mut application = rows::application("app-ctl");
        application.traits = traits.iter().map(|text| (*text).to_owned()).collect();
        ControlKey::of(&application, NOW)
    }

    #[test]
    fn without_the_invoke_trait_there_is_no_key() {
        assert_eq!(key(&["control:scope:control:app.list"]), None);
    }

    #[test]
    fn only_listed_control_scopes_are_granted() {
        let key = key(&[
            "control:invoke",
            "control:scope:control:app:list",
            "control:scope:ledger:read",
        ])
        .unwrap();
        assert!(key.grants(&ScopeSet::parse("control:app:list")));
        for refused in [
            "",
            "control:app:delete",
            "ledger:read",
            "control:app:list control:x",
        ] {
            assert!(!key.grants(&ScopeSet::parse(refused)), "{refused}");
        }
    }

    #[test]
    fn the_first_positive_cap_wins() {
        let key = key(&[
            "control:invoke",
            "control:max-ttl:0",
            "control:max-ttl:60",
            "control:max-ttl:90",
        ]);
        assert_eq!(key.unwrap().max_ttl, Some(60));
    }

    #[test]
    fn a_past_or_unreadable_end_ends_the_right() {
        assert!(key(&["control:invoke", "control:expires:2026-01-01T00:00:01Z"]).is_some());
        for end in ["2026-01-01T00:00:00Z", "2025-01-01T00:00:00Z", "soon", ""] {
            assert_eq!(
                key(&["control:invoke", &format!("control:expires:{end}")]),
                None,
                "{end}"
            );
        }
    }
}
