use caracal_testbed::{Redis as Server, RedisOptions as ServerOptions};

use super::{connect, say};
use crate::redis::ServerFinding;

async fn findings(server: &Server, url: &str) -> Vec<ServerFinding> {
    let reports = connect(url).await.server_findings().await.unwrap();
    assert_eq!(reports.len(), 1);
    assert!(reports[0].server.ends_with(&server.port().to_string()));
    reports[0].findings.clone()
}

#[tokio::test]
async fn a_server_as_it_should_be_has_no_findings() {
    let server = Server::start().unwrap();
    assert_eq!(findings(&server, &server.url()).await, []);
}

#[tokio::test]
async fn eviction_and_missing_persistence_are_found() {
    let options = ServerOptions {
        maxmemory_policy: "allkeys-lru".to_owned(),
        append_only: false,
        arguments: Vec::new(),
    };
    let server = Server::start_with(options).unwrap();
    let evicts = ServerFinding::Evicts("allkeys-lru".to_owned());
    let found = findings(&server, &server.url()).await;
    assert_eq!(found, [evicts.clone(), ServerFinding::NotPersistent]);

    say(server.port(), "ACL SETUSER app on >one ~* +@all -config");
    let url = format!("redis://app:one@127.0.0.1:{}", server.port());
    let found = findings(&server, &url).await;
    assert_eq!(found, [evicts, ServerFinding::PersistenceUnknown]);

    say(server.port(), "CONFIG SET save \"3600 1\"");
    say(server.port(), "CONFIG SET maxmemory-policy noeviction");
    assert_eq!(findings(&server, &server.url()).await, []);
}
