//! The constraint object of a delegation, brought into its one stored form.
//!
//! Two objects may come (`constraints_json` and `constraints`, which wins key by key) beside a
//! `ttl_seconds` of the body. What is stored has been checked, so nobody who reads it later has to
//! guess what an unknown key meant: unknown keys are refused here.

use caracal_core::{ResourceIdentifier, Timestamp};
use caracal_store::entity::Constraints;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::body;

/// Most resource identifiers of one delegation.
const MAX_RESOURCES: usize = 64;

/// Longest `broad_reason`, characters.
const MAX_BROAD_REASON: usize = 256;

/// Longest lifetime, seconds.
pub(crate) const MAX_TTL_SECONDS: i64 = 86_400;

/// A key of the constraint object, in the order in which they are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConstraintKey {
    /// `resources`
    Resources,
    /// `max_depth`
    MaxDepth,
    /// `max_hops`
    MaxHops,
    /// `budget`
    Budget,
    /// `ttl_seconds`
    TtlSeconds,
    /// `policy_approved`
    PolicyApproved,
    /// `expires_at`
    ExpiresAt,
    /// `broad_reason`
    BroadReason,
}

impl ConstraintKey {
    const ALL: [Self; 8] = [
        Self::Resources,
        Self::MaxDepth,
        Self::MaxHops,
        Self::Budget,
        Self::TtlSeconds,
        Self::PolicyApproved,
        Self::ExpiresAt,
        Self::BroadReason,
    ];

    /// The name on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Resources => "resources",
            Self::MaxDepth => "max_depth",
            Self::MaxHops => "max_hops",
            Self::Budget => "budget",
            Self::TtlSeconds => "ttl_seconds",
            Self::PolicyApproved => "policy_approved",
            Self::ExpiresAt => "expires_at",
            Self::BroadReason => "broad_reason",
        }
    }
}

/// Why a constraint object is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum ConstraintError {
    /// Not an object, or a key that has no meaning.
    #[error("constraints must be a JSON object with known keys only")]
    Unknown,
    /// The named key has a value that is not allowed.
    #[error("the constraint {} has a value that is not allowed", .0.as_str())]
    Invalid(ConstraintKey),
}

/// Merges, checks and normalises.
pub(crate) fn normalise(
    constraints_json: Option<&Value>,
    constraints: Option<&Value>,
    body_ttl_seconds: Option<i64>,
) -> Result<Constraints, ConstraintError> {
    let mut merged = Map::new();
    for layer in [constraints_json, constraints].into_iter().flatten() {
        let layer = layer.as_object().ok_or(ConstraintError::Unknown)?;
        merged.extend(
            layer
                .iter()
                .map(|(key, value)| (key.clone(), value.clone())),
        );
    }
    let known = |name: &String| ConstraintKey::ALL.iter().any(|key| key.as_str() == name);
    if !merged.keys().all(known) {
        return Err(ConstraintError::Unknown);
    }
    if merged.get("max_depth").is_some_and(Value::is_number) && !merged.contains_key("max_hops") {
        merged.insert("max_hops".to_owned(), merged["max_depth"].clone());
    }
    if let Some(ttl) = body_ttl_seconds {
        merged
            .entry("ttl_seconds")
            .or_insert_with(|| Value::from(ttl));
    }
    let normal = read(&merged)?;
    if normal.max_depth.is_some() && normal.max_depth != normal.max_hops {
        return Err(ConstraintError::Invalid(ConstraintKey::MaxHops));
    }
    Ok(normal)
}

fn read(merged: &Map<String, Value>) -> Result<Constraints, ConstraintError> {
    let object = Object(merged);
    Ok(Constraints {
        resources: object
            .member(ConstraintKey::Resources, resources)?
            .filter(|resources| !resources.is_empty()),
        max_depth: object.member(ConstraintKey::MaxDepth, small(10))?,
        max_hops: object.member(ConstraintKey::MaxHops, small(10))?,
        budget: object.member(ConstraintKey::Budget, small(64))?,
        ttl_seconds: object.member(ConstraintKey::TtlSeconds, |value| {
            body::integer(1..=MAX_TTL_SECONDS)(value).ok()
        })?,
        policy_approved: object.member(ConstraintKey::PolicyApproved, Value::as_bool)?,
        expires_at: object.member(ConstraintKey::ExpiresAt, |value| {
            value.as_str().and_then(Timestamp::parse_utc)
        })?,
        broad_reason: object.member(ConstraintKey::BroadReason, broad_reason)?,
    })
}

struct Object<'a>(&'a Map<String, Value>);

impl Object<'_> {
    fn member<T>(
        &self,
        key: ConstraintKey,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ConstraintError> {
        self.0
            .get(key.as_str())
            .map(|value| read(value).ok_or(ConstraintError::Invalid(key)))
            .transpose()
    }
}

fn resources(value: &Value) -> Option<Vec<ResourceIdentifier>> {
    let names = body::list(MAX_RESOURCES, body::text)(value).ok()?;
    Some(
        names
            .iter()
            .map(|name| ResourceIdentifier::new(name))
            .collect(),
    )
}

fn small(max: i64) -> impl Fn(&Value) -> Option<u8> {
    move |value| u8::try_from(body::integer(1..=max)(value).ok()?).ok()
}

fn broad_reason(value: &Value) -> Option<String> {
    let text = body::text(value).ok()?;
    (text.chars().count() <= MAX_BROAD_REASON).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn normal(value: &Value) -> Result<Constraints, ConstraintError> {
        normalise(None, Some(value), None)
    }

    #[test]
    fn constraints_win_over_constraints_json_key_by_key() {
        let merged = normalise(
            Some(&json!({ "max_hops": 2, "budget": 3 })),
            Some(&json!({ "max_hops": 4 })),
            None,
        )
        .unwrap();
        assert_eq!((merged.max_hops, merged.budget), (Some(4), Some(3)));
    }

    #[test]
    fn max_depth_is_an_alias_of_max_hops() {
        assert_eq!(
            normal(&json!({ "max_depth": 3 })).unwrap().max_hops,
            Some(3)
        );
        assert_eq!(
            normal(&json!({ "max_depth": 3, "max_hops": 2 })),
            Err(ConstraintError::Invalid(ConstraintKey::MaxHops))
        );
    }

    #[test]
    fn the_body_ttl_becomes_a_constraint_unless_one_is_there() {
        let with = |constraints: &Value| normalise(None, Some(constraints), Some(60)).unwrap();
        assert_eq!(with(&json!({})).ttl_seconds, Some(60));
        assert_eq!(with(&json!({ "ttl_seconds": 30 })).ttl_seconds, Some(30));
    }

    #[test]
    fn an_empty_resource_list_binds_nothing_and_is_not_kept() {
        assert_eq!(normal(&json!({ "resources": [] })).unwrap().resources, None);
    }

    #[test]
    fn the_first_failing_key_names_the_error() {
        for (value, key) in [
            (
                json!({ "resources": "x", "max_hops": 0 }),
                ConstraintKey::Resources,
            ),
            (
                json!({ "resources": vec!["r"; 65] }),
                ConstraintKey::Resources,
            ),
            (json!({ "resources": [""] }), ConstraintKey::Resources),
            (json!({ "max_depth": 11 }), ConstraintKey::MaxDepth),
            (json!({ "max_hops": 0 }), ConstraintKey::MaxHops),
            (json!({ "max_hops": null }), ConstraintKey::MaxHops),
            (json!({ "budget": 65 }), ConstraintKey::Budget),
            (json!({ "ttl_seconds": 86_401 }), ConstraintKey::TtlSeconds),
            (
                json!({ "policy_approved": "yes" }),
                ConstraintKey::PolicyApproved,
            ),
            (
                json!({ "expires_at": "2026-01-01T00:00:00+01:00" }),
                ConstraintKey::ExpiresAt,
            ),
            (json!({ "broad_reason": "" }), ConstraintKey::BroadReason),
            (
                json!({ "broad_reason": "x".repeat(257) }),
                ConstraintKey::BroadReason,
            ),
        ] {
            assert_eq!(
                normal(&value),
                Err(ConstraintError::Invalid(key)),
                "{value}"
            );
        }
    }

    #[test]
    fn unknown_keys_and_other_shapes_are_refused() {
        for value in [json!({ "maxhops": 1 }), json!([]), json!("x"), json!(null)] {
            assert_eq!(normal(&value), Err(ConstraintError::Unknown), "{value}");
        }
    }

    fn any_constraints() -> impl Strategy<Value = Value> {
        let number = prop_oneof![Just(json!(null)), (-1_i64..70).prop_map(Value::from)];
        let resources = proptest::collection::vec("[a-c]{0,2}", 0..4);
        (
            proptest::option::of(resources),
            proptest::option::of(number.clone()),
            proptest::option::of(number.clone()),
            proptest::option::of(number),
            proptest::option::of(0_i64..90_000),
        )
            .prop_map(|(resources, depth, hops, budget, ttl)| {
                let mut object = Map::new();
                let mut put = |key: &str, value: Option<Value>| {
                    if let Some(value) = value {
                        object.insert(key.to_owned(), value);
                    }
                };
                put("resources", resources.map(Value::from));
                put("max_depth", depth);
                put("max_hops", hops);
                put("budget", budget);
                put("ttl_seconds", ttl.map(Value::from));
                Value::Object(object)
            })
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(value in any_constraints()) {
            if let Ok(once) = normal(&value) {
                let stored = serde_json::to_value(&once).unwrap();
                prop_assert_eq!(normal(&stored), Ok(once));
            }
        }

        #[test]
        fn what_is_accepted_is_within_bounds(value in any_constraints()) {
            if let Ok(normal) = normal(&value) {
                prop_assert!((1..=10).contains(&normal.hops()));
                prop_assert!(normal.budget.is_none_or(|budget| (1..=64).contains(&budget)));
                prop_assert!(normal.ttl_seconds.is_none_or(|ttl| (1..=86_400).contains(&ttl)));
                prop_assert!(normal.max_depth.is_none() || normal.max_depth == normal.max_hops);
            }
        }
    }
}
