//! A store in a directory of its own, with rows to put into it.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use caracal_core::id::{
    AdminTokenId, ApplicationId, AuthorityRecordId, DelegationId, EventId, KeyId, PolicyId,
    PolicySetId, PolicySetVersionId, PolicyVersionId, ProviderId, ResourceId, SessionId, ZoneId,
};
use caracal_core::{
    Clock, ManualClock, Random, ResourceIdentifier, Scope, ScopeSet, SeededRandom, SubjectType,
    Timestamp,
};
use caracal_store::entity::{
    AdminToken, Application, Attribution, Author, AuthorityRecord, Capability, Constraints,
    Delegation, DelegationStatus, Enforcement, Lease, Lifecycle, Policy, PolicySet, Provider,
    ProviderKind, RecordStatus, RegistrationMethod, Resource, Session, SessionStatus,
    SigningKeyRow, Zone,
};
use caracal_store::{
    NewPolicySetVersion, NewPolicyVersion, OpenError, PostgresOptions, Store, ZoneUnit,
    migrate_postgres,
};
use caracal_testbed::{Database, Postgres};
use sea_orm::{ConnectOptions, DatabaseConnection};
use tempfile::TempDir;

/// Where the worlds begin.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_767_225_600);

/// A database that the suite runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// Makes tests of functions that take a backend: one for each, `sqlite::name` and `postgres::name`.
macro_rules! on_every_backend {
    [$($name:ident),+ $(,)?] => {
        mod sqlite {
            $(#[test] fn $name() { super::$name(crate::world::Backend::Sqlite); })+
        }
        mod postgres {
            $(#[test] fn $name() { super::$name(crate::world::Backend::Postgres); })+
        }
    };
}
pub(crate) use on_every_backend;

/// Runs a test on a backend. The world comes boxed, so that a test's future takes it whole.
pub(crate) fn on<F: Future<Output = ()>>(backend: Backend, test: impl Fn(Box<World>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .unwrap()
        .block_on(async { test(Box::new(World::new(backend).await)).await });
}

/// Where a world's rows are.
pub(crate) enum Place {
    File { path: PathBuf, _dir: TempDir },
    Server(Server),
}

/// A database of a test's own, dropped with it.
pub(crate) struct Server(Database);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Postgres::shared().and_then(|server| server.drop_database(&self.0));
    }
}

impl std::ops::Deref for Server {
    type Target = Database;
    fn deref(&self) -> &Database {
        &self.0
    }
}

impl Server {
    /// A database with this build's schema: copied, which is quicker than made.
    pub(crate) fn migrated() -> Self {
        static TEMPLATE: OnceLock<String> = OnceLock::new();
        let postgres = Postgres::shared().unwrap();
        let template = TEMPLATE.get_or_init(|| {
            let database = postgres.database().unwrap();
            let options = PostgresOptions::new(database.owner_url);
            let migrated = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                runtime
                    .unwrap()
                    .block_on(migrate_postgres(&options, START))
                    .unwrap();
            });
            migrated.join().unwrap();
            database.name
        });
        let database = postgres.database_like(template).unwrap();
        Self(database)
    }

    /// A database with nothing in it.
    pub(crate) fn empty() -> Self {
        Self(Postgres::shared().unwrap().database().unwrap())
    }

    /// A connection that no rule binds.
    pub(crate) async fn raw(&self) -> DatabaseConnection {
        let url = format!("{}?options=-c%20search_path%3Dcaracal", self.superuser_url);
        connect(url).await
    }
}

/// One connection.
pub(crate) async fn connect(url: String) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    sea_orm::Database::connect(options).await.unwrap()
}

/// A store and what drives it.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) random: Arc<SeededRandom>,
    pub(crate) place: Place,
    ids: ManualClock,
}

impl World {
    pub(crate) async fn new(backend: Backend) -> Self {
        let place = match backend {
            Backend::Sqlite => {
                let dir = tempfile::tempdir().unwrap();
                Place::File {
                    path: dir.path().join("caracal.db"),
                    _dir: dir,
                }
            }
            Backend::Postgres => Place::Server(Server::migrated()),
        };
        let clock = Arc::new(ManualClock::at(START));
        let random = Arc::new(SeededRandom::new(7));
        let store = open(&place, &clock, &random).await.unwrap();
        Self {
            store,
            clock,
            random,
            place,
            ids: ManualClock::at(START),
        }
    }

    /// A connection beside the store's, bound by no rule of the store.
    pub(crate) async fn raw(&self) -> DatabaseConnection {
        match &self.place {
            Place::File { path, .. } => connect(format!("sqlite://{}", path.display())).await,
            Place::Server(server) => server.raw().await,
        }
    }

    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A fresh id; later ones sort behind earlier ones.
    pub(crate) fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(&self) -> T {
        self.ids.advance_seconds(1);
        let id = caracal_core::id::uuid_v7(&self.ids, &*self.random);
        id.to_string().parse().unwrap()
    }

    /// A zone that exists.
    pub(crate) async fn zone(&self) -> ZoneId {
        let id: ZoneId = self.id();
        let mut unit = self.store.begin(&id).await.unwrap();
        unit.insert_zone(&zone(&id, &format!("zone-{id}")))
            .await
            .unwrap();
        unit.commit().await.unwrap();
        id
    }

    /// A unit on a zone.
    pub(crate) async fn unit(&self, zone: &ZoneId) -> ZoneUnit {
        self.store.begin(zone).await.unwrap()
    }

    /// A zone with an application, a record and a root Session of it.
    pub(crate) async fn tree(&self) -> Tree {
        let zone_id = self.zone().await;
        let mut unit = self.unit(&zone_id).await;
        let application = application(&zone_id, self.id(), "agent");
        unit.insert_application(&application).await.unwrap();
        let record = record(&zone_id, self.id(), &application.id);
        unit.insert_authority_record(&record).await.unwrap();
        let root = task(&zone_id, self.id(), &application.id, &record.id, None);
        unit.insert_session(&root).await.unwrap();
        unit.commit().await.unwrap();
        Tree {
            zone_id,
            application,
            record,
            root,
        }
    }
}

/// What most tests stand on.
pub(crate) struct Tree {
    pub(crate) zone_id: ZoneId,
    pub(crate) application: Application,
    pub(crate) record: AuthorityRecord,
    pub(crate) root: Session,
}

impl Tree {
    pub(crate) fn child(&self, id: SessionId, parent: &Session) -> Session {
        Session {
            depth: parent.depth + 1,
            ..task(
                &self.zone_id,
                id,
                &self.application.id,
                &self.record.id,
                Some(&parent.id),
            )
        }
    }

    pub(crate) fn edge(&self, id: DelegationId, source: &Session, target: &Session) -> Delegation {
        edge(&self.zone_id, id, source, target)
    }
}

pub(crate) async fn open(
    place: &Place,
    clock: &Arc<ManualClock>,
    random: &Arc<SeededRandom>,
) -> Result<Store, OpenError> {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let random = Arc::clone(random) as Arc<dyn Random>;
    match place {
        Place::File { path, .. } => Store::open_sqlite(path, clock, random).await,
        Place::Server(server) => {
            let mut options = PostgresOptions::new(server.owner_url.clone());
            options.min_connections = 0;
            Store::open_postgres(options, clock, random).await
        }
    }
}

pub(crate) fn author() -> Author {
    Author {
        by: Some("admin:t-1".to_owned()),
        via_operator: false,
    }
}

pub(crate) fn zone(id: &ZoneId, slug: &str) -> Zone {
    Zone {
        id: id.clone(),
        name: "Acme".to_owned(),
        slug: slug.to_owned(),
        dcr_enabled: false,
        operator_coauthor_badge: true,
        operator_governed: false,
        owner_account_id: None,
        attribution: author().creates(),
        created_at: START,
        updated_at: START,
        archived_at: None,
    }
}

pub(crate) fn application(zone: &ZoneId, id: ApplicationId, name: &str) -> Application {
    Application {
        id,
        zone_id: zone.clone(),
        name: name.to_owned(),
        registration_method: RegistrationMethod::Managed,
        traits: vec!["team:blue".to_owned()],
        secret_hash: Some("v1$hash".to_owned()),
        sealed_secret: Some(vec![1, 2, 3]),
        expires_at: None,
        attribution: Attribution::default(),
        created_at: START,
        updated_at: None,
        archived_at: None,
    }
}

pub(crate) fn provider(zone: &ZoneId, id: ProviderId, identifier: &str) -> Provider {
    Provider {
        id,
        zone_id: zone.clone(),
        name: "Key".to_owned(),
        identifier: identifier.to_owned(),
        kind: ProviderKind::ApiKey,
        config: serde_json::from_str(r#"{"header_name":"x-key"}"#).unwrap(),
        secret_config_keys: vec!["api_key".to_owned()],
        sealed_config: Some(vec![9, 9]),
        connectivity_failed_at: None,
        attribution: Attribution::default(),
        created_at: START,
        updated_at: START,
        archived_at: None,
    }
}

pub(crate) fn resource(zone: &ZoneId, id: ResourceId, identifier: &str) -> Resource {
    Resource {
        id,
        zone_id: zone.clone(),
        name: "Ledger".to_owned(),
        identifier: ResourceIdentifier::new(identifier),
        upstream_url: Some("https://ledger.example".to_owned()),
        scopes: vec![Scope::new("ledger:write"), Scope::new("ledger:read")],
        credential_provider_id: None,
        operations: Vec::new(),
        operation_enforcement: Enforcement::Enforced,
        attribution: Attribution::default(),
        created_at: START,
        updated_at: START,
        archived_at: None,
    }
}

pub(crate) fn policy(zone: &ZoneId, id: PolicyId, name: &str) -> Policy {
    Policy {
        id,
        zone_id: zone.clone(),
        name: name.to_owned(),
        description: None,
        attribution: Attribution::default(),
        created_at: START,
        updated_at: START,
        archived_at: None,
    }
}

pub(crate) fn policy_version(
    id: PolicyVersionId,
    policy: &PolicyId,
    content: &str,
) -> NewPolicyVersion {
    NewPolicyVersion {
        id,
        policy_id: policy.clone(),
        content: content.into(),
        content_sha256: "00".repeat(32),
        schema_version: "2026-05-20".to_owned(),
        author: author(),
    }
}

pub(crate) fn policy_set(zone: &ZoneId, id: PolicySetId, name: &str) -> PolicySet {
    PolicySet {
        id,
        zone_id: zone.clone(),
        name: name.to_owned(),
        description: Some("what may be done".to_owned()),
        active_version_id: None,
        attribution: Attribution::default(),
        created_at: START,
        updated_at: START,
        archived_at: None,
    }
}

pub(crate) fn policy_set_version(
    id: PolicySetVersionId,
    set: &PolicySetId,
    manifest: &[PolicyVersionId],
) -> NewPolicySetVersion {
    NewPolicySetVersion {
        id,
        policy_set_id: set.clone(),
        manifest: manifest.to_vec(),
        manifest_sha256: "11".repeat(32),
        schema_version: "2026-05-20".to_owned(),
        author: author(),
    }
}

pub(crate) fn record(
    zone: &ZoneId,
    id: AuthorityRecordId,
    application: &ApplicationId,
) -> AuthorityRecord {
    AuthorityRecord {
        id,
        zone_id: zone.clone(),
        kind: SubjectType::Application,
        subject_id: application.to_string(),
        issuer: None,
        application_id: application.clone(),
        parent_id: None,
        status: RecordStatus::Active,
        expires_at: START.plus_seconds(900),
        authenticated_at: START,
        created_at: START,
        revoked_at: None,
        revoked_reason: None,
    }
}

pub(crate) fn task(
    zone: &ZoneId,
    id: SessionId,
    application: &ApplicationId,
    record: &AuthorityRecordId,
    parent: Option<&SessionId>,
) -> Session {
    Session {
        id,
        zone_id: zone.clone(),
        application_id: application.clone(),
        parent_id: parent.cloned(),
        subject_authority_record_id: record.clone(),
        status: SessionStatus::Active,
        lifecycle: Lifecycle::Task { ttl_seconds: 3600 },
        depth: 0,
        labels: vec!["indexer".to_owned()],
        max_children: 10,
        child_count: 0,
        authority_root: true,
        metadata: serde_json::from_str(r#"{"task":"index notes"}"#).unwrap(),
        lease_generation: 0,
        started_at: START,
        last_active_at: START,
        terminated_at: None,
        termination_reason: None,
        updated_at: START,
    }
}

/// The Session as a service whose lease ends at `deadline`.
pub(crate) fn as_service(session: Session, deadline: Timestamp) -> Session {
    Session {
        lifecycle: Lifecycle::Service(Lease {
            last_heartbeat_at: START,
            heartbeat_deadline_at: deadline,
        }),
        lease_generation: 1,
        ..session
    }
}

pub(crate) fn edge(
    zone: &ZoneId,
    id: DelegationId,
    source: &Session,
    target: &Session,
) -> Delegation {
    Delegation {
        id,
        zone_id: zone.clone(),
        source_session_id: source.id.clone(),
        target_session_id: target.id.clone(),
        issuer_application_id: source.application_id.clone(),
        receiver_application_id: target.application_id.clone(),
        parent_edge_id: None,
        resource_id: None,
        scopes: ScopeSet::parse("ledger:read"),
        constraints: Constraints {
            max_hops: Some(3),
            ..Constraints::default()
        },
        mirrored: false,
        accepted: false,
        budget_used: 0,
        status: DelegationStatus::Active,
        expires_at: START.plus_seconds(600),
        edge_version: 0,
        revoked_at: None,
        created_at: START,
        updated_at: START,
    }
}

pub(crate) fn signing_key(zone: &ZoneId, id: KeyId, signs_from: Timestamp) -> SigningKeyRow {
    SigningKeyRow {
        id,
        zone_id: zone.clone(),
        sealed: vec![4, 5, 6],
        x: "x".repeat(43),
        y: "y".repeat(43),
        created_at: START,
        signs_from,
        retires_at: None,
    }
}

pub(crate) fn admin_token(id: AdminTokenId, digest: &str, created_by: &str) -> AdminToken {
    AdminToken {
        id,
        name: "ci".to_owned(),
        zone_id: None,
        capability: Capability::Write,
        reveal: false,
        digest: digest.to_owned(),
        created_by: created_by.to_owned(),
        created_at: START,
        last_used_at: None,
        revoked_at: None,
    }
}

pub(crate) fn event_id(number: u64) -> EventId {
    EventId::parse(&format!("event-{number:08}")).unwrap()
}
