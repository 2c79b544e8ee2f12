//! Bearer tokens in the `Authorization` header.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The token after exactly `Bearer ` (case-sensitive), trimmed; `None` when absent or empty.
#[must_use]
pub fn strict(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    Some(value.strip_prefix("Bearer ")?.trim()).filter(|token| !token.is_empty())
}

/// The token after `Bearer` in any case and one space (RFC 6750 §2.1), trimmed.
#[must_use]
pub fn relaxed(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

/// Whether two secrets are equal; the time depends only on their lengths.
#[must_use]
pub fn equal(presented: &str, expected: &str) -> bool {
    presented.len() == expected.len()
        && verify_slices_are_equal(presented.as_bytes(), expected.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn with(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))])
    }

    #[test]
    fn strict_needs_the_exact_scheme() {
        assert_eq!(strict(&with("Bearer  abc ")), Some("abc"));
        assert_eq!(strict(&with("bearer abc")), None);
        assert_eq!(strict(&with("Bearer ")), None);
        assert_eq!(strict(&HeaderMap::new()), None);
    }

    #[test]
    fn relaxed_takes_any_case() {
        assert_eq!(relaxed(&with("bEaReR abc")), Some("abc"));
        assert_eq!(relaxed(&with("Basic abc")), None);
    }
}
