//! Scopes: exact, case-sensitive strings, compared as sets.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The scope of lifecycle mandates; implicitly declared on every resource with an upstream.
pub const AGENT_LIFECYCLE: &str = "agent:lifecycle";

/// One scope.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope(Arc<str>);

impl Scope {
    /// Takes any text: which characters a declared scope may have is the Admin API's rule.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The scope as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Scope {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A set of scopes, kept sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct ScopeSet(Vec<Scope>);

impl ScopeSet {
    /// Splits a `scope` parameter or claim on white space.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        text.split_whitespace().map(Scope::new).collect()
    }

    /// Whether the set has no scope.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many scopes the set has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether `scope` is in the set.
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        self.0
            .binary_search_by(|held| held.as_str().cmp(scope))
            .is_ok()
    }

    /// Whether every scope of this set is in `other`.
    #[must_use]
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.0.iter().all(|scope| other.contains(scope.as_str()))
    }

    /// The scopes, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// The scopes, sorted, as a slice.
    #[must_use]
    pub fn as_slice(&self) -> &[Scope] {
        &self.0
    }

    /// The scopes joined by single spaces: the form of the `scope` claim.
    #[must_use]
    pub fn to_claim(&self) -> String {
        let parts: Vec<&str> = self.0.iter().map(Scope::as_str).collect();
        parts.join(" ")
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let mut all: Vec<Scope> = scopes.into_iter().collect();
        all.sort();
        all.dedup();
        Self(all)
    }
}

impl<'a> FromIterator<&'a str> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = &'a str>>(scopes: I) -> Self {
        scopes.into_iter().map(Scope::new).collect()
    }
}

impl From<Vec<Scope>> for ScopeSet {
    fn from(scopes: Vec<Scope>) -> Self {
        scopes.into_iter().collect()
    }
}

impl From<ScopeSet> for Vec<Scope> {
    fn from(set: ScopeSet) -> Self {
        set.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comparison_is_exact_and_case_sensitive() {
        let granted = ScopeSet::parse("ledger:read ledger:write");
        assert!(granted.contains("ledger:read"));
        assert!(!granted.contains("Ledger:read"));
        assert!(!granted.contains("ledger"));
    }

    proptest! {
        #[test]
        fn a_subset_never_holds_a_scope_the_superset_lacks(
            small in proptest::collection::vec("[a-c]{1,2}", 0..5),
            large in proptest::collection::vec("[a-c]{1,2}", 0..5),
        ) {
            let small: ScopeSet = small.iter().map(String::as_str).collect();
            let large: ScopeSet = large.iter().map(String::as_str).collect();
            let expected = small.iter().all(|s| large.contains(s.as_str()));
            prop_assert_eq!(small.is_subset_of(&large), expected);
        }
    }
}
