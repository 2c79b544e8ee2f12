use std::sync::Arc;

use axum::body::Body;
use caracal_core::Secret;
use caracal_evidence::Decision;
use caracal_evidence::verify::{Trust, verify};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{NOW, Running, event, event_at, key, open, start, zone};
use crate::ledger::memory::MemoryLedger;

async fn running() -> (tempfile::TempDir, Running) {
    let dir = tempfile::tempdir().unwrap();
    let running = start(
        open(dir.path(), Some(key())),
        &Arc::new(MemoryLedger::default()),
    );
    (dir, running)
}

async fn get(running: &Running, path: &str, authorization: Option<&str>) -> Response<Body> {
    let mut request = Request::get(path);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let router = running
        .audit
        .router(Some(Secret::new("admin-token".to_owned())));
    router
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap()
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn search(running: &Running, query: &str) -> Value {
    let path = format!("/api/audit/search?{query}");
    let response = get(running, &path, Some("Bearer admin-token")).await;
    assert_eq!(response.status(), StatusCode::OK);
    serde_json::from_str(&text(response).await).unwrap()
}

#[tokio::test]
async fn without_a_configured_token_the_routes_are_not_there() {
    let (_dir, running) = running().await;
    let request = Request::get("/api/audit/search?zone_id=a")
        .body(Body::empty())
        .unwrap();
    let response = running.audit.router(None).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_or_missing_token_is_refused_with_a_challenge() {
    let (_dir, running) = running().await;
    for value in [
        None,
        Some("Bearer other"),
        Some("Bearer Bearer admin-token"),
        Some(""),
    ] {
        let response = get(&running, "/api/audit/search?zone_id=a", value).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{value:?}");
        let challenge = &response.headers()["www-authenticate"];
        assert_eq!(challenge, "Bearer realm=\"caracal-audit\"");
        assert_eq!(text(response).await, "unauthorized\n");
    }
    let bare = get(&running, "/api/audit/search?zone_id=a", Some("admin-token")).await;
    assert_eq!(bare.status(), StatusCode::OK);
    running.stop().await;
}

#[tokio::test]
async fn dead_letter_routes_and_other_paths_are_not_there() {
    let (_dir, running) = running().await;
    for path in ["/api/audit/dlq", "/api/audit/dlq/1-0", "/api/audit/other"] {
        let response = get(&running, path, Some("Bearer admin-token")).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let post = Request::post("/api/audit/search")
        .header("authorization", "admin-token")
        .body(Body::empty())
        .unwrap();
    let router = running
        .audit
        .router(Some(Secret::new("admin-token".to_owned())));
    assert_eq!(
        router.oneshot(post).await.unwrap().status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
    running.stop().await;
}

#[tokio::test]
async fn a_search_needs_a_zone() {
    let (_dir, running) = running().await;
    for path in [
        "/api/audit/search",
        "/api/audit/search?zone_id=",
        "/api/audit/export",
    ] {
        let response = get(&running, path, Some("admin-token")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(text(response).await, "zone_id is required\n");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_search_without_matches_has_no_events() {
    let (_dir, running) = running().await;
    assert_eq!(
        search(&running, "zone_id=a").await,
        json!({"events": null, "next_cursor": ""})
    );
    running.stop().await;
}

#[tokio::test]
async fn a_search_sees_what_was_appended_before_it() {
    let (_dir, running) = running().await;
    let first = event("1", &zone("a"));
    running
        .append(&[
            first.clone(),
            event("2", &zone("a")),
            event("3", &zone("b")),
        ])
        .await;
    let found = search(&running, "zone_id=a").await;
    assert_eq!(found["next_cursor"], "2");
    let items = found["events"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    let event: Value = serde_json::from_slice(&first.to_json().unwrap()).unwrap();
    assert_eq!(items[0]["Event"], event);
    assert_eq!(items[0]["ChainSeq"], 1);
    assert_eq!(items[0]["PrevContentSHA256"], "");
    assert_eq!(items[1]["PrevContentSHA256"], items[0]["ChainHMAC"]);
    assert_eq!(items[0]["ContentSHA256"].as_str().unwrap().len(), 64);
    assert_eq!(items[0]["IngestedAt"], "2025-12-31T23:59:00.000000Z");
    running.stop().await;
}

#[tokio::test]
async fn a_search_filters_and_pages() {
    let (_dir, running) = running().await;
    let zone = zone("a");
    running
        .append(&[
            event("1", &zone),
            event_at("2", &zone, Decision::Deny, NOW - 60),
            event_at("3", &zone, Decision::Deny, NOW - 2 * 24 * 60 * 60),
            event("4", &zone),
        ])
        .await;
    let ids = |found: &Value| -> Vec<String> {
        let items = found["events"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .map(|item| item["Event"]["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&search(&running, "zone_id=a").await), ["1", "2", "4"]);
    assert_eq!(
        ids(&search(&running, "zone_id=a&decision=deny").await),
        ["2"]
    );
    assert_eq!(
        ids(&search(&running, "zone_id=a&request_id=req-4").await),
        ["4"]
    );
    let old = "zone_id=a&since=2025-12-01T00:00:00Z&decision=deny";
    assert_eq!(ids(&search(&running, old).await), ["2", "3"]);
    let page = search(&running, "zone_id=a&limit=1").await;
    assert_eq!(
        (ids(&page), &page["next_cursor"]),
        (vec!["1".to_owned()], &json!("1"))
    );
    assert_eq!(
        ids(&search(&running, "zone_id=a&limit=1&cursor=1").await),
        ["2"]
    );
    running.stop().await;
}

#[tokio::test]
async fn an_export_verifies_offline() {
    let (_dir, mut running) = running().await;
    let missing = get(&running, "/api/audit/export?zone_id=a", Some("admin-token")).await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    let events: Vec<_> = (0..1200)
        .map(|n| event(&n.to_string(), &zone("a")))
        .collect();
    running.append(&events).await;
    running.journal.close().await;
    running.signed().await;
    let response = get(&running, "/api/audit/export?zone_id=a", Some("admin-token")).await;
    assert_eq!(response.status(), StatusCode::OK);
    let bundle = text(response).await;
    let key = Some(running.audit.verifier(&zone("a")).unwrap());
    let verified = verify(
        bundle.as_bytes(),
        &Trust {
            key,
            earlier: Vec::new(),
        },
    )
    .unwrap();
    assert_eq!((verified.events, verified.removed), (1200, 0));
}
