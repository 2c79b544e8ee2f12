//! The routes, and what stands before them: context, rate limit, authentication.

use std::sync::Arc;

use axum::routing::{get, patch, post};
use axum::{Router, middleware};
use caracal_http::Failure;
use http::StatusCode;

use crate::Coordinator;
use crate::authenticate::authenticate;
use crate::{delegation, limits, outbox, session, verify};

/// Every route but the operational ones.
pub(crate) fn router(coordinator: &Arc<Coordinator>) -> Router {
    let state = Arc::clone(coordinator);
    let guarded = sessions()
        .merge(delegations())
        .merge(messages())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(
            Arc::clone(coordinator),
            authenticate,
        ));
    let public = Router::new().route("/v1/verify", post(verify::verify));
    guarded
        .merge(public)
        .with_state(state)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&coordinator.limits),
            limits::count,
        ))
        .layer(coordinator.observed())
}

fn sessions() -> Router<Arc<Coordinator>> {
    Router::new()
        .route(
            "/zones/{zone_id}/agents",
            get(session::list).post(session::start),
        )
        .route(
            "/zones/{zone_id}/agents/{id}",
            get(session::get).delete(session::end),
        )
        .route(
            "/zones/{zone_id}/agents/{id}/children",
            get(session::children),
        )
        .route(
            "/zones/{zone_id}/agents/{id}/effective-authority",
            get(delegation::effective_authority),
        )
        .route(
            "/zones/{zone_id}/agents/{id}/suspend",
            patch(session::suspend),
        )
        .route(
            "/zones/{zone_id}/agents/{id}/resume",
            patch(session::resume),
        )
        .route("/zones/{zone_id}/agents/{id}/lease", post(session::lease))
        .route(
            "/zones/{zone_id}/agents/{id}/heartbeat",
            post(session::heartbeat),
        )
}

fn delegations() -> Router<Arc<Coordinator>> {
    Router::new()
        .route("/zones/{zone_id}/delegations", post(delegation::create))
        .route(
            "/zones/{zone_id}/delegations/active",
            get(delegation::active),
        )
        .route(
            "/zones/{zone_id}/delegations/inbound/{session_id}",
            get(delegation::inbound),
        )
        .route(
            "/zones/{zone_id}/delegations/inbound/{session_id}/{id}",
            get(delegation::inbound_one),
        )
        .route(
            "/zones/{zone_id}/delegations/outbound/{session_id}",
            get(delegation::outbound),
        )
        .route(
            "/zones/{zone_id}/delegations/{id}/traverse",
            get(delegation::traverse),
        )
        .route(
            "/zones/{zone_id}/delegations/{id}/impact",
            get(delegation::impact),
        )
        .route(
            "/zones/{zone_id}/delegations/{id}/revoke",
            patch(delegation::revoke),
        )
}

fn messages() -> Router<Arc<Coordinator>> {
    Router::new().route(
        "/zones/{zone_id}/outbox/{id}/requeue",
        post(outbox::requeue),
    )
}

async fn no_route() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "not_found").describe("there is no such route")
}

async fn no_method() -> Failure {
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed")
        .describe("the route has no such method")
}
