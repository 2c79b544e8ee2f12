//! Malformed requests: a 4xx JSON object, and nothing is written.

use serde_json::json;

use super::world::{OPERATOR, World};

#[tokio::test]
async fn malformed_requests_are_refused_and_write_nothing() {
    let world = World::new().await;
    let service = world.start("app", json!({ "lifecycle": "service" })).await;
    let before = (world.messages().await.len(), world.session(&service).await);
    let beat = format!("/agents/{service}/heartbeat");
    let end = format!("/agents/{service}");
    let long = format!("/agents/{}", "x".repeat(129));
    let deep = "[".repeat(200);
    let big = format!("{{\"application_id\":\"{}\"}}", "x".repeat(262_144));
    let table: Vec<(&str, &str, &str, u16, &str)> = vec![
        ("POST", "/agents", "", 400, "invalid_body"),
        ("POST", "/agents", "{", 400, "invalid_body"),
        ("POST", "/agents", "[]", 400, "invalid_body"),
        ("POST", "/agents", "null", 400, "invalid_body"),
        ("POST", "/agents", "\"x\"", 400, "invalid_body"),
        ("POST", "/agents", "{}", 400, "invalid_body"),
        ("POST", "/agents", &deep, 400, "invalid_body"),
        ("POST", "/agents", &big, 413, "payload_too_large"),
        (
            "POST",
            "/agents",
            r#"{"application_id":"a\u0000b"}"#,
            400,
            "invalid_body",
        ),
        (
            "POST",
            "/agents",
            r#"{"application_id":"app","metadata":{"k":"\u0000"}}"#,
            400,
            "invalid_body",
        ),
        (
            "POST",
            "/agents",
            r#"{"application_id":"app","parent_id":""}"#,
            400,
            "invalid_body",
        ),
        (
            "POST",
            "/agents",
            r#"{"application_id":"app","ttl_seconds":1e400}"#,
            400,
            "invalid_body",
        ),
        (
            "POST",
            "/agents",
            r#"{"application_id":"app","ttl_seconds":-1}"#,
            400,
            "invalid_body",
        ),
        (
            "POST",
            "/agents",
            r#"{"application_id":"app","lifecycle":"service","ttl_seconds":5}"#,
            400,
            "invalid_body",
        ),
        ("POST", &beat, "", 400, "invalid_body"),
        ("POST", &beat, "{}", 400, "invalid_body"),
        (
            "POST",
            &beat,
            r#"{"lease_generation":0}"#,
            400,
            "invalid_body",
        ),
        (
            "POST",
            &beat,
            r#"{"lease_generation":"1"}"#,
            400,
            "invalid_body",
        ),
        (
            "POST",
            &beat,
            r#"{"lease_generation":1,"status":"ill"}"#,
            400,
            "invalid_body",
        ),
        (
            "POST",
            &beat,
            r#"{"lease_generation":1,"active_invocations":-1}"#,
            400,
            "invalid_body",
        ),
        ("DELETE", &end, "[]", 400, "invalid_body"),
        (
            "DELETE",
            &end,
            r#"{"lease_generation":1.5}"#,
            400,
            "invalid_body",
        ),
        ("POST", "/delegations", "", 400, "invalid_body"),
        ("POST", "/delegations", "{}", 400, "invalid_body"),
        (
            "POST",
            "/delegations",
            r#"{"source_session_id":1}"#,
            400,
            "invalid_body",
        ),
        ("GET", &long, "", 400, "invalid_params"),
        ("GET", "/agents/%zz", "", 400, "invalid_params"),
        ("GET", "/agents/%ff", "", 400, "invalid_params"),
        ("GET", "/agents/a%2fb", "", 400, "invalid_params"),
        ("PATCH", "/agents/a%00b/suspend", "", 400, "invalid_params"),
        ("POST", "/agents/a%20b/lease", "", 400, "invalid_params"),
        (
            "PATCH",
            "/delegations/a%20b/revoke",
            "",
            400,
            "invalid_params",
        ),
        (
            "GET",
            "/delegations/inbound/a%20b",
            "",
            400,
            "invalid_params",
        ),
        (
            "GET",
            "/delegations/inbound/a/b%20c",
            "",
            400,
            "invalid_params",
        ),
        ("GET", "/agents?limit=0", "", 400, "invalid_query"),
        ("GET", "/agents?limit=501", "", 400, "invalid_query"),
        ("GET", "/agents?limit=1&limit=1", "", 400, "invalid_query"),
        ("GET", "/agents?cursor=", "", 400, "invalid_query"),
        ("GET", "/agents?status=dead", "", 400, "invalid_query"),
        ("GET", "/agents?lifecycle=daemon", "", 400, "invalid_query"),
        ("GET", "/agents?cursor=nobody", "", 400, "invalid_cursor"),
        ("GET", "/agents?cursor=a%20b", "", 400, "invalid_cursor"),
        (
            "GET",
            "/delegations/active?limit=x",
            "",
            400,
            "invalid_query",
        ),
        (
            "GET",
            "/delegations/active?cursor=none",
            "",
            400,
            "invalid_cursor",
        ),
        ("DELETE", "/agents/a?reason=", "", 400, "invalid_query"),
        ("DELETE", "/agents/a?reason=x%0Ay", "", 400, "invalid_query"),
        (
            "DELETE",
            "/agents/a?reason=x&reason=y",
            "",
            400,
            "invalid_query",
        ),
    ];
    for (method, path, body, status, code) in table {
        let call = world.call("app", method, path);
        let call = if body.is_empty() {
            call
        } else {
            call.text(body)
        };
        let answer = call.send().await;
        answer.assert(status, code);
        assert!(answer.body.is_object(), "{method} {path}");
        assert!(
            !answer.str("error_description").is_empty(),
            "{method} {path}"
        );
        assert!(!answer.str("request_id").is_empty(), "{method} {path}");
    }
    assert_eq!(world.messages().await.len(), before.0);
    let after = world.session(&service).await;
    assert_eq!(after.lease_generation, before.1.lease_generation);
    assert_eq!(after.updated_at, before.1.updated_at);
    let listed = world.operate("GET", "/agents").send().await.ok(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_path_that_is_no_text_names_no_zone() {
    let world = World::new().await;
    let token = world.token("app");
    let body = json!({ "application_id": "app" });
    for path in ["/zones/%ff/agents", "/zones/z1%ff/agents"] {
        let call = world.plain("POST", path).bearer(&token).json(&body);
        call.send().await.assert(400, "invalid_params");
        let call = world.plain("GET", path).bearer(OPERATOR);
        call.send().await.assert(401, "invalid_token");
    }
    let listed = world.operate("GET", "/agents").send().await.ok(200);
    assert_eq!(listed["items"], json!([]));
}

#[tokio::test]
async fn a_refused_body_names_its_fields() {
    let world = World::new().await;
    let body = json!({ "application_id": 1, "lifecycle": "x", "ttl_seconds": 0 });
    let answer = world
        .call("app", "POST", "/agents")
        .json(&body)
        .send()
        .await;
    answer.assert(400, "invalid_body");
    let issues = answer.body["details"]["issues"].as_array().unwrap();
    let paths: Vec<&str> = issues
        .iter()
        .map(|issue| issue["path"][0].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["application_id", "lifecycle", "ttl_seconds"]);
}

#[tokio::test]
async fn other_media_types_are_refused() {
    let world = World::new().await;
    let call = world.call("app", "POST", "/agents").text("{}");
    let call = call.header("content-type", "text/html");
    // Two content types: the first one counts.
    call.send().await.assert(400, "invalid_body");
    let token = world.token("app");
    let mut call = world
        .plain("POST", "/zones/z1/agents")
        .bearer(&token)
        .text("{}");
    call.set_header("content-type", "application/x-www-form-urlencoded");
    call.send().await.assert(415, "unsupported_media_type");
}

#[tokio::test]
async fn calls_without_a_body_need_none() {
    let world = World::new().await;
    let id = world.start("app", json!({})).await;
    let call = world.call("app", "PATCH", &format!("/agents/{id}/suspend"));
    call.header("content-type", "application/json")
        .send()
        .await
        .ok(200);
    world
        .call("app", "PATCH", &format!("/agents/{id}/resume"))
        .text("{\"x\":1}")
        .send()
        .await
        .ok(200);
    let call = world.call("app", "DELETE", &format!("/agents/{id}"));
    call.header("content-type", "application/json")
        .send()
        .await
        .ok(204);
}
