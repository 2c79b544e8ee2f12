//! Reading the body, after the caller is known and let through.

use std::time::Duration;

use axum::body::Body;
use caracal_http::body::{BodyError, read_limited};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde_json::Value;

use crate::error::{ApiError, Code};

/// The bounds of a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    /// Most bytes.
    pub(crate) bytes: usize,
    /// Longest time to send it.
    pub(crate) time: Duration,
}

/// The body as JSON: `None` without a body, a string for plain text.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: BodyLimits,
) -> Result<Option<Value>, ApiError> {
    let kind = media_type(headers)?;
    if declared_length(headers).is_some_and(|length| length > limits.bytes as u64) {
        return Err(too_large(limits.bytes));
    }
    let read = tokio::time::timeout(limits.time, read_limited(body, limits.bytes)).await;
    let bytes = match read {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(BodyError::TooLarge(limit))) => return Err(too_large(limit)),
        Ok(Err(BodyError::Broken)) | Err(_) => return Err(Code::UnreadableBody.into()),
    };
    match kind {
        None if bytes.is_empty() => Ok(None),
        None => Err(Code::UnsupportedMediaType.into()),
        Some(MediaType::Json) => parse_json(&bytes).map(Some),
        Some(MediaType::Text) => Ok(Some(Value::String(
            String::from_utf8_lossy(&bytes).into_owned(),
        ))),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MediaType {
    Json,
    Text,
}

fn media_type(headers: &HeaderMap) -> Result<Option<MediaType>, ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(None);
    };
    let essence = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    match essence.to_ascii_lowercase().as_str() {
        "application/json" => Ok(Some(MediaType::Json)),
        "text/plain" => Ok(Some(MediaType::Text)),
        _ => Err(Code::UnsupportedMediaType.into()),
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(limit: usize) -> ApiError {
    ApiError::from(Code::PayloadTooLarge).describe(format!("the body has at most {limit} bytes"))
}

fn parse_json(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        ApiError::from(Code::InvalidJson).describe(format!(
            "the body is not JSON: line {line}, column {column}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BodyLimits = BodyLimits {
        bytes: 16,
        time: Duration::from_secs(1),
    };

    async fn read_as(
        kind: Option<&'static str>,
        body: &'static str,
    ) -> Result<Option<Value>, Code> {
        let mut headers = HeaderMap::new();
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
        }
        read(&headers, Body::from(body), LIMITS)
            .await
            .map_err(|error| error.code())
    }

    #[tokio::test]
    async fn nothing_at_all_is_no_body() {
        assert_eq!(read_as(None, "").await, Ok(None));
    }

    #[tokio::test]
    async fn each_malformation_has_its_code() {
        let json = Some("application/json; charset=utf-8");
        assert_eq!(read_as(json, "").await, Err(Code::InvalidJson));
        assert_eq!(read_as(json, "{").await, Err(Code::InvalidJson));
        assert_eq!(read_as(json, "{} {}").await, Err(Code::InvalidJson));
        assert_eq!(
            read_as(json, "\"12345678901234567890\"").await,
            Err(Code::PayloadTooLarge)
        );
        assert_eq!(read_as(None, "{}").await, Err(Code::UnsupportedMediaType));
        assert_eq!(
            read_as(Some("application/xml"), "<a/>").await,
            Err(Code::UnsupportedMediaType)
        );
        assert_eq!(
            read_as(Some("text/plain"), "{}").await,
            Ok(Some(Value::from("{}")))
        );
    }

    #[tokio::test]
    async fn deep_nesting_is_refused_and_does_not_overflow() {
        let deep: &'static str = Box::leak("[".repeat(100_000).into_boxed_str());
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            http::HeaderValue::from_static("application/json"),
        );
        let limits = BodyLimits {
            bytes: 1 << 20,
            ..LIMITS
        };
        let read = read(&headers, Body::from(deep), limits).await;
        assert_eq!(read.unwrap_err().code(), Code::InvalidJson);
    }
}
