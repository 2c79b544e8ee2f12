//! Request heads that are too large, too slow or nonsense.

use std::time::{Duration, Instant};

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_over_16_kib_is_431() {
    let world = World::new().await;
    let fill = |size: usize| format!("X-Fill: {}\r\n", "x".repeat(size));
    let reply = world.raw(world.head("GET", "/", &fill(16 * 1024))).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (431, "payload_too_large")
    );
    let mut caller = world.caller().await;
    caller
        .try_send(world.head("GET", "/", &fill(40 * 1024)))
        .await;
    assert!(caller.read_until("\r\n").await.contains("431"));
    assert_eq!(
        world
            .raw(world.head("GET", "/", &fill(12 * 1024)))
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_come_closes_the_connection() {
    let world =
        World::with(|options| options.read_header_timeout = Duration::from_millis(150)).await;
    for start in ["", "\r\n\r\n", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let mut caller = world.caller().await;
        caller.send(start).await;
        let began = Instant::now();
        assert_eq!(caller.read_to_close().await.0, "");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_closed_later_than_a_slow_head() {
    let world = World::with(|options| {
        options.read_header_timeout = Duration::from_millis(100);
        options.idle_timeout = Duration::from_millis(600);
    })
    .await;
    let mut caller = world.caller().await;
    caller.send(world.head("GET", "/", "")).await;
    caller.reply().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    caller.send(world.head("GET", "/", "")).await;
    assert_eq!(caller.reply().await.status, 200);
    assert_eq!(caller.read_to_close().await.0, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_refused_and_the_gateway_lives_on() {
    let world = World::new().await;
    let token = world.mandate();
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(70_000));
    let twice = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 1\r\n\
         Content-Length: 2\r\n\r\nab"
    );
    let nonsense: Vec<Vec<u8>> = vec![
        b"\x00\x01\x02\x03\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\nHost x\n\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: x\r\n Folded: y\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nBad Name: y\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n".to_vec(),
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"GET relative HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n".to_vec(),
        b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xc3\xa9\r\n\r\n".to_vec(),
        twice.into_bytes(),
        long.into_bytes(),
    ];
    for bytes in nonsense {
        let mut caller = world.caller().await;
        caller.try_send(&bytes).await;
        let answered =
            tokio::time::timeout(Duration::from_secs(8), caller.read_until("\r\n")).await;
        let line = answered
            .unwrap_or_else(|_| panic!("no answer to {:?}", String::from_utf8_lossy(&bytes)));
        let status: u16 = line.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(
            (400..500).contains(&status),
            "{line} to {:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
    assert_eq!(world.get_with(&token).await.status, 200);
    assert_eq!(world.upstream.seen.lock().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_is_not_answered() {
    let world = World::new().await;
    let mut caller = world.caller().await;
    caller.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(caller.read_to_close().await.0, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_request_id_is_replaced() {
    let world = World::new().await;
    for bad in ["a b", "", &"x".repeat(129), "é"] {
        let reply = world
            .raw(world.head("GET", "/", &format!("X-Request-Id: {bad}\r\n")))
            .await;
        let id = reply.header("x-request-id").unwrap();
        assert!(
            caracal_core::id::uuid_v7_millis(id).is_some(),
            "{bad} gave {id}"
        );
    }
}
