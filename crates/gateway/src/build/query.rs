//! The upstream query: the caller's bytes in the caller's order, pinned parameters last.
//!
//! The resource's own query pins parameters: a caller's value for such a name is dropped. Upstream
//! frameworks read queries differently (`;` as a separator, names without regard to case, `name[]`
//! for `name`), so a caller's parameter is dropped when any of them could take it for a pinned one.

use form_urlencoded::byte_serialize;

/// Merges the caller's query with the pinned one and, when there is one, a credential parameter.
pub(super) fn merge(
    caller: Option<&str>,
    pinned: Option<&str>,
    credential: Option<(&str, &str)>,
) -> Option<String> {
    let secret_name = credential.map(|(name, _)| canonical(name.as_bytes()));
    let mut reserved: Vec<Vec<u8>> = pinned.map(names).unwrap_or_default();
    reserved.extend(secret_name.clone());
    let mut parts: Vec<String> = kept(caller, &reserved);
    parts.extend(kept(pinned, secret_name.as_slice()));
    if let Some((name, value)) = credential {
        let name: String = byte_serialize(name.as_bytes()).collect();
        let value: String = byte_serialize(value.as_bytes()).collect();
        parts.push(format!("{name}={value}"));
    }
    (!parts.is_empty()).then(|| parts.join("&"))
}

/// The parts of `query` that could not be read as one of `reserved`, unchanged.
fn kept(query: Option<&str>, reserved: &[Vec<u8>]) -> Vec<String> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Vec::new();
    };
    if reserved.is_empty() {
        return vec![query.to_owned()];
    }
    query
        .split('&')
        .filter(|part| part_names(part).all(|name| !reserved.contains(&name)))
        .map(str::to_owned)
        .collect()
}

fn names(query: &str) -> Vec<Vec<u8>> {
    query
        .split('&')
        .flat_map(part_names)
        .filter(|name| !name.is_empty())
        .collect()
}

/// Every name that a server could read from one `&`-delimited part.
fn part_names(part: &str) -> impl Iterator<Item = Vec<u8>> {
    part.split(';').map(|piece| {
        let name = piece
            .split('=')
            .next()
            .unwrap_or_default()
            .replace('+', " ");
        canonical(&percent_encoding::percent_decode_str(&name).collect::<Vec<u8>>())
    })
}

/// Lower case, without surrounding blanks and without an array suffix.
fn canonical(name: &[u8]) -> Vec<u8> {
    let end = name
        .iter()
        .position(|byte| *byte == b'[')
        .unwrap_or(name.len());
    name[..end].trim_ascii().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_rules_the_callers_bytes_pass_unchanged() {
        for query in [
            "b=2&a=1",
            "flag",
            "a=%2f&a=%2F",
            "x=1;y=2",
            "sig=a+b%20c",
            "%zz",
            "&&",
        ] {
            assert_eq!(merge(Some(query), None, None).as_deref(), Some(query));
        }
        assert_eq!(merge(None, None, None), None);
        assert_eq!(merge(Some(""), None, None), None);
    }

    #[test]
    fn pinned_parameters_win_and_come_last() {
        let merged = merge(Some("dry=1&region=us&x=2"), Some("region=eu"), None);
        assert_eq!(merged.as_deref(), Some("dry=1&x=2&region=eu"));
    }

    #[test]
    fn no_spelling_smuggles_a_pinned_name() {
        for caller in [
            "region=us",
            "%72egion=us",
            "REGION=us",
            "region[]=us",
            "region%5B0%5D=us",
            "a=1;region=us",
            "region",
            "+region=us",
            "region=1&region=2",
        ] {
            let merged = merge(Some(caller), Some("region=eu"), None);
            assert_eq!(merged.as_deref(), Some("region=eu"), "{caller}");
        }
    }

    #[test]
    fn a_credential_parameter_replaces_both_sides() {
        let merged = merge(
            Some("key=mine&a=1"),
            Some("KEY=theirs&b=2"),
            Some(("key", "s&c=t")),
        );
        assert_eq!(merged.as_deref(), Some("a=1&b=2&key=s%26c%3Dt"));
    }

    proptest! {
        #[test]
        fn the_pinned_value_is_the_only_one_of_its_name(caller in "[a-c=&;%0-9\\[\\]+]{0,30}") {
            let merged = merge(Some(&caller), Some("a=pinned"), None).unwrap();
            let values: Vec<String> = form_urlencoded::parse(merged.as_bytes())
                .filter(|(name, _)| name == "a")
                .map(|(_, value)| value.into_owned())
                .collect();
            prop_assert_eq!(values, vec!["pinned".to_owned()]);
        }
    }
}
