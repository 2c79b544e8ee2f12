//! Traits: what an application is marked with.
//!
//! The namespace before the first `:` says whose word it is. `control` and `caracal.sys` carry
//! authority over the control plane itself, so only global actors set them, and `control` has a
//! closed vocabulary.

use caracal_core::Timestamp;

use crate::error::{ApiError, Code};

const MAX_TRAITS: usize = 64;
const MAX_TRAIT_CHARACTERS: usize = 128;

/// Nouns of the control catalogue whose scopes are `read`, `write` and `delete`.
const MANAGED_NOUNS: [&str; 8] = [
    "app",
    "resource",
    "identity-provider",
    "policy",
    "policy-set",
    "workload",
    "grant",
    "session",
];
/// Nouns that can only be read.
const READ_NOUNS: [&str; 4] = ["authority-record", "approval", "audit", "explain"];

/// Whether the actor may set traits that carry authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TraitAuthority {
    /// A global actor.
    Any,
    /// An actor of one zone.
    Plain,
}

/// Checks a list of traits; refusals are 403 by contract.
pub(crate) fn check_traits(traits: &[String], authority: TraitAuthority) -> Result<(), ApiError> {
    if traits.len() > MAX_TRAITS {
        return Err(Code::TraitCount.into());
    }
    for (index, held) in traits.iter().enumerate() {
        if !is_well_formed(held) {
            return Err(Code::TraitInvalid.into());
        }
        if traits[..index].contains(held) {
            return Err(Code::TraitDuplicate.into());
        }
        if is_privileged(held) && authority == TraitAuthority::Plain {
            return Err(Code::TraitForbidden.into());
        }
        if namespace(held) == "control" && !is_control_trait(held) {
            return Err(Code::TraitInvalid.into());
        }
    }
    let at_most_one = |prefix: &str| traits.iter().filter(|t| t.starts_with(prefix)).count() <= 1;
    if at_most_one("control:max-ttl:") && at_most_one("control:expires:") {
        Ok(())
    } else {
        Err(Code::TraitInvalid.into())
    }
}

/// Whether the trait carries authority over the control plane.
pub(crate) fn is_privileged(held: &str) -> bool {
    matches!(namespace(held), "control" | "caracal.sys")
}

fn namespace(held: &str) -> &str {
    held.split(':').next().unwrap_or_default()
}

fn is_well_formed(held: &str) -> bool {
    let mut bytes = held.bytes();
    (1..=MAX_TRAIT_CHARACTERS).contains(&held.len())
        && bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'))
}

fn is_control_trait(held: &str) -> bool {
    let Some((kind, value)) = held.strip_prefix("control:").map(|rest| split_kind(rest)) else {
        return false;
    };
    match kind {
        "invoke" => value.is_none(),
        "scope" => value.is_some_and(is_control_scope),
        "max-ttl" => value.is_some_and(is_control_ttl),
        "expires" => value.is_some_and(|text| Timestamp::parse_rfc3339(text).is_some()),
        _ => false,
    }
}

fn split_kind(rest: &str) -> (&str, Option<&str>) {
    rest.split_once(':')
        .map_or((rest, None), |(kind, value)| (kind, Some(value)))
}

fn is_control_ttl(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
        && text
            .parse::<u32>()
            .is_ok_and(|seconds| (60..=900).contains(&seconds))
}

fn is_control_scope(scope: &str) -> bool {
    let Some((noun, verb)) = scope
        .strip_prefix("control:")
        .and_then(|rest| rest.rsplit_once(':'))
    else {
        return false;
    };
    match verb {
        "read" => {
            MANAGED_NOUNS.contains(&noun) || READ_NOUNS.contains(&noun) || noun == "delegation"
        }
        "write" => MANAGED_NOUNS.contains(&noun),
        "delete" => MANAGED_NOUNS.contains(&noun) || noun == "delegation",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(traits: &[&str], authority: TraitAuthority) -> Result<(), Code> {
        let traits: Vec<String> = traits.iter().map(|t| (*t).to_owned()).collect();
        check_traits(&traits, authority).map_err(|error| error.code())
    }

    #[test]
    fn plain_traits_are_free() {
        assert_eq!(
            check(&["team:billing", "x", "a.b_c-d:e"], TraitAuthority::Plain),
            Ok(())
        );
    }

    #[test]
    fn each_rule_has_its_code() {
        let many: Vec<String> = (0..65).map(|n| format!("t{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(check(&many, TraitAuthority::Any), Err(Code::TraitCount));
        for bad in ["", "1a", "a b", "a+b", "é", &"x".repeat(129)] {
            assert_eq!(
                check(&[bad], TraitAuthority::Any),
                Err(Code::TraitInvalid),
                "{bad}"
            );
        }
        assert_eq!(
            check(&["a", "a"], TraitAuthority::Any),
            Err(Code::TraitDuplicate)
        );
        for taken in ["control:invoke", "caracal.sys:x"] {
            assert_eq!(
                check(&[taken], TraitAuthority::Plain),
                Err(Code::TraitForbidden)
            );
        }
    }

    #[test]
    fn control_traits_have_a_closed_vocabulary() {
        let good = [
            "control:invoke",
            "control:scope:control:app:read",
            "control:scope:control:delegation:delete",
            "control:max-ttl:300",
            "control:expires:2026-03-01T13:00:00.000Z",
        ];
        assert_eq!(check(&good, TraitAuthority::Any), Ok(()));
        for bad in [
            "control",
            "control:invoke:x",
            "control:scope:control:app:rotate",
            "control:scope:control:audit:write",
            "control:scope:app:read",
            "control:max-ttl:59",
            "control:max-ttl:901",
            "control:max-ttl:",
            "control:expires:tomorrow",
            "control:other",
        ] {
            assert_eq!(
                check(&[bad], TraitAuthority::Any),
                Err(Code::TraitInvalid),
                "{bad}"
            );
        }
        let twice = ["control:max-ttl:60", "control:max-ttl:61"];
        assert_eq!(check(&twice, TraitAuthority::Any), Err(Code::TraitInvalid));
    }
}
