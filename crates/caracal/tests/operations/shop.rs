//! What the tests share: the command, an embedded stack, a governed call, and stores with sealed rows.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use caracal::bench::upstream::Upstream;
use caracal::client::Client;
use caracal::stack_process::StackProcess;
use caracal::tour::{READ, Session, World};
use caracal_core::id::{ApplicationId, KeyId, ProviderId, ZoneId};
use caracal_core::{Secret, SystemClock, SystemRandom, Timestamp};
use caracal_crypto::client_secret::{Peppers, SecretKind};
use caracal_crypto::{Kek, KeyRing, SealLocation};
use caracal_store::Store;
use caracal_store::entity::{
    Application, Attribution, Provider, ProviderKind, RegistrationMethod, SigningKeyRow, Zone,
};
use http::{Method, StatusCode};

/// A key-encryption key and another.
pub(crate) const KEK_A: &str = "8affeb86aaed33bfa011aafdd6b56492c518074449d71a505cb490a3ce5562f3";
pub(crate) const KEK_B: &str = "30c18d2f7fd1c40a95e2ce1bf55303c33917ea3adf94885182cfdf623d1422a9";

/// When the rows of the shop were made.
const MADE: Timestamp = Timestamp::from_seconds(1_767_225_600);

/// The binary.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_caracal"))
}

/// The command with exactly these variables.
pub(crate) fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).env_clear();
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(variables.iter().copied());
    command
}

/// What the command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs the command off the async threads.
pub(crate) async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Answer {
    let mut command = command(arguments, variables);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    output.unwrap().unwrap().into()
}

/// An embedded stack's directory, and an upstream to govern.
pub(crate) struct Shop {
    directory: tempfile::TempDir,
    upstream: Upstream,
}

impl Shop {
    pub(crate) async fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            upstream: Upstream::start(true).await.unwrap(),
        }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) async fn start(&self) -> StackProcess {
        StackProcess::start(binary(), &self.home(), &[("LOG_LEVEL", "warn")])
            .await
            .unwrap()
    }

    /// Runs the command on the home directory.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Answer {
        let home = self.home();
        run(arguments, &[("CARACAL_HOME", home.to_str().unwrap())]).await
    }

    /// Stops the stack the way operators do.
    pub(crate) async fn down(&self, stack: StackProcess) {
        let answer = self.run(&["down"]).await;
        assert_eq!(answer.code, Some(0), "{answer:?}");
        drop(stack);
    }

    pub(crate) async fn provision(&self, stack: &StackProcess) -> World {
        let client = Client::new(Duration::from_secs(10));
        let endpoints = stack.endpoints.clone();
        World::provision(client, endpoints, "shop", &self.upstream.url())
            .await
            .unwrap()
    }

    /// Exchanges the key for a fresh one, keeping the old one as the previous.
    pub(crate) fn rotate(&self) {
        let secrets = self.home().join("secrets");
        let current = secrets.join("secretStoreKek");
        std::fs::rename(&current, secrets.join("secretStoreKekPrevious")).unwrap();
        write_private(&current, KEK_B);
    }

    pub(crate) fn drop_previous(&self) {
        std::fs::remove_file(self.home().join("secrets/secretStoreKekPrevious")).unwrap();
    }
}

pub(crate) fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

/// A Session with authority over the upstream.
pub(crate) async fn open_lane(world: &World) -> (Session, String) {
    let lifecycle = world.lifecycle_token().await.unwrap();
    let source = world.open_session(&lifecycle, None, 3_600).await.unwrap();
    let target = world.open_session(&lifecycle, None, 3_600).await.unwrap();
    let edge = world.delegate(&lifecycle, &source, &target, 3_000).await;
    (target, edge.unwrap())
}

/// Makes sure that the whole path works: secrets verify, mandates are signed, the upstream's
/// credential is injected.
pub(crate) async fn governed_call(world: &World) {
    let (target, edge) = open_lane(world).await;
    let mandate = mint(world, &target, &edge).await;
    let answer = world
        .call(&mandate, Method::GET, "/v1/items")
        .await
        .unwrap();
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, StatusCode::OK, "{body}");
    assert!(body.contains(world.upstream_key.expose()), "{body}");
}

pub(crate) async fn mint(world: &World, target: &Session, edge: &str) -> Secret<String> {
    World::mandate(&world.mint(target, edge, READ).await.unwrap()).unwrap()
}

pub(crate) fn ring(current: &str) -> KeyRing {
    let kek = Kek::from_hex(&Secret::new(current.to_owned())).unwrap();
    KeyRing::new(kek, None)
}

pub(crate) async fn open_file(path: &Path) -> Store {
    Store::open_sqlite(path, Arc::new(SystemClock), Arc::new(SystemRandom))
        .await
        .unwrap()
}

/// Fills a store with a zone of `applications` applications, a provider and a signing key, everything
/// sealed under one key, as a stack with that key would write it.
pub(crate) async fn fill(store: &Store, kek: &str, name: &str, applications: u32) -> ZoneId {
    let (ring, random) = (ring(kek), SystemRandom);
    let peppers = Peppers::derive(&ring).unwrap();
    let zone = ZoneId::parse(name).unwrap();
    let mut unit = store.begin(&zone).await.unwrap();
    unit.insert_zone(&Zone {
        id: zone.clone(),
        name: name.to_owned(),
        slug: name.to_owned(),
        dcr_enabled: false,
        operator_coauthor_badge: true,
        operator_governed: false,
        owner_account_id: None,
        attribution: Attribution::default(),
        created_at: MADE,
        updated_at: MADE,
        archived_at: None,
    })
    .await
    .unwrap();
    for number in 0..applications {
        let id = ApplicationId::parse(&format!("{name}-app-{number:04}")).unwrap();
        let secret = SecretKind::Application.generate(&random);
        let location = SealLocation::client_secret(&zone, &id);
        let sealed = ring.seal(&location, secret.expose().as_bytes(), &random);
        unit.insert_application(&Application {
            name: format!("agent {number}"),
            zone_id: zone.clone(),
            registration_method: RegistrationMethod::Managed,
            traits: Vec::new(),
            secret_hash: Some(peppers.hash_generated(&secret)),
            sealed_secret: Some(sealed.unwrap()),
            expires_at: None,
            attribution: Attribution::default(),
            created_at: MADE,
            updated_at: None,
            archived_at: None,
            id,
        })
        .await
        .unwrap();
    }
    let provider = ProviderId::parse(&format!("{name}-provider")).unwrap();
    let location = SealLocation::provider_config(&zone, &provider);
    unit.insert_provider(&Provider {
        zone_id: zone.clone(),
        name: "key".to_owned(),
        identifier: "provider://key".to_owned(),
        kind: ProviderKind::ApiKey,
        config: serde_json::Map::default(),
        secret_config_keys: vec!["api_key".to_owned()],
        sealed_config: Some(
            ring.seal(&location, b"{\"api_key\":\"k\"}", &random)
                .unwrap(),
        ),
        connectivity_failed_at: None,
        attribution: Attribution::default(),
        created_at: MADE,
        updated_at: MADE,
        archived_at: None,
        id: provider,
    })
    .await
    .unwrap();
    let kid = KeyId::parse(&format!("{name}-key")).unwrap();
    let location = SealLocation {
        table: "signing_keys",
        column: "sealed",
        row: kid.as_str(),
        zone: Some(&zone),
    };
    unit.insert_signing_key(&SigningKeyRow {
        zone_id: zone.clone(),
        sealed: ring.seal(&location, b"a private key", &random).unwrap(),
        x: "x".to_owned(),
        y: "y".to_owned(),
        created_at: MADE,
        signs_from: MADE,
        retires_at: None,
        id: kid.clone(),
    })
    .await
    .unwrap();
    unit.commit().await.unwrap();
    zone
}
