//! The STS's answer, written and read.

use std::borrow::Cow;
use std::time::Duration;

use caracal_core::Secret;
use caracal_core::id::ProviderId;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::VERSION;
use crate::{Credential, Directive, ExchangeGrant, ExchangeRefusal, RefusalOrigin};

/// What the STS said.
#[derive(Debug)]
pub enum Answer {
    /// The call may be made.
    Granted(Box<ExchangeGrant>),
    /// The running call may go on.
    Standing,
    /// It may not, or it can't be said.
    Refused(Box<ExchangeRefusal>),
}

/// The bytes are no answer to the request. Never a verdict: answer 503.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnreadableAnswer {
    /// Not JSON, or not of this form. Serde's words name members and positions, not values.
    #[error("the answer is malformed: {0}")]
    Malformed(String),
    /// Written by another version.
    #[error("the answer has version {0}; this build reads version {VERSION}")]
    Version(u32),
    /// It answers another request.
    #[error("the answer belongs to another request")]
    Misdirected,
    /// None, or several, of the possible answers.
    #[error("the answer says nothing, or several things")]
    Ambiguous,
    /// A refusal whose status is none.
    #[error("the answer refuses with status {0}")]
    Status(u16),
}

/// Writes a grant in answer to the request with this nonce. The bytes hold the credential.
///
/// # Errors
/// The serialiser's, which no grant causes.
pub fn encode_grant(
    grant: &ExchangeGrant,
    nonce: &str,
) -> Result<Secret<Vec<u8>>, serde_json::Error> {
    let token = grant.mandate.as_ref().map(|token| token.expose().as_str());
    write(&Envelope {
        granted: Some(GrantText {
            mandate: token.map(Text),
            operation: grant.operation.as_deref().map(Cow::Borrowed),
            directive: DirectiveText::of(&grant.directive),
        }),
        ..Envelope::<Text<'_>>::to(nonce)
    })
}

/// Writes that a running call may go on.
///
/// # Errors
/// The serialiser's, which nothing causes.
pub fn encode_standing(nonce: &str) -> Result<Secret<Vec<u8>>, serde_json::Error> {
    write(&Envelope {
        standing: Some(true),
        ..Envelope::<Text<'_>>::to(nonce)
    })
}

/// Writes a refusal.
///
/// # Errors
/// The serialiser's, which no refusal causes.
pub fn encode_refusal(
    refusal: &ExchangeRefusal,
    nonce: &str,
) -> Result<Secret<Vec<u8>>, serde_json::Error> {
    let after = refusal.retry_after.map(|after| after.as_millis());
    write(&Envelope {
        refused: Some(RefusalText {
            status: refusal.status,
            code: Cow::Borrowed(&*refusal.code),
            description: Cow::Borrowed(&*refusal.description),
            retry_after_ms: after.map(|millis| u64::try_from(millis).unwrap_or(u64::MAX)),
            extension: Cow::Borrowed(&refusal.extension),
        }),
        ..Envelope::<Text<'_>>::to(nonce)
    })
}

/// Reads the answer to the request with this nonce.
///
/// # Errors
/// [`UnreadableAnswer`] for anything that is not exactly such an answer.
pub fn decode(body: &[u8], nonce: &str) -> Result<Answer, UnreadableAnswer> {
    let malformed = |error: serde_json::Error| UnreadableAnswer::Malformed(shape_of(&error));
    let Versioned { version } = serde_json::from_slice(body).map_err(malformed)?;
    if version != VERSION {
        return Err(UnreadableAnswer::Version(version));
    }
    let read: Envelope<'_, Owned> = serde_json::from_slice(body).map_err(malformed)?;
    if read.answers != nonce {
        return Err(UnreadableAnswer::Misdirected);
    }
    match (read.granted, read.standing, read.refused) {
        (Some(grant), None, None) => Ok(Answer::Granted(Box::new(grant.into_grant()))),
        (None, Some(true), None) => Ok(Answer::Standing),
        (None, None, Some(refusal)) => refusal.into_refusal(),
        _ => Err(UnreadableAnswer::Ambiguous),
    }
}

/// Where and of which kind an error is. Its words may quote a value, so they are not used.
fn shape_of(error: &serde_json::Error) -> String {
    format!(
        "{:?} at line {} column {}",
        error.classify(),
        error.line(),
        error.column()
    )
}

fn write<T: Serialize>(value: &T) -> Result<Secret<Vec<u8>>, serde_json::Error> {
    let mut measured = Measured(0);
    serde_json::to_writer(&mut measured, value)?;
    // Written into its final place: growing would leave copies of the credential behind.
    let mut bytes = Vec::with_capacity(measured.0);
    serde_json::to_writer(&mut bytes, value)?;
    Ok(Secret::new(bytes))
}

struct Measured(usize);

impl std::io::Write for Measured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// A secret on its way out: borrowed, never kept.
#[derive(Serialize)]
#[serde(transparent)]
struct Text<'a>(&'a str);

/// A secret on its way in.
struct Owned(Secret<String>);

impl<'de> Deserialize<'de> for Owned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

/// `S` is how a secret is held: [`Text`] when writing, [`Owned`] when reading.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a, S> {
    version: u32,
    answers: Cow<'a, str>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    granted: Option<GrantText<'a, S>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    standing: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<RefusalText<'a>>,
}

fn none<T>() -> Option<T> {
    None
}

impl<'a, S> Envelope<'a, S> {
    fn to(nonce: &'a str) -> Self {
        Self {
            version: VERSION,
            answers: Cow::Borrowed(nonce),
            granted: None,
            standing: None,
            refused: None,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantText<'a, S> {
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    mandate: Option<S>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation: Option<Cow<'a, str>>,
    directive: DirectiveText<'a, S>,
}

impl GrantText<'_, Owned> {
    fn into_grant(self) -> ExchangeGrant {
        ExchangeGrant {
            mandate: self.mandate.map(|Owned(token)| token),
            directive: self.directive.into_directive(),
            operation: self.operation.map(Cow::into_owned),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DirectiveText<'a, S> {
    upstream_url: Cow<'a, str>,
    credential: CredentialText<'a, S>,
    allowed_hosts: Cow<'a, [String]>,
    forward_identity: bool,
    provider_id: Option<ProviderId>,
    connection_id: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum CredentialText<'a, S> {
    None,
    Mandate,
    Token {
        header: Cow<'a, str>,
        scheme: Option<Cow<'a, str>>,
        value: S,
    },
    KeyHeader {
        header: Cow<'a, str>,
        scheme: Option<Cow<'a, str>>,
        value: S,
    },
    KeyQuery {
        parameter: Cow<'a, str>,
        value: S,
    },
}

impl<'a> DirectiveText<'a, Text<'a>> {
    fn of(directive: &'a Directive) -> Self {
        Self {
            upstream_url: Cow::Borrowed(&directive.upstream_url),
            credential: CredentialText::of(&directive.credential),
            allowed_hosts: Cow::Borrowed(&directive.allowed_hosts),
            forward_identity: directive.forward_identity,
            provider_id: directive.provider_id.clone(),
            connection_id: directive.connection_id.as_deref().map(Cow::Borrowed),
        }
    }
}

impl DirectiveText<'_, Owned> {
    fn into_directive(self) -> Directive {
        Directive {
            upstream_url: self.upstream_url.into_owned(),
            credential: self.credential.into_credential(),
            allowed_hosts: self.allowed_hosts.into_owned(),
            forward_identity: self.forward_identity,
            provider_id: self.provider_id,
            connection_id: self.connection_id.map(Cow::into_owned),
        }
    }
}

impl<'a> CredentialText<'a, Text<'a>> {
    fn of(credential: &'a Credential) -> Self {
        match credential {
            Credential::None => Self::None,
            Credential::Mandate => Self::Mandate,
            Credential::Token {
                header,
                scheme,
                value,
            } => Self::Token {
                header: Cow::Borrowed(header),
                scheme: scheme.as_deref().map(Cow::Borrowed),
                value: Text(value.expose()),
            },
            Credential::KeyHeader {
                header,
                scheme,
                value,
            } => Self::KeyHeader {
                header: Cow::Borrowed(header),
                scheme: scheme.as_deref().map(Cow::Borrowed),
                value: Text(value.expose()),
            },
            Credential::KeyQuery { parameter, value } => Self::KeyQuery {
                parameter: Cow::Borrowed(parameter),
                value: Text(value.expose()),
            },
        }
    }
}

impl CredentialText<'_, Owned> {
    fn into_credential(self) -> Credential {
        match self {
            Self::None => Credential::None,
            Self::Mandate => Credential::Mandate,
            Self::Token {
                header,
                scheme,
                value: Owned(value),
            } => Credential::Token {
                header: header.into_owned(),
                scheme: scheme.map(Cow::into_owned),
                value,
            },
            Self::KeyHeader {
                header,
                scheme,
                value: Owned(value),
            } => Credential::KeyHeader {
                header: header.into_owned(),
                scheme: scheme.map(Cow::into_owned),
                value,
            },
            Self::KeyQuery {
                parameter,
                value: Owned(value),
            } => Credential::KeyQuery {
                parameter: parameter.into_owned(),
                value,
            },
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusalText<'a> {
    status: u16,
    code: Cow<'a, str>,
    description: Cow<'a, str>,
    retry_after_ms: Option<u64>,
    extension: Cow<'a, Map<String, Value>>,
}

impl RefusalText<'_> {
    fn into_refusal(self) -> Result<Answer, UnreadableAnswer> {
        if !(400..=599).contains(&self.status) {
            return Err(UnreadableAnswer::Status(self.status));
        }
        Ok(Answer::Refused(Box::new(ExchangeRefusal {
            status: self.status,
            code: Cow::Owned(self.code.into_owned()),
            description: self.description.into_owned(),
            retry_after: self.retry_after_ms.map(Duration::from_millis),
            extension: self.extension.into_owned(),
            origin: RefusalOrigin::Sts,
        })))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
