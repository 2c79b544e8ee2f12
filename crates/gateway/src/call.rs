//! What every step knows about the call it works on: the words of its log lines and audit events.

use std::net::IpAddr;
use std::sync::Arc;

use caracal_core::id::{ApplicationId, MandateId, ZoneId};
use caracal_core::{Clock, Random, RequestId, ResourceIdentifier, SubjectType};
use caracal_crypto::{Claims, mandate};
use caracal_http::TraceContext;
use http::{HeaderMap, Method};

use crate::preflight::Preflight;
use crate::respond::REQUEST_ID;

/// The correlation of one request, known before anything is checked.
#[derive(Debug, Clone)]
pub(crate) struct Correlation {
    pub(crate) request_id: RequestId,
    pub(crate) trace: TraceContext,
    pub(crate) peer: IpAddr,
}

impl Correlation {
    /// Reads the caller's request id and trace, or makes an id.
    pub(crate) fn of(
        headers: &HeaderMap,
        peer: IpAddr,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Self {
        let offered = headers
            .get(&REQUEST_ID)
            .and_then(|value| value.to_str().ok());
        Self {
            request_id: RequestId::accept(offered, clock, random),
            trace: TraceContext::from_headers(headers),
            peer,
        }
    }
}

/// An identified call: the mandate's signature holds.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) zone: ZoneId,
    pub(crate) application: ApplicationId,
    pub(crate) resource: ResourceIdentifier,
    pub(crate) request_id: RequestId,
    pub(crate) trace_id: Option<Arc<str>>,
    pub(crate) method: Method,
    pub(crate) fingerprint: String,
    /// Absent when the claims were not readable.
    pub(crate) jti: Option<MandateId>,
    /// Absent when the claims were not readable.
    pub(crate) subject: Option<SubjectType>,
}

impl Call {
    /// The call of a mandate whose signature holds; `claims` when they were readable too.
    pub(crate) fn identified(
        preflight: &Preflight,
        method: &Method,
        correlation: &Correlation,
        claims: Option<&Claims>,
    ) -> Self {
        Self {
            zone: preflight.zone.clone(),
            application: preflight.application.clone(),
            resource: preflight.resource.clone(),
            request_id: correlation.request_id.clone(),
            trace_id: correlation.trace.trace_id().map(Arc::from),
            method: method.clone(),
            fingerprint: mandate::fingerprint(preflight.token()),
            jti: claims.map(|claims| claims.jti.clone()),
            subject: claims.map(|claims| claims.sub_type),
        }
    }
}
