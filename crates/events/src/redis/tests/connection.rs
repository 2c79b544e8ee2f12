use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use caracal_testbed::{Redis as Server, RedisOptions as ServerOptions};
use tempfile::TempDir;

use super::{PATIENCE, connect, options, recovered, say};
use crate::fields::Fields;
use crate::redis::{Redis, RedisError, StreamWriter, Trim};

fn server_with(arguments: &[&str]) -> Server {
    Server::start_with(ServerOptions {
        arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
        ..ServerOptions::default()
    })
    .unwrap()
}

/// A cluster of one node.
pub(super) fn cluster() -> Server {
    let server = server_with(&[
        "--cluster-enabled",
        "yes",
        "--cluster-announce-ip",
        "127.0.0.1",
    ]);
    assert_eq!(say(server.port(), "CLUSTER ADDSLOTSRANGE 0 16383"), "+OK");
    let end = Instant::now() + PATIENCE;
    while !say(server.port(), "SET probe 1").starts_with("+OK") {
        assert!(Instant::now() < end, "the cluster does not come up");
    }
    server
}

pub(super) fn cluster_url(server: &Server) -> String {
    format!("redis-cluster://127.0.0.1:{}", server.port())
}

#[tokio::test]
async fn a_password_opens_and_a_wrong_one_says_so() {
    let server = server_with(&["--requirepass", "s3cret/+"]);
    let port = server.port();
    let redis = connect(&format!("redis://:s3cret%2F%2B@127.0.0.1:{port}/0")).await;
    redis.ping().await.unwrap();
    let wrong = Redis::open(&options(&format!("redis://:other@127.0.0.1:{port}/0"))).unwrap();
    let error = wrong.connected(Duration::from_secs(1)).await.unwrap_err();
    assert!(
        matches!(&error, RedisError::Unreachable(reason) if reason.contains("WRONGPASS")),
        "{error}"
    );
    assert!(!error.to_string().contains("other"));
}

#[tokio::test]
async fn a_user_of_its_own_is_held_to_its_rights() {
    let server = Server::start().unwrap();
    say(
        server.port(),
        "ACL SETUSER app on >one ~caracal.* +@all -@dangerous",
    );
    let redis = connect(&format!("redis://app:one@127.0.0.1:{}", server.port())).await;
    let writer = StreamWriter::new(redis);
    let fields = Fields::new().with("a", 1);
    writer
        .append("caracal.audit.events", &fields, Trim::Never)
        .await
        .unwrap();
    let refused = writer
        .append("other", &fields, Trim::Never)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("NOPERM"), "{refused}");
}

#[tokio::test]
async fn a_socket_is_reached_by_its_path() {
    let directory = open_directory();
    let socket = directory.path().join("redis.sock");
    let path = socket.display().to_string();
    let _server = server_with(&["--unixsocket", &path, "--unixsocketperm", "777"]);
    connect(&format!("unix://{path}?db=1"))
        .await
        .ping()
        .await
        .unwrap();
}

#[tokio::test]
async fn tls_is_spoken_with_a_root_of_ones_own_and_never_without() {
    let directory = open_directory();
    certify(directory.path());
    let file = |name: &str| directory.path().join(name).display().to_string();
    let port = free_port();
    let _server = server_with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &file("server.crt"),
        "--tls-key-file",
        &file("server.key"),
        "--tls-ca-cert-file",
        &file("ca.crt"),
        "--tls-auth-clients",
        "no",
    ]);
    let mut trusting = options(&format!("rediss://localhost:{port}"));
    let strange = Redis::open(&trusting).unwrap();
    trusting.extra_ca_file = Some(directory.path().join("ca.crt"));
    let redis = Redis::open(&trusting).unwrap();
    redis.connected(PATIENCE).await.unwrap();
    redis.ping().await.unwrap();
    let refused = strange.connected(Duration::from_secs(1)).await.unwrap_err();
    assert!(
        refused.to_string().contains("InvalidCertificate"),
        "{refused}"
    );
    assert!(strange.ping().await.is_err());
}

#[tokio::test]
async fn a_lost_server_fails_commands_at_once_and_is_found_again() {
    let mut server = Server::start().unwrap();
    let redis = connect(&server.url()).await;
    server.stop(true);
    let began = Instant::now();
    for _ in 0..1_000 {
        assert!(redis.ping().await.unwrap_err().is_outage());
    }
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    server.start_again().unwrap();
    recovered(&redis).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for_without_blocking() {
    let mut server = Server::start().unwrap();
    server.stop(true);
    let redis = Redis::open(&options(&server.url())).unwrap();
    assert!(redis.ping().await.unwrap_err().is_outage());
    assert!(redis.connected(Duration::from_millis(50)).await.is_err());
    server.start_again().unwrap();
    redis.connected(PATIENCE).await.unwrap();
    redis.ping().await.unwrap();
}

#[tokio::test]
async fn a_server_that_hangs_ends_a_command_in_time() {
    let server = Server::start().unwrap();
    let mut options = options(&server.url());
    options.command_timeout = Duration::from_millis(200);
    let redis = Redis::open(&options).unwrap();
    redis.connected(PATIENCE).await.unwrap();
    let pid = server.pid().unwrap().to_string();
    let signal = |name: &str| Command::new("kill").args([name, &pid]).status().unwrap();
    signal("-STOP");
    let began = Instant::now();
    assert!(redis.ping().await.unwrap_err().is_outage());
    assert!(began.elapsed() < Duration::from_secs(2));
    signal("-CONT");
    recovered(&redis).await;
}

#[tokio::test]
async fn streams_work_in_a_cluster() {
    let server = cluster();
    let redis = connect(&cluster_url(&server)).await;
    let writer = StreamWriter::new(redis.clone());
    let fields = Fields::new().with("a", 1);
    for stream in ["one", "two", "three"] {
        writer.append(stream, &fields, Trim::Never).await.unwrap();
        let reader = crate::redis::StreamReader::open(&redis, stream, "g", "c").unwrap();
        let claimed = reader.claim(Duration::ZERO, 1).await.unwrap();
        assert!(claimed.is_empty());
        assert_eq!(reader.lag().await.unwrap().unread, Some(1));
    }
    assert_eq!(redis.server_findings().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_sentinel_names_the_primary() {
    let server = Server::start().unwrap();
    let sentinel = Sentinel::of(server.port());
    let url = format!(
        "redis-sentinel://127.0.0.1:{}/0?sentinelServiceName=main",
        sentinel.port
    );
    let redis = connect(&url).await;
    redis.ping().await.unwrap();
    let reports = redis.server_findings().await.unwrap();
    assert!(reports[0].server.ends_with(&server.port().to_string()));
}

struct Sentinel {
    process: Child,
    port: u16,
    _home: TempDir,
}

impl Sentinel {
    fn of(primary: u16) -> Self {
        let (home, port) = (open_directory(), free_port());
        let config = home.path().join("sentinel.conf");
        let lines =
            format!("port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {primary} 1\n");
        std::fs::write(&config, lines).unwrap();
        let process = Command::new("redis-server")
            .arg(&config)
            .arg("--sentinel")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            process,
            port,
            _home: home,
        }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A directory that a server of another user may read and write.
fn open_directory() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(directory.path(), open).unwrap();
    directory
}

/// A root and a certificate of it for `localhost`.
fn certify(directory: &Path) {
    std::fs::write(
        directory.join("san"),
        "subjectAltName=DNS:localhost,IP:127.0.0.1\n",
    )
    .unwrap();
    for arguments in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=root -keyout ca.key -out ca.crt",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.crt",
    ] {
        let made = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(directory)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "{arguments}");
    }
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(directory.join("server.key"), readable).unwrap();
}
