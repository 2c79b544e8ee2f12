//! The pipeline, top to bottom.
//!
//! Each step takes what the step before it made: a call that is not proven can't be judged, one that
//! does not stand can't be spent, one that is not spent can't be exchanged, and only an exchange
//! makes the permit from which an upstream request is built.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use caracal_core::{Clock, Random};
use caracal_evidence::Journal;
use caracal_http::ops::Metrics;
use caracal_roles::{Exchange, KeySource};
use caracal_store::Authority;
use futures_util::FutureExt;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::anchors::Anchors;
use crate::answer::AnswerBody;
use crate::audit::{Dispatched, Forwarding, Record, Recorder};
use crate::build::{self, CallerHead, CallerSide};
use crate::call::Correlation;
use crate::exchange::{Exchanger, Permit};
use crate::host_guard::{HostGuard, Resolve, SystemResolver};
use crate::listener::{Acceptor, CallerConnection, Engaged, TlsUnusable};
use crate::meter::Meter;
use crate::ops::Operations;
use crate::options::GatewayOptions;
use crate::preflight::{self, HeadLimits};
use crate::prove::{Proven, Prover};
use crate::refusal::{Fallen, Refusal};
use crate::rejudge::Rejudge;
use crate::relay::{Relay, RelayTerms};
use crate::replay::{self, ProcessMarks, ReplayMarks};
use crate::respond::{self, Delimiter};
use crate::upload::{Upload, UploadLimits};
use crate::upstream::{UpstreamBody, Upstreams};

/// How often idle upstream connections are looked over and gauges brought up to date.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// What the Gateway works with.
#[derive(Clone)]
pub struct GatewayDeps {
    /// The source of time.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub random: Arc<dyn Random>,
    /// The fresh view of every zone.
    pub authority: Arc<Authority>,
    /// Where a zone's public keys come from.
    pub keys: Arc<dyn KeySource>,
    /// The STS.
    pub sts: Arc<dyn Exchange>,
    /// The local audit log.
    pub journal: Journal,
    /// The process's metrics.
    pub metrics: Metrics,
    /// The replay memory; `None` for one of this process alone.
    pub marks: Option<Arc<dyn ReplayMarks>>,
    /// Where host names resolve; `None` for the operating system's resolver.
    pub resolver: Option<Arc<dyn Resolve>>,
}

/// The enforcing reverse proxy.
pub struct Gateway {
    options: GatewayOptions,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    authority: Arc<Authority>,
    meter: Arc<Meter>,
    prover: Prover,
    anchors: Arc<Anchors>,
    exchanger: Arc<Exchanger>,
    marks: Arc<dyn ReplayMarks>,
    guard: Arc<HostGuard>,
    upstreams: Arc<Upstreams>,
    recorder: Arc<Recorder>,
    operations: Operations,
}

impl Gateway {
    /// A Gateway that serves nobody yet.
    #[must_use]
    pub fn new(options: GatewayOptions, deps: GatewayDeps) -> Arc<Self> {
        let meter = Arc::new(Meter::new());
        let marks = deps.marks.unwrap_or_else(|| {
            Arc::new(ProcessMarks::new(
                deps.clock.as_ref(),
                options.replay_capacity,
            ))
        });
        let resolver = deps.resolver.unwrap_or_else(|| Arc::new(SystemResolver));
        let guard = Arc::new(HostGuard::new(&options, resolver));
        let anchors = Arc::new(Anchors::new(
            Arc::clone(&deps.authority),
            Arc::clone(&deps.clock),
            options.barrier_timeout,
        ));
        let exchanger = Arc::new(Exchanger::new(
            deps.sts,
            options.sts_timeout,
            Arc::clone(&meter),
        ));
        let recorder = Arc::new(Recorder::new(
            deps.journal,
            Arc::clone(&deps.clock),
            Arc::clone(&deps.random),
        ));
        let operations = Operations::new(
            &options,
            deps.metrics,
            Arc::clone(&meter),
            Arc::clone(&anchors),
            Arc::clone(&marks),
            Arc::clone(&exchanger),
            Arc::clone(&recorder),
            Arc::clone(&deps.clock),
        );
        Arc::new(Self {
            prover: Prover::new(deps.keys, Arc::clone(&options.issuer), options.sts_timeout),
            upstreams: Arc::new(Upstreams::new(&options, Arc::clone(&guard))),
            clock: deps.clock,
            random: deps.random,
            authority: deps.authority,
            options,
            meter,
            anchors,
            exchanger,
            marks,
            guard,
            recorder,
            operations,
        })
    }

    /// The settings.
    #[must_use]
    pub fn options(&self) -> &GatewayOptions {
        &self.options
    }

    /// Serves callers until `shutdown`, then drains: no new connections, running requests finish
    /// within the drain time, readiness says so meanwhile.
    ///
    /// # Errors
    /// [`TlsUnusable`] when the configured key pair can't be used; nothing has been served then.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<(), TlsUnusable> {
        let acceptor = Arc::new(Acceptor::new(Arc::clone(&self), shutdown.clone())?);
        let operations = self.operations.clone();
        let flip = tokio::spawn(async move {
            shutdown.cancelled().await;
            operations.drain();
        });
        acceptor.run(listener).await;
        flip.abort();
        Ok(())
    }

    /// The operational routes, for a port of their own.
    pub fn operations_router(&self) -> axum::Router {
        self.operations.router()
    }

    /// Starts the housekeeping: idle connections close, gauges follow.
    #[must_use]
    pub fn spawn_jobs(self: &Arc<Self>, shutdown: CancellationToken) -> Vec<JoinHandle<()>> {
        let gateway = Arc::clone(self);
        let sweeper = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = shutdown.cancelled() => return,
                }
                gateway.upstreams.sweep();
                gateway.operations.refresh();
            }
        });
        vec![sweeper]
    }

    /// Waits until the final events of ended calls are in the audit log.
    pub(crate) async fn settle(&self) {
        self.recorder.settle().await;
    }

    /// Answers one request; a panic in a step is a 500, never a broken process.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        caller: CallerConnection,
    ) -> Response<AnswerBody> {
        let link = Arc::clone(&caller.link);
        let answering = AssertUnwindSafe(self.route(request, caller)).catch_unwind();
        answering.await.unwrap_or_else(|_| {
            tracing::error!("a step of the pipeline panicked");
            let mut response = Response::new(AnswerBody::own(
                Bytes::from_static(br#"{"error":"internal_error"}"#),
                link.engage(),
            ));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            let json = HeaderValue::from_static("application/json");
            response
                .headers_mut()
                .insert(http::header::CONTENT_TYPE, json);
            response
        })
    }

    async fn route(
        self: Arc<Self>,
        request: Request<Incoming>,
        caller: CallerConnection,
    ) -> Response<AnswerBody> {
        let engaged = caller.link.engage();
        let (head, body) = request.into_parts();
        if self.options.operations_on_service_port
            && let Some(answer) = self.operations.answer(&head).await
        {
            return answer.map(|bytes| AnswerBody::own(bytes, engaged));
        }
        self.proxy(head, body, caller, engaged).await
    }

    async fn proxy(
        &self,
        head: Parts,
        body: Incoming,
        caller: CallerConnection,
        engaged: Engaged,
    ) -> Response<AnswerBody> {
        let began = std::time::Instant::now();
        self.meter.requests.add();
        let correlation = Correlation::of(
            &head.headers,
            caller.peer.ip(),
            self.clock.as_ref(),
            self.random.as_ref(),
        );
        let (response, reason) = match self.govern(&head, body, &correlation, &caller).await {
            Ok(running) => (self.respond(running, &head, &correlation, engaged), ""),
            Err(refusal) => {
                let rendered = refusal.render(&correlation.request_id);
                (
                    rendered.map(|bytes| AnswerBody::own(bytes, engaged)),
                    refusal.reason(),
                )
            }
        };
        let status = response.status().as_u16();
        caracal_http::observe::record("gateway", "proxy", status, reason, began);
        response
    }

    /// Everything up to the upstream's response head.
    async fn govern(
        &self,
        head: &Parts,
        body: Incoming,
        correlation: &Correlation,
        caller: &CallerConnection,
    ) -> Result<Running, Refusal> {
        let proven = self.identify(head, correlation).await?;
        let changes = self.authority.watch(&proven.call().zone);
        let permit = self.authorise(proven).await?;
        self.forward(permit, changes, head, body, correlation, caller)
            .await
    }

    /// Steps 2 to 11: who calls, with which mandate, for what.
    async fn identify(&self, head: &Parts, correlation: &Correlation) -> Result<Proven, Refusal> {
        let limits = HeadLimits {
            head_bytes: self.options.max_header_bytes,
            body_bytes: self.options.max_request_bytes,
        };
        let now = self.clock.now();
        let preflight = preflight::check(head, limits, now)
            .inspect_err(|refusal| self.denied(refusal, correlation))?;
        match self
            .prover
            .prove(preflight, &head.method, correlation, now)
            .await
        {
            Ok(proven) => Ok(proven),
            Err(unproven) => {
                self.denied(&unproven.refusal, correlation);
                if let Some(call) = &unproven.call {
                    self.recorder.refused(call, &unproven.refusal).await?;
                }
                Err(unproven.refusal)
            }
        }
    }

    /// Steps 12 to 15: whether the call is allowed now. Refusals leave evidence.
    async fn authorise(&self, proven: Proven) -> Result<Permit, Refusal> {
        let call = Arc::clone(proven.call());
        match self.permit(proven).await {
            Ok(permit) => Ok(permit),
            Err(refusal) => {
                refusal.count(&self.meter, false);
                tracing::info!(
                    request_id = %call.request_id, zone_id = %call.zone,
                    application_id = %call.application, resource = %call.resource,
                    subject_fp = %call.fingerprint, reason = refusal.reason(), "refused"
                );
                self.recorder.refused(&call, &refusal).await?;
                Err(refusal)
            }
        }
    }

    /// What is local first, the mark last, just before the exchange.
    async fn permit(&self, proven: Proven) -> Result<Permit, Refusal> {
        let standing = self.anchors.stand(proven).await?;
        let admission = self.exchanger.admit(&standing.proven().call().zone)?;
        let now = self.clock.now();
        let spent = replay::spend(self.marks.as_ref(), standing, now).await?;
        self.exchanger.exchange(admission, spent).await
    }

    /// Steps 16 to 19: the call itself. However it ends, its record is written.
    async fn forward(
        &self,
        permit: Permit,
        changes: watch::Receiver<u64>,
        head: &Parts,
        body: Incoming,
        correlation: &Correlation,
        caller: &CallerConnection,
    ) -> Result<Running, Refusal> {
        let facts = Forwarding::of(permit.grant());
        let mut record = self.recorder.begin(Arc::clone(permit.call()), facts);
        let mut running = RunningCall {
            rejudge: Arc::new(Rejudge {
                anchors: Arc::clone(&self.anchors),
                exchanger: Arc::clone(&self.exchanger),
                request: Arc::clone(permit.request()),
                judged_at: permit.judged_at().into(),
                timeout: self.options.rejudge_timeout,
            }),
            changes,
            expires: self.expiry(&permit),
            patience: self.options.sts_timeout,
        };
        match self
            .dispatch(
                &permit,
                &mut running,
                &mut record,
                head,
                body,
                correlation,
                caller,
            )
            .await
        {
            Ok(response) => Ok(Running {
                response,
                call: running,
                record,
            }),
            Err(refusal) => {
                refusal.count(&self.meter, true);
                tracing::warn!(
                    request_id = %correlation.request_id, reason = refusal.reason(),
                    "call not completed"
                );
                record.refused(&refusal);
                Err(refusal)
            }
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one step of the pipeline, called once"
    )]
    async fn dispatch(
        &self,
        permit: &Permit,
        running: &mut RunningCall,
        record: &mut Record,
        head: &Parts,
        body: Incoming,
        correlation: &Correlation,
        caller: &CallerConnection,
    ) -> Result<Response<UpstreamBody>, Refusal> {
        let target = self.guard.judge(permit).await?;
        let side = CallerSide {
            peer: correlation.peer,
            tls: caller.tls,
            trust_proxy: self.options.trust_proxy,
        };
        let from = CallerHead {
            method: &head.method,
            query: head.uri.query(),
            headers: &head.headers,
            correlation,
            side,
        };
        let outbound = build::build(permit, target, &from, self.random.as_ref())?;
        let dispatched = self.recorder.dispatch(record, outbound).await?;
        let began = Instant::now();
        let response = self.send(dispatched, body, running).await?;
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        record.answered(response.status().as_u16(), took);
        self.meter.allowed.add();
        Ok(response)
    }

    /// Sends and waits for the response head, as long as the call's authority lasts.
    async fn send(
        &self,
        dispatched: Dispatched,
        body: Incoming,
        running: &mut RunningCall,
    ) -> Result<Response<UpstreamBody>, Refusal> {
        let limits = UploadLimits {
            bytes: self.options.max_request_bytes,
            idle: self.options.stream_idle_timeout,
            total: self.options.read_timeout,
        };
        let (upload, state) = Upload::new(body, limits);
        let zone = running.rejudge.request.mandate.claims().zone_id.clone();
        let sending = self.upstreams.send(dispatched, upload, &state, &zone);
        tokio::pin!(sending);
        loop {
            tokio::select! {
                response = &mut sending => {
                    let response = response?;
                    if running.changes.has_changed().unwrap_or(true) {
                        running.judge().await?;
                    }
                    return Ok(response);
                }
                _ = running.changes.changed() => running.judge().await?,
                () = tokio::time::sleep_until(running.expires) => {
                    return Err(Refusal::Interrupted(Fallen::Mandate));
                }
            }
        }
    }

    fn respond(
        &self,
        running: Running,
        head: &Parts,
        correlation: &Correlation,
        engaged: Engaged,
    ) -> Response<AnswerBody> {
        let Running {
            response,
            call,
            record,
        } = running;
        let (upstream, body) = response.into_parts();
        let claims = call.rejudge.request.mandate.claims();
        let mut headers = respond::headers(
            &upstream.headers,
            &correlation.request_id,
            claims.exp,
            self.clock.now(),
        );
        let delimiter = respond::delimiter(&head.method, head.version, upstream.status, &headers);
        if delimiter != Delimiter::Nothing {
            respond::announce_trailer(&mut headers);
        }
        let terms = RelayTerms {
            rejudge: call.rejudge,
            changes: call.changes,
            expires: call.expires,
            idle: self.options.stream_idle_timeout,
            delimiter,
            meter: Arc::clone(&self.meter),
        };
        let relay = Relay::new(body, terms, record, engaged);
        let mut response = Response::new(AnswerBody::Relayed(Box::new(relay)));
        *response.status_mut() = upstream.status;
        *response.headers_mut() = headers;
        response
    }

    fn expiry(&self, permit: &Permit) -> Instant {
        let left = permit
            .request()
            .mandate
            .claims()
            .exp
            .since(self.clock.now());
        Instant::now() + left
    }

    fn denied(&self, refusal: &Refusal, correlation: &Correlation) {
        refusal.count(&self.meter, false);
        tracing::info!(
            request_id = %correlation.request_id, client_ip = %correlation.peer,
            reason = refusal.reason(), "refused"
        );
    }
}

/// The authority under which a call runs.
struct RunningCall {
    rejudge: Arc<Rejudge>,
    changes: watch::Receiver<u64>,
    expires: Instant,
    /// Longest wait for a verdict while the caller has no answer.
    patience: Duration,
}

impl RunningCall {
    async fn judge(&mut self) -> Result<(), Refusal> {
        self.changes.mark_unchanged();
        self.rejudge
            .run_within(self.patience)
            .await
            .map_err(|refusal| match refusal {
                Refusal::Revoked(fallen) => Refusal::Interrupted(fallen),
                other => other,
            })
    }
}

/// A call whose upstream has answered.
struct Running {
    response: Response<UpstreamBody>,
    call: RunningCall,
    record: Record,
}
