//! What happens to every request under `/v1`, in order.
//!
//! Peer limit, authentication, gate, token limit, parameters, query, body, handler. The caller is
//! known before a byte of the body is read. A refusal after authentication leaves a row in the admin
//! audit; before it, only a counter.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::response::{IntoResponse, Response};
use caracal_http::{Failure, RequestContext};
use http::header::{CACHE_CONTROL, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Request, StatusCode};

use crate::admin_audit;
use crate::api::Api;
use crate::authenticate::authenticate;
use crate::capability::{Actor, Permit, ZoneFacts, judge, needs_zone_facts};
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::query::Query;
use crate::request::{Call, Params, Target, body};
use crate::route::Route;

/// The longest path that an audit row keeps, in bytes.
const MAX_PATH_BYTES: usize = 1_024;

/// Why there is no successful answer.
enum Refused {
    /// One of the documented refusals.
    By(ApiError),
    /// No route has this method and path.
    NoRoute,
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::By(error)
    }
}

/// Answers one request; `route` is `None` when nothing matched.
pub(crate) async fn answer(
    api: Arc<Api>,
    route: Option<Arc<Route>>,
    request: Request<Body>,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(context) = RequestContext::from_request_parts(&mut parts, &()).await;
    let mut response = match admit(&api, route, context, &mut parts, body).await {
        Ok(reply) => reply.into_response(),
        Err(Refused::By(error)) => Failure::from(error).into_response(),
        Err(Refused::NoRoute) => no_route(&parts).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Finds out who asks; from here on a refusal is audited.
async fn admit(
    api: &Arc<Api>,
    route: Option<Arc<Route>>,
    context: RequestContext,
    parts: &mut Parts,
    body: Body,
) -> Result<Reply, Refused> {
    api.limits.peer(context.peer).map_err(ApiError::from)?;
    let actor = authenticate(api, &parts.headers, context.peer).await?;
    let target = target(parts, route.as_deref());
    let params = match RawPathParams::from_request_parts(parts, &()).await {
        Ok(raw) => raw
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        Err(_) => return Err(ApiError::from(Code::InvalidParams).into()),
    };
    let params = Params::new(params);
    let Some(route) = route else {
        api.limits.token(&actor.id).map_err(ApiError::from)?;
        api.last_used.touch(&actor.id);
        return Err(Refused::NoRoute);
    };
    let refusal = admin_audit::Refusal::prepare(&actor, &context, &target, &params);
    let outcome = run(
        api,
        &route,
        Box::new((actor, context, target, params)),
        parts,
        body,
    )
    .await;
    if let Err(error) = &outcome {
        refusal.record(api, error.code().status()).await;
    }
    outcome.map_err(Refused::By)
}

type Arrived = Box<(Actor, RequestContext, Target, Params)>;

async fn run(
    api: &Arc<Api>,
    route: &Route,
    arrived: Arrived,
    parts: &Parts,
    body: Body,
) -> Result<Reply, ApiError> {
    let (actor, context, target, params) = *arrived;
    let permit = gate(api, route, &actor, &params).await?;
    api.limits.token(&actor.id)?;
    api.last_used.touch(&actor.id);
    params.check()?;
    let query = Query::parse(parts.uri.query())?;
    let body = if reads_body(route) {
        body::read(&parts.headers, body, api.options.body_limits()).await?
    } else {
        None
    };
    let call = Call::new(actor, context, target, params, query, body, permit);
    route.handle(Arc::clone(api), call).await
}

fn reads_body(route: &Route) -> bool {
    route.verb != crate::route::Verb::Get
}

async fn gate(
    api: &Api,
    route: &Route,
    actor: &Actor,
    params: &Params,
) -> Result<Permit, ApiError> {
    let zone = params.get("zone_id");
    let facts = match zone.and_then(|zone| zone.parse().ok()) {
        Some(zone) if needs_zone_facts(actor, route.access, route.reach) => api
            .store
            .platform()
            .get_zone(&zone)
            .await?
            .as_ref()
            .map(ZoneFacts::from),
        _ => None,
    };
    Ok(judge(
        actor,
        route.access,
        route.reach,
        zone,
        facts.as_ref(),
    )?)
}

fn target(parts: &Parts, route: Option<&Route>) -> Target {
    let mut path = parts.uri.path().to_owned();
    let mut end = path.len().min(MAX_PATH_BYTES);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    path.truncate(end);
    Target {
        method: route.map_or("", |route| route.verb.as_str()),
        path,
        template: route.map(|route| route.template),
    }
}

/// The answer where there is no route; it has a shape of its own, which clients know.
fn no_route(parts: &Parts) -> Failure {
    let message = format!("Route {}:{} not found", parts.method, parts.uri.path());
    Failure::new(StatusCode::NOT_FOUND, "Not Found")
        .with_member("message", message)
        .with_member("statusCode", 404)
        .because("route_not_found")
}
