//! A whole STS on a temporary store and log, with a clock that stands still, for tests.

pub(crate) mod rows;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use caracal_core::id::{PolicyId, PolicySetId, PolicySetVersionId, PolicyVersionId, ZoneId};
use caracal_core::path::RequestPath;
use caracal_core::{
    ManualClock, Mode, RequestId, ResourceIdentifier, Secret, SeededRandom, SystemClock, Timestamp,
};
use caracal_crypto::client_secret::Peppers;
use caracal_crypto::{
    Expectation, HmacKey, Kek, KeyRing, MandateUse, SealLocation, SecretVerifier, VerifiedMandate,
    verify,
};
use caracal_evidence::{Journal, JournalOptions, Position};
use caracal_gateway::{HttpExchange, HttpExchangeDeps, HttpExchangeOptions, StsUrl};
use caracal_http::{Peer, ServeOptions, serve};
use caracal_policy::manifest_sha256;
use caracal_roles::{Exchange, ExchangeRequest, KeySource};
use caracal_store::entity::{Author, Delegation, Policy, PolicySet, Provider, Resource, Session};
use caracal_store::{Authority, NewPolicySetVersion, NewPolicyVersion, Store, ZoneUnit};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{GatewayLeg, ProcessNonces, Sts, StsDependencies, StsOptions, create_zone_key};

pub(crate) const ISSUER: &str = "http://localhost:8080";
pub(crate) const ZONE: &str = "z-demo";
pub(crate) const APP: &str = "app-7";
pub(crate) const LEDGER: &str = "resource://ledger";
pub(crate) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Application 7 owns the ledger as `books`; a closer may read and write, a viewer read.
pub(crate) const POLICY: &str = r#"# caracal:data-document
package caracal.authz
import rego.v1
app_ids := {"books": "app-7"}
grants := {"resource://ledger": {"application": "books", "roles": {
    "closer": ["ledger:read", "ledger:write"], "viewer": ["ledger:read"]}}}
"#;

/// An STS with a zone in it.
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) random: Arc<SeededRandom>,
    pub(crate) store: Store,
    pub(crate) authority: Arc<Authority>,
    pub(crate) journal: Journal,
    pub(crate) key_ring: Arc<KeyRing>,
    pub(crate) secrets: SecretVerifier,
    pub(crate) sts: Arc<Sts>,
    /// The STS as a Gateway sees it: the same object, or the way to it over HTTP.
    pub(crate) exchange: Arc<dyn Exchange>,
    pub(crate) zone: ZoneId,
    /// The secret of [`APP`].
    pub(crate) secret: String,
    options: StsOptions,
    policies: std::sync::atomic::AtomicU32,
    _dir: TempDir,
}

/// One answer of the router.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|_| panic!("not JSON: {} {}", self.status, self.text))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn description(&self) -> String {
        self.json()["error_description"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The mandate of a granted request.
    pub(crate) fn token(&self) -> String {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// The payload of that mandate.
    pub(crate) fn claims(&self) -> Value {
        claims_of(&self.token())
    }
}

pub(crate) fn claims_of(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

impl World {
    /// The zone with its key, the application with a generated secret, the ledger behind a provider
    /// of kind `none`, and the policy above, active.
    pub(crate) async fn new() -> Self {
        Self::with_options(|_| {}).await
    }

    pub(crate) async fn with_options(adjust: impl FnOnce(&mut StsOptions)) -> Self {
        let world = Self::empty(adjust).await;
        let mut unit = world.unit().await;
        unit.insert_zone(&rows::zone(ZONE)).await.unwrap();
        create_zone_key(&mut unit, &world.key_ring, &*world.clock, &*world.random)
            .await
            .unwrap();
        let mut application = rows::application(APP);
        let stored = world
            .secrets
            .peppers()
            .hash_generated(&Secret::new(world.secret.clone()));
        application.secret_hash = Some(stored);
        unit.insert_application(&application).await.unwrap();
        unit.insert_provider(&rows::provider("prov-open"))
            .await
            .unwrap();
        unit.insert_resource(&rows::resource(LEDGER, &["ledger:read", "ledger:write"]))
            .await
            .unwrap();
        unit.commit().await.unwrap();
        world.activate(POLICY).await;
        world
    }

    async fn empty(adjust: impl FnOnce(&mut StsOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(rows::START));
        let random = Arc::new(SeededRandom::new(7));
        let store = open_store(dir.path(), &clock, &random).await;
        let journal_dir = dir.path().join("journal");
        let journal =
            Journal::open(&journal_dir, JournalOptions::default(), None, &*random).unwrap();
        let kek = Secret::new(
            "6aa31e7043b5cf8b9312cd2d9c721525f233b457fb12347ff048c5663bff9f5b".to_owned(),
        );
        let key_ring = Arc::new(KeyRing::new(Kek::from_hex(&kek).unwrap(), None));
        let peppers = Peppers::derive(&key_ring).unwrap();
        let secrets = SecretVerifier::new(peppers, 2, clock.clone(), &*random);
        let mut options = StsOptions {
            issuer: ISSUER.into(),
            control_audience: "caracal-control".to_owned(),
            admin_token: Some(Secret::new("operator-token".to_owned())),
            mint_limit_per_minute: 1_000,
            trust_proxy: false,
        };
        adjust(&mut options);
        let authority = rows::authority(&store);
        let sts = Sts::new(
            options.clone(),
            StsDependencies {
                clock: clock.clone(),
                random: random.clone(),
                store: store.clone(),
                authority: Arc::clone(&authority),
                journal: journal.clone(),
                key_ring: Arc::clone(&key_ring),
                secrets: secrets.clone(),
                mint_counts: None,
            },
        );
        Self {
            clock,
            random,
            store,
            authority,
            journal,
            key_ring,
            secrets,
            exchange: sts.clone(),
            sts,
            zone: ZoneId::parse(ZONE).unwrap(),
            secret: "cs_a-generated-secret".to_owned(),
            options,
            policies: 0.into(),
            _dir: dir,
        }
    }

    /// The same world, its STS asked over HTTP.
    pub(crate) async fn apart(mut self) -> Self {
        let address = self.serve().await;
        self.exchange = self.exchange_at(address, Duration::from_secs(10));
        self
    }

    /// Serves the STS to Gateways that hold [`gateway_key`].
    pub(crate) async fn serve(&self) -> SocketAddr {
        let nonces = Arc::new(ProcessNonces::new(&*self.clock, 10_000));
        // Signatures carry whole seconds, and those from before the memory are refused.
        self.clock.advance_seconds(1);
        let leg = GatewayLeg {
            key: gateway_key(),
            previous: None,
            nonces,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.sts.router_for_gateways(leg);
        let never = CancellationToken::new();
        tokio::spawn(serve(listener, router, ServeOptions::default(), never));
        address
    }

    /// A Gateway's way to whatever is at `address`.
    pub(crate) fn exchange_at(&self, address: SocketAddr, timeout: Duration) -> Arc<HttpExchange> {
        let url = StsUrl::parse(&format!("http://{address}"), Mode::Stable).unwrap();
        let deps = HttpExchangeDeps {
            key: gateway_key(),
            clock: self.clock.clone(),
            random: self.random.clone(),
            resolver: None,
        };
        HttpExchange::new(HttpExchangeOptions::new(url, timeout), deps)
    }

    pub(crate) fn now(&self) -> Timestamp {
        caracal_core::Clock::now(&*self.clock)
    }

    pub(crate) async fn unit(&self) -> ZoneUnit {
        self.store.begin(&self.zone).await.unwrap()
    }

    /// A second STS over the same store: what a restart sees.
    pub(crate) fn restarted(&self) -> Arc<Sts> {
        Sts::new(
            self.options.clone(),
            StsDependencies {
                clock: self.clock.clone(),
                random: self.random.clone(),
                store: self.store.clone(),
                authority: rows::authority(&self.store),
                journal: self.journal.clone(),
                key_ring: Arc::clone(&self.key_ring),
                secrets: self.secrets.clone(),
                mint_counts: None,
            },
        )
    }

    /// Makes `text` the zone's whole policy.
    pub(crate) async fn activate(&self, text: &str) {
        let n = self
            .policies
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let policy_id = PolicyId::parse(&format!("pol-{n}")).unwrap();
        let policy_version = PolicyVersionId::parse(&format!("pv-{n}")).unwrap();
        let set_id = PolicySetId::parse(&format!("ps-{n}")).unwrap();
        let set_version = PolicySetVersionId::parse(&format!("psv-{n}")).unwrap();
        let author = Author::default();
        let mut unit = self.unit().await;
        let policy = Policy {
            id: policy_id.clone(),
            zone_id: self.zone.clone(),
            name: format!("policy {n}"),
            description: None,
            attribution: author.creates(),
            created_at: self.now(),
            updated_at: self.now(),
            archived_at: None,
        };
        unit.insert_policy(&policy).await.unwrap();
        let version = NewPolicyVersion {
            id: policy_version.clone(),
            policy_id,
            content: text.into(),
            content_sha256: "00".repeat(32),
            schema_version: "2026-05-20".to_owned(),
            author: author.clone(),
        };
        unit.insert_policy_version(&version).await.unwrap().unwrap();
        let set = PolicySet {
            id: set_id.clone(),
            zone_id: self.zone.clone(),
            name: format!("set {n}"),
            description: None,
            active_version_id: None,
            attribution: author.creates(),
            created_at: self.now(),
            updated_at: self.now(),
            archived_at: None,
        };
        unit.insert_policy_set(&set).await.unwrap();
        let manifest = vec![policy_version];
        let new = NewPolicySetVersion {
            id: set_version.clone(),
            policy_set_id: set_id.clone(),
            manifest_sha256: manifest_sha256(&manifest),
            manifest,
            schema_version: "2026-05-20".to_owned(),
            author: author.clone(),
        };
        unit.insert_policy_set_version(&new).await.unwrap().unwrap();
        assert!(
            unit.activate_policy_set(&set_id, &set_version, &author)
                .await
                .unwrap()
        );
        unit.commit().await.unwrap();
    }

    /// Two Sessions of [`APP`] (`as-1` delegates, `as-2` receives) and the edge `de-1` between them,
    /// after whatever `adjust` does to the rows.
    pub(crate) async fn delegate(
        &self,
        adjust: impl FnOnce(&mut Session, &mut Session, &mut Delegation),
    ) {
        let mut source = rows::session("as-1", APP);
        let mut target = rows::session("as-2", APP);
        let mut edge = rows::delegation("de-1", &source, &target, "ledger:read ledger:write");
        adjust(&mut source, &mut target, &mut edge);
        let mut unit = self.unit().await;
        if unit
            .get_authority_record(&source.subject_authority_record_id)
            .await
            .unwrap()
            .is_none()
        {
            unit.insert_authority_record(&rows::record("rec-7", APP))
                .await
                .unwrap();
        }
        unit.insert_session(&source).await.unwrap();
        unit.insert_session(&target).await.unwrap();
        unit.insert_delegation(&edge).await.unwrap();
        unit.commit().await.unwrap();
    }

    pub(crate) async fn insert_session(&self, session: &Session) {
        let mut unit = self.unit().await;
        unit.insert_session(session).await.unwrap();
        unit.commit().await.unwrap();
    }

    pub(crate) async fn insert_resource(&self, resource: &Resource) {
        let mut unit = self.unit().await;
        unit.insert_resource(resource).await.unwrap();
        unit.commit().await.unwrap();
    }

    pub(crate) async fn update_resource(&self, adjust: impl FnOnce(&mut Resource)) {
        let mut unit = self.unit().await;
        let identifier = ResourceIdentifier::new(LEDGER);
        let mut resource = unit.find_resource(&identifier).await.unwrap().unwrap();
        adjust(&mut resource);
        assert!(unit.update_resource(&resource).await.unwrap());
        unit.commit().await.unwrap();
    }

    /// Puts the ledger behind a provider with this sealed secret document.
    pub(crate) async fn provide(&self, mut provider: Provider, secret: Value) {
        let location = SealLocation::provider_config(&provider.zone_id, &provider.id);
        let document = serde_json::to_vec(&secret).unwrap();
        let sealed = self
            .key_ring
            .seal(&location, &document, &*self.random)
            .unwrap();
        provider.sealed_config = Some(sealed);
        let id = provider.id.clone();
        let mut unit = self.unit().await;
        unit.insert_provider(&provider).await.unwrap();
        unit.commit().await.unwrap();
        self.update_resource(|resource| resource.credential_provider_id = Some(id))
            .await;
    }

    fn router(&self) -> Router {
        self.sts.router()
    }

    /// Sends any request.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        request
            .extensions_mut()
            .insert(Peer(([192, 0, 2, 1], 40_000).into()));
        let response = self.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// Sends a body to the token endpoint as a form.
    pub(crate) async fn post(&self, body: String) -> Answer {
        let request = Request::post("/oauth/2/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body))
            .unwrap();
        self.send(request).await
    }

    /// A token request of [`APP`]: the usual fields, with `fields` put over them. An empty value
    /// leaves the field out.
    pub(crate) async fn token(&self, fields: &[(&str, &str)]) -> Answer {
        self.post(self.form(fields)).await
    }

    pub(crate) fn form(&self, fields: &[(&str, &str)]) -> String {
        let usual = [
            ("grant_type", GRANT_TYPE),
            ("zone_id", ZONE),
            ("application_id", APP),
            ("client_secret", self.secret.as_str()),
            ("resource", LEDGER),
        ];
        let named = |name: &str| fields.iter().any(|(field, _)| *field == name);
        let all = usual.iter().filter(|(name, _)| !named(name)).chain(fields);
        let pairs: Vec<String> = all
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        pairs.join("&")
    }

    /// A lifecycle mandate of [`APP`].
    pub(crate) async fn lifecycle(&self) -> Answer {
        self.token(&[("scope", "agent:lifecycle")]).await
    }

    /// A gateway mandate of [`APP`] over `as-2` and `de-1`.
    pub(crate) async fn gateway(&self, fields: &[(&str, &str)]) -> Answer {
        let mut all = vec![
            ("scope", "ledger:read"),
            ("agent_session_id", "as-2"),
            ("delegation_edge_id", "de-1"),
        ];
        all.retain(|(name, _)| !fields.iter().any(|(field, _)| field == name));
        all.extend(fields);
        self.token(&all).await
    }

    /// What the Gateway asks about a call with this mandate.
    pub(crate) async fn call(&self, token: &str, method: &str, path: &str) -> ExchangeRequest {
        ExchangeRequest {
            mandate: self.verified(token, MandateUse::Gateway).await,
            resource: ResourceIdentifier::new(LEDGER),
            method: method.to_owned(),
            path: RequestPath::parse(path).unwrap(),
            request_id: request_id("req-gateway"),
        }
    }

    pub(crate) async fn verified(&self, token: &str, mandate_use: MandateUse) -> VerifiedMandate {
        let keys = self.sts.verifying_keys(&self.zone).await.unwrap().unwrap();
        let claims = claims_of(token);
        let audience = claims["aud"][0].as_str().unwrap().to_owned();
        let expect = Expectation {
            issuer: ISSUER,
            audience: &audience,
            zone: &self.zone,
            uses: &[mandate_use],
            now: self.now(),
            leeway_seconds: 60,
        };
        verify(token, &keys, &expect).unwrap()
    }

    /// Every audit event so far, in order.
    pub(crate) async fn events(&self) -> Vec<Value> {
        let mut events = Vec::new();
        let last = self.journal.last();
        let mut reader = self.journal.reader(Position::ZERO);
        let mut upto = Position::ZERO;
        while upto < last {
            let batch = reader.next_batch(1_000, 1 << 20).await.unwrap().unwrap();
            upto = batch.upto;
            events.extend(
                batch
                    .frames
                    .iter()
                    .map(|frame| serde_json::from_slice::<Value>(&frame.data).unwrap()),
            );
        }
        events
    }

    /// Decision and status of every event so far.
    pub(crate) async fn verdicts(&self) -> Vec<String> {
        let events = self.events().await;
        let verdict = |event: &Value| {
            format!(
                "{}/{}",
                event["decision"].as_str().unwrap(),
                event["evaluation_status"].as_str().unwrap()
            )
        };
        events.iter().map(verdict).collect()
    }

    /// How many authority records the zone has.
    pub(crate) async fn record_count(&self) -> usize {
        let filter = caracal_store::AuthorityRecordFilter::default();
        let page = caracal_store::Page {
            limit: 100,
            after: None,
        };
        let reader = self.store.read(&self.zone);
        reader
            .list_authority_records(&filter, &page)
            .await
            .unwrap()
            .items
            .len()
    }
}

async fn open_store(dir: &Path, clock: &Arc<ManualClock>, random: &Arc<SeededRandom>) -> Store {
    Store::open_sqlite(&dir.join("caracal.db"), clock.clone(), random.clone())
        .await
        .unwrap()
}

/// The key that Gateway and STS share in tests: the bytes 0 to 31.
pub(crate) fn gateway_key() -> HmacKey {
    HmacKey::from_secret_bytes(&(0..32).collect::<Vec<u8>>())
}

pub(crate) fn request_id(text: &str) -> RequestId {
    RequestId::accept(Some(text), &SystemClock, &SeededRandom::new(1))
}

/// Percent-encodes everything but letters and digits.
pub(crate) fn encode(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
