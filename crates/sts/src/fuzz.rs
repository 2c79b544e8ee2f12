//! Entry points for fuzzers: each takes any bytes and must return.

use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};

use crate::form::{TokenForm, judge_head};

/// Feeds `data` to everything that reads a token request: its first line as query and media type, the
/// rest as the form.
pub fn fuzz_form(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (head, form) = data.split_at(end);
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(head) {
        headers.insert(CONTENT_TYPE, value);
    }
    let _ = judge_head(std::str::from_utf8(head).ok(), &headers);
    let _ = TokenForm::parse(&HeaderMap::new(), form);
    let _ = TokenForm::parse(&HeaderMap::new(), data);
}
