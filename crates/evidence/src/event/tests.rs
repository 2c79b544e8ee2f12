use caracal_core::id::{ApplicationId, EventId, PolicySetVersionId, ZoneId};
use caracal_core::{ManualClock, RequestId, Secret, SeededRandom, Timestamp};
use caracal_crypto::HmacKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Decision, EncodeError, Event, EventType, MAX_EVENT_BYTES, ReceivedEvent, Stamp};
use crate::sign::{FrameSignature, sign, verifies};

fn event(event_type: EventType, decision: Decision, status: &'static str) -> Event {
    let clock = ManualClock::at(Timestamp::from_seconds(1));
    let random = SeededRandom::new(7);
    let stamp = Stamp::of(
        EventId::parse("0197a000-0000-7000-8000-000000000101").unwrap(),
        Timestamp::parse_rfc3339("2026-01-02T03:04:05.123456Z").unwrap(),
    );
    let zone = ZoneId::parse("zone-a").unwrap();
    let request = RequestId::accept(Some("req-1"), &clock, &random);
    Event::new(stamp, &zone, &request, event_type, decision, status)
}

fn json_of(event: &Event) -> String {
    String::from_utf8(event.to_json().unwrap()).unwrap()
}

#[test]
fn a_full_event_has_every_member_in_the_order_of_the_wire() {
    let event = event(EventType::TokenExchange, Decision::Allow, "complete")
        .policy_set_version(&PolicySetVersionId::parse("psv-1").unwrap())
        .manifest_sha("sha256:aa11")
        .determining_policies(vec![json!({"policy_id": "p1"})])
        .with("resource", "resource://api")
        .with("requested_scopes", ["read"]);
    assert_eq!(
        json_of(&event),
        concat!(
            r#"{"id":"0197a000-0000-7000-8000-000000000101","zone_id":"zone-a","#,
            r#""event_type":"token_exchange","request_id":"req-1","decision":"allow","#,
            r#""policy_set_version_id":"psv-1","manifest_sha":"sha256:aa11","#,
            r#""evaluation_status":"complete","determining_policies_json":[{"policy_id":"p1"}],"#,
            r#""diagnostics_json":[],"metadata_json":{"resource":"resource://api","#,
            r#""requested_scopes":["read"]},"occurred_at":"2026-01-02T03:04:05.123456Z"}"#,
        )
    );
}

#[test]
fn absent_policy_and_metadata_members_are_left_out() {
    let event = event(EventType::JtiCollision, Decision::Deny, "anomaly").manifest_sha("");
    let value: Value = serde_json::from_str(&json_of(&event)).unwrap();
    for absent in [
        "policy_set_id",
        "policy_set_version_id",
        "manifest_sha",
        "metadata_json",
    ] {
        assert!(value.get(absent).is_none(), "{absent}");
    }
    assert_eq!(value["determining_policies_json"], json!([]));
    assert_eq!(value["diagnostics_json"], json!([]));
}

#[test]
fn a_later_metadata_value_replaces_the_earlier_one_in_its_place() {
    let application = ApplicationId::parse("app-1").unwrap();
    let event = event(EventType::TokenExchange, Decision::Deny, "exchange_denied")
        .with("reason", "first")
        .with("application_id", &application)
        .with("reason", "second")
        .with_some("jti", None::<&str>);
    let members: Vec<_> = event
        .metadata()
        .iter()
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(members, ["reason", "application_id"]);
    assert_eq!(event.metadata().get("reason"), Some(&json!("second")));
}

#[test]
fn an_event_over_the_limit_has_no_json() {
    let event = event(EventType::TokenExchange, Decision::Deny, "exchange_denied")
        .with("requested", "x".repeat(MAX_EVENT_BYTES));
    assert_eq!(event.to_json(), Err(EncodeError::TooLarge));
}

#[test]
fn an_abridged_event_keeps_what_is_short() {
    let event = event(EventType::TokenExchange, Decision::Deny, "exchange_denied")
        .diagnostics(vec![json!({"error": "x".repeat(MAX_EVENT_BYTES)})])
        .with("application_id", "app-1")
        .with("requested", vec!["x".repeat(1000); 400]);
    let data = event.abridged().to_json().unwrap();
    let value: Value = serde_json::from_slice(&data).unwrap();
    assert_eq!(value["metadata_json"]["application_id"], "app-1");
    assert_eq!(
        value["metadata_json"]["requested"],
        "(401201 bytes left out)"
    );
    assert_eq!(
        value["diagnostics_json"],
        json!([{"left_out_bytes": MAX_EVENT_BYTES + 14}])
    );
}

#[test]
fn the_wire_names_are_distinct() {
    let names: std::collections::BTreeSet<_> = EventType::ALL.iter().map(|t| t.as_str()).collect();
    assert_eq!(names.len(), EventType::ALL.len());
    assert!(names.contains("gateway_request_started") && names.contains("control.invoke"));
}

const E1: &str = r#"{"id":"0197a000-0000-7000-8000-000000000101","zone_id":"zone-a","event_type":"token_exchange","request_id":"req-1","decision":"allow","policy_set_version_id":"psv-1","manifest_sha":"sha256:aa11","evaluation_status":"complete","determining_policies_json":[{"policy_id":"p1"}],"diagnostics_json":[],"metadata_json":{"resource":"resource://api","requested_scopes":["read"]},"occurred_at":"2026-01-02T03:04:05.123456789Z"}"#;
const E2: &str = r#"{"id":"0197a000-0000-7000-8000-000000000102","zone_id":"zone-a","event_type":"gateway_resource_request","request_id":"req-1","decision":"allow","evaluation_status":"complete","determining_policies_json":[],"diagnostics_json":[],"metadata_json":{"method":"GET","latency_ms":12,"gateway_status":200},"occurred_at":"2026-01-02T03:04:05.2Z"}"#;
const E3: &str = r#"{"id":"0197a000-0000-7000-8000-000000000103","zone_id":"zone-a","event_type":"jti_collision","request_id":"req-2","decision":"deny","evaluation_status":"anomaly","determining_policies_json":null,"diagnostics_json":null,"occurred_at":"2026-01-02T03:04:06Z"}"#;
const GATEWAY: &str = r#"{"id":"019b7a00-0000-7000-8000-000000000001","zone_id":"zone-9","event_type":"gateway_resource_request","request_id":"req-0001","decision":"allow","evaluation_status":"executed","determining_policies_json":[],"diagnostics_json":[],"metadata_json":{"application_id":"app-77","auth_mode":"provider_apikey","gateway_status":200,"latency_ms":41,"method":"POST","provider_id":"prov-5","resource":"resource://ledger","response_bytes":12,"result_class":"success","subject_fingerprint":"ce887a8eece06ba3","subject_kind":"application","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","upstream_host":"ledger.example","upstream_status":200},"occurred_at":"2026-01-01T00:00:00Z"}"#;
const REVEAL: &str = r#"{"id":"0195a5f0-0000-7000-8000-0000000000aa","zone_id":"z1","event_type":"credential_revealed","request_id":"req-1","decision":"allow","evaluation_status":"complete","determining_policies_json":[],"diagnostics_json":[],"metadata_json":{"credential":"workload_secret","workload_id":"w1","workload_name":"nightly","actor":"admin:t1"},"occurred_at":"2026-03-01T12:00:00.000Z"}"#;

fn key(first: u8) -> HmacKey {
    let bytes: Vec<u8> = (first..=first + 31).collect();
    HmacKey::from_hex(&Secret::new(hex::encode(bytes))).unwrap()
}

#[test]
fn signatures_match_the_published_vectors() {
    let reveal_key = HmacKey::from_secret_bytes(&{
        let mut bytes = [0; 32];
        bytes[31] = 1;
        bytes
    });
    let gateway_key = "00112233445566778899aabbccddeeff".repeat(2);
    let gateway_key = HmacKey::from_hex(&Secret::new(gateway_key)).unwrap();
    let vectors = [
        (
            key(0xa0),
            E1,
            "80d086ae52b233efbdada1540b1771badf9a09ab6d1ca59720e3e88cf0ae63f0",
        ),
        (
            key(0xa0),
            E2,
            "fe196dae850ee926b6c42359523f9b68262a9d25d9037a79118777dbe9b8e057",
        ),
        (
            key(0xa0),
            E3,
            "b094ca7b6770736c1e152b43c985ccd3114cfae7fad61d47332f31cc333bd4d0",
        ),
        (
            gateway_key,
            GATEWAY,
            "1a17b1227ffc75fd3fff0f775195290a35ae7178d9dea24b38c3efee5b163dfa",
        ),
        (
            key(0),
            r#"{"id":"ev-1","zone_id":"zone-1"}"#,
            "1df486da4eb93478d3c680fda4bb90f4986446c36b4d661bb5b39d0659698ef3",
        ),
        (
            reveal_key,
            REVEAL,
            "6ef3affb9b175f97d69e4e4185b5773ef4c97dd4067a6c92907a69b43f320a2a",
        ),
    ];
    for (key, data, expected) in vectors {
        let signature = sign(&key, data.as_bytes());
        assert_eq!(signature.to_string(), expected, "{data}");
        assert_eq!(FrameSignature::from_hex(expected), Some(signature));
        assert!(verifies(&key, data.as_bytes(), &signature));
        assert!(!verifies(&key, &data.as_bytes()[1..], &signature));
    }
}

#[test]
fn published_events_are_understood() {
    let received = ReceivedEvent::from_json(E1.as_bytes()).unwrap();
    assert_eq!(received.id.as_str(), "0197a000-0000-7000-8000-000000000101");
    assert_eq!(received.zone_id.as_str(), "zone-a");
    assert_eq!(received.event_type, "token_exchange");
    assert_eq!(received.policy_set_version_id.as_deref(), Some("psv-1"));
    assert_eq!(
        received.determining_policies,
        Some(r#"[{"policy_id":"p1"}]"#)
    );
    assert_eq!(
        received.occurred_at.to_rfc3339_micros(),
        "2026-01-02T03:04:05.123456Z"
    );
    let without_lists = ReceivedEvent::from_json(E3.as_bytes()).unwrap();
    assert_eq!(without_lists.determining_policies, None);
    assert_eq!(without_lists.metadata, None);
}

#[test]
fn what_we_write_is_what_we_read() {
    let event = event(
        EventType::GatewayRequestStarted,
        Decision::Allow,
        "dispatched",
    )
    .with("method", "GET");
    let data = event.to_json().unwrap();
    let received = ReceivedEvent::from_json(&data).unwrap();
    assert_eq!(&received.id, event.id());
    assert_eq!(&received.zone_id, event.zone_id());
    assert_eq!(received.occurred_at, event.occurred_at());
    assert_eq!(received.event_type, event.event_type().as_str());
    assert_eq!(received.metadata, Some(r#"{"method":"GET"}"#));
}

#[test]
fn an_event_without_a_well_formed_identity_is_refused() {
    let cases = [
        r#"{"zone_id":"z","occurred_at":"2026-01-02T03:04:05Z"}"#,
        r#"{"id":"","zone_id":"z","occurred_at":"2026-01-02T03:04:05Z"}"#,
        r#"{"id":"e","occurred_at":"2026-01-02T03:04:05Z"}"#,
        r#"{"id":"e","zone_id":"a b","occurred_at":"2026-01-02T03:04:05Z"}"#,
        r#"{"id":"e","zone_id":"z"}"#,
        r#"{"id":"e","zone_id":"z","occurred_at":"yesterday"}"#,
        r#"{"id":"e","zone_id":"z","occurred_at":"2026-01-02T03:04:05"}"#,
        r#"{"id":"e","zone_id":"z","occurred_at":"0001-01-01T00:00:00Z"}"#,
        r#"{"id":"e","id":"f","zone_id":"z","occurred_at":"2026-01-02T03:04:05Z"}"#,
        r#"{"id":7,"zone_id":"z","occurred_at":"2026-01-02T03:04:05Z"}"#,
        r#"{"id":"e","zone_id":"z","occurred_at":"2026-01-02T03:04:05Z"} x"#,
        r#" {"id":"e","zone_id":"z","occurred_at":"2026-01-02T03:04:05Z"}"#,
        "{\"id\":\"e\",\n\"zone_id\":\"z\",\"occurred_at\":\"2026-01-02T03:04:05Z\"}",
        "[]",
        "",
    ];
    for case in cases {
        assert!(ReceivedEvent::from_json(case.as_bytes()).is_err(), "{case}");
    }
    let large = " ".repeat(MAX_EVENT_BYTES + 1);
    assert!(ReceivedEvent::from_json(large.as_bytes()).is_err());
}

#[test]
fn nul_characters_do_not_reach_the_columns() {
    let data =
        r#"{"id":"e","zone_id":"z","occurred_at":"2026-01-02T03:04:05Z","request_id":"a\u0000b"}"#;
    let received = ReceivedEvent::from_json(data.as_bytes()).unwrap();
    assert_eq!(received.request_id, "ab");
}

#[test]
fn the_members_that_searches_filter_by_are_found() {
    let event = event(EventType::TokenExchange, Decision::Allow, "complete")
        .with("application_id", "app-1")
        .with("agent_session_id", "s\"1")
        .with("session_id", "record-1")
        .with("agent_labels", ["b", "a", "b"]);
    let data = event.to_json().unwrap();
    let indexed = ReceivedEvent::from_json(&data).unwrap().indexed();
    assert_eq!(indexed.application_id.as_deref(), Some("app-1"));
    assert_eq!(indexed.agent_session_id.as_deref(), Some("s\"1"));
    assert_eq!(indexed.authority_record_id.as_deref(), Some("record-1"));
    assert_eq!(indexed.labels, ["a", "b"]);
}

#[test]
fn metadata_of_another_shape_is_not_searchable_and_does_no_harm() {
    let event = event(EventType::TokenExchange, Decision::Allow, "complete")
        .with("application_id", 7)
        .with("agent_session_id", "x".repeat(200))
        .with("session_id", "record-1")
        .with("agent_labels", json!([1, "a", {"b": 2}]));
    let data = event.to_json().unwrap();
    let indexed = ReceivedEvent::from_json(&data).unwrap().indexed();
    assert_eq!(indexed.application_id, None);
    assert_eq!(indexed.agent_session_id, None);
    assert_eq!(indexed.authority_record_id.as_deref(), Some("record-1"));
    assert_eq!(indexed.labels, ["a"]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_the_parser(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = ReceivedEvent::from_json(&data);
    }

    #[test]
    fn any_metadata_text_survives_the_round_trip(text in ".{0,80}") {
        let data = event(EventType::TokenExchange, Decision::Deny, "exchange_denied")
            .with("reason", &text)
            .to_json()
            .unwrap();
        let received = ReceivedEvent::from_json(&data).unwrap();
        let metadata: Value = serde_json::from_str(received.metadata.unwrap()).unwrap();
        prop_assert_eq!(&metadata["reason"], &json!(text));
    }
}
