//! The Gateway's exchange, in one process and over HTTP.

use caracal_core::id::{ApplicationId, AuthorityRecordId, DelegationId, ProviderId, SessionId};
use caracal_core::{ResourceIdentifier, Secret};
use caracal_crypto::{Claims, MandateUse};
use caracal_roles::{Credential, ExchangeRefusal, ExchangeRequest};
use caracal_store::entity::{Enforcement, Operation, ProviderKind};
use serde_json::json;

use crate::testing::{APP, LEDGER, POLICY, World, claims_of, rows};

/// How the Gateway reaches the STS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// By a function call.
    OneProcess,
    /// By the signed exchange over HTTP.
    Apart,
}

/// Runs each case in both shapes: what is decided does not depend on where.
macro_rules! in_both_shapes {
    ($($case:ident)*) => {
        mod one_process {
            $(#[tokio::test] async fn $case() { super::$case(super::Shape::OneProcess).await; })*
        }
        mod apart {
            $(#[tokio::test] async fn $case() { super::$case(super::Shape::Apart).await; })*
        }
    };
}

in_both_shapes! {
    a_granted_call_gets_the_directive_and_no_needless_mandate
    its_event_says_which_call_and_which_policy
    an_upstream_that_wants_the_mandate_gets_one_that_ends_with_the_presented_one
    a_sealed_credential_is_opened_for_the_call
    an_undeclared_operation_is_not_permitted
    an_operation_needs_its_scope_in_the_mandate
    an_unknown_resource_is_not_found
    a_mandate_for_another_resource_does_not_fit
    a_resource_outside_the_delegation_does_not_fit_whatever_the_mandate_says
    whatever_ends_the_authority_ends_the_call
    a_call_is_not_counted_against_the_mint_limit
    confinement_is_checked_again_at_use
    provider_trouble_has_its_own_answers
    a_mandate_of_another_root_is_refused
}

/// A world with a delegated Session, and a call with a fresh mandate of it.
async fn ready(shape: Shape) -> (World, ExchangeRequest) {
    let world = shaped(World::new().await, shape).await;
    world.delegate(|_, _, _| {}).await;
    let token = world.gateway(&[]).await.token();
    let request = world.call(&token, "GET", "/entries").await;
    (world, request)
}

async fn shaped(world: World, shape: Shape) -> World {
    match shape {
        Shape::OneProcess => world,
        Shape::Apart => world.apart().await,
    }
}

/// The call with a mandate that says something else and is signed all the same.
async fn signed_anew(
    world: &World,
    request: &ExchangeRequest,
    change: impl FnOnce(&mut Claims),
) -> ExchangeRequest {
    let mut claims = (**request.mandate.claims()).clone();
    change(&mut claims);
    let view = world.authority.fresh(&world.zone).await.unwrap();
    let key = world.sts.keys.signing(&view, world.now()).await.unwrap();
    let token = Secret::new(key.sign(&claims).unwrap());
    world.call(token.expose(), "GET", "/entries").await
}

async fn refused(world: &World, request: &ExchangeRequest) -> (u16, String) {
    let ExchangeRefusal { status, code, .. } = world.exchange.exchange(request).await.unwrap_err();
    (status, code.into_owned())
}

fn outcome(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

async fn last_verdicts(world: &World) -> Vec<String> {
    world.verdicts().await.split_off(1)
}

async fn a_granted_call_gets_the_directive_and_no_needless_mandate(shape: Shape) {
    let (world, request) = ready(shape).await;
    let grant = world.exchange.exchange(&request).await.unwrap();
    assert!(grant.mandate.is_none());
    assert_eq!(grant.operation.as_deref(), Some("GET /entries"));
    assert_eq!(grant.directive.upstream_url, "http://ledger-upstream:9000");
    assert!(matches!(grant.directive.credential, Credential::None));
    assert_eq!(
        grant.directive.provider_id,
        Some(ProviderId::parse("prov-open").unwrap())
    );
    assert_eq!(world.record_count().await, 1);
}

async fn its_event_says_which_call_and_which_policy(shape: Shape) {
    let (world, request) = ready(shape).await;
    world.exchange.exchange(&request).await.unwrap();
    let event = world.events().await.pop().unwrap();
    assert_eq!(event["request_id"], "req-gateway");
    assert_eq!(event["decision"], "allow");
    assert_eq!(
        event["determining_policies_json"],
        json!([{ "policy": "caracal-books-use" }])
    );
    let metadata = &event["metadata_json"];
    let claims = request.mandate.claims();
    assert_eq!(metadata["resource"], LEDGER);
    assert_eq!(metadata["session_id"], claims.sid.as_str());
    assert_eq!(metadata["subject_jti"], claims.jti.as_str());
    assert_eq!(metadata["method"], "GET");
    assert_eq!(metadata["path"], "/entries");
    assert_eq!(metadata["operation"], "GET /entries");
    assert_eq!(metadata["requested_scopes"], json!([]));
    assert!(metadata.get("jti").is_none());
}

async fn an_upstream_that_wants_the_mandate_gets_one_that_ends_with_the_presented_one(
    shape: Shape,
) {
    let (world, request) = ready(shape).await;
    let mut provider = rows::provider("prov-jwt");
    provider.kind = ProviderKind::CaracalMandate;
    world.provide(provider, json!({})).await;
    world.clock.advance_seconds(100);
    let grant = world.exchange.exchange(&request).await.unwrap();
    let token = grant.mandate.unwrap().expose().clone();
    world.verified(&token, MandateUse::Resource).await;
    let claims = claims_of(&token);
    let presented = request.mandate.claims();
    assert_eq!(claims["use"], "resource");
    assert_eq!(claims["aud"], json!([LEDGER]));
    assert_eq!(claims["target"], json!([LEDGER]));
    assert_eq!(claims["exp"], presented.exp.seconds());
    assert_eq!(claims["scope"], "ledger:read");
    assert_eq!(claims["root_sid"], "rec-7");
    assert_eq!(claims["sub"], APP);
    assert_eq!(claims["client_id"], APP);
    assert_eq!(claims["agent_session_id"], "as-2");
    assert_eq!(claims["delegation_path"], json!(["de-1"]));
    assert_ne!(claims["jti"], presented.jti.as_str());
    assert_ne!(claims["sid"], presented.sid.as_str());
    let event = world.events().await.pop().unwrap();
    assert_eq!(event["metadata_json"]["jti"], claims["jti"]);
    assert_eq!(event["metadata_json"]["use"], "resource");
}

async fn a_sealed_credential_is_opened_for_the_call(shape: Shape) {
    let (world, request) = ready(shape).await;
    let mut provider = rows::provider("prov-key");
    provider.kind = ProviderKind::ApiKey;
    provider.config = json!({ "header_name": "X-Key", "forward_caracal_identity": true })
        .as_object()
        .unwrap()
        .clone();
    world.provide(provider, json!({ "api_key": "k-123" })).await;
    let grant = world.exchange.exchange(&request).await.unwrap();
    assert!(grant.mandate.is_some() && grant.directive.forward_identity);
    let Credential::KeyHeader {
        header,
        scheme,
        value,
    } = grant.directive.credential
    else {
        panic!("a key in a header");
    };
    assert_eq!(
        (header.as_str(), scheme, value.expose().as_str()),
        ("X-Key", None, "k-123")
    );
    let log = serde_json::to_string(&world.events().await).unwrap();
    assert!(!log.contains("k-123"));
}

async fn an_undeclared_operation_is_not_permitted(shape: Shape) {
    let (world, mut request) = ready(shape).await;
    request.method = "POST".to_owned();
    assert_eq!(
        refused(&world, &request).await,
        outcome(403, "operation_not_permitted")
    );
    assert_eq!(
        last_verdicts(&world).await,
        ["deny/operation_not_permitted"]
    );
    let event = world.events().await.pop().unwrap();
    assert_eq!(event["metadata_json"]["method"], "POST");
    assert_eq!(event["metadata_json"]["path"], "/entries");
    assert_eq!(event["metadata_json"]["resource"], LEDGER);
}

async fn an_operation_needs_its_scope_in_the_mandate(shape: Shape) {
    let (world, request) = ready(shape).await;
    world
        .update_resource(|ledger| {
            ledger.operations = vec![Operation {
                method: "GET".to_owned(),
                path: "/entries".to_owned(),
                scope: caracal_core::Scope::new("ledger:write"),
            }];
        })
        .await;
    assert_eq!(
        refused(&world, &request).await,
        outcome(403, "operation_not_permitted")
    );
    world
        .update_resource(|ledger| ledger.operation_enforcement = Enforcement::TransportUniform)
        .await;
    assert_eq!(
        world.exchange.exchange(&request).await.unwrap().operation,
        None
    );
}

async fn an_unknown_resource_is_not_found(shape: Shape) {
    let (world, mut request) = ready(shape).await;
    request.resource = ResourceIdentifier::new("res-ledger");
    assert_eq!(
        refused(&world, &request).await,
        outcome(404, "resource_not_found")
    );
    assert_eq!(
        last_verdicts(&world).await,
        ["deny/resource_not_found", "deny/exchange_denied"]
    );
}

async fn a_mandate_for_another_resource_does_not_fit(shape: Shape) {
    let (world, mut request) = ready(shape).await;
    world
        .insert_resource(&rows::resource("resource://vault", &["ledger:read"]))
        .await;
    request.resource = ResourceIdentifier::new("resource://vault");
    let refusal = world.exchange.exchange(&request).await.unwrap_err();
    assert_eq!((refusal.status, &*refusal.code), (403, "access_denied"));
    assert_eq!(
        refusal.description,
        "policy denied (mandate_target_mismatch)"
    );
}

async fn a_resource_outside_the_delegation_does_not_fit_whatever_the_mandate_says(shape: Shape) {
    let world = shaped(World::new().await, shape).await;
    let ledger = ResourceIdentifier::new(LEDGER);
    world
        .delegate(|_, _, edge| edge.constraints.resources = Some(vec![ledger]))
        .await;
    let vault = rows::resource("resource://vault", &["ledger:read"]);
    world.insert_resource(&vault).await;
    let token = world.gateway(&[]).await.token();
    let request = world.call(&token, "GET", "/entries").await;
    let wider = vault.identifier.clone();
    let mut request = signed_anew(&world, &request, |claims| claims.target.push(wider)).await;
    request.resource = vault.identifier;
    assert_eq!(
        refused(&world, &request).await,
        outcome(403, "access_denied")
    );
    assert_eq!(
        last_verdicts(&world).await,
        ["deny/resource_outside_delegation", "deny/exchange_denied"]
    );
}

async fn whatever_ends_the_authority_ends_the_call(shape: Shape) {
    for case in [
        "edge",
        "target",
        "source",
        "record",
        "application",
        "zone",
        "policy",
        "resource",
        "scope",
    ] {
        let (world, request) = ready(shape).await;
        assert!(world.exchange.exchange(&request).await.is_ok());
        assert!(world.exchange.still_granted(&request).await.is_ok());
        let mut unit = world.unit().await;
        let session = |id| [SessionId::parse(id).unwrap()];
        match case {
            "edge" => {
                let edge = DelegationId::parse("de-1").unwrap();
                unit.revoke_delegations(&[edge]).await.unwrap();
            }
            "target" => drop(unit.suspend_sessions(&session("as-2")).await.unwrap()),
            "source" => drop(unit.suspend_sessions(&session("as-1")).await.unwrap()),
            "record" => {
                let record = AuthorityRecordId::parse("rec-7").unwrap();
                unit.revoke_authority_records(&[record], "admin")
                    .await
                    .unwrap();
            }
            "application" => {
                let id = ApplicationId::parse(APP).unwrap();
                assert!(
                    unit.archive_application(&id, &Default::default())
                        .await
                        .unwrap()
                );
            }
            "zone" => assert!(unit.archive_zone(&Default::default()).await.unwrap()),
            "policy" | "resource" | "scope" => {}
            other => panic!("{other}"),
        }
        unit.commit().await.unwrap();
        match case {
            "policy" => world.activate(&POLICY.replace("app-7", "app-8")).await,
            "resource" => {
                let mut unit = world.unit().await;
                let id = caracal_core::id::ResourceId::parse("res-ledger").unwrap();
                assert!(
                    unit.archive_resource(&id, &Default::default())
                        .await
                        .unwrap()
                );
                unit.commit().await.unwrap();
            }
            "scope" => {
                world
                    .update_resource(|ledger| ledger.scopes = vec![caracal_core::Scope::new("x")])
                    .await;
            }
            _ => {}
        }
        let events = world.events().await.len();
        assert!(
            world.exchange.still_granted(&request).await.is_err(),
            "{case}"
        );
        assert_eq!(
            world.events().await.len(),
            events,
            "{case}: a running call writes no event"
        );
        let (status, _) = refused(&world, &request).await;
        assert!(matches!(status, 401 | 403 | 404), "{case}: {status}");
        assert!(
            world.events().await.len() > events,
            "{case}: a denial leaves evidence"
        );
    }
}

#[tokio::test]
async fn an_expired_mandate_buys_nothing() {
    let (world, request) = ready(Shape::OneProcess).await;
    world.clock.advance_seconds(900);
    assert_eq!(
        refused(&world, &request).await,
        outcome(403, "access_denied")
    );
    assert_eq!(last_verdicts(&world).await, ["deny/ttl_invalid"]);
}

async fn a_call_is_not_counted_against_the_mint_limit(shape: Shape) {
    let world = World::with_options(|options| options.mint_limit_per_minute = 1).await;
    let world = shaped(world, shape).await;
    world.delegate(|_, _, _| {}).await;
    let token = world.gateway(&[]).await.token();
    let request = world.call(&token, "GET", "/entries").await;
    for _ in 0..5 {
        assert!(world.exchange.exchange(&request).await.is_ok());
    }
}

async fn confinement_is_checked_again_at_use(shape: Shape) {
    let (world, request) = ready(shape).await;
    let cap = "\nconfinement := [{\"label_prefix\": \"clo\", \"scopes\": [\"ledger:write\"]}]\n";
    world.activate(&format!("{POLICY}{cap}")).await;
    let refusal = world.exchange.exchange(&request).await.unwrap_err();
    assert_eq!(refusal.description, "policy denied (confinement_violation)");
}

async fn provider_trouble_has_its_own_answers(shape: Shape) {
    let (world, request) = ready(shape).await;
    let mut oauth = rows::provider("prov-oauth");
    oauth.kind = ProviderKind::Oauth2ClientCredentials;
    world.provide(oauth, json!({})).await;
    assert_eq!(
        refused(&world, &request).await,
        outcome(403, "access_denied")
    );
    let event = world.events().await.pop().unwrap();
    assert_eq!(event["evaluation_status"], "provider_unavailable");
    assert_eq!(
        event["metadata_json"]["reason"],
        "provider_kind_unavailable"
    );

    let mut broken = rows::provider("prov-broken");
    broken.kind = ProviderKind::BearerToken;
    world.provide(broken, json!({})).await;
    assert_eq!(
        refused(&world, &request).await,
        outcome(502, "http_request_failed")
    );
    let event = world.events().await.pop().unwrap();
    assert_eq!(
        event["evaluation_status"],
        "provider_credential_unavailable"
    );
    assert_eq!(event["decision"], "deny");
}

#[tokio::test]
async fn the_control_resource_is_no_upstream() {
    let world = World::with_options(|options| options.control_audience = LEDGER.to_owned()).await;
    world.delegate(|_, _, _| {}).await;
    let answer = world.gateway(&[]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (403, "access_denied")
    );
    assert_eq!(
        world.verdicts().await,
        ["deny/control_resource_requires_control_key"]
    );
}

#[tokio::test]
async fn a_mandate_without_a_delegation_is_no_ingress_credential() {
    let world = World::new().await;
    let token = world.lifecycle().await.token();
    let request = ExchangeRequest {
        mandate: world.verified(&token, MandateUse::Session).await,
        ..ready(Shape::OneProcess).await.1
    };
    assert_eq!(
        refused(&world, &request).await,
        outcome(403, "access_denied")
    );
    assert_eq!(last_verdicts(&world).await, ["deny/delegation_invalid"]);
}

async fn a_mandate_of_another_root_is_refused(shape: Shape) {
    let (world, request) = ready(shape).await;
    let forged = AuthorityRecordId::parse("rec-forged").unwrap();
    let request = signed_anew(&world, &request, |claims| claims.root_sid = forged).await;
    assert_eq!(
        refused(&world, &request).await,
        outcome(403, "access_denied")
    );
    assert_eq!(
        last_verdicts(&world).await,
        ["deny/authority_record_invalid"]
    );
}
