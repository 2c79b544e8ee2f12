//! What the Gateway leaves as evidence.
//!
//! `gateway_request_started` is in the log before the first byte goes to the upstream;
//! `gateway_resource_request` follows when the call has ended, however it ended: a [`Record`] that is
//! dropped unfinished records a broken call. Events never hold paths, queries, headers, bodies or
//! tokens.

use std::sync::Arc;

use caracal_core::{Clock, Random};
use caracal_evidence::{Decision, Event, EventType, Journal, Metadata, Stamp};
use caracal_roles::ExchangeGrant;
use tokio_util::task::TaskTracker;

use crate::build::Outbound;
use crate::call::Call;
use crate::refusal::{Evidence, Refusal};

/// Writes the Gateway's events.
pub(crate) struct Recorder {
    journal: Journal,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// Final events on their way to the log.
    pending: TaskTracker,
}

/// An upstream request whose start is in the log. Only [`Recorder::dispatch`] makes one, and nothing
/// else can be sent.
pub(crate) struct Dispatched(Outbound);

impl Dispatched {
    /// The request to send.
    pub(crate) fn into_outbound(self) -> Outbound {
        self.0
    }
}

/// What is known of a permitted call before it is sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Forwarding {
    upstream_host: Option<String>,
    auth_mode: Option<&'static str>,
    provider_id: Option<String>,
    connection_id: Option<String>,
    operation: Option<String>,
}

impl Forwarding {
    /// The facts of a grant.
    pub(crate) fn of(grant: &ExchangeGrant) -> Self {
        let directive = &grant.directive;
        Self {
            upstream_host: None,
            auth_mode: Some(directive.credential.auth_mode()),
            provider_id: directive
                .provider_id
                .as_ref()
                .map(|id| id.as_str().to_owned()),
            connection_id: directive.connection_id.clone(),
            operation: grant.operation.clone(),
        }
    }
}

impl Recorder {
    /// Writes to this log.
    pub(crate) fn new(journal: Journal, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self {
            journal,
            clock,
            random,
            pending: TaskTracker::new(),
        }
    }

    /// The log.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Waits until all final events are in the log.
    pub(crate) async fn settle(&self) {
        self.pending.close();
        self.pending.wait().await;
    }

    /// Records a refusal after the caller was identified, before the call was permitted.
    pub(crate) async fn refused(&self, call: &Call, refusal: &Refusal) -> Result<(), Refusal> {
        let event = match refusal.evidence() {
            Evidence::None | Evidence::Forwarding(..) => return Ok(()),
            Evidence::Denied(status) => {
                let event = self.event(
                    call,
                    EventType::GatewayRequestDenied,
                    Decision::Deny,
                    status,
                );
                event
                    .with_all(&identity(call))
                    .with("gateway_status", refusal.status().as_u16())
            }
            Evidence::Replay => {
                let kind = EventType::ReplayDetected;
                self.event(call, kind, Decision::Deny, "anomaly")
                    .with_all(&replay(call))
            }
        };
        self.append(event).await
    }

    /// Records that the request is about to be sent, and only then hands it over for sending.
    pub(crate) async fn dispatch(
        &self,
        record: &mut Record,
        outbound: Outbound,
    ) -> Result<Dispatched, Refusal> {
        record.forwarding.upstream_host = Some(outbound.host().to_owned());
        let kind = EventType::GatewayRequestStarted;
        let event = self
            .event(&record.call, kind, Decision::Allow, "dispatched")
            .with_all(&identity(&record.call))
            .with_all(&forwarding(&record.forwarding));
        self.append(event).await?;
        Ok(Dispatched(outbound))
    }

    async fn append(&self, event: Event) -> Result<(), Refusal> {
        match self.journal.append(&[event]).await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::error!(%error, "audit event could not be logged");
                Err(Refusal::AuditUnavailable)
            }
        }
    }

    fn event(
        &self,
        call: &Call,
        kind: EventType,
        decision: Decision,
        status: &'static str,
    ) -> Event {
        let stamp = Stamp::now(self.clock.as_ref(), self.random.as_ref());
        Event::new(stamp, &call.zone, &call.request_id, kind, decision, status)
    }

    /// Begins the record of a permitted call.
    pub(crate) fn begin(self: &Arc<Self>, call: Arc<Call>, forwarding: Forwarding) -> Record {
        Record {
            recorder: Arc::clone(self),
            call,
            forwarding,
            gateway_status: CALLER_GONE,
            upstream_status: None,
            latency_ms: 0,
            response_bytes: 0,
            interrupted: false,
            outcome: ("upstream_error", Some("response_copy_failed")),
        }
    }

    fn write_in_background(self: &Arc<Self>, event: Event) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            tracing::error!("the end of a call could not be logged: the runtime has stopped");
            return;
        };
        let recorder = Arc::clone(self);
        self.pending.spawn_on(
            async move {
                // A failure is logged by `append`; the call has ended already.
                let _ = recorder.append(event).await;
            },
            &runtime,
        );
    }
}

/// The status that is recorded when nobody was there to answer.
const CALLER_GONE: u16 = 499;

/// The running record of one permitted call; writes `gateway_resource_request` when dropped.
pub(crate) struct Record {
    recorder: Arc<Recorder>,
    call: Arc<Call>,
    forwarding: Forwarding,
    gateway_status: u16,
    upstream_status: Option<u16>,
    latency_ms: u64,
    response_bytes: u64,
    interrupted: bool,
    outcome: (&'static str, Option<&'static str>),
}

impl Record {
    /// Who calls.
    pub(crate) fn call(&self) -> &Arc<Call> {
        &self.call
    }

    /// The upstream answered its head.
    pub(crate) fn answered(&mut self, status: u16, latency_ms: u64) {
        self.gateway_status = status;
        self.upstream_status = Some(status);
        self.latency_ms = latency_ms;
    }

    /// Bytes of the response body were passed on.
    pub(crate) fn passed_on(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.response_bytes = self.response_bytes.saturating_add(bytes);
    }

    /// The response body is complete.
    pub(crate) fn completed(&mut self) {
        self.outcome = ("executed", None);
    }

    /// The authority ended while the response was running.
    pub(crate) fn interrupted(&mut self) {
        self.interrupted = true;
        self.completed();
    }

    /// The Gateway answers instead of the upstream.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.gateway_status = refusal.status().as_u16();
        if let Evidence::Forwarding(status, error_kind) = refusal.evidence() {
            self.outcome = (status, error_kind);
        }
        self.interrupted = matches!(refusal, Refusal::Interrupted(_));
    }

    fn event(&self) -> Event {
        let (status, error_kind) = self.outcome;
        let kind = EventType::GatewayResourceRequest;
        let mut event = self
            .recorder
            .event(&self.call, kind, Decision::Allow, status)
            .with_all(&identity(&self.call))
            .with("gateway_status", self.gateway_status)
            .with("latency_ms", self.latency_ms)
            .with("response_bytes", self.response_bytes)
            .with_all(&forwarding(&self.forwarding))
            .with_some("error_kind", error_kind);
        if let Some(status) = self.upstream_status {
            event = event
                .with("upstream_status", status)
                .with("result_class", class(status));
        }
        if self.interrupted {
            event = event.with("revocation_interrupted", true);
        }
        event
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        tracing::debug!(
            request_id = %self.call.request_id, zone_id = %self.call.zone,
            application_id = %self.call.application, resource = %self.call.resource,
            subject_fp = %self.call.fingerprint, trace_id = self.call.trace_id.as_deref(),
            upstream_host = self.forwarding.upstream_host.as_deref(),
            auth_mode = self.forwarding.auth_mode, status = self.gateway_status,
            outcome = self.outcome.0, "call ended"
        );
        let event = self.event();
        self.recorder.write_in_background(event);
    }
}

fn identity(call: &Call) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.set("application_id", call.application.as_str());
    metadata.set("resource", call.resource.as_str());
    metadata.set("subject_fingerprint", call.fingerprint.as_str());
    metadata.set("method", call.method.as_str());
    if let Some(trace_id) = &call.trace_id {
        metadata.set("trace_id", trace_id.as_ref());
    }
    if let Some(subject) = call.subject {
        metadata.set("subject_kind", subject.as_str());
    }
    if let Some(jti) = &call.jti {
        metadata.set("jti", jti.as_str());
    }
    metadata
}

fn replay(call: &Call) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.set("jti", call.jti.as_ref().map(|jti| jti.as_str()));
    metadata.set("resource", call.resource.as_str());
    metadata.set("client_id", call.application.as_str());
    metadata.set("subject_fp", call.fingerprint.as_str());
    metadata.set("request_id", call.request_id.as_str());
    metadata
}

fn forwarding(facts: &Forwarding) -> Metadata {
    let mut metadata = Metadata::new();
    let texts = [
        ("upstream_host", facts.upstream_host.as_deref()),
        ("auth_mode", facts.auth_mode),
        ("provider_id", facts.provider_id.as_deref()),
        ("connection_id", facts.connection_id.as_deref()),
        ("operation", facts.operation.as_deref()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            metadata.set(name, text);
        }
    }
    metadata
}

fn class(status: u16) -> &'static str {
    match status {
        200..=299 => "success",
        300..=399 => "redirect",
        400..=499 => "client_error",
        500.. => "server_error",
        _ => "unknown",
    }
}
