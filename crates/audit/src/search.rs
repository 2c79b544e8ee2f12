//! `GET /api/audit/search`: a zone's events, in the order of its chain.

use std::time::Duration;

use caracal_core::Timestamp;
use caracal_core::id::ZoneId;
use caracal_evidence::Hash;
use serde::Serialize;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::Inner;
use crate::ledger::{LedgerError, Record, Search};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
const DAY_SECONDS: i64 = 24 * 60 * 60;
/// How long a search waits for events that were logged before it.
const CATCH_UP: Duration = Duration::from_millis(500);

/// Why a search has no answer.
#[derive(Debug, Error)]
pub(crate) enum SearchError {
    /// No zone was named.
    #[error("zone_id is required")]
    ZoneRequired,
    /// The ledger did not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The answer.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    /// `null` when there is none.
    events: Option<Vec<Item>>,
    /// The last number; empty when there is no event.
    next_cursor: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    event: Option<Box<RawValue>>,
    ingested_at: String,
    /// SHA-256 of the event's JSON text.
    #[serde(rename = "ContentSHA256")]
    content: String,
    /// The link of the event before.
    #[serde(rename = "PrevContentSHA256")]
    before: String,
    /// The link of this event, which covers its leaf and the link before.
    #[serde(rename = "ChainHMAC")]
    chain: String,
    /// The event's leaf in the zone's Merkle tree.
    leaf_hash: Hash,
    chain_seq: u64,
}

/// Runs a search. Parameters that don't parse count as absent.
pub(crate) async fn search(inner: &Inner, query: &str) -> Result<Page, SearchError> {
    let (zone, search) = parse(query, inner.parts.clock.now()).ok_or(SearchError::ZoneRequired)?;
    // An answer that lacks the newest events is better than none.
    let _ = inner.caught_up(CATCH_UP).await;
    let records = inner.parts.ledger.search(&zone, &search).await?;
    let next_cursor = records
        .last()
        .map(|record| record.seq.to_string())
        .unwrap_or_default();
    let events: Vec<Item> = records.into_iter().map(Item::of).collect();
    Ok(Page {
        events: (!events.is_empty()).then_some(events),
        next_cursor,
    })
}

impl Item {
    fn of(record: Record) -> Self {
        let content = record
            .data
            .as_ref()
            .map(|data| Hash::of_data(data.as_bytes()).to_string());
        let before = if record.seq == 1 {
            String::new()
        } else {
            record.before.to_string()
        };
        Self {
            event: record
                .data
                .and_then(|data| RawValue::from_string(data).ok()),
            ingested_at: record.ingested_at.to_rfc3339_micros(),
            content: content.unwrap_or_default(),
            before,
            chain: record.chain.to_string(),
            leaf_hash: record.leaf,
            chain_seq: record.seq,
        }
    }
}

fn parse(query: &str, now: Timestamp) -> Option<(ZoneId, Search)> {
    let mut zone = None;
    let mut search = Search {
        since: Some(now.plus_seconds(-DAY_SECONDS)),
        until: Some(now),
        limit: DEFAULT_LIMIT,
        ..Search::default()
    };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "zone_id" => zone = ZoneId::parse(&value).ok(),
            "since" => search.since = Timestamp::parse_rfc3339(&value).or(search.since),
            "until" => search.until = Timestamp::parse_rfc3339(&value).or(search.until),
            "decision" if !value.is_empty() => search.decision = Some(value.into_owned()),
            "request_id" if !value.is_empty() => search.request_id = Some(value.into_owned()),
            "limit" => search.limit = limit(&value),
            "cursor" => search.after = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    Some((zone?, search))
}

fn limit(text: &str) -> usize {
    match text.parse::<usize>() {
        Ok(limit) if limit > 0 => limit.min(MAX_LIMIT),
        Ok(_) | Err(_) => DEFAULT_LIMIT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn without_times_the_last_day_is_searched() {
        let now = at("2026-01-02T00:00:00Z");
        let (zone, search) = parse("zone_id=z", now).unwrap();
        assert_eq!(zone.as_str(), "z");
        assert_eq!(search.since, Some(at("2026-01-01T00:00:00Z")));
        assert_eq!(
            (search.until, search.limit, search.after),
            (Some(now), 100, 0)
        );
    }

    #[test]
    fn parameters_that_do_not_parse_count_as_absent() {
        let now = at("2026-01-02T00:00:00Z");
        let query = "zone_id=z&since=x&until=y&limit=-3&cursor=q&decision=&request_id=";
        assert_eq!(parse(query, now), parse("zone_id=z", now));
        assert_eq!(parse("zone_id=z&limit=0", now).unwrap().1.limit, 100);
        assert_eq!(parse("zone_id=z&limit=5000", now).unwrap().1.limit, 1000);
        assert_eq!(parse("since=2026-01-01T00:00:00Z", now), None);
        assert_eq!(parse("zone_id=a%20b", now), None);
    }
}
