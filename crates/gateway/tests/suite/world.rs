//! Everything that a Gateway stands between, with one call that is allowed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use caracal_core::id::{
    ApplicationId, AuthorityRecordId, DelegationId, KeyId, MandateId, SessionId, ZoneId,
};
use caracal_core::{
    Clock, ManualClock, Random, ResourceIdentifier, ScopeSet, SeededRandom, SubjectType, Timestamp,
};
use caracal_crypto::{Claims, KeySet, MandateUse, SigningKey};
use caracal_evidence::{Journal, JournalOptions, Position};
use caracal_gateway::{Gateway, GatewayDeps, GatewayOptions};
use caracal_http::ops::Metrics;
use caracal_store::entity::{
    Application, Attribution, AuthorityRecord, Constraints, Delegation, DelegationStatus,
    Lifecycle, RecordStatus, RegistrationMethod, Session, SessionStatus, Zone,
};
use caracal_store::{Authority, AuthorityLimits, EndSession, Store};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::caller::{Caller, Reply};
use crate::sts::FakeSts;
use crate::upstream::Upstream;

pub(crate) const START: Timestamp = Timestamp::from_seconds(1_767_225_600);
pub(crate) const ISSUER: &str = "https://sts.example";
pub(crate) const RESOURCE: &str = "resource://ledger";

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) random: Arc<SeededRandom>,
    pub(crate) store: Store,
    pub(crate) journal: Journal,
    pub(crate) sts: Arc<FakeSts>,
    pub(crate) upstream: Upstream,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: JoinHandle<()>,
    pub(crate) zone: ZoneId,
    pub(crate) application: ApplicationId,
    pub(crate) record: AuthorityRecordId,
    pub(crate) source: SessionId,
    pub(crate) session: SessionId,
    pub(crate) root_edge: DelegationId,
    pub(crate) edge: DelegationId,
    pub(crate) key: SigningKey,
    _dir: TempDir,
}

/// Authority with more behind it than the mandate names.
pub(crate) struct LongLine {
    pub(crate) edge: DelegationId,
    pub(crate) source: SessionId,
    pub(crate) parent: SessionId,
    pub(crate) record: AuthorityRecordId,
}

/// A zone beside the world's own.
pub(crate) struct SecondZone {
    zone: ZoneId,
    application: ApplicationId,
    record: AuthorityRecordId,
    session: SessionId,
    edge: DelegationId,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut GatewayOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(START));
        let random = Arc::new(SeededRandom::new(7));
        let store = Store::open_sqlite(
            &dir.path().join("caracal.db"),
            clock.clone() as Arc<dyn Clock>,
            random.clone() as Arc<dyn Random>,
        )
        .await
        .unwrap();
        let journal = Journal::open(
            &dir.path().join("journal"),
            JournalOptions::default(),
            None,
            random.as_ref(),
        )
        .unwrap();
        let upstream = Upstream::start().await;
        let sts = FakeSts::new(upstream.url(""));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut options = GatewayOptions::new(ISSUER);
        options.mode = caracal_core::Mode::Dev;
        options.own_ports = vec![address.port()];
        change(&mut options);
        let gateway = Gateway::new(
            options,
            GatewayDeps {
                clock: clock.clone(),
                random: random.clone(),
                authority: Authority::new(store.clone(), AuthorityLimits::default()),
                keys: sts.clone(),
                sts: sts.clone(),
                journal: journal.clone(),
                metrics: Metrics::detached(),
                marks: None,
                resolver: None,
            },
        );
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let served = tokio::spawn(async move { gateway.serve(listener, stop).await.unwrap() });
        // Mandates are dated after the replay memory began.
        clock.advance_seconds(1);
        let key = SigningKey::generate(KeyId::parse("k1").unwrap()).unwrap();
        let mut world = Self {
            zone: fresh(&clock, &random),
            application: fresh(&clock, &random),
            record: fresh(&clock, &random),
            source: fresh(&clock, &random),
            session: fresh(&clock, &random),
            root_edge: fresh(&clock, &random),
            edge: fresh(&clock, &random),
            clock,
            random,
            store,
            journal,
            sts,
            upstream,
            address,
            shutdown,
            served,
            key,
            _dir: dir,
        };
        world.populate().await;
        world
    }

    async fn populate(&mut self) {
        let keys: KeySet = [self.key.verifying_key().clone()].into_iter().collect();
        self.sts
            .keys
            .lock()
            .insert(self.zone.clone(), Arc::new(keys));
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        unit.insert_zone(&zone(&self.zone)).await.unwrap();
        unit.insert_application(&application(&self.zone, &self.application))
            .await
            .unwrap();
        unit.insert_authority_record(&self.record(&self.record))
            .await
            .unwrap();
        for id in [&self.source, &self.session] {
            unit.insert_session(&self.session_row(id)).await.unwrap();
        }
        unit.insert_delegation(&self.edge_row(&self.root_edge, None))
            .await
            .unwrap();
        unit.insert_delegation(&self.edge_row(&self.edge, Some(&self.root_edge)))
            .await
            .unwrap();
        unit.commit().await.unwrap();
    }

    pub(crate) fn record(&self, id: &AuthorityRecordId) -> AuthorityRecord {
        AuthorityRecord {
            id: id.clone(),
            zone_id: self.zone.clone(),
            kind: SubjectType::Application,
            subject_id: self.application.to_string(),
            issuer: None,
            application_id: self.application.clone(),
            parent_id: None,
            status: RecordStatus::Active,
            expires_at: START.plus_seconds(900),
            authenticated_at: START,
            created_at: START,
            revoked_at: None,
            revoked_reason: None,
        }
    }

    pub(crate) fn session_row(&self, id: &SessionId) -> Session {
        Session {
            id: id.clone(),
            zone_id: self.zone.clone(),
            application_id: self.application.clone(),
            parent_id: None,
            subject_authority_record_id: self.record.clone(),
            status: SessionStatus::Active,
            lifecycle: Lifecycle::Task { ttl_seconds: 3_600 },
            depth: 0,
            labels: Vec::new(),
            max_children: 10,
            child_count: 0,
            authority_root: true,
            metadata: serde_json::Map::new(),
            lease_generation: 0,
            started_at: START,
            last_active_at: START,
            terminated_at: None,
            termination_reason: None,
            updated_at: START,
        }
    }

    fn edge_row(&self, id: &DelegationId, parent: Option<&DelegationId>) -> Delegation {
        Delegation {
            id: id.clone(),
            zone_id: self.zone.clone(),
            source_session_id: self.source.clone(),
            target_session_id: self.session.clone(),
            issuer_application_id: self.application.clone(),
            receiver_application_id: self.application.clone(),
            parent_edge_id: parent.cloned(),
            resource_id: None,
            scopes: ScopeSet::parse("ledger:read"),
            constraints: Constraints::default(),
            mirrored: false,
            accepted: false,
            budget_used: 0,
            status: DelegationStatus::Active,
            expires_at: START.plus_seconds(3_600),
            edge_version: 0,
            revoked_at: None,
            created_at: START,
            updated_at: START,
        }
    }

    /// The claims of a mandate that is good for one call.
    pub(crate) fn claims(&self) -> Claims {
        let now = self.clock.now();
        Claims {
            iss: ISSUER.into(),
            sub: self.application.as_str().into(),
            aud: vec![ISSUER.into()],
            exp: now.plus_seconds(900),
            iat: now,
            jti: fresh::<MandateId>(&self.clock, &self.random),
            zone_id: self.zone.clone(),
            client_id: self.application.clone(),
            scope: Some("ledger:read".into()),
            sid: fresh(&self.clock, &self.random),
            root_sid: self.record.clone(),
            mandate_use: MandateUse::Gateway,
            sub_type: SubjectType::Application,
            target: vec![ResourceIdentifier::new(RESOURCE)],
            agent_session_id: Some(self.session.clone()),
            delegation_edge_id: Some(self.edge.clone()),
            source_session_id: Some(self.source.clone()),
            target_session_id: Some(self.session.clone()),
            delegation_path: vec![self.root_edge.clone(), self.edge.clone()],
            delegation_chain: Vec::new(),
            hop_count: 2,
            delegation_graph_epoch: 0,
        }
    }

    /// A mandate with these claims changed.
    pub(crate) fn mandate_with(&self, change: impl FnOnce(&mut Claims)) -> String {
        let mut claims = self.claims();
        change(&mut claims);
        self.key.sign(&claims).unwrap()
    }

    /// A fresh mandate.
    pub(crate) fn mandate(&self) -> String {
        self.mandate_with(|_| {})
    }

    /// The head of a request with a fresh mandate; `more` is further header lines.
    pub(crate) fn head(&self, method: &str, target: &str, more: &str) -> String {
        self.head_with(&self.mandate(), method, target, more)
    }

    pub(crate) fn head_with(&self, token: &str, method: &str, target: &str, more: &str) -> String {
        format!(
            "{method} {target} HTTP/1.1\r\nHost: gateway.example\r\nAuthorization: Bearer {token}\r\n\
             X-Caracal-Resource: {RESOURCE}\r\n{more}\r\n"
        )
    }

    pub(crate) async fn caller(&self) -> Caller {
        Caller::connect(self.address).await
    }

    /// Sends raw bytes on a fresh connection and reads the answer.
    pub(crate) async fn raw(&self, bytes: impl AsRef<[u8]>) -> Reply {
        let mut caller = self.caller().await;
        caller.send(bytes).await;
        caller.reply().await
    }

    /// A plain allowed call.
    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.raw(self.head("GET", target, "")).await
    }

    pub(crate) async fn get_with(&self, token: &str) -> Reply {
        self.raw(self.head_with(token, "GET", "/v1/items", ""))
            .await
    }

    /// A value of `/metrics.json`.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        let reply = self
            .raw("GET /metrics.json HTTP/1.1\r\nHost: x\r\n\r\n")
            .await;
        reply.json()[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// All events so far, in order. Reads `at_least` before it answers.
    pub(crate) async fn events(&self, at_least: usize) -> Vec<Value> {
        let mut reader = self.journal.reader(Position::new(1));
        let mut events = Vec::new();
        while events.len() < at_least {
            let batch =
                tokio::time::timeout(Duration::from_secs(10), reader.next_batch(100, 1 << 20));
            let batch = batch.await.expect("an event in time").unwrap().unwrap();
            for frame in batch.frames {
                events.push(serde_json::from_slice(&frame.data).unwrap());
            }
        }
        events
    }

    pub(crate) async fn suspend_session(&self) {
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        unit.suspend_sessions(std::slice::from_ref(&self.session))
            .await
            .unwrap();
        unit.commit().await.unwrap();
    }

    pub(crate) async fn resume_session(&self) {
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        unit.resume_sessions(std::slice::from_ref(&self.session), START)
            .await
            .unwrap();
        unit.commit().await.unwrap();
    }

    pub(crate) async fn terminate_session(&self) {
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        let end = EndSession {
            id: self.session.clone(),
            status: SessionStatus::Terminated,
            reason: "by test".to_owned(),
        };
        unit.end_sessions(&[end]).await.unwrap();
        unit.commit().await.unwrap();
    }

    pub(crate) async fn revoke_edge(&self, edge: &DelegationId) {
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        unit.revoke_delegations(std::slice::from_ref(edge))
            .await
            .unwrap();
        unit.commit().await.unwrap();
    }

    pub(crate) async fn revoke_record(&self, record: &AuthorityRecordId) {
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        unit.revoke_authority_records(std::slice::from_ref(record), "by test")
            .await
            .unwrap();
        unit.commit().await.unwrap();
    }

    /// A live Session of an application that is not the caller.
    pub(crate) async fn session_of_another_application(&self) -> SessionId {
        let mut other = application(&self.zone, &fresh(&self.clock, &self.random));
        other.name = "other-bot".to_owned();
        let session = Session {
            application_id: other.id.clone(),
            ..self.session_row(&fresh(&self.clock, &self.random))
        };
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        unit.insert_application(&other).await.unwrap();
        unit.insert_session(&session).await.unwrap();
        unit.commit().await.unwrap();
        session.id
    }

    /// Another zone with an application, a Session and a delegation of its own.
    pub(crate) async fn second_zone(&self) -> SecondZone {
        let second = SecondZone {
            zone: fresh(&self.clock, &self.random),
            application: fresh(&self.clock, &self.random),
            record: fresh(&self.clock, &self.random),
            session: fresh(&self.clock, &self.random),
            edge: fresh(&self.clock, &self.random),
        };
        let keys: KeySet = [self.key.verifying_key().clone()].into_iter().collect();
        let known = (second.zone.clone(), Arc::new(keys));
        self.sts.keys.lock().insert(known.0, known.1);
        let mut unit = self.store.begin(&second.zone).await.unwrap();
        let mut row = zone(&second.zone);
        row.slug = "meadow".to_owned();
        unit.insert_zone(&row).await.unwrap();
        unit.insert_application(&application(&second.zone, &second.application))
            .await
            .unwrap();
        let record = AuthorityRecord {
            zone_id: second.zone.clone(),
            application_id: second.application.clone(),
            subject_id: second.application.to_string(),
            ..self.record(&second.record)
        };
        unit.insert_authority_record(&record).await.unwrap();
        let session = Session {
            zone_id: second.zone.clone(),
            application_id: second.application.clone(),
            subject_authority_record_id: second.record.clone(),
            ..self.session_row(&second.session)
        };
        unit.insert_session(&session).await.unwrap();
        let edge = Delegation {
            zone_id: second.zone.clone(),
            source_session_id: second.session.clone(),
            target_session_id: second.session.clone(),
            issuer_application_id: second.application.clone(),
            receiver_application_id: second.application.clone(),
            ..self.edge_row(&second.edge, None)
        };
        unit.insert_delegation(&edge).await.unwrap();
        unit.commit().await.unwrap();
        second
    }

    /// A fresh mandate of the other zone.
    pub(crate) fn mandate_of(&self, second: &SecondZone) -> String {
        self.mandate_with(|claims| {
            claims.zone_id = second.zone.clone();
            claims.client_id = second.application.clone();
            claims.root_sid = second.record.clone();
            claims.agent_session_id = Some(second.session.clone());
            claims.delegation_edge_id = Some(second.edge.clone());
        })
    }

    /// An edge to the calling Session from another one, which has a parent on a record of its own.
    pub(crate) async fn long_line(&self) -> LongLine {
        let line = LongLine {
            edge: fresh(&self.clock, &self.random),
            source: fresh(&self.clock, &self.random),
            parent: fresh(&self.clock, &self.random),
            record: fresh(&self.clock, &self.random),
        };
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        unit.insert_authority_record(&self.record(&line.record))
            .await
            .unwrap();
        let parent = Session {
            subject_authority_record_id: line.record.clone(),
            ..self.session_row(&line.parent)
        };
        unit.insert_session(&parent).await.unwrap();
        let source = Session {
            parent_id: Some(line.parent.clone()),
            depth: 1,
            ..self.session_row(&line.source)
        };
        unit.insert_session(&source).await.unwrap();
        let edge = Delegation {
            source_session_id: line.source.clone(),
            ..self.edge_row(&line.edge, None)
        };
        unit.insert_delegation(&edge).await.unwrap();
        unit.commit().await.unwrap();
        line
    }

    /// Changes something that every call may depend on.
    pub(crate) async fn change_the_zone(&self) {
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        let mut row = unit.get_zone().await.unwrap().unwrap();
        row.operator_governed = !row.operator_governed;
        assert!(unit.update_zone(&row).await.unwrap());
        unit.commit().await.unwrap();
    }

    /// Changes something that no call depends on.
    pub(crate) async fn change_something_else(&self) {
        let other: AuthorityRecordId = fresh(&self.clock, &self.random);
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        unit.insert_authority_record(&self.record(&other))
            .await
            .unwrap();
        unit.revoke_authority_records(&[other], "by test")
            .await
            .unwrap();
        unit.commit().await.unwrap();
    }
}

fn fresh<T: std::str::FromStr<Err: std::fmt::Debug>>(
    clock: &ManualClock,
    random: &SeededRandom,
) -> T {
    caracal_core::id::uuid_v7(clock, random)
        .to_string()
        .parse()
        .unwrap()
}

fn zone(id: &ZoneId) -> Zone {
    Zone {
        id: id.clone(),
        name: "orchard".to_owned(),
        slug: "orchard".to_owned(),
        dcr_enabled: false,
        operator_coauthor_badge: false,
        operator_governed: false,
        owner_account_id: None,
        attribution: Attribution::default(),
        created_at: START,
        updated_at: START,
        archived_at: None,
    }
}

fn application(zone: &ZoneId, id: &ApplicationId) -> Application {
    Application {
        id: id.clone(),
        zone_id: zone.clone(),
        name: "ledger-bot".to_owned(),
        registration_method: RegistrationMethod::Managed,
        traits: Vec::new(),
        secret_hash: None,
        sealed_secret: None,
        expires_at: None,
        attribution: Attribution::default(),
        created_at: START,
        updated_at: None,
        archived_at: None,
    }
}
