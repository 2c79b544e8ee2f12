//! The upstream's answer, as the caller may see it.

use http::header::{CONTENT_LENGTH, CONTENT_LOCATION, HeaderName, HeaderValue, LOCATION, TRAILER};
use http::{HeaderMap, Method, StatusCode, Version};

use caracal_core::{RequestId, Timestamp};

use crate::build::{HOP_BY_HOP, named_by_connection};

/// The correlation id's header.
pub(crate) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

static EXPIRES_IN: HeaderName = HeaderName::from_static("x-caracal-token-expires-in");

/// What upstreams say about themselves, and `Refresh`, which is a redirect.
const TAKEN: [&str; 6] = [
    "server",
    "x-powered-by",
    "x-aspnet-version",
    "x-aspnetmvc-version",
    "refresh",
    "x-request-id",
];

/// How a response body ends on the caller's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delimiter {
    /// No body at all.
    Nothing,
    /// `Content-Length`: a short body is visibly cut.
    Length,
    /// Chunks: a body without the last one is visibly cut.
    Chunks,
    /// The end of the connection: only a reset is visibly a cut.
    Close,
}

/// How the response to this request will be delimited.
pub(crate) fn delimiter(
    method: &Method,
    version: Version,
    status: StatusCode,
    headers: &HeaderMap,
) -> Delimiter {
    let bodiless = *method == Method::HEAD
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    if bodiless {
        Delimiter::Nothing
    } else if headers.contains_key(CONTENT_LENGTH) {
        Delimiter::Length
    } else if version >= Version::HTTP_11 {
        Delimiter::Chunks
    } else {
        Delimiter::Close
    }
}

/// The response headers: the upstream's that may pass, and the Gateway's own.
pub(crate) fn headers(
    upstream: &HeaderMap,
    request_id: &RequestId,
    expires: Timestamp,
    now: Timestamp,
) -> HeaderMap {
    let named = named_by_connection(upstream);
    let mut headers = HeaderMap::with_capacity(upstream.len() + 4);
    for (name, value) in upstream {
        let text = name.as_str();
        let taken = HOP_BY_HOP.contains(&text)
            || TAKEN.contains(&text)
            || text.starts_with("x-caracal-")
            || named.iter().any(|held| held == text);
        if !taken {
            headers.append(name.clone(), value.clone());
        }
    }
    drop_absolute(&mut headers, &LOCATION);
    drop_absolute(&mut headers, &CONTENT_LOCATION);
    if let Ok(id) = HeaderValue::from_str(request_id.as_str()) {
        headers.insert(REQUEST_ID.clone(), id);
    }
    let left = expires.since(now).as_secs();
    if left > 0 {
        headers.insert(EXPIRES_IN.clone(), HeaderValue::from(left));
    }
    headers
}

/// Announces the trailer that a cut response would carry.
pub(crate) fn announce_trailer(headers: &mut HeaderMap) {
    headers.insert(TRAILER, HeaderValue::from_static("X-Caracal-Revoked"));
}

/// An absolute location would lead the caller around the Gateway; all values go if one is.
fn drop_absolute(headers: &mut HeaderMap, name: &HeaderName) {
    if headers
        .get_all(name)
        .iter()
        .any(|value| !is_relative(value))
    {
        headers.remove(name);
    }
}

fn is_relative(location: &HeaderValue) -> bool {
    let Ok(text) = location.to_str() else {
        return false;
    };
    let text = text.trim();
    // Browsers read a backslash as a slash and skip control characters.
    let odd = text
        .bytes()
        .any(|byte| byte == b'\\' || byte.is_ascii_control());
    let has_scheme = text
        .split(['/', '?', '#'])
        .next()
        .is_some_and(|start| start.contains(':'));
    !odd && !has_scheme && !text.starts_with("//")
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_core::{SystemClock, SystemRandom};
    use proptest::prelude::*;

    fn filtered(pairs: &[(&str, &str)]) -> HeaderMap {
        let upstream: HeaderMap = pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect();
        let id = RequestId::accept(Some("req-1"), &SystemClock, &SystemRandom);
        headers(
            &upstream,
            &id,
            Timestamp::from_seconds(100),
            Timestamp::from_seconds(40),
        )
    }

    #[test]
    fn what_describes_the_hop_or_the_server_does_not_pass() {
        let passed = filtered(&[
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x"),
            ("server", "nginx"),
            ("x-powered-by", "php"),
            ("x-aspnet-version", "4"),
            ("x-aspnetmvc-version", "5"),
            ("refresh", "0; url=https://evil.example"),
            ("x-caracal-identity", "m"),
            ("x-caracal-revoked", "true"),
            ("x-caracal-token-expires-in", "9999"),
            ("x-request-id", "theirs"),
            ("content-type", "text/plain"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("content-length", "12"),
        ]);
        assert_eq!(
            passed.get_all("x-request-id").iter().collect::<Vec<_>>(),
            ["req-1"]
        );
        assert_eq!(passed["x-caracal-token-expires-in"], "60");
        assert_eq!(passed.get_all("set-cookie").iter().count(), 2);
        assert_eq!(passed["content-length"], "12");
        assert_eq!(passed.len(), 6);
    }

    #[test]
    fn relative_locations_stay_and_absolute_ones_go() {
        for good in ["/login", "next?page=2", "?q=a:b", "#part", "../up", "a/b:c"] {
            assert_eq!(filtered(&[("location", good)])["location"], good);
        }
        for bad in [
            "https://evil.example/",
            "//evil.example/",
            "/\\evil.example",
            "javascript:alert(1)",
            "\\\\evil.example",
            "http:evil",
        ] {
            assert!(
                !filtered(&[("location", bad)]).contains_key("location"),
                "{bad}"
            );
            assert!(!filtered(&[("content-location", bad)]).contains_key("content-location"));
        }
        let two = filtered(&[("location", "/fine"), ("location", "https://evil.example/")]);
        assert!(!two.contains_key("location"));
    }

    #[test]
    fn the_delimiter_follows_from_the_message() {
        let mut with_length = HeaderMap::new();
        with_length.insert(CONTENT_LENGTH, HeaderValue::from_static("1"));
        let of = |method: Method, version, status, headers: &HeaderMap| {
            delimiter(&method, version, status, headers)
        };
        let (ok, none) = (StatusCode::OK, HeaderMap::new());
        assert_eq!(
            of(Method::GET, Version::HTTP_11, ok, &none),
            Delimiter::Chunks
        );
        assert_eq!(
            of(Method::GET, Version::HTTP_10, ok, &none),
            Delimiter::Close
        );
        assert_eq!(
            of(Method::GET, Version::HTTP_11, ok, &with_length),
            Delimiter::Length
        );
        assert_eq!(
            of(Method::HEAD, Version::HTTP_11, ok, &with_length),
            Delimiter::Nothing
        );
        assert_eq!(
            of(Method::GET, Version::HTTP_11, StatusCode::NO_CONTENT, &none),
            Delimiter::Nothing
        );
    }

    proptest! {
        #[test]
        fn a_location_that_passes_stays_on_the_gateway(location in "[a-z:/\\\\?#.@]{0,20}") {
            let passed = filtered(&[("location", &location)]);
            if let Some(kept) = passed.get("location") {
                let base = url::Url::parse("http://gateway.example/a/b").unwrap();
                let followed = base.join(kept.to_str().unwrap());
                prop_assert!(followed.is_err() || followed.unwrap().host_str() == Some("gateway.example"));
            }
        }
    }
}
