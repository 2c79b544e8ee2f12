//! The body of an answer: the Gateway's own, an operational one, or the upstream's under authority.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::listener::Engaged;
use crate::relay::Relay;

/// A response body; the connection is busy until it is gone.
pub(crate) enum AnswerBody {
    /// Bytes that the Gateway wrote.
    Own {
        /// What is left to send.
        bytes: Option<Bytes>,
        /// Held until the answer is written.
        _engaged: Engaged,
    },
    /// The upstream's body.
    Relayed(Box<Relay>),
}

/// Why an answer broke off.
type BodyError = Box<dyn std::error::Error + Send + Sync>;

impl AnswerBody {
    /// Bytes that the Gateway wrote.
    pub(crate) fn own(bytes: Bytes, engaged: Engaged) -> Self {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        Self::Own {
            bytes,
            _engaged: engaged,
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own { bytes, .. } => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Relayed(relay) => Pin::new(relay.as_mut())
                .poll_frame(cx)
                .map_err(BodyError::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { bytes, .. } => bytes.is_none(),
            Self::Relayed(relay) => relay.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { bytes, .. } => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Self::Relayed(relay) => relay.size_hint(),
        }
    }
}
