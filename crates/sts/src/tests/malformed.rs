//! Requests that are no token requests: 4xx JSON in one shape, and nothing written.

use axum::body::Body;
use http::Request;

use crate::testing::{APP, GRANT_TYPE, World, encode};

/// The error shape, and no trace in log or store.
async fn assert_refused(world: &World, answer: &crate::testing::Answer, status: u16, code: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "application/json");
    let body = answer.json();
    assert_eq!(body["error"], code);
    assert!(body["error_description"].is_string());
    let id = answer.headers["x-request-id"].to_str().unwrap();
    assert_eq!(body["requestId"], id);
    assert!(world.events().await.is_empty());
    assert_eq!(world.record_count().await, 0);
}

#[tokio::test]
async fn each_malformed_form_is_a_400_that_leaves_nothing() {
    let world = World::new().await;
    let grant = format!("grant_type={}", encode(GRANT_TYPE));
    for body in [
        String::new(),
        "grant_type=password".to_owned(),
        format!("{grant}&scope=a&scope=b"),
        format!("{grant}&application_id=a&application_id=b"),
        format!("{grant}&actor_token=x"),
        format!("{grant}&client_assertion=x"),
        format!("{grant}&client_assertion_type=x"),
        format!("{grant}&ttl_seconds=abc"),
        format!("{grant}&resource="),
        format!("{grant}&resource=%20"),
        format!("{grant}&subject_token=x"),
        format!("{grant}&subject_token_type=urn%3Ax&subject_token=x"),
        format!("{grant}&agent_session_id=a%20b"),
        format!("{grant}&x=%"),
        format!("{grant}&x=a;b"),
        format!("{grant}&x=%ff"),
    ] {
        let answer = world.post(body.clone()).await;
        assert_refused(&world, &answer, 400, "invalid_request").await;
        assert_eq!(answer.headers["cache-control"], "no-store", "{body}");
    }
}

#[tokio::test]
async fn parameters_in_the_url_are_refused() {
    let world = World::new().await;
    let request = Request::post("/oauth/2/token?resource=x")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(world.form(&[])))
        .unwrap();
    assert_refused(&world, &world.send(request).await, 400, "invalid_request").await;
}

#[tokio::test]
async fn a_json_body_is_an_unsupported_media_type() {
    let world = World::new().await;
    let request = Request::post("/oauth/2/token")
        .header("content-type", "application/json")
        .body(Body::from("{}"))
        .unwrap();
    assert_refused(&world, &world.send(request).await, 415, "invalid_request").await;
}

#[tokio::test]
async fn a_body_over_64_kib_is_too_large() {
    let world = World::new().await;
    let body = format!("{}&x={}", world.form(&[]), "a".repeat(70_000));
    assert_refused(&world, &world.post(body).await, 413, "payload_too_large").await;
}

#[tokio::test]
async fn no_more_of_a_body_is_read_than_it_may_have() {
    let world = World::new().await;
    let chunks = (0..).map(|number| {
        assert!(number < 32, "read on behind the limit");
        Ok::<_, std::convert::Infallible>(vec![b'a'; 4_096])
    });
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    let request = Request::post("/oauth/2/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body)
        .unwrap();
    assert_refused(&world, &world.send(request).await, 413, "payload_too_large").await;
}

#[tokio::test]
async fn another_method_is_told_which_one_to_use() {
    let world = World::new().await;
    let request = Request::get("/oauth/2/token").body(Body::empty()).unwrap();
    let answer = world.send(request).await;
    assert_eq!(answer.headers["allow"], "POST");
    assert_refused(&world, &answer, 405, "invalid_request").await;
}

#[tokio::test]
async fn a_gateway_header_without_a_proof_is_a_401() {
    let world = World::new().await;
    for header in [
        "X-Caracal-Gateway-Timestamp",
        "X-Caracal-Gateway-Request",
        "X-Caracal-Gateway-Signature",
    ] {
        let request = Request::post("/oauth/2/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .header(header, "1")
            .body(Body::from(world.form(&[("scope", "agent:lifecycle")])))
            .unwrap();
        assert_refused(&world, &world.send(request).await, 401, "access_denied").await;
    }
}

#[tokio::test]
async fn a_well_formed_request_id_is_echoed_and_another_replaced() {
    let world = World::new().await;
    let send = async |id: &str| {
        let request = Request::post("/oauth/2/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-request-id", id)
            .body(Body::from("x=1"))
            .unwrap();
        world.send(request).await
    };
    let answer = send("abc-123").await;
    assert_eq!(answer.headers["x-request-id"], "abc-123");
    assert_eq!(answer.json()["requestId"], "abc-123");
    let request = Request::post("/oauth/2/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-request-id", "abc-124")
        .body(Body::from(world.form(&[("scope", "agent:lifecycle")])))
        .unwrap();
    assert_eq!(world.send(request).await.headers["x-request-id"], "abc-124");
    assert_eq!(world.events().await[0]["request_id"], "abc-124");
    let answer = send("no spaces").await;
    assert_ne!(answer.headers["x-request-id"], "no spaces");
}

#[tokio::test]
async fn an_identified_caller_without_a_resource_is_a_400_with_evidence() {
    let world = World::new().await;
    let answer = world
        .token(&[("resource", ""), ("scope", "agent:lifecycle")])
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (400, "invalid_request")
    );
    assert_eq!(world.verdicts().await, ["deny/exchange_denied"]);
}

#[tokio::test]
async fn a_lifetime_out_of_range_is_a_400_with_evidence() {
    for ttl in ["3601", "-1"] {
        let world = World::new().await;
        let answer = world
            .token(&[("scope", "agent:lifecycle"), ("ttl_seconds", ttl)])
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (400, "invalid_request")
        );
        assert_eq!(world.verdicts().await, ["deny/ttl_invalid"], "{ttl}");
        assert_eq!(
            world.events().await[0]["metadata_json"]["application_id"],
            APP
        );
    }
}
