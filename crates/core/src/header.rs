//! Header names that mean something to the connection or to Caracal.

/// Names that no upstream credential may be sent in.
const RESERVED: [&str; 20] = [
    "baggage",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-real-ip",
    "x-request-id",
];

const RESERVED_PREFIXES: [&str; 3] = ["x-caracal-", "x-forwarded-", "proxy-"];

/// Whether a credential may not be sent in the header of this name, whatever its case. The Admin API
/// refuses such a provider, and the Gateway refuses such a directive.
#[must_use]
pub fn is_reserved_for_credentials(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    RESERVED.contains(&name.as_str())
        || RESERVED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::is_reserved_for_credentials;

    #[test]
    fn caracals_own_and_the_connections_names_are_reserved_in_any_case() {
        for name in [
            "Host",
            "X-Caracal-Identity",
            "proxy-anything",
            "Transfer-Encoding",
        ] {
            assert!(is_reserved_for_credentials(name), "{name}");
        }
        for name in ["Authorization", "Cookie", "X-Api-Key"] {
            assert!(!is_reserved_for_credentials(name), "{name}");
        }
    }
}
