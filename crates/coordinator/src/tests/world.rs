//! A zone with applications, a resource, a signing key and the role in front of it.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use caracal_core::id::{
    ApplicationId, AuthorityRecordId, DelegationId, KeyId, MandateId, ResourceId, SessionId, ZoneId,
};
use caracal_core::{
    Clock, ManualClock, ResourceIdentifier, Scope, Secret, SeededRandom, SubjectType, Timestamp,
};
use caracal_crypto::{Claims, HmacKey, KeySet, MandateUse, SigningKey};
use caracal_http::Dependencies;
use caracal_http::ops::Metrics;
use caracal_roles::{KeySource, KeysUnavailable};
use caracal_store::entity::{
    Application, Attribution, AuthorityRecord, Delegation, Enforcement, RecordStatus,
    RegistrationMethod, Resource, Session, Zone,
};
use caracal_store::{
    AdminAuditFilter, AdminAuditRow, Authority, AuthorityLimits, OutboxMessage, Page, Store,
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{Coordinator, CoordinatorOptions};

pub(super) const ISSUER: &str = "http://localhost:8080";
pub(super) const OPERATOR: &str = "operator-token-for-tests";
pub(super) const LIFECYCLE: &str = "agent:lifecycle";
pub(super) const NOTES: &str = "resource://notes";

/// The zone's keys, which a test may take away.
#[derive(Debug, Default)]
pub(super) struct TestKeys {
    set: Mutex<Option<Arc<KeySet>>>,
    fails: Mutex<bool>,
}

#[async_trait]
impl KeySource for TestKeys {
    async fn verifying_keys(&self, zone: &ZoneId) -> Result<Option<Arc<KeySet>>, KeysUnavailable> {
        if *self.fails.lock() {
            return Err(KeysUnavailable("the test took the keys away".to_owned()));
        }
        let is_known = zone.as_str() == "z1" || zone.as_str() == "z2";
        Ok(self.set.lock().clone().filter(|_| is_known))
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
    pub(super) text: String,
}

impl Answer {
    /// The machine code of a refusal.
    pub(super) fn code(&self) -> &str {
        self.body["error"].as_str().unwrap_or("")
    }

    #[track_caller]
    pub(super) fn assert(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status.as_u16(), self.code()),
            (status, code),
            "{}",
            self.text
        );
    }

    #[track_caller]
    pub(super) fn ok(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.body
    }

    pub(super) fn str(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or("")
    }
}

pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    pub(super) store: Store,
    pub(super) coordinator: Arc<Coordinator>,
    pub(super) keys: Arc<TestKeys>,
    pub(super) zone: ZoneId,
    router: Router,
    random: Arc<SeededRandom>,
    signing: SigningKey,
    _home: tempfile::TempDir,
}

/// One mandate to be minted.
pub(super) struct Mint<'a> {
    pub(super) application: &'a str,
    pub(super) scope: &'a str,
    pub(super) record: &'a str,
    pub(super) subject: Option<&'a str>,
    pub(super) zone: &'a str,
    pub(super) mandate_use: MandateUse,
    pub(super) lives_for: i64,
}

impl Default for Mint<'_> {
    fn default() -> Self {
        Self {
            application: "app",
            scope: LIFECYCLE,
            record: "rec-app",
            subject: None,
            zone: "z1",
            mandate_use: MandateUse::Session,
            lives_for: 900,
        }
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// Applications `app`, `other` and the self-registered `dcr`, each with a record `rec-…`; a
    /// user's record `rec-user`, minted for `app`; resources `resource://notes` (`res-notes`, scopes
    /// `notes:read`, `notes:write`) and `resource://mail`.
    pub(super) async fn with(change: impl FnOnce(&mut CoordinatorOptions)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let start = Timestamp::parse_utc("2026-07-29T10:00:00Z").unwrap();
        let clock = Arc::new(ManualClock::at(start));
        let random = Arc::new(SeededRandom::new(7));
        let path = home.path().join("caracal.db");
        let store = Store::open_sqlite(&path, clock.clone(), random.clone())
            .await
            .unwrap();
        let signing = SigningKey::generate(KeyId::parse("key-1").unwrap()).unwrap();
        let keys = Arc::new(TestKeys::default());
        let set: KeySet = std::iter::once(signing.verifying_key().clone()).collect();
        *keys.set.lock() = Some(Arc::new(set));
        let idempotency_key = HmacKey::from_secret_bytes(&(0..32).collect::<Vec<u8>>());
        let mut options = CoordinatorOptions::new(ISSUER, idempotency_key);
        options.operator_tokens = vec![Secret::new(OPERATOR.to_owned())];
        options.requests_per_minute = 0;
        change(&mut options);
        let authority = Authority::new(store.clone(), AuthorityLimits::default());
        let coordinator = Coordinator::new(
            options,
            clock.clone(),
            random.clone(),
            authority,
            keys.clone() as Arc<dyn KeySource>,
            Dependencies::default(),
        );
        let router = coordinator
            .router()
            .merge(coordinator.ops_router(Metrics::detached()));
        let zone = ZoneId::parse("z1").unwrap();
        let world = Self {
            clock,
            store,
            coordinator,
            keys,
            zone,
            router,
            random,
            signing,
            _home: home,
        };
        world.provision().await;
        world
    }

    async fn provision(&self) {
        let now = self.clock.now();
        let zone = |id: &str| Zone {
            id: ZoneId::parse(id).unwrap(),
            name: id.to_owned(),
            slug: id.to_owned(),
            dcr_enabled: true,
            operator_coauthor_badge: false,
            operator_governed: false,
            owner_account_id: None,
            attribution: Attribution::default(),
            created_at: now,
            updated_at: now,
            archived_at: None,
        };
        let other = ZoneId::parse("z2").unwrap();
        let mut unit = self.store.begin(&other).await.unwrap();
        unit.insert_zone(&zone("z2")).await.unwrap();
        unit.commit().await.unwrap();
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        unit.insert_zone(&zone("z1")).await.unwrap();
        unit.commit().await.unwrap();
        self.add_application("app", RegistrationMethod::Managed)
            .await;
        self.add_application("other", RegistrationMethod::Managed)
            .await;
        self.add_application("third", RegistrationMethod::Managed)
            .await;
        self.add_application("dcr", RegistrationMethod::Dcr).await;
        self.add_record("rec-user", "app", SubjectType::User, 900)
            .await;
        self.add_resource("res-notes", NOTES, &["notes:read", "notes:write"])
            .await;
        self.add_resource("res-mail", "resource://mail", &["mail:send"])
            .await;
    }

    /// An application with a record that lives for a day.
    pub(super) async fn add_application(&self, id: &str, method: RegistrationMethod) {
        let now = self.clock.now();
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        unit.insert_application(&Application {
            id: ApplicationId::parse(id).unwrap(),
            zone_id: self.zone.clone(),
            name: id.to_owned(),
            registration_method: method,
            traits: Vec::new(),
            secret_hash: None,
            sealed_secret: None,
            expires_at: (method == RegistrationMethod::Dcr).then(|| now.plus_seconds(86_400)),
            attribution: Attribution::default(),
            created_at: now,
            updated_at: None,
            archived_at: None,
        })
        .await
        .unwrap();
        unit.commit().await.unwrap();
        self.add_record(&format!("rec-{id}"), id, SubjectType::Application, 86_400)
            .await;
    }

    pub(super) async fn add_record(
        &self,
        id: &str,
        application: &str,
        kind: SubjectType,
        lives_for: i64,
    ) {
        let now = self.clock.now();
        let subject = match kind {
            SubjectType::Application => application,
            SubjectType::User => "user-1",
        };
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        unit.insert_authority_record(&AuthorityRecord {
            id: AuthorityRecordId::parse(id).unwrap(),
            zone_id: self.zone.clone(),
            kind,
            subject_id: subject.to_owned(),
            issuer: None,
            application_id: ApplicationId::parse(application).unwrap(),
            parent_id: None,
            status: RecordStatus::Active,
            expires_at: now.plus_seconds(lives_for),
            authenticated_at: now,
            created_at: now,
            revoked_at: None,
            revoked_reason: None,
        })
        .await
        .unwrap();
        unit.commit().await.unwrap();
    }

    async fn add_resource(&self, id: &str, identifier: &str, scopes: &[&str]) {
        let now = self.clock.now();
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        unit.insert_resource(&Resource {
            id: ResourceId::parse(id).unwrap(),
            zone_id: self.zone.clone(),
            name: id.to_owned(),
            identifier: ResourceIdentifier::new(identifier),
            upstream_url: Some("http://localhost:9".to_owned()),
            scopes: scopes.iter().map(|scope| Scope::new(scope)).collect(),
            credential_provider_id: None,
            operations: Vec::new(),
            operation_enforcement: Enforcement::TransportUniform,
            attribution: Attribution::default(),
            created_at: now,
            updated_at: now,
            archived_at: None,
        })
        .await
        .unwrap();
        unit.commit().await.unwrap();
    }

    pub(super) async fn revoke_record(&self, id: &str) {
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        let ids = [AuthorityRecordId::parse(id).unwrap()];
        unit.revoke_authority_records(&ids, "test").await.unwrap();
        unit.commit().await.unwrap();
    }

    pub(super) fn claims(&self, mint: &Mint<'_>) -> Claims {
        let now = self.clock.now();
        Claims {
            iss: ISSUER.into(),
            sub: mint.subject.unwrap_or(mint.application).into(),
            aud: vec![ISSUER.into()],
            exp: now.plus_seconds(mint.lives_for),
            iat: now,
            jti: MandateId::generate(&*self.clock, &*self.random),
            zone_id: ZoneId::parse(mint.zone).unwrap(),
            client_id: ApplicationId::parse(mint.application).unwrap(),
            scope: (!mint.scope.is_empty()).then(|| mint.scope.into()),
            sid: AuthorityRecordId::parse(mint.record).unwrap(),
            root_sid: AuthorityRecordId::parse(mint.record).unwrap(),
            mandate_use: mint.mandate_use,
            sub_type: if mint.subject.is_some() {
                SubjectType::User
            } else {
                SubjectType::Application
            },
            target: Vec::new(),
            agent_session_id: None,
            delegation_edge_id: None,
            source_session_id: None,
            target_session_id: None,
            delegation_path: Vec::new(),
            delegation_chain: Vec::new(),
            hop_count: 0,
            delegation_graph_epoch: 0,
        }
    }

    pub(super) fn sign(&self, claims: &Claims) -> String {
        self.signing.sign(claims).unwrap()
    }

    pub(super) fn mint(&self, mint: &Mint<'_>) -> String {
        self.sign(&self.claims(mint))
    }

    /// A fresh lifecycle mandate of an application.
    pub(super) fn token(&self, application: &str) -> String {
        self.token_with(application, LIFECYCLE)
    }

    pub(super) fn token_with(&self, application: &str, scope: &str) -> String {
        let record = format!("rec-{application}");
        self.mint(&Mint {
            application,
            scope,
            record: &record,
            ..Mint::default()
        })
    }

    pub(super) fn fail_keys(&self, fails: bool) {
        *self.keys.fails.lock() = fails;
    }

    pub(super) fn plain(&self, method: &str, path: &str) -> Call<'_> {
        Call {
            world: self,
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// A call below the zone with a fresh mandate of `application`.
    pub(super) fn call(&self, application: &str, method: &str, path: &str) -> Call<'_> {
        self.plain(method, &format!("/zones/z1{path}"))
            .bearer(&self.token(application))
    }

    /// A call below the zone with the operator token.
    pub(super) fn operate(&self, method: &str, path: &str) -> Call<'_> {
        self.plain(method, &format!("/zones/z1{path}"))
            .bearer(OPERATOR)
    }

    /// Starts a Session of `application` with what `extra` says; its id.
    pub(super) async fn start(&self, application: &str, extra: Value) -> String {
        let answer = self.try_start(application, extra).await;
        answer.ok(201)["agent_session_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(super) async fn try_start(&self, application: &str, extra: Value) -> Answer {
        let body = merged(json!({ "application_id": application }), extra);
        self.call(application, "POST", "/agents")
            .json(&body)
            .send()
            .await
    }

    /// A delegation body from one Session to another, for `resource://notes` and ten minutes.
    pub(super) fn delegation(
        (source, issuer): (&str, &str),
        (target, receiver): (&str, &str),
        extra: Value,
    ) -> Value {
        let body = json!({
            "source_session_id": source, "issuer_application_id": issuer,
            "target_session_id": target, "receiver_application_id": receiver,
            "scopes": ["notes:read"], "ttl_seconds": 600,
            "constraints": { "resources": [NOTES] },
        });
        merged(body, extra)
    }

    pub(super) async fn try_delegate(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        extra: Value,
    ) -> Answer {
        let body = Self::delegation(from, to, extra);
        self.call(from.1, "POST", "/delegations")
            .json(&body)
            .send()
            .await
    }

    /// Delegates; the edge's id.
    pub(super) async fn delegate(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        extra: Value,
    ) -> String {
        let answer = self.try_delegate(from, to, extra).await;
        answer.ok(201)["delegation_edge_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(super) async fn session(&self, id: &str) -> Session {
        let id = SessionId::parse(id).unwrap();
        self.store
            .read(&self.zone)
            .get_session(&id)
            .await
            .unwrap()
            .unwrap()
    }

    pub(super) async fn edge(&self, id: &str) -> Delegation {
        let id = DelegationId::parse(id).unwrap();
        self.store
            .read(&self.zone)
            .get_delegation(&id)
            .await
            .unwrap()
            .unwrap()
    }

    pub(super) async fn status(&self, id: &str) -> &'static str {
        self.session(id).await.status.as_str()
    }

    pub(super) async fn edge_status(&self, id: &str) -> &'static str {
        self.edge(id).await.status.as_str()
    }

    pub(super) async fn epoch(&self) -> i64 {
        self.store
            .read(&self.zone)
            .delegation_epoch()
            .await
            .unwrap()
    }

    /// Everything in the outbox, oldest first.
    pub(super) async fn messages(&self) -> Vec<OutboxMessage> {
        let never = self.clock.now().plus_seconds(1_000_000);
        self.store
            .platform()
            .pending_outbox_messages(never, 10_000)
            .await
            .unwrap()
    }

    /// The payloads on one stream, as JSON objects.
    pub(super) async fn stream(&self, topic: &str) -> Vec<Value> {
        let messages = self.messages().await;
        let of_topic = messages
            .into_iter()
            .filter(|message| message.topic == topic);
        of_topic
            .map(|message| {
                let fields = message.payload.into_iter();
                Value::Object(
                    fields
                        .map(|(name, value)| (name, Value::from(value)))
                        .collect(),
                )
            })
            .collect()
    }

    /// The audit trail of the zone, oldest first.
    pub(super) async fn trail(&self) -> Vec<AdminAuditRow> {
        self.coordinator.refusals.drain(&self.store).await;
        let zone = self.store.read(&self.zone);
        let page = Page::first(1_000);
        let rows = zone
            .list_admin_audit(&AdminAuditFilter::default(), &page)
            .await
            .unwrap();
        let mut rows = rows.items;
        rows.sort_by_key(|row| row.chain_seq);
        rows
    }
}

/// `base` with the members of `extra` in place of its own.
pub(super) fn merged(mut base: Value, extra: Value) -> Value {
    if let (Value::Object(base), Value::Object(extra)) = (&mut base, extra) {
        base.extend(extra);
    }
    base
}

pub(super) struct Call<'a> {
    world: &'a World,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

impl Call<'_> {
    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(super) fn json(self, body: &Value) -> Self {
        self.text(&body.to_string())
    }

    pub(super) fn text(mut self, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self.header("content-type", "application/json")
    }

    pub(super) fn set_header(&mut self, name: &str, value: &str) {
        self.headers.retain(|(held, _)| held != name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    pub(super) async fn send(self) -> Answer {
        let mut request = Request::builder()
            .method(self.method.as_str())
            .uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let body = self.body.map_or_else(Body::empty, Body::from);
        let request = request.body(body).unwrap();
        let response = self.world.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        }
    }
}
