//! The credential matrix: what each kind puts into the upstream request.

use caracal_core::Secret;
use caracal_roles::Credential;

use crate::upstream::Seen;
use crate::world::World;

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

async fn seen_with(make: impl Fn() -> Credential + Send + Sync + 'static, identity: bool) -> Seen {
    let world = World::new().await;
    world.sts.inject(make);
    *world.sts.forward_identity.lock() = identity;
    // The caller tries to supply what only the Gateway may.
    let more = "X-Key: mine\r\nX-Caracal-Identity: mine\r\n";
    assert_eq!(
        world
            .raw(world.head("GET", "/v1?key=mine&a=1", more))
            .await
            .status,
        200
    );
    world.upstream.only()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_sends_nothing() {
    let seen = seen_with(|| Credential::None, true).await;
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(seen.header("x-caracal-identity"), None);
    assert_eq!(seen.line, "GET /v1?key=mine&a=1 HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mandate_provider_sends_the_resource_mandate() {
    let seen = seen_with(|| Credential::Mandate, false).await;
    assert_eq!(
        seen.header("authorization"),
        Some("Bearer resource.mandate.token")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_has_a_header_and_a_scheme_or_none() {
    let basic = || Credential::Token {
        header: "Authorization".to_owned(),
        scheme: Some("Basic".to_owned()),
        value: secret("c3ZjQGV4YW1wbGUuY29tOnRvay0xMjM="),
    };
    let seen = seen_with(basic, true).await;
    assert_eq!(
        seen.header("authorization"),
        Some("Basic c3ZjQGV4YW1wbGUuY29tOnRvay0xMjM=")
    );
    assert_eq!(
        seen.header("x-caracal-identity"),
        Some("resource.mandate.token")
    );
    let bare = || Credential::Token {
        header: "X-Token".to_owned(),
        scheme: None,
        value: secret("t"),
    };
    let seen = seen_with(bare, false).await;
    assert_eq!(seen.header("x-token"), Some("t"));
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(seen.header("x-caracal-identity"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_a_header_replaces_the_callers() {
    let key = || Credential::KeyHeader {
        header: "X-Key".to_owned(),
        scheme: None,
        value: secret("k"),
    };
    let seen = seen_with(key, false).await;
    assert_eq!(
        seen.names().iter().filter(|name| **name == "x-key").count(),
        1
    );
    assert_eq!(seen.header("x-key"), Some("k"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_the_query_replaces_the_callers() {
    let key = || Credential::KeyQuery {
        parameter: "key".to_owned(),
        value: secret("s k"),
    };
    let seen = seen_with(key, true).await;
    assert_eq!(seen.line, "GET /v1?a=1&key=s+k HTTP/1.1");
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(
        seen.header("x-caracal-identity"),
        Some("resource.mandate.token")
    );
}
