//! Request bodies: limits, deadlines, and large ones.

use std::time::Duration;

use crate::caller::End;
use crate::upstream::Behaviour;
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_length_over_the_limit_spends_nothing() {
    let world = World::with(|options| options.max_request_bytes = 10).await;
    let mandate = world.mandate();
    let over = world.head_with(&mandate, "POST", "/", "Content-Length: 11\r\n");
    let reply = world.raw(over).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (413, "payload_too_large")
    );
    assert_eq!(world.sts.exchanged(), 0);
    let at = world.head_with(&mandate, "POST", "/", "Content-Length: 10\r\n") + "0123456789";
    assert_eq!(world.raw(at).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_grows_over_the_limit_is_cut_off() {
    let world = World::with(|options| options.max_request_bytes = 10).await;
    let head = world.head("POST", "/", "Transfer-Encoding: chunked\r\n");
    let reply = world
        .raw(head + "8\r\n01234567\r\n8\r\n01234567\r\n0\r\n\r\n")
        .await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (413, "payload_too_large")
    );
    world.upstream.abandoned.notified().await;
    let ended = world.events(2).await.pop().unwrap();
    assert_eq!(ended["metadata_json"]["gateway_status"], 413);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stops_coming_is_408() {
    let world =
        World::with(|options| options.stream_idle_timeout = Duration::from_millis(150)).await;
    let head = world.head("POST", "/", "Content-Length: 10\r\n");
    let reply = world.raw(head + "01234").await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (408, "invalid_request")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_drips_is_408_in_the_end() {
    let world = World::with(|options| options.read_timeout = Duration::from_millis(300)).await;
    let mut caller = world.caller().await;
    caller
        .send(world.head("POST", "/", "Content-Length: 1000\r\n"))
        .await;
    for _ in 0..20 {
        if !caller.try_send("x").await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(caller.reply().await.status, 408);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_upstream_may_answer_before_it_has_the_body() {
    let world = World::new().await;
    let early =
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope".to_vec();
    world.upstream.behaves(Behaviour::AnswerEarly(early));
    let mut caller = world.caller().await;
    caller
        .send(world.head("POST", "/", "Content-Length: 1000\r\n") + "start")
        .await;
    let reply = caller.reply().await;
    assert_eq!((reply.status, reply.text().as_str()), (403, "nope"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_stream_both_ways() {
    let world = World::new().await;
    let size = 8 * 1024 * 1024;
    let answer = [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes(),
        vec![b'r'; size],
    ];
    world.upstream.answers(answer.concat());
    let mut request = world
        .head("PUT", "/", &format!("Content-Length: {size}\r\n"))
        .into_bytes();
    request.extend(vec![b'q'; size]);
    let reply = world.raw(request).await;
    assert_eq!(
        (reply.status, reply.body.len(), reply.end),
        (200, size, End::Complete)
    );
    assert!(reply.body.iter().all(|byte| *byte == b'r'));
    let seen = world.upstream.only();
    assert_eq!(seen.body.len(), size);
    assert!(seen.body.iter().all(|byte| *byte == b'q'));
}
