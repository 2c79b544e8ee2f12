//! The claims of a mandate.
//!
//! What is written follows one rule: a claim with nothing to say is left out, never empty, because
//! published verifiers refuse an empty `scope`. What is read is taken apart claim by claim, so that
//! an error names the claim; a name that occurs twice makes the whole mandate malformed.

use std::sync::Arc;

use caracal_core::id::{
    ApplicationId, AuthorityRecordId, DelegationId, MandateId, SessionId, ZoneId,
};
use caracal_core::{ResourceIdentifier, SubjectType, Timestamp};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::mandate::MandateError;

/// The largest `hop_count` that verifiers accept.
pub const MAX_HOP_COUNT: u32 = 10;

/// What a mandate may be used for: the `use` claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MandateUse {
    /// Reusable: lifecycle calls to the Coordinator, a federated user's identity.
    Session,
    /// One shot: the ingress credential of one request to the Gateway.
    Gateway,
    /// What an upstream, an in-process verifier or the control plane accepts.
    Resource,
}

impl MandateUse {
    /// The value of the `use` claim.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Gateway => "gateway",
            Self::Resource => "resource",
        }
    }
}

/// One hop of `delegation_chain`, root first. The last hop, who holds the mandate, has no edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegationHop {
    /// The application that holds the authority at this hop.
    pub application_id: ApplicationId,
    /// Its governed Session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_session_id: Option<SessionId>,
    /// The edge by which it handed the authority on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation_edge_id: Option<DelegationId>,
}

/// The claims of a mandate, under their names on the wire (RFC 7519 §4 and Caracal's own).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// The STS, exactly as configured in `ISSUER_URL`.
    pub iss: Arc<str>,
    /// The subject: an application's id or a federated user's `sub`. Never empty.
    pub sub: Arc<str>,
    /// Who may accept the mandate. Written as an array, also with one value.
    pub aud: Vec<Arc<str>>,
    /// The mandate is dead from this instant on; whole seconds on the wire.
    #[serde(serialize_with = "unix_seconds")]
    pub exp: Timestamp,
    /// When it was minted; whole seconds on the wire.
    #[serde(serialize_with = "unix_seconds")]
    pub iat: Timestamp,
    /// Unique per mandate: the replay key.
    pub jti: MandateId,
    /// The zone whose key signs.
    pub zone_id: ZoneId,
    /// The application that the mandate was minted for.
    pub client_id: ApplicationId,
    /// The space-separated scopes, as the request spelled them.
    #[serde(skip_serializing_if = "is_blank")]
    pub scope: Option<Arc<str>>,
    /// The authority record, or a leaf mandate's own anchor.
    pub sid: AuthorityRecordId,
    /// The root of the record's lineage.
    pub root_sid: AuthorityRecordId,
    /// The mandate's class.
    #[serde(rename = "use")]
    pub mandate_use: MandateUse,
    /// The class of `sub`.
    pub sub_type: SubjectType,
    /// The granted resources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target: Vec<ResourceIdentifier>,
    /// The governed Session that the mandate is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_session_id: Option<SessionId>,
    /// The delegation edge that the authority came through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegation_edge_id: Option<DelegationId>,
    /// The Session that delegated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_session_id: Option<SessionId>,
    /// The Session that received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_session_id: Option<SessionId>,
    /// Every edge of the lineage, root first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delegation_path: Vec<DelegationId>,
    /// Every hop of the lineage, root first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delegation_chain: Vec<DelegationHop>,
    /// How many edges count as hops; left out when 0, at most [`MAX_HOP_COUNT`].
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub hop_count: u32,
    /// The zone's delegation epoch at mint; left out when 0.
    #[serde(skip_serializing_if = "is_zero_u64")]
    pub delegation_graph_epoch: u64,
}

impl Claims {
    /// Whether `audience` is among the audiences.
    #[must_use]
    pub fn has_audience(&self, audience: &str) -> bool {
        self.aud.iter().any(|held| &**held == audience)
    }

    /// Whether the mandate was granted for `resource`.
    #[must_use]
    pub fn targets(&self, resource: &str) -> bool {
        self.target.iter().any(|held| held.as_str() == resource)
    }
}

/// The claims as read, with the one that is judged but never minted.
pub(crate) struct ReadClaims {
    pub(crate) claims: Claims,
    pub(crate) not_before: Option<Timestamp>,
}

/// Reads the payload of a mandate whose signature has been verified.
pub(crate) fn read(payload: &[u8]) -> Result<ReadClaims, MandateError> {
    let raw: RawClaims<'_> =
        serde_json::from_slice(payload).map_err(|_| MandateError::Malformed)?;
    let not_before = optional::<i64>("nbf", raw.nbf)?.map(Timestamp::from_seconds);
    let claims = Claims {
        iss: text("iss", raw.iss)?,
        sub: text("sub", raw.sub)?,
        aud: audiences(raw.aud)?,
        exp: seconds("exp", raw.exp)?,
        iat: seconds("iat", raw.iat)?,
        jti: required("jti", raw.jti)?,
        zone_id: required("zone_id", raw.zone_id)?,
        client_id: required("client_id", raw.client_id)?,
        scope: raw
            .scope
            .map(|scope| text("scope", Some(scope)))
            .transpose()?,
        sid: required("sid", raw.sid)?,
        root_sid: required("root_sid", raw.root_sid)?,
        mandate_use: required("use", raw.mandate_use)?,
        sub_type: required("sub_type", raw.sub_type)?,
        target: targets(raw.target)?,
        agent_session_id: optional_id("agent_session_id", raw.agent_session_id)?,
        delegation_edge_id: optional_id("delegation_edge_id", raw.delegation_edge_id)?,
        source_session_id: optional_id("source_session_id", raw.source_session_id)?,
        target_session_id: optional_id("target_session_id", raw.target_session_id)?,
        delegation_path: optional("delegation_path", raw.delegation_path)?.unwrap_or_default(),
        delegation_chain: optional("delegation_chain", raw.delegation_chain)?.unwrap_or_default(),
        hop_count: hop_count(raw.hop_count)?,
        delegation_graph_epoch: optional("delegation_graph_epoch", raw.delegation_graph_epoch)?
            .unwrap_or_default(),
    };
    Ok(ReadClaims { claims, not_before })
}

#[derive(Deserialize)]
struct RawClaims<'a> {
    #[serde(borrow)]
    iss: Option<&'a RawValue>,
    #[serde(borrow)]
    sub: Option<&'a RawValue>,
    #[serde(borrow)]
    aud: Option<&'a RawValue>,
    #[serde(borrow)]
    exp: Option<&'a RawValue>,
    #[serde(borrow)]
    iat: Option<&'a RawValue>,
    #[serde(borrow)]
    nbf: Option<&'a RawValue>,
    #[serde(borrow)]
    jti: Option<&'a RawValue>,
    #[serde(borrow)]
    zone_id: Option<&'a RawValue>,
    #[serde(borrow)]
    client_id: Option<&'a RawValue>,
    #[serde(borrow)]
    scope: Option<&'a RawValue>,
    #[serde(borrow)]
    sid: Option<&'a RawValue>,
    #[serde(borrow)]
    root_sid: Option<&'a RawValue>,
    #[serde(borrow, rename = "use")]
    mandate_use: Option<&'a RawValue>,
    #[serde(borrow)]
    sub_type: Option<&'a RawValue>,
    #[serde(borrow)]
    target: Option<&'a RawValue>,
    #[serde(borrow)]
    agent_session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    delegation_edge_id: Option<&'a RawValue>,
    #[serde(borrow)]
    source_session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    target_session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    delegation_path: Option<&'a RawValue>,
    #[serde(borrow)]
    delegation_chain: Option<&'a RawValue>,
    #[serde(borrow)]
    hop_count: Option<&'a RawValue>,
    #[serde(borrow)]
    delegation_graph_epoch: Option<&'a RawValue>,
}

fn optional<'a, T: Deserialize<'a>>(
    claim: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Option<T>, MandateError> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get())
        .map(Some)
        .map_err(|_| MandateError::ClaimInvalid(claim))
}

fn required<'a, T: Deserialize<'a>>(
    claim: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<T, MandateError> {
    optional(claim, raw)?.ok_or(MandateError::ClaimInvalid(claim))
}

/// A required text that is not empty.
fn text(claim: &'static str, raw: Option<&RawValue>) -> Result<Arc<str>, MandateError> {
    let text: Arc<str> = required(claim, raw)?;
    if text.is_empty() {
        Err(MandateError::ClaimInvalid(claim))
    } else {
        Ok(text)
    }
}

fn seconds(claim: &'static str, raw: Option<&RawValue>) -> Result<Timestamp, MandateError> {
    required::<i64>(claim, raw).map(Timestamp::from_seconds)
}

/// An id that may be absent; an empty text counts as absent, as it does for published verifiers.
fn optional_id<T: std::str::FromStr>(
    claim: &'static str,
    raw: Option<&RawValue>,
) -> Result<Option<T>, MandateError> {
    let Some(text) = optional::<Arc<str>>(claim, raw)?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    text.parse()
        .map(Some)
        .map_err(|_| MandateError::ClaimInvalid(claim))
}

fn audiences(raw: Option<&RawValue>) -> Result<Vec<Arc<str>>, MandateError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(Arc<str>),
        Many(Vec<Arc<str>>),
    }
    let audiences = match required("aud", raw)? {
        OneOrMany::One(audience) => vec![audience],
        OneOrMany::Many(audiences) => audiences,
    };
    let usable = !audiences.is_empty() && audiences.iter().all(|audience| !audience.is_empty());
    if usable {
        Ok(audiences)
    } else {
        Err(MandateError::ClaimInvalid("aud"))
    }
}

fn targets(raw: Option<&RawValue>) -> Result<Vec<ResourceIdentifier>, MandateError> {
    let targets: Vec<ResourceIdentifier> = optional("target", raw)?.unwrap_or_default();
    let usable = targets.iter().all(|target| !target.as_str().is_empty());
    if usable {
        Ok(targets)
    } else {
        Err(MandateError::ClaimInvalid("target"))
    }
}

fn hop_count(raw: Option<&RawValue>) -> Result<u32, MandateError> {
    let count = optional("hop_count", raw)?.unwrap_or(0);
    if count <= MAX_HOP_COUNT {
        Ok(count)
    } else {
        Err(MandateError::ClaimInvalid("hop_count"))
    }
}

fn unix_seconds<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(at.seconds())
}

fn is_blank(text: &Option<Arc<str>>) -> bool {
    text.as_ref().is_none_or(|text| text.is_empty())
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero_u32(number: &u32) -> bool {
    *number == 0
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero_u64(number: &u64) -> bool {
    *number == 0
}
