//! The body of a Gateway's request, read as strictly as it is written.

use std::time::Duration;

use caracal_core::id::{ApplicationId, ZoneId};
use caracal_core::path::RequestPath;
use caracal_core::{RequestId, ResourceIdentifier, Secret};
use caracal_crypto::VerifiedMandate;
use caracal_http::RequestContext;
use caracal_roles::ExchangeRequest;
use caracal_roles::wire::{self, field};
use http::HeaderMap;

use crate::form::fields::Fields;
use crate::form::{FormRefused, MalformedForm};

/// Longest method name, bytes.
const MAX_METHOD: usize = 64;

/// One governed call, as the Gateway describes it.
pub(super) struct CallForm {
    pub(super) zone: ZoneId,
    pub(super) application: ApplicationId,
    pub(super) token: Secret<String>,
    pub(super) resource: ResourceIdentifier,
    pub(super) method: String,
    pub(super) path: RequestPath,
    pub(super) request_id: RequestId,
    pub(super) deadline: Duration,
}

impl CallForm {
    /// Reads a signed body. A correlation id that is not the header's is refused like a bad
    /// signature: the two roles' events would not be about one request.
    pub(super) fn parse(
        headers: &HeaderMap,
        body: &[u8],
        context: &RequestContext,
    ) -> Result<Self, FormRefused> {
        let mut fields = Fields::parse(body).map_err(MalformedForm::Fields)?;
        fields.judge_exactly(&field::ALL)?;
        if fields.take(field::VERSION) != wire::VERSION.to_string() {
            return Err(MalformedForm::Field(field::VERSION).into());
        }
        let sent = headers.get("x-request-id").map(http::HeaderValue::as_bytes);
        let named = fields.take(field::REQUEST_ID);
        if named != context.request_id.as_str() || sent != Some(named.as_bytes()) {
            return Err(FormRefused::GatewaySignature);
        }
        if fields.take(field::GRANT_TYPE) != wire::GRANT_TYPE {
            return Err(MalformedForm::GrantType.into());
        }
        if fields.take(field::SUBJECT_TOKEN_TYPE) != wire::ACCESS_TOKEN {
            return Err(MalformedForm::SubjectTokenType.into());
        }
        let resource = fields.take(field::RESOURCE);
        if resource.is_empty() {
            return Err(MalformedForm::EmptyResource.into());
        }
        Ok(Self {
            zone: required(fields.take_id(field::ZONE)?, field::ZONE)?,
            application: required(fields.take_id(field::APPLICATION)?, field::APPLICATION)?,
            token: Secret::new(fields.take(field::SUBJECT_TOKEN)),
            resource: ResourceIdentifier::new(&resource),
            method: method(fields.take(field::METHOD))?,
            path: RequestPath::parse(&fields.take(field::PATH))
                .map_err(|_| MalformedForm::Field(field::PATH))?,
            deadline: deadline(&fields.take(field::DEADLINE_MS))?,
            request_id: context.request_id.clone(),
        })
    }

    /// The question about the call whose mandate this is.
    pub(super) fn request(&self, mandate: VerifiedMandate) -> ExchangeRequest {
        ExchangeRequest {
            mandate,
            resource: self.resource.clone(),
            method: self.method.clone(),
            path: self.path.clone(),
            request_id: self.request_id.clone(),
        }
    }
}

fn required<T>(value: Option<T>, name: &'static str) -> Result<T, MalformedForm> {
    value.ok_or(MalformedForm::Field(name))
}

/// A token (RFC 9110 §5.6.2), in the caller's case.
fn method(text: String) -> Result<String, MalformedForm> {
    let usable = text.len() <= MAX_METHOD && http::Method::from_bytes(text.as_bytes()).is_ok();
    if usable {
        Ok(text)
    } else {
        Err(MalformedForm::Field(field::METHOD))
    }
}

fn deadline(text: &str) -> Result<Duration, MalformedForm> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let millis = digits.then(|| text.parse().ok()).flatten();
    millis
        .map(Duration::from_millis)
        .ok_or(MalformedForm::Field(field::DEADLINE_MS))
}
