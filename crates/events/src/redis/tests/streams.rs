use std::time::Duration;

use caracal_core::Secret;
use caracal_crypto::HmacKey;

use super::{connect, recovered};
use crate::fields::{Fields, SIGNATURE_FIELD};
use crate::publisher::Publisher;
use crate::redis::{EntryId, Redis, RedisPublisher, StreamReader, StreamWriter, Trim};
use crate::signature::{is_authentic, signature};
use crate::topic::Topic;

const STREAM: &str = "caracal.audit.events";
const GROUP: &str = "audit-ingestor";
const SOON: Duration = Duration::from_secs(5);
const AT_ONCE: Duration = Duration::from_millis(1);

fn numbered(number: u32) -> Fields {
    Fields::new().with("id", number).with("data", "{}")
}

fn reader(redis: &Redis, consumer: &str) -> StreamReader {
    StreamReader::open(redis, STREAM, GROUP, consumer).unwrap()
}

/// The reader's second connection is made in the background.
async fn read_some(reader: &StreamReader, count: usize) -> Vec<crate::redis::Entry> {
    loop {
        match reader.read(count, SOON).await {
            Ok(entries) => return entries,
            Err(error) if error.is_outage() => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

fn numbers(entries: &[crate::redis::Entry]) -> Vec<&str> {
    entries
        .iter()
        .map(|entry| entry.fields.get("id").unwrap())
        .collect()
}

#[tokio::test]
async fn a_group_begins_with_the_first_entry_of_the_stream() {
    let server = caracal_testbed::Redis::start().unwrap();
    let redis = connect(&server.url()).await;
    let writer = StreamWriter::new(redis.clone());
    for outcome in writer
        .append_all(STREAM, &[numbered(1), numbered(2)], Trim::Never)
        .await
    {
        outcome.unwrap();
    }
    let entries = read_some(&reader(&redis, "a"), 10).await;
    assert_eq!(numbers(&entries), ["1", "2"]);
    assert_eq!(entries[0].deliveries, 1);
    assert_eq!(entries[0].fields, numbered(1));
}

#[tokio::test]
async fn a_waiting_read_gets_what_is_appended() {
    let server = caracal_testbed::Redis::start().unwrap();
    let redis = connect(&server.url()).await;
    let writer = StreamWriter::new(redis.clone());
    let reader = reader(&redis, "a");
    let fields = numbered(1);
    let (entries, appended) = tokio::join!(
        read_some(&reader, 10),
        writer.append(STREAM, &fields, Trim::Never)
    );
    assert_eq!(entries[0].id, appended.unwrap());
}

#[tokio::test]
async fn what_one_member_left_another_claims_and_acknowledged_entries_are_gone() {
    let server = caracal_testbed::Redis::start().unwrap();
    let redis = connect(&server.url()).await;
    let writer = StreamWriter::new(redis.clone());
    let batch: Vec<Fields> = (1..=5).map(numbered).collect();
    writer.append_all(STREAM, &batch, Trim::Never).await;
    let (first, second) = (reader(&redis, "a"), reader(&redis, "b"));
    let given = read_some(&first, 4).await;
    first.ack(&[given[0].id]).await.unwrap();

    let lag = second.lag().await.unwrap();
    assert_eq!((lag.unread, lag.pending), (Some(1), 3));
    assert_eq!(lag.settled_up_to(), given[1].id);

    // Two at a time; the third call has gone round.
    let mut claimed = second.claim(Duration::ZERO, 2).await.unwrap();
    claimed.extend(second.claim(Duration::ZERO, 2).await.unwrap());
    assert_eq!(numbers(&claimed), ["2", "3", "4"]);
    assert!(claimed.iter().all(|entry| entry.deliveries == 2));
    let again = second.claim(Duration::ZERO, 10).await.unwrap();
    assert!(again.iter().all(|entry| entry.deliveries == 3));
    assert!(second.claim(SOON, 10).await.unwrap().is_empty());

    let ids: Vec<EntryId> = claimed.iter().map(|entry| entry.id).collect();
    second.ack(&ids).await.unwrap();
    let lag = first.lag().await.unwrap();
    assert_eq!((lag.pending, lag.oldest_pending), (0, None));
    assert_eq!(lag.settled_up_to(), given[3].id);
}

#[tokio::test]
async fn a_server_that_lost_its_data_gets_its_group_again() {
    let mut server = caracal_testbed::Redis::start().unwrap();
    let redis = connect(&server.url()).await;
    let writer = StreamWriter::new(redis.clone());
    let reader = reader(&redis, "a");
    writer
        .append(STREAM, &numbered(1), Trim::Never)
        .await
        .unwrap();
    read_some(&reader, 1).await;

    server.stop(true);
    server.forget().unwrap();
    server.start_again().unwrap();
    recovered(&redis).await;

    writer
        .append(STREAM, &numbered(2), Trim::Never)
        .await
        .unwrap();
    assert_eq!(numbers(&read_some(&reader, 10).await), ["2"]);
    server.stop(true);
    server.forget().unwrap();
    server.start_again().unwrap();
    recovered(&redis).await;
    assert!(reader.claim(Duration::ZERO, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_read_without_entries_ends_in_time() {
    let server = caracal_testbed::Redis::start().unwrap();
    let redis = connect(&server.url()).await;
    let reader = reader(&redis, "a");
    StreamWriter::new(redis.clone())
        .append(STREAM, &numbered(1), Trim::Never)
        .await
        .unwrap();
    read_some(&reader, 1).await;
    assert!(reader.read(1, AT_ONCE).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_stream_is_looked_into_and_shortened() {
    let server = caracal_testbed::Redis::start().unwrap();
    let writer = StreamWriter::new(connect(&server.url()).await);
    assert_eq!(writer.len(STREAM).await.unwrap(), 0);
    let batch: Vec<Fields> = (1..=5).map(numbered).collect();
    let ids: Vec<EntryId> = writer
        .append_all(STREAM, &batch, Trim::Never)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(ids.is_sorted());
    assert_eq!(
        numbers(&writer.range(STREAM, EntryId::ZERO, 2).await.unwrap()),
        ["1", "2"]
    );
    assert_eq!(
        numbers(&writer.range(STREAM, ids[1], 9).await.unwrap()),
        ["3", "4", "5"]
    );
    assert_eq!(writer.trim_up_to(STREAM, ids[2]).await.unwrap(), 2);
    assert_eq!(writer.delete(STREAM, &ids[2..4]).await.unwrap(), 2);
    assert_eq!(writer.entry(STREAM, ids[3]).await.unwrap(), None);
    assert_eq!(
        writer.entry(STREAM, ids[4]).await.unwrap().unwrap().fields,
        numbered(5)
    );
    assert_eq!(writer.len(STREAM).await.unwrap(), 1);
}

#[tokio::test]
async fn hints_are_published_signed_and_bounded_and_evidence_is_never_trimmed() {
    let server = caracal_testbed::Redis::start().unwrap();
    let redis = connect(&server.url()).await;
    let publisher = RedisPublisher::new(redis.clone(), 1);
    let key =
        HmacKey::from_hex(&Secret::new("00112233445566778899aabbccddeeff".repeat(2))).unwrap();
    for number in 0..500 {
        for topic in [Topic::SessionsRevoke, Topic::AuditEvents] {
            let fields = Fields::new().with("zone_id", number);
            let signed = signature(topic.as_str(), &fields, &key);
            publisher
                .publish(topic, fields.with(SIGNATURE_FIELD, signed))
                .await
                .unwrap();
        }
    }
    let writer = StreamWriter::new(redis);
    assert!(writer.len(Topic::SessionsRevoke.as_str()).await.unwrap() < 500);
    assert_eq!(writer.len(Topic::AuditEvents.as_str()).await.unwrap(), 500);
    let stream = Topic::SessionsRevoke.as_str();
    for entry in writer.range(stream, EntryId::ZERO, 500).await.unwrap() {
        assert!(is_authentic(stream, &entry.fields, &key));
    }
}

#[tokio::test]
async fn a_stopped_server_is_an_outage_and_no_fault_of_the_message() {
    let mut server = caracal_testbed::Redis::start().unwrap();
    let publisher = RedisPublisher::new(connect(&server.url()).await, 10);
    server.stop(true);
    let refused = publisher.publish(Topic::SessionsRevoke, numbered(1)).await;
    assert!(refused.unwrap_err().is_outage);
}
