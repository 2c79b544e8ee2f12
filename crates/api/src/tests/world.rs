//! A small world: a store in a temporary directory, a clock that tests move, and users.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use caracal_core::id::{KeyId, ZoneId};
use caracal_core::{Clock, ManualClock, Mode, Random, Secret, SeededRandom, Timestamp};
use caracal_crypto::client_secret::Peppers;
use caracal_crypto::{Kek, KeyRing};
use caracal_evidence::{Journal, JournalOptions};
use caracal_http::ops::Metrics;
use caracal_store::entity::SigningKeyRow;
use caracal_store::{Store, ZoneUnit};
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::{Api, ApiOptions, ApiParts, EvidenceBarrier, RateLimits, ZoneKeyError, ZoneKeys};

/// The deployment's admin token.
pub(super) const ADMIN: &str = "vector-admin-token-0123456789abcdef";
/// 2026-01-01T00:00:00Z.
pub(super) const START: Timestamp = Timestamp::from_seconds(1_767_225_600);

/// Makes keys, or fails to.
#[derive(Default)]
pub(super) struct Keys(AtomicBool);

impl Keys {
    pub(super) fn fail(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl ZoneKeys for Keys {
    async fn create_first_key(&self, unit: &mut ZoneUnit) -> Result<(), ZoneKeyError> {
        if self.0.load(Ordering::SeqCst) {
            return Err(ZoneKeyError::Key("no entropy".to_owned()));
        }
        let zone = unit.zone_id().clone();
        let id =
            KeyId::parse(&format!("key-{zone}")).map_err(|e| ZoneKeyError::Key(e.to_string()))?;
        let key = SigningKeyRow {
            id,
            zone_id: zone,
            sealed: vec![1],
            x: "x".to_owned(),
            y: "y".to_owned(),
            created_at: START,
            signs_from: START,
            retires_at: None,
        };
        Ok(unit.insert_signing_key(&key).await?)
    }
}

/// Counts who waited for it.
#[derive(Default)]
pub(super) struct Barrier(AtomicUsize);

#[async_trait]
impl EvidenceBarrier for Barrier {
    async fn caught_up(&self, _: Duration) -> bool {
        self.0.fetch_add(1, Ordering::SeqCst);
        true
    }
}

impl Barrier {
    pub(super) fn waits(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

pub(super) struct World {
    pub(super) api: Arc<Api>,
    pub(super) store: Store,
    pub(super) journal: Journal,
    pub(super) clock: Arc<ManualClock>,
    pub(super) barrier: Arc<Barrier>,
    pub(super) keys: Arc<Keys>,
    router: Router,
    random: Arc<dyn Random>,
    dir: TempDir,
}

/// Options without limits.
pub(super) fn options() -> ApiOptions {
    ApiOptions {
        mode: Mode::Dev,
        admin_token: Some(Secret::new(ADMIN.to_owned())),
        rates: RateLimits {
            v1: 0,
            auth_failures: 0,
            ready: 0,
        },
        ..ApiOptions::default()
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(options()).await
    }

    pub(super) async fn with(options: ApiOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(START));
        let random: Arc<dyn Random> = Arc::new(SeededRandom::new(7));
        let dyn_clock: Arc<dyn Clock> = clock.clone();
        let store = Store::open_sqlite(&dir.path().join("store.db"), dyn_clock, random.clone())
            .await
            .unwrap()
            .with_admin_audit_key(Secret::new(vec![7; 32]));
        let journal = Journal::open(
            &dir.path().join("log"),
            JournalOptions::default(),
            None,
            &*random,
        )
        .unwrap();
        let (barrier, keys) = (Arc::default(), Arc::default());
        let mut world = Self {
            api: build(
                &options,
                &store,
                &journal,
                &clock,
                &random,
                (&barrier, &keys),
            ),
            store,
            journal,
            clock,
            barrier,
            keys,
            router: Router::new(),
            random,
            dir,
        };
        world.restart(options).await;
        world
    }

    /// Builds the role anew on the same store, as a restart does.
    pub(super) async fn restart(&mut self, options: ApiOptions) {
        let ports = (&self.barrier, &self.keys);
        self.api = build(
            &options,
            &self.store,
            &self.journal,
            &self.clock,
            &self.random,
            ports,
        );
        self.api.seed_tokens().await.unwrap();
        self.router = self.api.router();
    }

    pub(super) fn log_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("log")
    }

    pub(super) fn user(&self, token: &str) -> User<'_> {
        User {
            world: self,
            token: token.to_owned(),
            headers: HeaderMap::new(),
        }
    }

    pub(super) fn bootstrap(&self) -> User<'_> {
        self.user(ADMIN)
    }

    /// A user with a token that the bootstrap token made.
    pub(super) async fn minted(&self, request: Value) -> User<'_> {
        let made = self.bootstrap().post("/v1/admin-tokens", request).await;
        assert_eq!(made.status, 201, "{}", made.body);
        self.user(made.text("token"))
    }

    pub(super) async fn global(&self, capability: &str) -> User<'_> {
        self.minted(json!({ "name": capability, "scope": "global", "capability": capability }))
            .await
    }

    pub(super) async fn in_zone(&self, capability: &str, zone: &str) -> User<'_> {
        self.minted(json!({
            "name": capability, "scope": "zone", "zone_id": zone, "capability": capability,
        }))
        .await
    }

    /// A new zone's id.
    pub(super) async fn zone(&self, name: &str) -> String {
        let made = self
            .bootstrap()
            .post("/v1/zones", json!({ "name": name }))
            .await;
        assert_eq!(made.status, 201, "{}", made.body);
        made.text("id").to_owned()
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let raw = String::from_utf8(bytes.to_vec()).unwrap();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_str(&raw).unwrap_or(Value::Null),
            raw,
        }
    }

    /// Everything that a zone's lists show: what must not change when a request is refused.
    pub(super) async fn contents(&self, zone: &str) -> Value {
        let user = self.bootstrap();
        let mut all = json!({});
        for list in [
            "applications",
            "providers",
            "resources",
            "policies",
            "policy-sets",
        ] {
            all[list] = user.get(&format!("/v1/zones/{zone}/{list}")).await.body;
        }
        all["zones"] = user.get("/v1/zones").await.body;
        let tokens = user.get("/v1/admin-tokens").await.body;
        all["tokens"] = tokens["items"].as_array().map(Vec::len).into();
        all
    }

    pub(super) fn zone_id(zone: &str) -> ZoneId {
        ZoneId::parse(zone).unwrap()
    }
}

fn build(
    options: &ApiOptions,
    store: &Store,
    journal: &Journal,
    clock: &Arc<ManualClock>,
    random: &Arc<dyn Random>,
    (barrier, zone_keys): (&Arc<Barrier>, &Arc<Keys>),
) -> Arc<Api> {
    let kek = Kek::from_hex(&Secret::new("8f3a".repeat(15) + "c41d")).unwrap();
    let keys = Arc::new(KeyRing::new(kek, None));
    let parts = ApiParts {
        store: store.clone(),
        journal: journal.clone(),
        peppers: Peppers::derive(&keys).unwrap(),
        keys,
        zone_keys: zone_keys.clone(),
        evidence: barrier.clone(),
        clock: clock.clone(),
        random: random.clone(),
        metrics: Metrics::detached(),
        dependencies: caracal_http::Dependencies::default(),
    };
    Api::new(options.clone(), parts)
}

/// Somebody with a token.
pub(super) struct User<'w> {
    world: &'w World,
    pub(super) token: String,
    headers: HeaderMap,
}

impl User<'_> {
    pub(super) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().unwrap());
        self
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(super) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None).await
    }

    pub(super) async fn post_nothing(&self, path: &str) -> Answer {
        self.call(Method::POST, path, None).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let text = body.map(|body| body.to_string());
        let kind = text.as_ref().map(|_| "application/json");
        self.raw(method, path, kind, text.unwrap_or_default()).await
    }

    /// Any bytes with any content type.
    pub(super) async fn raw(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("authorization", format!("Bearer {}", self.token));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(kind) = content_type {
            request = request.header("content-type", kind);
        }
        self.world.send(request.body(body.into()).unwrap()).await
    }
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
    pub(super) raw: String,
}

impl Answer {
    /// The error code.
    pub(super) fn code(&self) -> &str {
        self.body["error"].as_str().unwrap_or("")
    }

    /// Status and code of a refusal.
    #[track_caller]
    pub(super) fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.raw);
    }

    /// A member that is a string.
    #[track_caller]
    pub(super) fn text(&self, member: &str) -> &str {
        self.body[member]
            .as_str()
            .unwrap_or_else(|| panic!("{member} in {}", self.raw))
    }

    /// The successful row of an admin audit list that has this action.
    #[track_caller]
    pub(super) fn row_of(&self, action: &str) -> &Value {
        let done = |row: &&Value| row["action"] == action && row["status_code"] == 200;
        let found = self.items().iter().find(done);
        found.unwrap_or_else(|| panic!("no row of {action} in {}", self.raw))
    }

    /// The items of a list.
    #[track_caller]
    pub(super) fn items(&self) -> &Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.raw);
        self.body["items"].as_array().unwrap()
    }
}

/// Compares the shape of a JSON document with the stored one.
pub(super) fn snapshot(name: &str, value: &Value) {
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_json_snapshot!(name, shape(value));
    });
}

/// The same JSON with ids, instants and secrets replaced, so that only its shape is compared.
fn shape(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(shape_of_text(text)),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| (name.clone(), shape(member)))
            .collect(),
        other => other.clone(),
    }
}

fn shape_of_text(text: &str) -> String {
    let is_time = text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T';
    if is_time {
        return "[time]".to_owned();
    }
    if ["cs_", "cat_"]
        .iter()
        .any(|prefix| text.starts_with(prefix))
    {
        return "[secret]".to_owned();
    }
    let mut shaped = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if rest.len() >= 36 && rest.is_char_boundary(36) && is_uuid(&rest[..36]) {
            shaped.push_str("[id]");
            rest = &rest[36..];
        } else {
            shaped.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    shaped
}

fn is_uuid(text: &str) -> bool {
    text.bytes().enumerate().all(|(index, byte)| match index {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}
