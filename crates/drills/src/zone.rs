//! A governed zone, and the requests that clients make in it. Each request names the replica or
//! balancer that it goes to.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use caracal::client::{Answer, Client, ClientError};
use caracal_core::Secret;
use http::Method;
use serde_json::{Value, json};

use crate::DrillError;
use crate::balancer::OWN_WORD;
use crate::history::Outcome;
use crate::upstream::MANDATE;

const RESOURCE: &str = "resource://inventory";
const READ: &str = "items:read";
const LIFECYCLE: &str = "agent:lifecycle";

/// Lifetime of Sessions and lifecycle mandates; longer than any drill.
const TTL_SECONDS: u32 = 3_600;

/// Tokens of the two operators.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    pub(crate) admin: Secret<String>,
    pub(crate) operator: Secret<String>,
}

/// A zone with one application, one resource and the grant between them.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    client: Client,
    tokens: Tokens,
    pub(crate) id: String,
    application: String,
    secret: Secret<String>,
    policy_set: String,
    granting: String,
    empty: String,
}

/// Authority handed from one Session to another.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) target: String,
    pub(crate) edge: String,
}

/// What a request brought: the outcome, and the body of an answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) outcome: Outcome,
    body: Value,
}

impl Reply {
    fn of(answer: Result<Answer, ClientError>) -> Self {
        let none = |why: String| Self {
            outcome: Outcome::None { why },
            body: Value::Null,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return none(error.to_string()),
        };
        let header = |name: &str| {
            let value = answer.headers.get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        if let Some(why) = header(OWN_WORD) {
            return none(why);
        }
        let body = answer.json();
        let outcome = Outcome::Answer {
            status: answer.status.as_u16(),
            code: body["error"].as_str().map(ToOwned::to_owned),
            retry_after: header("retry-after").is_some(),
            request: header("x-request-id"),
            mandate: body["access_token"].as_str().and_then(mandate_id),
        };
        Self { outcome, body }
    }

    /// A text of the body of a success.
    pub(crate) fn text(&self, field: &str) -> Option<String> {
        let value = self.body[field].as_str();
        value
            .filter(|_| self.outcome.is_success())
            .map(ToOwned::to_owned)
    }

    fn demand(&self, step: &'static str, field: &str) -> Result<String, DrillError> {
        self.text(field)
            .ok_or_else(|| DrillError::Refused(step, format!("{:?}", self.outcome)))
    }
}

/// The `jti` of a mandate.
pub(crate) fn mandate_id(mandate: &str) -> Option<String> {
    let payload = mandate.split('.').nth(1)?;
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    claims["jti"].as_str().map(ToOwned::to_owned)
}

impl Zone {
    /// Makes the zone through the Admin API at `api`.
    pub(crate) async fn plant(
        api: &str,
        tokens: &Tokens,
        name: &str,
        upstream: &str,
    ) -> Result<Self, DrillError> {
        let mut zone = Self {
            client: Client::new(Duration::from_secs(30)),
            tokens: tokens.clone(),
            id: String::new(),
            application: String::new(),
            secret: Secret::new(String::new()),
            policy_set: String::new(),
            granting: String::new(),
            empty: String::new(),
        };
        let made = zone.post(api, "/v1/zones", &json!({ "name": name })).await;
        zone.id = made.demand("create zone", "id")?;
        let body = json!({ "name": "inventory-agent", "registration_method": "managed" });
        let application = zone.make(api, "applications", &body).await;
        zone.application = application.demand("create application", "id")?;
        let secret = application.demand("create application", "client_secret")?;
        zone.secret = Secret::new(secret);
        zone.protect(api, upstream).await?;
        zone.grant(api).await?;
        Ok(zone)
    }

    /// The same zone for clients that wait this long for an answer.
    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            client: Client::new(timeout),
            ..self.clone()
        }
    }

    async fn protect(&self, api: &str, upstream: &str) -> Result<(), DrillError> {
        let provider = json!({ "name": "open", "kind": "none", "config_json": {} });
        let provider = self.make(api, "providers", &provider).await;
        let resource = json!({
            "name": "Inventory", "identifier": RESOURCE, "upstream_url": upstream,
            "scopes": [READ],
            "credential_provider_id": provider.demand("create provider", "id")?,
            "operations": [{ "method": "GET", "path": "/v1/items", "scope": READ }]
        });
        let resource = self.make(api, "resources", &resource).await;
        resource.demand("create resource", "id").map(|_| ())
    }

    async fn grant(&mut self, api: &str) -> Result<(), DrillError> {
        let set = json!({ "name": "application-grant-policy" });
        let set = self.make(api, "policy-sets", &set).await;
        self.policy_set = set.demand("create policy set", "id")?;
        let app = &self.application;
        let grants = json!({ RESOURCE: { "application": app, "roles": { app: [READ] } } });
        self.granting = self.set_version(api, "grants", &grants).await?;
        self.empty = self.set_version(api, "nothing", &json!({})).await?;
        let activated = self.activate(api, true).await;
        if activated.outcome.is_success() {
            Ok(())
        } else {
            let outcome = format!("{:?}", activated.outcome);
            Err(DrillError::Refused("activate", outcome))
        }
    }

    async fn set_version(
        &self,
        api: &str,
        name: &str,
        grants: &Value,
    ) -> Result<String, DrillError> {
        let app_ids = json!({ &self.application: &self.application });
        let document = format!(
            "# caracal:data-document\npackage caracal.authz\nimport rego.v1\n\
             app_ids := {app_ids}\ngrants := {grants}\n"
        );
        let policy = json!({ "name": name, "content": document });
        let policy = self.make(api, "policies", &policy).await;
        let version = policy.demand("create policy", "version_id")?;
        let manifest = json!({ "manifest": [{ "policy_version_id": version }] });
        let path = format!("policy-sets/{}/versions", self.policy_set);
        let version = self.make(api, &path, &manifest).await;
        version.demand("create set version", "version_id")
    }

    /// Activates the policy set with the grants, or without any.
    pub(crate) async fn activate(&self, api: &str, granting: bool) -> Reply {
        let version = if granting {
            &self.granting
        } else {
            &self.empty
        };
        let path = format!("policy-sets/{}/activate", self.policy_set);
        self.make(api, &path, &json!({ "version_id": version }))
            .await
    }

    async fn make(&self, api: &str, path: &str, body: &Value) -> Reply {
        self.post(api, &format!("/v1/zones/{}/{path}", self.id), body)
            .await
    }

    async fn post(&self, api: &str, path: &str, body: &Value) -> Reply {
        let url = format!("{api}{path}");
        self.send(Method::POST, &url, &self.tokens.admin, Some(body))
            .await
    }

    /// A lifecycle mandate.
    pub(crate) async fn lifecycle(&self, sts: &str) -> Reply {
        let ttl = TTL_SECONDS.to_string();
        self.token(sts, &[("scope", LIFECYCLE), ("ttl_seconds", &ttl)])
            .await
    }

    /// A mandate over a chain.
    pub(crate) async fn mint(&self, sts: &str, chain: &Chain) -> Reply {
        let fields = [
            ("scope", READ),
            ("agent_session_id", &chain.target),
            ("delegation_edge_id", &chain.edge),
        ];
        self.token(sts, &fields).await
    }

    async fn token(&self, sts: &str, fields: &[(&str, &str)]) -> Reply {
        let url = format!("{sts}/oauth/2/token");
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let form = Bytes::from(self.form(fields));
        Reply::of(self.client.send(Method::POST, &url, &headers, form).await)
    }

    fn form(&self, fields: &[(&str, &str)]) -> String {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair(
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        )
        .append_pair("zone_id", &self.id)
        .append_pair("application_id", &self.application)
        .append_pair("client_secret", self.secret.expose())
        .append_pair("resource", RESOURCE)
        .extend_pairs(fields)
        .finish()
    }

    /// Opens a task Session.
    pub(crate) async fn start_session(
        &self,
        coordinator: &str,
        lifecycle: &Secret<String>,
    ) -> Reply {
        let body = json!({
            "application_id": self.application, "ttl_seconds": TTL_SECONDS,
            "labels": [self.application],
        });
        let url = format!("{coordinator}/zones/{}/agents", self.id);
        self.send(Method::POST, &url, lifecycle, Some(&body)).await
    }

    /// Delegates from one Session to another.
    pub(crate) async fn delegate(
        &self,
        coordinator: &str,
        lifecycle: &Secret<String>,
        source: &str,
        target: &str,
    ) -> Reply {
        let body = json!({
            "issuer_application_id": self.application,
            "receiver_application_id": self.application,
            "source_session_id": source, "target_session_id": target,
            "scopes": [READ], "constraints": { "resources": [RESOURCE] },
            "ttl_seconds": TTL_SECONDS - 60,
        });
        let url = format!("{coordinator}/zones/{}/delegations", self.id);
        self.send(Method::POST, &url, lifecycle, Some(&body)).await
    }

    /// Withdraws the delegation of a chain.
    pub(crate) async fn revoke(
        &self,
        coordinator: &str,
        lifecycle: &Secret<String>,
        chain: &Chain,
    ) -> Reply {
        let path = format!("delegations/{}/revoke", chain.edge);
        let url = format!("{coordinator}/zones/{}/{path}", self.id);
        self.send(Method::PATCH, &url, lifecycle, None).await
    }

    /// Ends the Session that a chain leads to.
    pub(crate) async fn terminate(
        &self,
        coordinator: &str,
        lifecycle: &Secret<String>,
        chain: &Chain,
    ) -> Reply {
        let url = format!("{coordinator}/zones/{}/agents/{}", self.id, chain.target);
        self.send(Method::DELETE, &url, lifecycle, None).await
    }

    /// Suspends the Session that a chain leads to, as the operator.
    pub(crate) async fn suspend(&self, coordinator: &str, chain: &Chain) -> Reply {
        let path = format!("agents/{}/suspend", chain.target);
        let url = format!("{coordinator}/zones/{}/{path}", self.id);
        self.send(Method::PATCH, &url, &self.tokens.operator, None)
            .await
    }

    /// One call through the Gateway.
    pub(crate) async fn call(&self, gateway: &str, mandate: &Secret<String>) -> Reply {
        let url = format!("{gateway}/v1/items");
        let bearer = Secret::new(format!("Bearer {}", mandate.expose()));
        let id = mandate_id(mandate.expose()).unwrap_or_default();
        let headers = [
            ("authorization", bearer.expose().as_str()),
            ("x-caracal-resource", RESOURCE),
            (MANDATE, id.as_str()),
        ];
        let sent = self
            .client
            .send(Method::GET, &url, &headers, Bytes::new())
            .await;
        Reply::of(sent)
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        token: &Secret<String>,
        body: Option<&Value>,
    ) -> Reply {
        let bearer = Secret::new(format!("Bearer {}", token.expose()));
        let mut headers = vec![("authorization", bearer.expose().as_str())];
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let body = body.map(|body| Bytes::from(body.to_string()));
        let sent = self
            .client
            .send(method, url, &headers, body.unwrap_or_default())
            .await;
        Reply::of(sent)
    }
}
