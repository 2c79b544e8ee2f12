//! The routes: bytes in, one step after another, JSON out.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRef, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use caracal_core::id::ZoneId;
use caracal_http::body::{BodyError, read_limited};
use caracal_http::{Failure, Observed, RequestContext};
use caracal_roles::wire::{EXCHANGE_PATH, STILL_GRANTED_PATH};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};

use crate::Sts;
use crate::error::Refusal;
use crate::exchange::Minted;
use crate::form::{MAX_BODY_BYTES, MalformedForm, TokenForm, judge_head};
use crate::gateway_leg::{self, GatewayLeg, Question};
use crate::rotation::rotate;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What the handlers work with.
#[derive(Clone)]
pub(crate) struct Door {
    sts: Arc<Sts>,
    leg: Option<Arc<GatewayLeg>>,
}

impl FromRef<Door> for Arc<Sts> {
    fn from_ref(door: &Door) -> Self {
        Self::clone(&door.sts)
    }
}

pub(crate) fn router(sts: &Arc<Sts>, leg: Option<GatewayLeg>) -> Router {
    let observed = Observed::new(
        "sts",
        Arc::clone(&sts.clock),
        Arc::clone(&sts.random),
        sts.options.trust_proxy,
    );
    let door = Door {
        sts: Arc::clone(sts),
        leg: leg.map(Arc::new),
    };
    let mut router = Router::new();
    if door.leg.is_some() {
        router = router.route(STILL_GRANTED_PATH, post(still_granted));
    }
    router
        .route(EXCHANGE_PATH, post(token).fallback(only_post))
        .route("/.well-known/jwks.json", get(jwks))
        .route("/approvals/{id}", get(no_approval))
        .route("/approvals/{id}/decision", post(no_approval))
        .route("/internal/zones/{zone}/signing-key/rotate", post(rotate))
        .with_state(door)
        .layer(observed)
}

async fn only_post() -> Failure {
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request")
        .describe("the token endpoint takes POST")
        .with_header(ALLOW, HeaderValue::from_static("POST"))
}

async fn token(State(door): State<Door>, context: RequestContext, request: Request) -> Response {
    let sts = &door.sts;
    if let Some(leg) = &door.leg
        && gateway_leg::is_claimed(request.headers())
    {
        return gateway_leg::answer(sts, leg, &context, Question::Exchange, request).await;
    }
    let mut response = match answer_token(sts, &context, request).await {
        Ok(minted) => granted(&minted),
        Err(refusal) => {
            sts.log_cause(&context.request_id, &refusal);
            Failure::from(refusal).into_response()
        }
    };
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

async fn still_granted(
    State(door): State<Door>,
    context: RequestContext,
    request: Request,
) -> Response {
    match &door.leg {
        Some(leg) => {
            gateway_leg::answer(&door.sts, leg, &context, Question::StillGranted, request).await
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn answer_token(
    sts: &Arc<Sts>,
    context: &RequestContext,
    request: Request,
) -> Result<Minted, Refusal> {
    let (head, body) = request.into_parts();
    judge_head(head.uri.query(), &head.headers)?;
    let body = read_limited(body, MAX_BODY_BYTES)
        .await
        .map_err(|error| match error {
            BodyError::TooLarge(_) => MalformedForm::TooLarge,
            BodyError::Broken => MalformedForm::Unreadable,
        })?;
    let form = TokenForm::parse(&head.headers, &body)?;
    sts.exchange_for_client(context, &form).await
}

fn granted(minted: &Minted) -> Response {
    match serde_json::to_vec(&minted.response()) {
        Ok(body) => {
            let mut response = Response::new(Body::from(body));
            response.headers_mut().insert(CONTENT_TYPE, JSON);
            response
        }
        Err(_) => Failure::internal().into_response(),
    }
}

/// One document per zone; a document of all zones is never served.
async fn jwks(
    State(sts): State<Arc<Sts>>,
    context: RequestContext,
    query: Result<Query<HashMap<String, String>>, QueryRejection>,
) -> Response {
    let named = query
        .ok()
        .and_then(|Query(mut fields)| fields.remove("zone_id"));
    let Some(named) = named.filter(|text| !text.is_empty()) else {
        return Failure::new(StatusCode::BAD_REQUEST, "invalid_request")
            .describe("name the zone: ?zone_id=")
            .into_response();
    };
    let Ok(zone) = ZoneId::parse(&named) else {
        return no_keys();
    };
    match sts.published_keys(&zone).await {
        Ok(Some(keys)) if keys.set().is_empty() => Failure::internal().into_response(),
        Ok(Some(keys)) => {
            let mut response = Response::new(Body::from(keys.document()));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, JSON);
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            let fresh = HeaderValue::from_static("public, max-age=300, must-revalidate");
            headers.insert(CACHE_CONTROL, fresh);
            response
        }
        Ok(None) => no_keys(),
        Err(refusal) => {
            sts.log_cause(&context.request_id, &refusal);
            Failure::from(refusal).into_response()
        }
    }
}

fn no_keys() -> Response {
    Failure::new(StatusCode::NOT_FOUND, "resource_not_found")
        .describe("there is no such zone")
        .into_response()
}

/// No hold exists, so no id names one.
async fn no_approval() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "resource_not_found").describe("there is no such approval")
}
