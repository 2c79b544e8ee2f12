//! The audit event: what happened, in the JSON form that leaves the producer.
//!
//! A producer builds an [`Event`] and hands it to the [`crate::log::Journal`]; from then on only the
//! exact bytes of its JSON text count, because they are what is signed, hashed and stored. Whoever
//! reads such bytes back gets a [`ReceivedEvent`]: the names it holds are text, because a newer
//! producer may use names that this build doesn't know.

mod metadata;
mod received;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use caracal_core::id::{EventId, PolicySetId, PolicySetVersionId, ZoneId};
use caracal_core::{Clock, Random, RequestId, Timestamp};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

pub use metadata::Metadata;
pub use received::{Indexed, MAX_INDEXED_CHARS, MAX_INDEXED_LABELS, MalformedEvent, ReceivedEvent};

/// The largest JSON text of an event, in bytes.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;

/// A metadata value longer than this is left out of an abridged event. Bytes of JSON.
const ABRIDGED_VALUE_BYTES: usize = 2 * 1024;
/// A list longer than this is left out of an abridged event. Bytes of JSON.
const ABRIDGED_LIST_BYTES: usize = 32 * 1024;

macro_rules! wire_names {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

wire_names! {
    /// What kind of thing happened. SIEM queries rely on the names.
    EventType {
        /// The STS decided a token exchange.
        TokenExchange => "token_exchange",
        /// The STS decided a workload launch.
        RunLaunch => "run_launch",
        /// A hold waits for a person.
        StepUpIssued => "step_up_issued",
        /// A hold was decided.
        StepUpDecided => "step_up_decided",
        /// An approval was spent.
        StepUpConsumed => "step_up_consumed",
        /// A minted token id existed already.
        JtiCollision => "jti_collision",
        /// The Gateway is about to send a request upstream.
        GatewayRequestStarted => "gateway_request_started",
        /// The Gateway refused an identified caller.
        GatewayRequestDenied => "gateway_request_denied",
        /// A request to an upstream ended.
        GatewayResourceRequest => "gateway_resource_request",
        /// A one-shot mandate was presented again.
        ReplayDetected => "replay_detected",
        /// A control command was invoked.
        ControlInvoke => "control.invoke",
        /// A stored secret is about to be shown.
        CredentialRevealed => "credential_revealed",
    }
}

wire_names! {
    /// How it was decided.
    Decision {
        /// Permitted.
        Allow => "allow",
        /// Refused.
        Deny => "deny",
        /// Waits for a decision.
        Pending => "pending",
        /// A person approved.
        Approved => "approved",
        /// A person rejected.
        Rejected => "rejected",
        /// An approval was spent.
        Consumed => "consumed",
    }
}

/// The identity and the instant of an event, taken together when the thing happened.
#[derive(Debug, Clone)]
pub struct Stamp {
    id: EventId,
    occurred_at: Timestamp,
}

impl Stamp {
    /// A fresh event id and the clock's time.
    #[must_use]
    pub fn now(clock: &dyn Clock, random: &dyn Random) -> Self {
        Self {
            id: EventId::generate(clock, random),
            occurred_at: clock.now(),
        }
    }

    /// A stamp of known parts, for events whose id was promised before.
    #[must_use]
    pub fn of(id: EventId, occurred_at: Timestamp) -> Self {
        Self { id, occurred_at }
    }
}

/// One audit event, as its producer builds it.
///
/// Metadata takes anything that serialises; a `Secret` does not, so a secret cannot get in unless
/// somebody exposes it first.
#[derive(Debug, Clone)]
pub struct Event {
    id: EventId,
    zone_id: ZoneId,
    event_type: EventType,
    request_id: RequestId,
    decision: Decision,
    policy_set_id: Option<PolicySetId>,
    policy_set_version_id: Option<PolicySetVersionId>,
    manifest_sha: Option<Arc<str>>,
    evaluation_status: Cow<'static, str>,
    determining_policies: Vec<Value>,
    diagnostics: Vec<Value>,
    metadata: Metadata,
    occurred_at: Timestamp,
}

impl Event {
    /// An event without policies, diagnostics or metadata.
    ///
    /// `status` is the `evaluation_status`: `complete`, or the reason of a denial.
    #[must_use]
    pub fn new(
        stamp: Stamp,
        zone_id: &ZoneId,
        request_id: &RequestId,
        event_type: EventType,
        decision: Decision,
        status: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            id: stamp.id,
            zone_id: zone_id.clone(),
            event_type,
            request_id: request_id.clone(),
            decision,
            policy_set_id: None,
            policy_set_version_id: None,
            manifest_sha: None,
            evaluation_status: status.into(),
            determining_policies: Vec::new(),
            diagnostics: Vec::new(),
            metadata: Metadata::default(),
            occurred_at: stamp.occurred_at,
        }
    }

    /// Names the policy set.
    #[must_use]
    pub fn policy_set(mut self, id: &PolicySetId) -> Self {
        self.policy_set_id = Some(id.clone());
        self
    }

    /// Names the policy set version that decided.
    #[must_use]
    pub fn policy_set_version(mut self, id: &PolicySetVersionId) -> Self {
        self.policy_set_version_id = Some(id.clone());
        self
    }

    /// Names the hash of the manifest that decided.
    #[must_use]
    pub fn manifest_sha(mut self, hash: impl Into<Arc<str>>) -> Self {
        self.manifest_sha = Some(hash.into());
        self
    }

    /// Lists the policies that determined the decision; each should be a JSON object.
    #[must_use]
    pub fn determining_policies(mut self, policies: Vec<Value>) -> Self {
        self.determining_policies = policies;
        self
    }

    /// Lists what explains the decision; each should be a JSON object.
    #[must_use]
    pub fn diagnostics(mut self, diagnostics: Vec<Value>) -> Self {
        self.diagnostics = diagnostics;
        self
    }

    /// Sets one metadata member; a later value of the same name replaces the earlier one.
    ///
    /// A value that cannot be JSON (a map whose keys aren't text) is recorded as JSON `null`.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Serialize) -> Self {
        self.metadata.set(name, value);
        self
    }

    /// Sets one metadata member when there is a value.
    #[must_use]
    pub fn with_some(self, name: &'static str, value: Option<impl Serialize>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Sets every member of `metadata`.
    #[must_use]
    pub fn with_all(mut self, metadata: &Metadata) -> Self {
        self.metadata.set_all(metadata);
        self
    }

    /// The event's id.
    #[must_use]
    pub fn id(&self) -> &EventId {
        &self.id
    }

    /// The zone it belongs to.
    #[must_use]
    pub fn zone_id(&self) -> &ZoneId {
        &self.zone_id
    }

    /// The correlation id.
    #[must_use]
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// What kind of thing happened.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        self.event_type
    }

    /// How it was decided.
    #[must_use]
    pub fn decision(&self) -> Decision {
        self.decision
    }

    /// `complete`, or why it was refused.
    #[must_use]
    pub fn evaluation_status(&self) -> &str {
        &self.evaluation_status
    }

    /// The metadata members.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// When it happened.
    #[must_use]
    pub fn occurred_at(&self) -> Timestamp {
        self.occurred_at
    }

    /// The JSON text that is signed, sent and stored.
    ///
    /// # Errors
    /// [`EncodeError`] when it would be longer than [`MAX_EVENT_BYTES`].
    pub fn to_json(&self) -> Result<Vec<u8>, EncodeError> {
        let mut data = Vec::with_capacity(1024);
        self.write_json(&mut data)?;
        Ok(data)
    }

    /// The event without its large values: what is logged of an event that is too large, so that a
    /// caller cannot keep a denial out of the evidence by asking for something huge.
    #[must_use]
    pub fn abridged(&self) -> Self {
        let mut short = self.clone();
        short.metadata.abridge(ABRIDGED_VALUE_BYTES);
        for list in [&mut short.determining_policies, &mut short.diagnostics] {
            let bytes = metadata::json_len(list.as_slice());
            if bytes > ABRIDGED_LIST_BYTES {
                *list = vec![serde_json::json!({ "left_out_bytes": bytes })];
            }
        }
        short
    }

    /// Appends the JSON text to `out`; on an error `out` may hold a part of it.
    ///
    /// # Errors
    /// [`EncodeError`] when the text would be longer than [`MAX_EVENT_BYTES`].
    pub fn write_json(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        serde_json::to_writer(&mut *out, &Wire::of(self)).map_err(|_| EncodeError::NotJson)?;
        if out.len() - start > MAX_EVENT_BYTES {
            return Err(EncodeError::TooLarge);
        }
        Ok(())
    }
}

/// Why an event has no JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The text is longer than [`MAX_EVENT_BYTES`].
    #[error("an audit event is at most {MAX_EVENT_BYTES} bytes of JSON")]
    TooLarge,
    /// A value refused to serialise.
    #[error("the audit event does not serialise")]
    NotJson,
}

/// The members on the wire, in their order.
#[derive(Serialize)]
struct Wire<'a> {
    id: &'a EventId,
    zone_id: &'a ZoneId,
    event_type: &'static str,
    request_id: &'a RequestId,
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_set_id: Option<&'a PolicySetId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_set_version_id: Option<&'a PolicySetVersionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest_sha: Option<&'a str>,
    evaluation_status: &'a str,
    determining_policies_json: &'a [Value],
    diagnostics_json: &'a [Value],
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    metadata_json: &'a Metadata,
    occurred_at: String,
}

impl<'a> Wire<'a> {
    fn of(event: &'a Event) -> Self {
        Self {
            id: &event.id,
            zone_id: &event.zone_id,
            event_type: event.event_type.as_str(),
            request_id: &event.request_id,
            decision: event.decision.as_str(),
            policy_set_id: event.policy_set_id.as_ref(),
            policy_set_version_id: event.policy_set_version_id.as_ref(),
            manifest_sha: event
                .manifest_sha
                .as_deref()
                .filter(|hash| !hash.is_empty()),
            evaluation_status: &event.evaluation_status,
            determining_policies_json: &event.determining_policies,
            diagnostics_json: &event.diagnostics,
            metadata_json: &event.metadata,
            occurred_at: event.occurred_at.to_rfc3339_micros(),
        }
    }
}
