//! What the upstream sees of a request, and the caller of a response.

use crate::caller::End;
use crate::upstream::{Behaviour, OK};
use crate::world::{RESOURCE, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_upstream_sees_the_call_without_the_callers_authority() {
    let world = World::new().await;
    *world.sts.upstream.lock() = world.upstream.url("/base?region=eu");
    let more = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
                baggage: caracal.agent_session=sess-2,caracal.hop=1,team=blue\r\n\
                X-Request-Id: req-1\r\nCookie: a=b\r\nX-HTTP-Method-Override: DELETE\r\n\
                X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nTE: trailers\r\n\
                X-Caracal-Identity: forged\r\nContent-Type: application/json\r\n\
                Content-Length: 2\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n";
    let reply = world
        .raw(world.head("POST", "/v1/items?dry=1&region=us", more) + "{}")
        .await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
    let seen = world.upstream.only();
    assert_eq!(seen.line, "POST /base/v1/items?dry=1&region=eu HTTP/1.1");
    assert_eq!(seen.body, b"{}");
    let authority = world.upstream.address.to_string();
    for (name, value) in [
        ("host", authority.as_str()),
        ("x-request-id", "req-1"),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
        ("baggage", "team=blue"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "gateway.example"),
        ("content-type", "application/json"),
        ("content-length", "2"),
        ("cookie", "a=b"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    assert_eq!(seen.names().len(), 10, "{:?}", seen.names());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_a_trace_gets_one() {
    let world = World::new().await;
    world.get("/").await;
    let seen = world.upstream.only();
    assert!(caracal_http::context::is_valid_traceparent(
        seen.header("traceparent").unwrap()
    ));
    assert!(!seen.header("x-request-id").unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_caller_gets_status_body_and_the_headers_that_may_pass() {
    let world = World::new().await;
    world.upstream.answers(
        "HTTP/1.1 201 Created\r\nContent-Length: 5\r\nServer: nginx\r\nX-Powered-By: php\r\n\
         X-Request-Id: theirs\r\nX-Caracal-Revoked: true\r\nX-Caracal-Token-Expires-In: 1\r\n\
         Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nRefresh: 0\r\nX-Custom: yes\r\n\
         Location: https://evil.example/\r\nKeep-Alive: timeout=5\r\n\r\nhello",
    );
    let reply = world
        .raw(world.head("GET", "/", "X-Request-Id: req-1\r\n"))
        .await;
    assert_eq!(
        (reply.status, reply.text().as_str(), reply.end),
        (201, "hello", End::Complete)
    );
    assert_eq!(reply.all("x-request-id"), ["req-1"]);
    assert_eq!(reply.header("x-caracal-token-expires-in"), Some("900"));
    assert_eq!(reply.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(reply.header("x-custom"), Some("yes"));
    assert_eq!(reply.header("trailer"), Some("X-Caracal-Revoked"));
    for gone in [
        "server",
        "x-powered-by",
        "x-caracal-revoked",
        "refresh",
        "location",
        "keep-alive",
    ] {
        assert_eq!(reply.header(gone), None, "{gone}");
    }
    assert_eq!(world.counter("requests_allowed").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_are_handed_back_and_not_followed() {
    let world = World::new().await;
    for (location, kept) in [("/login", true), ("https://evil.example/", false)] {
        world.upstream.answers(format!(
            "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        ));
        let reply = world.get("/").await;
        assert_eq!(reply.status, 302);
        assert_eq!(reply.header("location").is_some(), kept);
    }
    assert_eq!(world.upstream.seen.lock().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_post_keeps_its_length() {
    let world = World::new().await;
    world
        .raw(world.head("POST", "/", "Content-Length: 0\r\n"))
        .await;
    let seen = world.upstream.only();
    assert_eq!(seen.header("content-length"), Some("0"));
    assert_eq!(seen.header("transfer-encoding"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunked_request_stays_chunked_whatever_the_method() {
    let world = World::new().await;
    for method in ["POST", "GET"] {
        let head = world.head(method, "/", "Transfer-Encoding: chunked\r\n");
        let reply = world.raw(head + "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").await;
        assert_eq!(reply.status, 200);
        let seen = world.upstream.seen.lock().pop().unwrap();
        assert_eq!(seen.header("transfer-encoding"), Some("chunked"));
        assert_eq!(seen.header("content-length"), None);
        assert_eq!(seen.body, b"abcde");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicting_lengths_can_not_smuggle() {
    let world = World::new().await;
    let head = world.head(
        "POST",
        "/",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    );
    let reply = world
        .raw(head + "0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n")
        .await;
    assert_eq!(reply.status, 200);
    let seen = world.upstream.only();
    assert_eq!(seen.header("content-length"), None);
    assert!(seen.body.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_waits_for_100_gets_it_only_when_the_call_goes_ahead() {
    let world = World::new().await;
    let mut caller = world.caller().await;
    caller
        .send(world.head("POST", "/", "Expect: 100-continue\r\nContent-Length: 2\r\n"))
        .await;
    assert_eq!(
        caller.read_until("\r\n\r\n").await,
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    caller.send("hi").await;
    assert_eq!(caller.reply().await.status, 200);
    assert_eq!(world.upstream.only().header("expect"), None);
    let mut refused = world.caller().await;
    refused
        .send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .await;
    assert!(refused.read_until("\r\n").await.starts_with("HTTP/1.1 401"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodiless_answers_stay_bodiless() {
    let world = World::new().await;
    world
        .upstream
        .answers("HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n");
    let mut caller = world.caller().await;
    caller.send(world.head("HEAD", "/", "")).await;
    let reply = caller.reply_to("HEAD").await;
    assert_eq!(reply.header("content-length"), Some("42"));
    assert_eq!(reply.header("trailer"), None);
    // The connection goes on.
    world.upstream.answers("HTTP/1.1 204 No Content\r\n\r\n");
    caller.send(world.head("GET", "/", "")).await;
    assert_eq!(caller.reply().await.status, 204);
    world.upstream.answers(OK);
    caller.send(world.head("GET", "/", "")).await;
    assert_eq!(caller.reply().await.text(), "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunked_and_unframed_answers_arrive_complete() {
    let world = World::new().await;
    world.upstream.answers(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n",
    );
    let reply = world.get("/").await;
    assert_eq!((reply.text().as_str(), reply.end), ("abcde", End::Complete));
    assert!(
        !reply.raw.contains("X-T"),
        "upstream trailers end at the Gateway"
    );
    let unframed = b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec();
    world.upstream.behaves(Behaviour::AnswerAndClose(unframed));
    let reply = world.get("/").await;
    assert_eq!(
        (reply.text().as_str(), reply.end),
        ("until the end", End::Complete)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn informational_answers_of_the_upstream_are_skipped() {
    let world = World::new().await;
    world
        .upstream
        .answers([b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", OK].concat());
    assert_eq!(world.get("/").await.text(), "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_is_not_passed_on() {
    let world = World::new().await;
    let reply = world
        .raw(world.head("GET", "/", "Connection: Upgrade\r\nUpgrade: websocket\r\n"))
        .await;
    assert_eq!(reply.status, 200);
    let seen = world.upstream.only();
    assert_eq!(
        (seen.header("upgrade"), seen.header("connection")),
        (None, None)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_reused_on_both_sides() {
    let world = World::new().await;
    let mut caller = world.caller().await;
    for _ in 0..5 {
        caller.send(world.head("GET", "/", "")).await;
        assert_eq!(caller.reply().await.text(), "ok");
    }
    let seen = world.upstream.seen.lock().clone();
    assert!(seen.iter().all(|seen| seen.connection == 0), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_that_the_upstream_closed_costs_no_call() {
    let world = World::new().await;
    for _ in 0..20 {
        world
            .upstream
            .behaves(Behaviour::AnswerAndClose(OK.to_vec()));
        assert_eq!(world.get("/").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order() {
    let world = World::new().await;
    let mut caller = world.caller().await;
    caller
        .send(world.head("GET", "/1", "") + &world.head("GET", "/2", ""))
        .await;
    assert_eq!(caller.reply().await.status, 200);
    assert_eq!(caller.reply().await.status, 200);
    let lines: Vec<String> = world
        .upstream
        .seen
        .lock()
        .iter()
        .map(|seen| seen.line.clone())
        .collect();
    assert_eq!(lines, ["GET /1 HTTP/1.1", "GET /2 HTTP/1.1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_absolute_form_names_no_other_host() {
    let world = World::new().await;
    let token = world.mandate();
    let request = format!(
        "GET http://evil.example/v1/items HTTP/1.1\r\nHost: evil.example\r\n\
         Authorization: Bearer {token}\r\nX-Caracal-Resource: {RESOURCE}\r\n\r\n"
    );
    assert_eq!(world.raw(request).await.status, 200);
    let seen = world.upstream.only();
    assert_eq!(seen.line, "GET /v1/items HTTP/1.1");
    assert_eq!(
        seen.header("host"),
        Some(world.upstream.address.to_string().as_str())
    );
}
