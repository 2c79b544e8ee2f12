//! Reading bounded bodies.

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use thiserror::Error;

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BodyError {
    /// More bytes than allowed.
    #[error("the request body is larger than {0} bytes")]
    TooLarge(usize),
    /// The connection broke or the framing is wrong.
    #[error("the request body could not be read")]
    Broken,
}

/// Reads the whole body, at most `limit` bytes.
///
/// # Errors
/// [`BodyError`] when there are more bytes or they can't be read.
pub async fn read_limited<B>(body: B, limit: usize) -> Result<Bytes, BodyError>
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge(limit)),
        Err(_) => Err(BodyError::Broken),
    }
}
