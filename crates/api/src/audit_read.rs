//! Reading evidence: audit events, the admin audit, authority records and sessions.

mod admin;
mod authority;
mod by_request;
mod columns;
mod csv;
mod event;
mod redact;
mod search;
mod sessions;

pub(crate) use admin::list_admin_audit;
pub(crate) use authority::list_authority_records;
pub(crate) use by_request::{by_request, explain};
pub(crate) use event::EventItem;
pub(crate) use search::search;
pub(crate) use sessions::list_sessions;

use std::time::Duration;

use crate::error::ApiError;
use crate::request::query::Query;

/// The longest wait for events that are logged but not stored yet.
const CATCH_UP: Duration = Duration::from_secs(1);

/// The form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
}

fn format(query: &Query) -> Result<Format, ApiError> {
    let format = query.named("format", |name| match name {
        "json" => Some(Format::Json),
        "csv" => Some(Format::Csv),
        _ => None,
    })?;
    Ok(format.unwrap_or(Format::Json))
}
