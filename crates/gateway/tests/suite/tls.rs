//! TLS on both sides: callers in front, upstreams behind.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use caracal_gateway::TlsFiles;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::upstream::chunk;
use crate::world::World;

/// A key pair for `localhost` under a root of its own.
pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/suite/fixtures")
        .join(name)
}

fn client() -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(fixture("ca.pem")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// A TLS front before the world's upstream; its port.
async fn secured_upstream(world: &World) -> u16 {
    secured(world.upstream.address).await
}

/// A TLS front before whatever is at `behind`; its port.
pub(crate) async fn secured(behind: SocketAddr) -> u16 {
    let chain = vec![CertificateDer::from_pem_file(fixture("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut front) = acceptor.accept(stream).await else {
                    return;
                };
                let mut back = TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut front, &mut back).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_https_upstream_is_verified_against_the_extra_root_and_its_name() {
    let world = World::with(|options| options.extra_ca_file = Some(fixture("ca.pem"))).await;
    let port = secured_upstream(&world).await;
    *world.sts.upstream.lock() = format!("https://localhost:{port}/base");
    assert_eq!(world.get("/v1").await.status, 200);
    let seen = world.upstream.only();
    assert_eq!(seen.line, "GET /base/v1 HTTP/1.1");
    assert_eq!(
        seen.header("host"),
        Some(format!("localhost:{port}").as_str())
    );
    // The certificate does not name this address.
    *world.sts.upstream.lock() = format!("https://127.0.0.2:{port}/");
    assert_eq!(world.get("/v1").await.status, 502);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_root_is_not_trusted() {
    let world = World::new().await;
    let port = secured_upstream(&world).await;
    *world.sts.upstream.lock() = format!("https://localhost:{port}/");
    let reply = world.get("/v1").await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (502, "internal_error")
    );
    assert!(world.upstream.seen.lock().is_empty());
}

async fn secured_world() -> World {
    World::with(|options| {
        options.tls = Some(TlsFiles {
            certificate: fixture("server.pem"),
            key: fixture("server.key"),
        });
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_may_come_over_tls() {
    let world = secured_world().await;
    let stream = TcpStream::connect(world.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut secured = client().connect(name, stream).await.unwrap();
    secured
        .write_all(world.head("GET", "/v1", "Connection: close\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    secured.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(
        world.upstream.only().header("x-forwarded-proto"),
        Some("https")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_stream_over_tls_ends_without_a_closing_alert() {
    let world = secured_world().await;
    let events = world
        .upstream
        .streams("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let stream = TcpStream::connect(world.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut secured = client().connect(name, stream).await.unwrap();
    secured
        .write_all(world.head("GET", "/", "").as_bytes())
        .await
        .unwrap();
    events.send(chunk("first event")).unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"first event\r\n") {
        assert!(secured.read_buf(&mut seen).await.unwrap() > 0);
    }
    world.terminate_session().await;
    let mut rest = Vec::new();
    let ended = secured.read_to_end(&mut rest).await;
    assert!(ended.is_err(), "a truncated stream is an error");
    assert_eq!(rest, b"0\r\nX-Caracal-Revoked: true\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_text_on_a_tls_port_is_not_answered() {
    let world = secured_world().await;
    let mut caller = world.caller().await;
    caller.send(world.head("GET", "/v1", "")).await;
    let (answer, _) = caller.read_to_close().await;
    assert!(!answer.contains("HTTP/"), "{answer:?}");
}
