//! What a declared resource identifier and an upstream URL look like.

use url::Url;

/// Whether `text` is an absolute URI without credentials, and not of the scheme `provider`.
pub(crate) fn is_resource_identifier(text: &str) -> bool {
    if text.bytes().any(|b| b <= 0x20 || b == 0x7f) {
        return false;
    }
    Url::parse(text).is_ok_and(|url| {
        url.scheme() != "provider" && url.username().is_empty() && url.password().is_none()
    })
}

/// Whether `text` is an http or https URL that says where to connect and nothing secret. It is kept
/// as it was sent, so it must not need cleaning.
pub(crate) fn is_upstream_url(text: &str) -> bool {
    if text.bytes().any(|b| b <= 0x20 || b == 0x7f) {
        return false;
    }
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_absolute_uris() {
        for good in [
            "resource://ledger",
            "https://api.example.com/v1",
            "urn:example:ledger",
            "a:b",
        ] {
            assert!(is_resource_identifier(good), "{good}");
        }
        for bad in [
            "ledger",
            "/ledger",
            "provider://x",
            "https://u:p@x/",
            "https://u@x/",
            "resource://a b",
            " a:b",
            "",
        ] {
            assert!(!is_resource_identifier(bad), "{bad}");
        }
    }

    #[test]
    fn upstreams_are_http_urls_that_hold_no_secret() {
        for good in [
            "http://ledger-upstream:9000",
            "https://Example.com/API/",
            "http://127.0.0.1:1/x?y=1",
        ] {
            assert!(is_upstream_url(good), "{good}");
        }
        for bad in [
            "ftp://x",
            "http://",
            "http://u:p@x",
            " http://x",
            "http://x\n",
            "x",
            "http:///",
        ] {
            assert!(!is_upstream_url(bad), "{bad}");
        }
    }
}
