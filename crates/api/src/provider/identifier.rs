//! Identifiers of providers: `provider://` and a slug.

use caracal_core::Random;
use caracal_store::ZoneReader;

use crate::capability::Actor;
use crate::error::{ApiError, Code};
use crate::reserved::Reserved;
use crate::slug;

const SCHEME: &str = "provider://";
const MAX_BYTES: usize = 512;

/// Whether `text` is a provider identifier: lower-case words joined by single hyphens.
fn is_identifier(text: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    text.len() <= MAX_BYTES
        && text
            .strip_prefix(SCHEME)
            .is_some_and(|rest| rest.split('-').all(word))
}

/// Refuses anything but a well-formed identifier.
pub(super) fn check(text: &str) -> Result<(), ApiError> {
    if is_identifier(text) {
        Ok(())
    } else {
        Err(Code::InvalidProviderIdentifier.into())
    }
}

/// The first free identifier for a name.
pub(super) async fn generate(
    reader: &ZoneReader,
    name: &str,
    actor: &Actor,
    random: &dyn Random,
) -> Result<String, ApiError> {
    let bare = name.strip_prefix(SCHEME).unwrap_or(name);
    let base = format!("{SCHEME}{}", slug::slug(bare, "provider"));
    Reserved::ProviderIdentifier.check(&base, actor)?;
    let mut last = base.clone();
    for candidate in slug::candidates(&base, random) {
        if reader.provider_identifier_is_free(&candidate).await? {
            return Ok(candidate);
        }
        last = candidate;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_words_joined_by_single_hyphens() {
        for good in ["provider://a", "provider://pear-open", "provider://a-1-b"] {
            assert!(is_identifier(good), "{good}");
        }
        for bad in [
            "provider://",
            "provider://-a",
            "provider://a--b",
            "provider://A",
            "a",
            "provider://a/b",
        ] {
            assert!(!is_identifier(bad), "{bad}");
        }
    }
}
