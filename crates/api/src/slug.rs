//! Slugs: the readable part of generated identifiers.
//!
//! One rule for zones, providers and resources: lower case, every run of other characters becomes one
//! hyphen, hyphens at the ends go, nothing left becomes a fallback word. Taken slugs get `-2` to
//! `-999`, then random digits.

use caracal_core::Random;
use caracal_core::random::bytes;

/// The last counted suffix; after it comes a random one.
const LAST_SUFFIX: u32 = 999;

/// The slug of a name, or `fallback` when nothing of it can be kept.
pub(crate) fn slug(name: &str, fallback: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    for character in name.to_lowercase().chars() {
        if character.is_ascii_lowercase() || character.is_ascii_digit() {
            slug.push(character);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let kept = slug.trim_end_matches('-').len();
    slug.truncate(kept);
    if slug.is_empty() {
        fallback.to_owned()
    } else {
        slug
    }
}

/// `base`, `base-2`, …, `base-999`, and last `base-` with 32 random hex digits.
pub(crate) fn candidates<'a>(
    base: &'a str,
    random: &'a dyn Random,
) -> impl Iterator<Item = String> + 'a {
    let counted = (2..=LAST_SUFFIX).map(move |n| format!("{base}-{n}"));
    let last = std::iter::once_with(move || with_random_suffix(base, random));
    std::iter::once(base.to_owned()).chain(counted).chain(last)
}

/// `base-` and 32 random hex digits.
pub(crate) fn with_random_suffix(base: &str, random: &dyn Random) -> String {
    format!("{base}-{}", hex::encode(bytes::<16>(random)))
}

#[cfg(test)]
mod tests {
    use caracal_core::SeededRandom;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_of_other_characters_become_one_hyphen() {
        assert_eq!(slug("  Ledger & Books (EU)  ", "zone"), "ledger-books-eu");
        assert_eq!(slug("Ünïcode", "zone"), "n-code");
        assert_eq!(slug("!!!", "zone"), "zone");
        assert_eq!(slug("Caracal Sys Internal", "zone"), "caracal-sys-internal");
    }

    #[test]
    fn a_taken_slug_counts_up_and_then_goes_random() {
        let random = SeededRandom::new(1);
        let all: Vec<String> = candidates("a", &random).collect();
        assert_eq!(all[..3], ["a", "a-2", "a-3"]);
        assert_eq!(all[998], "a-999");
        assert_eq!(all.len(), 1000);
        assert_eq!(all[999].len(), 2 + 32);
    }

    proptest! {
        #[test]
        fn a_slug_is_always_well_formed(name in ".{0,40}") {
            let slug = slug(&name, "zone");
            prop_assert!(!slug.is_empty());
            prop_assert!(!slug.starts_with('-') && !slug.ends_with('-') && !slug.contains("--"));
            prop_assert!(slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        }
    }
}
