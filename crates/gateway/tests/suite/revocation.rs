//! Running calls end when their authority does, visibly.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use caracal_core::{Clock, Timestamp};

use crate::caller::{Caller, End};
use crate::upstream::{Behaviour, chunk};
use crate::world::World;

const SSE: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The longest time from a commit to the end of a stream.
const PROMPT: Duration = Duration::from_millis(100);

async fn streaming(world: &World) -> (Caller, tokio::sync::mpsc::UnboundedSender<Vec<u8>>) {
    streaming_with(world, &world.mandate()).await
}

async fn streaming_with(
    world: &World,
    token: &str,
) -> (Caller, tokio::sync::mpsc::UnboundedSender<Vec<u8>>) {
    let events = world.upstream.streams(SSE);
    let mut caller = world.caller().await;
    caller
        .send(world.head_with(token, "GET", "/stream", ""))
        .await;
    events.send(chunk("data: 1\n\n")).unwrap();
    caller.read_until("data: 1\n\n\r\n").await;
    (caller, events)
}

/// Reads to the end, which must not be an end of the message.
async fn ends_cut(caller: &mut Caller) -> String {
    let (rest, _) = caller.read_to_close().await;
    assert!(!rest.contains("0\r\n\r\n"), "{rest:?}");
    assert!(!rest.ends_with("\r\n\r\n"), "{rest:?}");
    rest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_within_a_tenth_of_a_second() {
    let mut took = Vec::new();
    for _ in 0..9 {
        let world = World::new().await;
        let (mut caller, _events) = streaming(&world).await;
        world.terminate_session().await;
        let since = Instant::now();
        ends_cut(&mut caller).await;
        took.push(since.elapsed());
    }
    // The median, because a busy machine may stall any single one.
    took.sort_unstable();
    assert!(took[4] < PROMPT, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stream_ends_at_once_with_an_unfinished_trailer() {
    let world = World::new().await;
    let (mut caller, _events) = streaming(&world).await;
    world.terminate_session().await;
    let rest = ends_cut(&mut caller).await;
    assert_eq!(rest, "0\r\nX-Caracal-Revoked: true\r\n");
    world.upstream.abandoned.notified().await;
    let ended = world.events(2).await.pop().unwrap();
    assert_eq!(ended["evaluation_status"], "executed");
    assert_eq!(ended["metadata_json"]["revocation_interrupted"], true);
    assert_eq!(ended["metadata_json"]["response_bytes"], 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_revocation_ends_a_stream() {
    for kind in 0..5 {
        let world = World::new().await;
        let (mut caller, _events) = streaming(&world).await;
        match kind {
            0 => world.suspend_session().await,
            1 => world.revoke_edge(&world.root_edge).await,
            2 => world.revoke_record(&world.record).await,
            3 => {
                // A policy that no longer grants the call: only the STS knows.
                *world.sts.still_granted.lock() = false;
                world.change_the_zone().await;
            }
            _ => {
                let mut unit = world.store.begin(&world.zone).await.unwrap();
                let nobody = caracal_store::entity::Author {
                    by: None,
                    via_operator: false,
                };
                unit.archive_zone(&nobody).await.unwrap();
                unit.commit().await.unwrap();
            }
        }
        ends_cut(&mut caller).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_arrives_after_a_revocation_is_passed_on() {
    let world = World::new().await;
    let (mut caller, events) = streaming(&world).await;
    for round in 0..50 {
        events
            .send(chunk(&format!("data: before {round}\n\n")))
            .unwrap();
        caller.read_until(&format!("before {round}\n\n\r\n")).await;
    }
    // Judged just now: the next judgement is not due by time, only because data came.
    world.change_the_zone().await;
    events.send(chunk("data: judged\n\n")).unwrap();
    caller.read_until("judged\n\n\r\n").await;
    world.revoke_edge(&world.edge).await;
    let _ = events.send(chunk("data: after\n\n"));
    let rest = ends_cut(&mut caller).await;
    assert!(!rest.contains("after"), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_concerns_somebody_else_leaves_the_stream_running() {
    let world = World::new().await;
    let (mut caller, events) = streaming(&world).await;
    for round in 0..10 {
        world.change_something_else().await;
        events.send(chunk(&format!("data: {round}\n\n"))).unwrap();
        caller.read_until(&format!("data: {round}\n\n\r\n")).await;
    }
    assert_eq!(world.sts.rejudged.load(Ordering::SeqCst), 0);
    drop(events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_may_concern_the_call_is_put_to_the_sts() {
    let world = World::new().await;
    let (mut caller, events) = streaming(&world).await;
    for round in 1..=5 {
        world.change_the_zone().await;
        events.send(chunk(&format!("data: {round}\n\n"))).unwrap();
        caller.read_until(&format!("data: {round}\n\n\r\n")).await;
        assert_eq!(world.sts.rejudged.load(Ordering::SeqCst), round);
    }
    drop(events);
}

/// The Gateway's own anchors know the Session that calls and the edges above; what else the STS
/// judges, the Gateway only knows to ask about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_line_rests_on_is_put_to_the_sts() {
    for case in ["source", "parent", "record"] {
        let world = World::new().await;
        let line = world.long_line().await;
        let edge = line.edge.clone();
        let token = world.mandate_with(|claims| claims.delegation_edge_id = Some(edge));
        let (mut caller, _events) = streaming_with(&world, &token).await;
        *world.sts.still_granted.lock() = false;
        let mut unit = world.store.begin(&world.zone).await.unwrap();
        match case {
            "source" => drop(unit.suspend_sessions(&[line.source]).await.unwrap()),
            "parent" => drop(unit.suspend_sessions(&[line.parent]).await.unwrap()),
            _ => {
                let record = std::slice::from_ref(&line.record);
                unit.revoke_authority_records(record, "by test")
                    .await
                    .unwrap();
            }
        }
        unit.commit().await.unwrap();
        ends_cut(&mut caller).await;
        assert_eq!(world.sts.rejudged.load(Ordering::SeqCst), 1, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_confirms_in_time_is_cut() {
    let world = World::with(|options| options.rejudge_timeout = Duration::from_millis(50)).await;
    let (mut caller, _events) = streaming(&world).await;
    world.sts.hangs.store(true, Ordering::SeqCst);
    world.change_the_zone().await;
    ends_cut(&mut caller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_known_length_ends_short() {
    let world = World::new().await;
    let bytes = world
        .upstream
        .streams("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    let mut caller = world.caller().await;
    caller.send(world.head("GET", "/", "")).await;
    bytes.send(b"start".to_vec()).unwrap();
    caller.read_until("start").await;
    world.terminate_session().await;
    let (rest, _) = caller.read_to_close().await;
    assert_eq!(rest, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_ends_with_the_connection_is_reset() {
    let world = World::new().await;
    let bytes = world.upstream.streams("HTTP/1.1 200 OK\r\n\r\n");
    let mut caller = world.caller().await;
    let request = world
        .head("GET", "/", "")
        .replacen("HTTP/1.1", "HTTP/1.0", 1);
    caller.send(request).await;
    bytes.send(b"start".to_vec()).unwrap();
    caller.read_until("start").await;
    world.terminate_session().await;
    let (_, reset) = caller.read_to_close().await;
    assert!(reset, "a plain close would look complete");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_has_no_answer_yet_is_stopped_too() {
    let world = World::new().await;
    world.upstream.behaves(Behaviour::Silent);
    let mut caller = world.caller().await;
    caller.send(world.head("GET", "/", "")).await;
    world.upstream.arrived.notified().await;
    world.revoke_edge(&world.edge).await;
    let reply = caller.reply().await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (401, "invalid_token")
    );
    world.upstream.abandoned.notified().await;
    let ended = world.events(2).await.pop().unwrap();
    assert_eq!(ended["metadata_json"]["revocation_interrupted"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_stopped_too() {
    let world = World::new().await;
    let mut caller = world.caller().await;
    caller
        .send(world.head("POST", "/", "Transfer-Encoding: chunked\r\n") + "3\r\nabc\r\n")
        .await;
    world.upstream.arrived.notified().await;
    world.terminate_session().await;
    assert_eq!(caller.reply().await.status, 401);
    world.upstream.abandoned.notified().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_mandate() {
    let world = World::new().await;
    let exp = world.clock.now().plus_seconds(36);
    let mandate = world.mandate_with(|claims| claims.exp = exp);
    // The exchange takes so long that the mandate has a quarter of a second left.
    let clock = Arc::clone(&world.clock);
    *world.sts.meanwhile.lock() =
        Box::new(move || clock.set(Timestamp::from_micros(exp.micros() - 250_000)));
    let events = world.upstream.streams(SSE);
    let mut caller = world.caller().await;
    caller.send(world.head_with(&mandate, "GET", "/", "")).await;
    events.send(chunk("x")).unwrap();
    caller.read_until("x\r\n").await;
    let (rest, _) = caller.read_to_close().await;
    assert_eq!(rest, "");
    world.upstream.abandoned.notified().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_upstream_is_cut_and_looks_cut() {
    let world =
        World::with(|options| options.stream_idle_timeout = Duration::from_millis(200)).await;
    let (mut caller, _events) = streaming(&world).await;
    let (rest, _) = caller.read_to_close().await;
    assert_eq!(rest, "");
    assert_eq!(world.counter("upstream_errors").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_upstream_looks_broken() {
    let world = World::new().await;
    let broken = format!("{SSE}5\r\nhello\r\n5\r\nwo");
    world
        .upstream
        .behaves(Behaviour::AnswerAndClose(broken.into_bytes()));
    let reply = world.get("/").await;
    assert_eq!(reply.end, End::Cut);
    assert!(!reply.raw.contains("X-Caracal-Revoked"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_revocations_let_no_later_call_through() {
    let world = World::new().await;
    for _ in 0..1_000 {
        let mandate = world.mandate();
        world.suspend_session().await;
        let reply = world.get_with(&mandate).await;
        assert_eq!(reply.status, 401);
        world.resume_session().await;
    }
    assert_eq!(world.sts.exchanged(), 0);
}
