//! `POST /internal/zones/{zone}/signing-key/rotate`: the operator's route.
//!
//! The rotation and the row that says who asked for it are one transaction.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use caracal_core::RequestId;
use caracal_core::id::{KeyId, ZoneId};
use caracal_http::{Failure, RequestContext, bearer};
use caracal_store::{AdminAudit, StoreError};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use thiserror::Error;

use crate::Sts;
use crate::error::Refusal;
use crate::keys::{KeyCreationError, rotate_zone_key};

/// Why a key was not rotated.
#[derive(Debug, Error)]
enum RotationRefused {
    /// No admin token is configured, so the route does not exist.
    #[error("there is no such route")]
    Absent,
    /// Another bearer, or none.
    #[error("unauthorized")]
    Bearer,
    /// No live zone has this id.
    #[error("there is no such zone")]
    Zone,
    /// The key could not be made or stored.
    #[error(transparent)]
    Key(#[from] KeyCreationError),
}

impl From<StoreError> for RotationRefused {
    fn from(error: StoreError) -> Self {
        Self::Key(error.into())
    }
}

impl IntoResponse for RotationRefused {
    fn into_response(self) -> Response {
        match self {
            Self::Absent => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
            Self::Bearer => {
                let realm = HeaderValue::from_static("Bearer realm=\"caracal-sts\"");
                (
                    StatusCode::UNAUTHORIZED,
                    [(WWW_AUTHENTICATE, realm)],
                    "unauthorized\n",
                )
                    .into_response()
            }
            Self::Zone => Failure::new(StatusCode::NOT_FOUND, "resource_not_found")
                .describe("there is no such zone")
                .into_response(),
            Self::Key(KeyCreationError::Store(error)) => {
                Failure::from(Refusal::from(error)).into_response()
            }
            Self::Key(KeyCreationError::Module(_)) => Failure::internal().into_response(),
            Self::Key(error @ KeyCreationError::TooManyKeys(_)) => {
                Failure::new(StatusCode::CONFLICT, "invalid_request")
                    .describe(error.to_string())
                    .into_response()
            }
        }
    }
}

pub(crate) async fn rotate(
    State(sts): State<Arc<Sts>>,
    zone: Result<Path<String>, PathRejection>,
    context: RequestContext,
    headers: HeaderMap,
) -> Response {
    // What is not UTF-8 once decoded is the id of no zone.
    let zone = zone.map(|Path(zone)| zone).unwrap_or_default();
    match rotate_key(&sts, &zone, &context.request_id, &headers).await {
        Ok((zone, kid)) => {
            let body = json!({ "rotated": true, "zone_id": zone, "kid": kid });
            axum::Json(body).into_response()
        }
        Err(refused) => {
            if let RotationRefused::Key(cause) = &refused {
                tracing::error!(request_id = %context.request_id, %cause, "no key was rotated");
            }
            refused.into_response()
        }
    }
}

async fn rotate_key(
    sts: &Sts,
    zone: &str,
    request_id: &RequestId,
    headers: &HeaderMap,
) -> Result<(ZoneId, KeyId), RotationRefused> {
    let expected = sts
        .options
        .admin_token
        .as_ref()
        .ok_or(RotationRefused::Absent)?;
    let presented = bearer::strict(headers).ok_or(RotationRefused::Bearer)?;
    if !bearer::equal(presented, expected.expose()) {
        return Err(RotationRefused::Bearer);
    }
    let zone = ZoneId::parse(zone).map_err(|_| RotationRefused::Zone)?;
    let mut unit = sts.store.begin(&zone).await?;
    if !unit.get_zone().await?.is_some_and(|found| found.is_live()) {
        return Err(RotationRefused::Zone);
    }
    let kid = rotate_zone_key(&mut unit, &sts.key_ring, &*sts.clock, &*sts.random).await?;
    unit.record_admin_audit(&audit_of(&zone, &kid, request_id))
        .await?;
    unit.commit().await?;
    Ok((zone, kid))
}

fn audit_of(zone: &ZoneId, kid: &KeyId, request_id: &RequestId) -> AdminAudit {
    let path = format!("/internal/zones/{zone}/signing-key/rotate");
    AdminAudit {
        request_id: request_id.as_str().to_owned(),
        actor_id: Some("sts:admin".to_owned()),
        actor_name: None,
        actor_scope: None,
        action: format!("POST {path}"),
        method: "POST".to_owned(),
        path,
        entity_type: Some("signing-keys".to_owned()),
        entity_id: Some(kid.as_str().to_owned()),
        status_code: 200,
        payload: None,
    }
}
