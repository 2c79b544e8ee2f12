//! What the STS writes down: one trail per request, in the log before the answer leaves.
//!
//! An allow event means that a mandate exists (or, on the Gateway leg, that a call was granted): it
//! is built after everything that could still refuse. A denial is written when it happens, with the
//! status that says which check refused.

use std::borrow::Cow;
use std::sync::Arc;

use caracal_core::id::{ApplicationId, ZoneId};
use caracal_core::{Clock, Random, RequestId, Scope};
use caracal_crypto::Claims;
use caracal_evidence::{Decision, Event, EventType, Journal, Metadata, Stamp};
use caracal_store::entity::{ActivePolicySet, Application};
use serde_json::{Value, json};

use crate::Sts;
use crate::claims::hops;
use crate::decide::Decided;
use crate::error::Refusal;
use crate::form::TokenForm;
use crate::lineage::Lineage;

/// The events of one request.
pub(crate) struct Trail {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    zone: ZoneId,
    request_id: RequestId,
    application: Metadata,
    events: Vec<Event>,
}

/// What the events of one exchange say about the authority that it acts under.
#[derive(Debug, Default, Clone)]
pub(crate) struct Authority(Metadata);

impl Authority {
    /// Describes the presented references.
    pub(crate) fn of(
        authority_record: Option<&str>,
        lineage: &Lineage,
        scopes: &[Scope],
        subject_kind: &'static str,
    ) -> Self {
        let mut about = Metadata::new();
        about.set("requested_scopes", scopes);
        about.set("subject_kind", subject_kind);
        if let Some(id) = authority_record {
            about.set("session_id", id);
        }
        if let Some(session) = lineage.session() {
            about.set("agent_session_id", session.id.as_str());
            about.set("agent_lifecycle", session.lifecycle.as_str());
            about.set("agent_labels", &session.labels);
            about.set("agent_depth", session.depth);
            if let Some(parent) = &session.parent_id {
                about.set("agent_parent_id", parent.as_str());
            }
        }
        let mut authority = Self(about);
        authority.0.set_all(&delegation_of(lineage));
        authority
    }
}

/// What a client's request asked for.
pub(crate) fn requested(form: &TokenForm) -> Metadata {
    let mut about = Metadata::new();
    about.set("requested", &form.resources);
    if let [resource] = form.resources.as_slice() {
        about.set("resource", resource);
    }
    about.set("requested_scopes", form.scope.words());
    about
}

/// The members that describe a Delegation; none without one.
pub(crate) fn delegation_of(lineage: &Lineage) -> Metadata {
    let mut about = Metadata::new();
    if let Some(line) = lineage.delegated() {
        about.set("delegation_edge_id", line.leaf().id.as_str());
        about.set("delegation_chain", hops(line));
        about.set("delegation_hop_count", line.hop_count);
        about.set("delegation_graph_epoch", line.epoch);
    }
    about
}

impl Trail {
    /// The trail of a request by an identified application.
    pub(crate) fn of(sts: &Sts, application: &Application, request_id: &RequestId) -> Self {
        let mut trail = Self::of_id(sts, &application.zone_id, &application.id, request_id);
        let registration = application.registration_method.as_str();
        trail.application.set("application_name", &application.name);
        trail
            .application
            .set("application_registration_method", registration);
        trail
    }

    /// The trail of a request by an application that is known by a mandate only.
    pub(crate) fn of_id(
        sts: &Sts,
        zone: &ZoneId,
        application: &ApplicationId,
        request_id: &RequestId,
    ) -> Self {
        let mut about = Metadata::new();
        about.set("application_id", application.as_str());
        Self {
            clock: Arc::clone(&sts.clock),
            random: Arc::clone(&sts.random),
            zone: zone.clone(),
            request_id: request_id.clone(),
            application: about,
            events: Vec::with_capacity(2),
        }
    }

    /// A denial of one resource, or of the whole exchange.
    pub(crate) fn deny(&mut self, status: &'static str, about: &Metadata) {
        let event = self.event(Decision::Deny, status).with_all(about);
        self.events.push(event);
    }

    /// The event of the refusal that ends the request, unless its kind leaves none.
    pub(crate) fn refuse(&mut self, refusal: &Refusal, about: &Metadata) {
        let Some(status) = refusal.audit_status() else {
            return;
        };
        let event = self.event(Decision::Deny, status).with_all(about);
        self.events
            .push(event.with("reason", refusal.audit_reason()));
    }

    /// Wrong secrets for the application since the last such event.
    pub(crate) fn auth_failed(&mut self, count: u64) {
        let mut about = Metadata::new();
        about.set("count", count);
        self.deny("client_auth_failed", &about);
    }

    /// Policy said no.
    pub(crate) fn policy_denied(
        &mut self,
        resource: &str,
        decided: &Decided,
        authority: &Authority,
    ) {
        let event = self.event(Decision::Deny, "complete");
        self.events.push(
            decided
                .stamp(event)
                .with("resource", resource)
                .with_all(&authority.0),
        );
    }

    /// Policy gave no verdict.
    pub(crate) fn policy_failed(&mut self, resource: &str, active: &ActivePolicySet, error: &str) {
        let event = self
            .event(Decision::Deny, "policy_eval_failed")
            .policy_set(&active.policy_set_id)
            .policy_set_version(&active.version_id)
            .manifest_sha(active.manifest_sha256.as_str())
            .diagnostics(vec![json!({ "error": error })])
            .with("resource", resource);
        self.events.push(event);
    }

    /// A resource was granted by policy.
    pub(crate) fn allowed(
        &mut self,
        resource: &str,
        decided: &Decided,
        authority: &Authority,
        minted: Option<&Claims>,
        more: &Metadata,
    ) {
        let event = decided.stamp(self.event(Decision::Allow, "complete"));
        let event = event
            .with("resource", resource)
            .with_all(&authority.0)
            .with_all(more);
        self.events.push(with_mandate(event, minted));
    }

    /// A control key minted for the control plane.
    pub(crate) fn control_allowed(&mut self, resource: &str, scopes: &[Scope], minted: &Claims) {
        let policy: Vec<Value> = vec![json!({ "policy": "control-key" })];
        let event = self
            .event(Decision::Allow, "complete")
            .determining_policies(policy)
            .with("resource", resource)
            .with("requested_scopes", scopes);
        self.events.push(with_mandate(event, Some(minted)));
    }

    /// Writes everything; nothing that the events record may take effect before this returns.
    pub(crate) async fn write(&mut self, journal: &Journal) -> Result<(), Refusal> {
        if self.events.is_empty() {
            return Ok(());
        }
        let events = std::mem::take(&mut self.events);
        let appended = journal.append(&events).await;
        appended
            .map(|_| ())
            .map_err(|error| Refusal::unavailable(error.to_string()))
    }

    fn event(&self, decision: Decision, status: impl Into<Cow<'static, str>>) -> Event {
        let stamp = Stamp::now(&*self.clock, &*self.random);
        Event::new(
            stamp,
            &self.zone,
            &self.request_id,
            EventType::TokenExchange,
            decision,
            status,
        )
        .with_all(&self.application)
    }
}

fn with_mandate(event: Event, minted: Option<&Claims>) -> Event {
    let Some(claims) = minted else { return event };
    event
        .with("jti", claims.jti.as_str())
        .with("sid", claims.sid.as_str())
        .with("use", claims.mandate_use.as_str())
        .with("expires_at", claims.exp.seconds())
}
