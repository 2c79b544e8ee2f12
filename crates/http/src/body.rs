//! Reading bounded bodies.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use thiserror::Error;

/// Longest time for a whole body.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BodyError {
    /// More bytes than allowed.
    #[error("the request body is larger than {0} bytes")]
    TooLarge(usize),
    /// The connection broke, the framing is wrong, or the body did not come in time.
    #[error("the request body could not be read")]
    Broken,
}

/// Reads the whole body, at most `limit` bytes, for at most a minute.
///
/// # Errors
/// [`BodyError`] when there are more bytes or they can't be read.
pub async fn read_limited<B>(body: B, limit: usize) -> Result<Bytes, BodyError>
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let read = Limited::new(body, limit).collect();
    match tokio::time::timeout(READ_TIMEOUT, read).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge(limit)),
        Ok(Err(_)) | Err(_) => Err(BodyError::Broken),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::{StreamExt, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn a_body_up_to_the_limit_is_read() {
        let read = read_limited(Body::from("12345"), 5).await;
        assert_eq!(read, Ok(Bytes::from("12345")));
        let read = read_limited(Body::from("123456"), 5).await;
        assert_eq!(read, Err(BodyError::TooLarge(5)));
    }

    #[tokio::test]
    async fn a_body_that_says_no_length_is_bounded_too() {
        let endless =
            stream::repeat_with(|| Ok::<_, std::io::Error>(Frame::data(Bytes::from("1"))));
        let read = read_limited(StreamBody::new(endless), 1_000).await;
        assert_eq!(read, Err(BodyError::TooLarge(1_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_given_up() {
        let drops = stream::repeat(()).then(|()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, std::io::Error>(Frame::data(Bytes::from("1")))
        });
        let read = read_limited(StreamBody::new(Box::pin(drops)), 1_000).await;
        assert_eq!(read, Err(BodyError::Broken));
    }
}
