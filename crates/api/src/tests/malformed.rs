//! Malformed requests: always 4xx JSON of the documented shape, and nothing is written.

use http::Method;
use serde_json::json;

use super::world::World;
use crate::route::Verb;
use crate::routes;

/// Every route of the zone that takes a body, with ids that exist.
async fn targets(world: &World, zone: &str) -> Vec<(Method, String)> {
    let user = world.bootstrap();
    let base = format!("/v1/zones/{zone}");
    let application = json!({ "name": "a", "registration_method": "managed" });
    let provider = json!({ "name": "p", "kind": "none" });
    let ids = [
        (
            "applications",
            user.post(&format!("{base}/applications"), application)
                .await,
        ),
        (
            "providers",
            user.post(&format!("{base}/providers"), provider).await,
        ),
        (
            "policy-sets",
            user.post(&format!("{base}/policy-sets"), json!({ "name": "s" }))
                .await,
        ),
    ];
    let mut targets = Vec::new();
    for route in routes::all() {
        let takes_body = matches!(route.verb, Verb::Post | Verb::Patch);
        if !takes_body || route.template.ends_with("/rotate-secret") {
            continue;
        }
        let made = ids
            .iter()
            .find(|(collection, _)| route.template.contains(collection));
        let id = made.map_or("none", |(_, answer)| answer.text("id"));
        let path = route
            .template
            .replace("{zone_id}", zone)
            .replace("{id}", id);
        targets.push((route.verb.as_str().parse().unwrap(), path));
    }
    targets
}

#[tokio::test]
async fn every_malformed_body_is_refused_and_nothing_is_written() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let targets = targets(&world, &zone).await;
    let before = world.contents(&zone).await;
    let user = world.bootstrap();
    let json = Some("application/json");
    let deep = "[".repeat(50_000);
    let wide = format!("{{{}\"x\":1}}", "\"name\":\"\\u0000\",".repeat(1_000));
    let bodies: [(Option<&str>, &str); 16] = [
        (json, ""),
        (json, "{"),
        (json, "nul"),
        (json, "\"\\ud800\""),
        (json, "null"),
        (json, "[]"),
        (json, "7"),
        (json, "\"text\""),
        (json, "{}"),
        (
            json,
            "{\"name\":7,\"content\":7,\"kind\":7,\"manifest\":7,\"version_id\":7,\"scopes\":7}",
        ),
        (
            json,
            "{\"name\":null,\"content\":null,\"kind\":null,\"scopes\":null,\"client_secret\":null}",
        ),
        (json, &deep),
        (json, &wide),
        (Some("application/xml"), "<a/>"),
        (Some("text/plain"), "{}"),
        (None, "{}"),
    ];
    for (method, path) in &targets {
        for (kind, body) in bodies {
            let answer = user.raw(method.clone(), path, kind, body.to_owned()).await;
            let what = format!("{method} {path} {kind:?} {}", &body[..body.len().min(60)]);
            assert!(
                (400..500).contains(&answer.status),
                "{what}: {} {}",
                answer.status,
                answer.raw
            );
            assert!(!answer.code().is_empty(), "{what}: {}", answer.raw);
            assert!(
                answer.body["requestId"].is_string(),
                "{what}: {}",
                answer.raw
            );
            assert!(
                answer.body["error_description"].is_string(),
                "{what}: {}",
                answer.raw
            );
        }
    }
    assert_eq!(world.contents(&zone).await, before);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_or_not_its_length_is_declared() {
    let options = crate::ApiOptions {
        body_limit: 1024,
        ..super::world::options()
    };
    let world = World::with(options).await;
    let user = world.bootstrap();
    let big = format!("{{\"name\":\"{}\"}}", "x".repeat(2048));
    let answer = user
        .raw(
            Method::POST,
            "/v1/zones",
            Some("application/json"),
            big.clone(),
        )
        .await;
    answer.refused(413, "payload_too_large");
    let streamed = axum::body::Body::from_stream(Chunks(big));
    let answer = user
        .raw(
            Method::POST,
            "/v1/zones",
            Some("application/json"),
            streamed,
        )
        .await;
    answer.refused(413, "payload_too_large");
}

/// A body that comes in pieces of unknown number.
struct Chunks(String);

impl futures_core::Stream for Chunks {
    type Item = Result<String, std::convert::Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let take = self.0.len().min(100);
        let piece: String = self.0.drain(..take).collect();
        std::task::Poll::Ready((!piece.is_empty()).then_some(Ok(piece)))
    }
}

#[tokio::test]
async fn misspelt_fields_are_refused_where_they_could_be_taken_for_absent_ones() {
    let world = World::new().await;
    let user = world.bootstrap();
    let zone = world.zone("orchard").await;
    let base = format!("/v1/zones/{zone}");
    let body = json!({ "name": "a", "registration_method": "managed", "trait": [] });
    user.post(&format!("{base}/applications"), body)
        .await
        .refused(400, "invalid_application");
    user.post("/v1/zones", json!({ "name": "a", "dcr": true }))
        .await
        .refused(400, "invalid_zone");
    user.patch(&base, json!({ "nmae": "a" }))
        .await
        .refused(400, "invalid_zone");
    let body = json!({ "name": "a", "scope": "global", "capabilities": [] });
    user.post("/v1/admin-tokens", body)
        .await
        .refused(400, "invalid_admin_token_request");
    let body = json!({ "name": "p", "kind": "none", "extra": 1 });
    assert_eq!(
        user.post(&format!("{base}/providers"), body).await.status,
        201
    );
}

#[tokio::test]
async fn a_refused_request_of_a_known_caller_is_on_record() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let user = world.bootstrap().with_header("x-request-id", "bad-1");
    user.post(&format!("/v1/zones/{zone}/applications"), json!({}))
        .await
        .refused(400, "invalid_application");
    let reader = world
        .global("read")
        .await
        .with_header("x-request-id", "bad-2");
    reader
        .delete(&format!("/v1/zones/{zone}"))
        .await
        .refused(403, "admin_token_read_only");
    world
        .user("cat_x")
        .get(&format!("/v1/zones/{zone}"))
        .await
        .refused(401, "invalid_admin_token");
    let audit = world
        .bootstrap()
        .get(&format!("/v1/zones/{zone}/admin-audit"))
        .await;
    let rows: Vec<_> = audit
        .items()
        .iter()
        .map(|row| {
            (
                row["request_id"].as_str().unwrap(),
                row["status_code"].as_i64().unwrap(),
            )
        })
        .filter(|(_, status)| *status >= 400)
        .collect();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows.contains(&("bad-1", 400)) && rows.contains(&("bad-2", 403)));
    let verdict = world
        .store
        .read(&World::zone_id(&zone))
        .verify_admin_audit()
        .await
        .unwrap();
    assert_eq!(verdict.fault, None);
}

/// A body that never ends.
struct Silence;

impl futures_core::Stream for Silence {
    type Item = Result<String, std::convert::Infallible>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let request_timeout = std::time::Duration::from_millis(10);
    let options = crate::ApiOptions {
        request_timeout,
        ..super::world::options()
    };
    let world = World::with(options).await;
    let kind = Some("application/json");
    let silent = axum::body::Body::from_stream(Silence);
    let answer = world
        .bootstrap()
        .raw(Method::POST, "/v1/zones", kind, silent)
        .await;
    answer.refused(400, "invalid_request");
}
