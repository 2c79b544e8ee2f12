//! A PostgreSQL server: migrating it, opening it, sharing it, and losing it.

use std::sync::Arc;
use std::time::Duration;

use caracal_core::{Clock, ManualClock, Random, SeededRandom};
use caracal_store::{
    OpenError, PlatformLane, PostgresOptions, ServiceRole, Store, StoreError, migrate_postgres,
    plan_postgres,
};
use caracal_testbed::Postgres;
use sea_orm::ConnectionTrait;

use crate::world::{Backend, Place, START, Server, World, application, connect, on, task, zone};

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(test);
}

fn options(url: &str) -> PostgresOptions {
    let mut options = PostgresOptions::new(url.to_owned());
    options.min_connections = 0;
    options
}

async fn open(options: PostgresOptions) -> Result<Store, OpenError> {
    let clock = Arc::new(ManualClock::at(START)) as Arc<dyn Clock>;
    let random = Arc::new(SeededRandom::new(3)) as Arc<dyn Random>;
    Store::open_postgres(options, clock, random).await
}

fn server(world: &World) -> &Server {
    match &world.place {
        Place::Server(server) => server,
        Place::File { .. } => panic!("no server"),
    }
}

#[test]
fn a_database_is_planned_then_migrated_once_then_opened() {
    run(async {
        let server = Server::empty();
        let options = options(&server.owner_url);
        let refused = open(options.clone()).await;
        assert!(
            matches!(refused, Err(OpenError::NotMigrated)),
            "{refused:?}"
        );

        let plan = plan_postgres(&options).await.unwrap();
        assert_eq!((plan[0].version, plan[0].name), (1, "baseline"));
        assert!(plan[0].sql.contains("CREATE TABLE zones"));
        assert_eq!(
            plan_postgres(&options).await.unwrap(),
            plan,
            "a plan changes nothing"
        );

        let applied = migrate_postgres(&options, START).await.unwrap();
        let planned: Vec<i64> = plan.iter().map(|migration| migration.version).collect();
        let done: Vec<i64> = applied.iter().map(|migration| migration.version).collect();
        assert_eq!(done, planned);
        assert_eq!(migrate_postgres(&options, START).await.unwrap(), []);
        assert_eq!(plan_postgres(&options).await.unwrap(), []);
        let store = open(options).await.unwrap();
        assert_eq!(Some(&store.schema_version()), done.last());
    });
}

#[test]
fn migrators_at_the_same_time_wait_for_each_other() {
    run(async {
        let server = Server::empty();
        let options = options(&server.owner_url);
        let (a, b, c) = tokio::join!(
            migrate_postgres(&options, START),
            migrate_postgres(&options, START),
            migrate_postgres(&options, START)
        );
        let mut done: Vec<bool> = [a, b, c]
            .into_iter()
            .map(|applied| !applied.unwrap().is_empty())
            .collect();
        done.sort_unstable();
        assert_eq!(done, [false, false, true]);
    });
}

#[test]
fn a_schema_that_this_build_cannot_vouch_for_is_neither_migrated_nor_planned() {
    run(async {
        let server = Server::migrated();
        let options = options(&server.owner_url);
        let db = server.raw().await;
        db.execute_unprepared("INSERT INTO schema_migrations VALUES (999, 'later', 'x', 0)")
            .await
            .unwrap();
        for refused in [
            migrate_postgres(&options, START).await.err(),
            plan_postgres(&options).await.err(),
        ] {
            assert!(
                matches!(refused, Some(OpenError::SchemaTooNew { found: 999, .. })),
                "{refused:?}"
            );
        }
        db.execute_unprepared(
            "DELETE FROM schema_migrations WHERE version = 999;
             UPDATE schema_migrations SET checksum = 'other' WHERE version = 1",
        )
        .await
        .unwrap();
        let refused = migrate_postgres(&options, START).await;
        assert!(
            matches!(refused, Err(OpenError::MigrationChanged { version: 1, .. })),
            "{refused:?}"
        );
    });
}

#[test]
fn another_products_schema_is_refused_and_left_alone() {
    run(async {
        let server = Server::empty();
        let db = connect(server.owner_url.clone()).await;
        db.execute_unprepared(
            "CREATE TABLE public.schema_migrations (version TEXT PRIMARY KEY);
             INSERT INTO public.schema_migrations VALUES ('0001_baseline')",
        )
        .await
        .unwrap();
        let refused = migrate_postgres(&options(&server.owner_url), START).await;
        assert!(
            matches!(refused, Err(OpenError::ForeignSchema)),
            "{refused:?}"
        );
        let schemas = Postgres::shared().unwrap().psql(
            &server.name,
            "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'caracal%'",
        );
        assert_eq!(schemas.unwrap(), "0");
    });
}

#[test]
fn a_login_that_no_rule_binds_is_refused() {
    run(async {
        let server = Server::migrated();
        let refused = open(options(&server.superuser_url)).await;
        assert!(
            matches!(&refused, Err(OpenError::Unbound { login }) if login == "postgres"),
            "{refused:?}"
        );
        let bound = options(&server.superuser_url).acting_as(ServiceRole::Sts);
        assert!(open(bound).await.is_ok(), "the role is bound");
    });
}

/// The URL of a login that the SQL makes.
fn login(server: &Server, name: &str, sql: &str) -> String {
    let postgres = Postgres::shared().unwrap();
    postgres.psql(&server.name, sql).unwrap();
    let port = postgres.port();
    format!("postgres://{name}@127.0.0.1:{port}/{}", server.name)
}

#[test]
fn a_login_acts_only_as_roles_that_it_is_a_member_of() {
    run(async {
        let server = Server::migrated();
        let name = format!("sts_{}", server.name);
        let sql = format!("CREATE ROLE {name} LOGIN IN ROLE caracalsts");
        let url = login(&server, &name, &sql);
        assert!(
            open(options(&url).acting_as(ServiceRole::Sts))
                .await
                .is_ok()
        );
        let refused = open(options(&url).acting_as(ServiceRole::Api)).await;
        assert!(
            matches!(
                refused,
                Err(OpenError::Role {
                    role: "caracalapi",
                    ..
                })
            ),
            "{refused:?}"
        );
    });
}

#[test]
fn a_service_that_logs_in_as_its_own_role_works() {
    run(async {
        let server = Server::migrated();
        let url = login(
            &server,
            "caracalcoordinator",
            "ALTER ROLE caracalcoordinator LOGIN",
        );
        let store = open(options(&url).acting_as(ServiceRole::Coordinator)).await;
        assert_eq!(store.unwrap().platform().zone_ids().await.unwrap(), []);
    });
}

#[test]
fn units_of_one_zone_are_serial_over_all_processes_and_those_of_others_are_not() {
    on(Backend::Postgres, |world| async move {
        let (mine, theirs) = (world.zone().await, world.zone().await);
        let mut impatient = options(&server(&world).owner_url);
        impatient.lock_timeout = Duration::from_millis(100);
        let other = open(impatient).await.unwrap();

        let mut unit = world.unit(&mine).await;
        let row = application(&mine, world.id(), "agent");
        unit.insert_application(&row).await.unwrap();
        let waited = other.begin(&mine).await;
        assert!(
            matches!(waited, Err(StoreError::Unavailable(_))),
            "{waited:?}"
        );
        assert!(other.begin(&theirs).await.is_ok());
        unit.commit().await.unwrap();
        let next = other.begin(&mine).await.unwrap();
        assert!(next.get_application(&row.id).await.unwrap().is_some());
    });
}

#[test]
fn lanes_of_platform_work_do_not_wait_for_each_other() {
    on(Backend::Postgres, |world| async move {
        let store = &world.store;
        let _administration = store.begin_platform().await.unwrap();
        let evidence = store.begin_platform_work(PlatformLane::Evidence).await;
        let publishing = store.begin_platform_work(PlatformLane::Publishing).await;
        let another = store.begin_platform_work(PlatformLane::Publishing).await;
        assert!(evidence.is_ok() && publishing.is_ok() && another.is_ok());
    });
}

#[test]
fn a_unit_whose_statement_failed_does_not_say_that_it_committed() {
    on(Backend::Postgres, |world| async move {
        let zone_id = world.zone().await;
        let mut unit = world.unit(&zone_id).await;
        let row = application(&zone_id, world.id(), "agent");
        unit.insert_application(&row).await.unwrap();
        let orphan = task(&zone_id, world.id(), &row.id, &world.id(), None);
        assert!(unit.insert_session(&orphan).await.is_err());
        let later = unit.get_application(&row.id).await;
        assert!(
            matches!(later, Err(StoreError::Unavailable(_))),
            "{later:?}"
        );
        let committed = unit.commit().await;
        assert!(
            matches!(committed, Err(StoreError::Unavailable(_))),
            "{committed:?}"
        );
        let reader = world.store.read(&zone_id);
        assert!(reader.get_application(&row.id).await.unwrap().is_none());
    });
}

#[test]
fn a_zone_that_a_read_left_behind_is_not_the_next_ones() {
    on(Backend::Postgres, |world| async move {
        let (full, empty) = (world.tree().await, world.zone().await);
        let mut options = options(&server(&world).owner_url);
        options.max_connections = 2;
        let store = open(options).await.unwrap();
        // One connection reads for all.
        let id = &full.application.id;
        let of = async |zone| store.read(zone).get_application(id).await.unwrap();
        assert!(of(&full.zone_id).await.is_some());
        assert!(of(&empty).await.is_none());
        assert!(of(&full.zone_id).await.is_some());
        assert_eq!(store.platform().zone_ids().await.unwrap().len(), 2);
        assert!(of(&empty).await.is_none());
    });
}

#[test]
fn a_statement_that_takes_too_long_is_unavailable_and_its_connection_goes_on() {
    on(Backend::Postgres, |world| async move {
        let zone_id = world.zone().await;
        let raw = server(&world).raw().await;
        let mut options = options(&server(&world).owner_url);
        options.lock_timeout = Duration::from_millis(100);
        options.max_connections = 2;
        let store = open(options).await.unwrap();
        raw.execute_unprepared("BEGIN; LOCK TABLE applications")
            .await
            .unwrap();
        let row = application(&zone_id, world.id(), "agent");
        let refused = store.read(&zone_id).get_application(&row.id).await;
        assert!(
            matches!(refused, Err(StoreError::Unavailable(_))),
            "{refused:?}"
        );
        raw.execute_unprepared("ROLLBACK").await.unwrap();
        let found = store.read(&zone_id).get_application(&row.id).await;
        assert!(found.unwrap().is_none());
    });
}

#[test]
fn after_a_restart_of_the_server_the_first_read_and_the_first_unit_succeed() {
    run(async {
        let mut postgres = Postgres::start(true).unwrap();
        let database = postgres.database().unwrap();
        let options = options(&database.owner_url);
        migrate_postgres(&options, START).await.unwrap();
        let store = open(options).await.unwrap();
        let id = zone_id("z-1");
        let mut unit = store.begin(&id).await.unwrap();
        unit.insert_zone(&zone(&id, "acme")).await.unwrap();
        unit.commit().await.unwrap();
        assert!(store.read(&id).get_zone().await.unwrap().is_some());

        postgres.stop(true);
        let reader = store.read(&id);
        let down = tokio::time::timeout(Duration::from_secs(20), reader.get_zone()).await;
        assert!(
            matches!(down, Ok(Err(StoreError::Unavailable(_)))),
            "{down:?}"
        );
        postgres.start_again().unwrap();
        assert!(store.read(&id).get_zone().await.unwrap().is_some());
        assert!(store.begin(&id).await.is_ok());
    });
}

#[test]
fn a_server_is_believed_as_the_mode_of_tls_says() {
    run(async {
        let postgres = Postgres::start(false).unwrap();
        let database = postgres.database().unwrap();
        let made = certify(&postgres);
        migrate_postgres(&options(&database.owner_url), START)
            .await
            .unwrap();
        let named = database.owner_url.replace("127.0.0.1", "localhost");
        let ca = format!("&sslrootcert={}", made.ca.display());
        for (url, mode, ca, works) in [
            (&database.owner_url, "disable", "", true),
            (&database.owner_url, "prefer", "", true),
            (&database.owner_url, "require", "", true),
            (&database.owner_url, "verify-ca", "", false),
            (&database.owner_url, "verify-ca", ca.as_str(), true),
            (&database.owner_url, "verify-full", ca.as_str(), false),
            (&named, "verify-full", "", false),
            (&named, "verify-full", ca.as_str(), true),
        ] {
            let opened = open(options(&format!("{url}?sslmode={mode}{ca}"))).await;
            assert_eq!(opened.is_ok(), works, "{mode} {ca}: {opened:?}");
        }
        let mut by_option = options(&format!("{named}?sslmode=verify-full"));
        by_option.extra_ca = Some(made.ca.clone());
        assert!(open(by_option).await.is_ok());
        postgres
            .psql("postgres", "ALTER SYSTEM SET ssl = off")
            .unwrap();
        postgres
            .psql("postgres", "SELECT pg_reload_conf(), pg_sleep(0.2)")
            .unwrap();
        let clear = open(options(&format!("{}?sslmode=require", database.owner_url))).await;
        assert!(clear.is_err(), "not in the clear");
    });
}

struct Certificates {
    ca: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

/// Gives the server a certificate for `localhost` of an authority of its own.
fn certify(postgres: &Postgres) -> Certificates {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let script = "set -e
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
            -subj /CN=authority -keyout ca.key -out ca.pem
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
            -subj /CN=server -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:localhost' > names
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
            -extfile names -out server.pem";
    let made = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let data = postgres.home().join("data");
    let owner = std::fs::metadata(&data).unwrap();
    for name in ["server.key", "server.pem"] {
        let target = data.join(name);
        std::fs::copy(dir.path().join(name), &target).unwrap();
        std::os::unix::fs::chown(&target, Some(owner.uid()), Some(owner.gid())).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&target, mode).unwrap();
    }
    for set in [
        "ssl_cert_file = 'server.pem'",
        "ssl_key_file = 'server.key'",
        "ssl = on",
    ] {
        postgres
            .psql("postgres", &format!("ALTER SYSTEM SET {set}"))
            .unwrap();
    }
    postgres
        .psql("postgres", "SELECT pg_reload_conf(), pg_sleep(0.2)")
        .unwrap();
    Certificates {
        ca: dir.path().join("ca.pem"),
        _dir: dir,
    }
}

fn zone_id(text: &str) -> caracal_core::id::ZoneId {
    caracal_core::id::ZoneId::parse(text).unwrap()
}
