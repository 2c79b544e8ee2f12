use caracal_core::id::{
    ApplicationId, AuthorityRecordId, DelegationId, KeyId, OutboxId, PolicySetId,
    PolicySetVersionId, SessionId, ZoneId,
};
use caracal_core::{Secret, Timestamp};
use caracal_crypto::HmacKey;

use super::Message;
use crate::reason::Reason;
use crate::signature::is_authentic;
use crate::topic::Topic;

fn zone() -> ZoneId {
    ZoneId::parse("zone-1").unwrap()
}

fn session() -> SessionId {
    SessionId::parse("sess-1").unwrap()
}

fn edge() -> DelegationId {
    DelegationId::parse("edge-1").unwrap()
}

fn record() -> AuthorityRecordId {
    AuthorityRecordId::parse("rec-1").unwrap()
}

fn at() -> Timestamp {
    Timestamp::from_micros(1_767_225_600_123_456)
}

fn assert_message(message: &Message, topic: Topic, dedupe_key: &str, payload: &str) {
    assert_eq!(message.topic(), topic);
    assert_eq!(message.dedupe_key(), dedupe_key);
    assert_eq!(message.payload().to_json(), payload);
}

#[test]
fn an_ended_session_names_only_itself() {
    assert_message(
        &Message::session_revoked(&zone(), &session(), &Reason::REQUESTED),
        Topic::SessionsRevoke,
        "agent_terminate:sess-1",
        r#"{"zone_id":"zone-1","agent_session_id":"sess-1","reason":"requested"}"#,
    );
}

#[test]
fn a_revoked_edge_names_only_itself() {
    assert_message(
        &Message::delegation_revoked(&zone(), &edge(), &Reason::DELEGATION_REVOKED),
        Topic::SessionsRevoke,
        "delegation:edge-1",
        r#"{"zone_id":"zone-1","delegation_edge_id":"edge-1","reason":"delegation_revoked"}"#,
    );
}

#[test]
fn a_dead_record_names_only_itself() {
    assert_message(
        &Message::authority_record_revoked(&zone(), &record(), &Reason::SUBJECT_REVOKED),
        Topic::SessionsRevoke,
        "authority_record:rec-1",
        r#"{"zone_id":"zone-1","session_id":"rec-1","reason":"subject_revoked"}"#,
    );
}

#[test]
fn a_revoked_grant_names_the_record_and_the_grant() {
    assert_message(
        &Message::grant_revoked(&zone(), &record(), "g-1"),
        Topic::SessionsRevoke,
        "grant:g-1:rec-1",
        r#"{"zone_id":"zone-1","session_id":"rec-1","reason":"grant_revoked","grant_id":"g-1"}"#,
    );
}

#[test]
fn a_raised_epoch_is_decimal_digits() {
    assert_message(
        &Message::epoch_raised(&zone(), &edge(), 2, 7),
        Topic::DelegationsInvalidate,
        "edge_revoke:edge-1",
        r#"{"event":"edge_revoke","zone_id":"zone-1","edge_id":"edge-1","affected_edges":"2","epoch":"7"}"#,
    );
    assert_message(
        &Message::epoch_raised_by_kill_switch(&zone(), &Reason::SUBJECT_REVOKED, 3, 8),
        Topic::DelegationsInvalidate,
        "kill_switch:zone-1:8",
        r#"{"event":"kill_switch","zone_id":"zone-1","reason":"subject_revoked","affected_edges":"3","epoch":"8"}"#,
    );
}

#[test]
fn an_epoch_stays_within_what_a_double_holds() {
    let message = Message::epoch_raised(&zone(), &edge(), 0, u64::MAX);
    assert_eq!(message.payload().get("epoch"), Some("9007199254740991"));
}

#[test]
fn a_policy_archive_leaves_the_version_out() {
    let set = PolicySetId::parse("ps-1").unwrap();
    let version = PolicySetVersionId::parse("psv-1").unwrap();
    assert_message(
        &Message::policy_invalidated(&zone(), &set, Some(&version), at()),
        Topic::PolicyInvalidate,
        "policy:zone-1:ps-1:1767225600123456",
        r#"{"zone_id":"zone-1","policy_set_id":"ps-1","policy_set_version_id":"psv-1"}"#,
    );
    assert_message(
        &Message::policy_invalidated(&zone(), &set, None, at()),
        Topic::PolicyInvalidate,
        "policy:zone-1:ps-1:1767225600123456",
        r#"{"zone_id":"zone-1","policy_set_id":"ps-1"}"#,
    );
}

#[test]
fn a_new_key_names_itself() {
    assert_message(
        &Message::keys_invalidated(&zone(), &KeyId::parse("k1").unwrap()),
        Topic::KeysInvalidate,
        "keys:zone-1:k1",
        r#"{"zone_id":"zone-1","kid":"k1"}"#,
    );
}

#[test]
fn lifecycle_events_say_null_for_no_parent() {
    let application = ApplicationId::parse("app-1").unwrap();
    assert_message(
        &Message::session_started(&zone(), &session(), None, &application),
        Topic::AgentsLifecycle,
        "spawn:sess-1",
        r#"{"event":"spawn","zone_id":"zone-1","agent_session_id":"sess-1","parent_id":"null","application_id":"app-1"}"#,
    );
}

#[test]
fn repeatable_lifecycle_events_name_their_occurrence() {
    let parent = SessionId::parse("sess-0").unwrap();
    assert_message(
        &Message::session_suspended(
            &zone(),
            &session(),
            Some(&parent),
            &Reason::SERVICE_HEARTBEAT_LOST,
            at(),
        ),
        Topic::AgentsLifecycle,
        "suspend:sess-1:2026-01-01T00:00:00.123Z",
        r#"{"event":"suspend","zone_id":"zone-1","agent_session_id":"sess-1","parent_id":"sess-0","reason":"service_heartbeat_lost"}"#,
    );
    assert_message(
        &Message::session_resumed(&zone(), &session(), Some(&parent), at()),
        Topic::AgentsLifecycle,
        "resume:sess-1:2026-01-01T00:00:00.123Z",
        r#"{"event":"resume","zone_id":"zone-1","agent_session_id":"sess-1","parent_id":"sess-0"}"#,
    );
}

#[test]
fn a_termination_is_told_once() {
    assert_message(
        &Message::session_terminated(&zone(), &session(), None, &Reason::TTL),
        Topic::AgentsLifecycle,
        "terminate:sess-1",
        r#"{"event":"terminate","zone_id":"zone-1","agent_session_id":"sess-1","parent_id":"null","reason":"ttl"}"#,
    );
}

#[test]
fn a_row_of_the_outbox_reads_back_as_its_message() {
    let message = Message::session_revoked(&zone(), &session(), &Reason::REQUESTED);
    let read = Message::from_row(
        message.topic().as_str(),
        message.dedupe_key(),
        &message.payload().to_json(),
    )
    .unwrap();
    assert_eq!(read, message);
}

#[test]
fn a_row_of_an_unknown_stream_or_form_is_refused() {
    assert!(Message::from_row("caracal.other", "k", "{}").is_err());
    assert!(Message::from_row("caracal.sessions.revoke", "k", r#"{"a":1}"#).is_err());
}

#[test]
fn a_published_entry_carries_its_row_and_its_signature() {
    let row = OutboxId::parse("ob-1").unwrap();
    let key = HmacKey::from_hex(&Secret::new("07".repeat(32))).unwrap();
    let entry =
        Message::session_revoked(&zone(), &session(), &Reason::REQUESTED).entry(&row, Some(&key));
    let names: Vec<&str> = entry.iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "outbox_id",
            "dedupe_key",
            "zone_id",
            "agent_session_id",
            "reason",
            "_sig"
        ]
    );
    assert!(is_authentic("caracal.sessions.revoke", &entry, &key));
}

#[test]
fn without_a_key_an_entry_is_not_signed() {
    let row = OutboxId::parse("ob-1").unwrap();
    let entry = Message::session_revoked(&zone(), &session(), &Reason::REQUESTED).entry(&row, None);
    assert_eq!(entry.get("_sig"), None);
}

#[test]
fn a_payload_cannot_pose_as_the_envelope() {
    let row = OutboxId::parse("ob-1").unwrap();
    let message = Message::from_row(
        "caracal.sessions.revoke",
        "real",
        r#"{"outbox_id":"forged","dedupe_key":"forged","_sig":"forged","zone_id":"zone-1"}"#,
    )
    .unwrap();
    assert_eq!(
        message.entry(&row, None).to_json(),
        r#"{"outbox_id":"ob-1","dedupe_key":"real","zone_id":"zone-1"}"#
    );
}
