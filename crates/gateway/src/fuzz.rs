//! The request head, fed with arbitrary bytes.

use caracal_core::{SeededRandom, SystemClock, Timestamp};
use http::{HeaderName, HeaderValue, Method, Request, Uri};

use crate::build::fuzz_forwarding;
use crate::call::Correlation;
use crate::preflight::{self, HeadLimits};

/// Reads `data` as a request head (request line, then header lines) and takes it through preflight
/// and the rules for what is forwarded. Must never panic.
pub fn fuzz_head(data: &[u8]) {
    let Some(request) = read(data) else { return };
    let (head, ()) = request.into_parts();
    let limits = HeadLimits {
        head_bytes: 16 * 1024,
        body_bytes: 1 << 20,
    };
    let random = SeededRandom::new(1);
    let peer = std::net::IpAddr::from([192, 0, 2, 1]);
    let correlation = Correlation::of(&head.headers, peer, &SystemClock, &random);
    fuzz_forwarding(&head, &correlation, &random);
    let _ = preflight::check(&head, limits, Timestamp::from_seconds(1_767_225_600));
}

fn read(data: &[u8]) -> Option<Request<()>> {
    let mut lines = data
        .split(|byte| *byte == b'\n')
        .map(|line| line.trim_ascii_end());
    let mut words = lines.next()?.splitn(3, |byte| *byte == b' ');
    let method = Method::from_bytes(words.next()?).ok()?;
    let uri = Uri::try_from(words.next()?).ok()?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    for line in lines.take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            request.headers_mut().append(name, value);
        }
    }
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_head_is_read_as_a_server_would() {
        let request = read(b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n\r\n").unwrap();
        assert_eq!(request.uri().path(), "/a");
        assert_eq!(request.headers().len(), 2);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            fuzz_head(&data);
        }

        #[test]
        fn no_likely_head_makes_it_panic(
            path in "/[a-z%2e.;\\\\/]{0,20}",
            query in "[a-z=&;%\\[\\]]{0,20}",
            token in "[A-Za-z0-9_.-]{0,60}",
            baggage in "[a-z.,=; ]{0,30}",
        ) {
            let head = format!(
                "GET {path}?{query} HTTP/1.1\nauthorization: Bearer {token}\nbaggage: {baggage}\n\n"
            );
            fuzz_head(head.as_bytes());
        }
    }
}
