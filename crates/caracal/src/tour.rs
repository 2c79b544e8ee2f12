//! A small governed world on a running stack: what the guided tour shows and the bench loads.
//!
//! It speaks to the four roles over HTTP exactly as a published client does.

use std::net::SocketAddr;

use bytes::Bytes;
use caracal_core::Secret;
use caracal_core::random::bytes as random_bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use thiserror::Error;

use crate::client::{Answer, Client, ClientError};
use crate::config::{Environment, Role};
use crate::home::{Home, RunFile};

/// The public name of the world's resource.
pub const RESOURCE: &str = "resource://inventory";
/// May list and read items.
pub const READ: &str = "items:read";
/// May add items; granted to the application, never delegated by the tour.
pub const WRITE: &str = "items:write";

/// A step of the tour did not go as it must.
#[derive(Debug, Error)]
pub enum TourError {
    #[error(transparent)]
    /// No answer.
    Client(#[from] ClientError),
    #[error("{step}: answered {status}: {body}")]
    /// Another answer than a success.
    Refused {
        /// What was tried.
        step: &'static str,
        /// The status.
        status: StatusCode,
        /// The body, secrets hidden.
        body: String,
    },
    #[error("{step}: the answer has no {field}")]
    /// The answer lacks a field.
    Incomplete {
        /// What was tried.
        step: &'static str,
        /// The field.
        field: &'static str,
    },
    #[error("{0}")]
    /// The stack can't be toured.
    Unusable(String),
}

/// Where the roles answer, and the token that administers them.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// The Admin API.
    pub api: String,
    /// The STS.
    pub sts: String,
    /// The Coordinator.
    pub coordinator: String,
    /// The Gateway.
    pub gateway: String,
    /// The bootstrap admin token.
    pub admin_token: Secret<String>,
}

impl Endpoints {
    /// Of the embedded stack that runs from `home`.
    pub(crate) fn of(
        home: &Home,
        run: &RunFile,
        environment: &Environment,
    ) -> Result<Self, TourError> {
        let url = |role: Role| {
            let port = run
                .address(role)
                .map_or(role.port(), |address: SocketAddr| address.port());
            format!("http://localhost:{port}")
        };
        let token = match environment.get("CARACAL_ADMIN_TOKEN") {
            Some(token) => token.to_owned(),
            None => read_token(&home.secret_path("caracalAdminToken"))?,
        };
        Ok(Self {
            api: url(Role::Api),
            sts: url(Role::Sts),
            coordinator: url(Role::Coordinator),
            gateway: url(Role::Gateway),
            admin_token: Secret::new(token),
        })
    }

    /// The admin token that the environment gives, directly or by file.
    pub(crate) fn token_of(environment: &Environment) -> Result<Secret<String>, TourError> {
        if let Some(token) = environment.get("CARACAL_ADMIN_TOKEN") {
            return Ok(Secret::new(token.to_owned()));
        }
        match environment.get("CARACAL_ADMIN_TOKEN_FILE") {
            Some(path) => read_token(std::path::Path::new(path)).map(Secret::new),
            None => Err(TourError::Unusable(
                "set CARACAL_ADMIN_TOKEN or CARACAL_ADMIN_TOKEN_FILE for a stack given by URL"
                    .into(),
            )),
        }
    }
}

fn read_token(path: &std::path::Path) -> Result<String, TourError> {
    std::fs::read_to_string(path)
        .map(|text| text.trim_end().to_owned())
        .map_err(|error| TourError::Unusable(format!("{}: {error}", path.display())))
}

/// A zone with one application, one provider, one resource and the grants between them.
#[derive(Debug, Clone)]
pub struct World {
    client: Client,
    /// Where the stack answers.
    pub endpoints: Endpoints,
    /// The zone's id.
    pub zone: String,
    /// The application's id.
    pub application: String,
    /// The application's secret.
    pub client_secret: Secret<String>,
    /// The upstream's real credential; only this world and the sealed store know it.
    pub upstream_key: Secret<String>,
}

/// A Session as the Coordinator answered it.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its id.
    pub id: String,
}

impl World {
    /// Makes the zone and everything in it through the Admin API.
    pub async fn provision(
        client: Client,
        endpoints: Endpoints,
        name: &str,
        upstream_url: &str,
    ) -> Result<Self, TourError> {
        let random = caracal_core::SystemRandom;
        let upstream_key = format!("upstream-{}", hex::encode(random_bytes::<16>(&random)));
        let mut world = Self {
            client,
            endpoints,
            zone: String::new(),
            application: String::new(),
            client_secret: Secret::new(String::new()),
            upstream_key: Secret::new(upstream_key),
        };
        let zone = world
            .admin(Method::POST, "/v1/zones", &json!({ "name": name }))
            .await?;
        world.zone = text(&zone, "create zone", "id")?;
        let application = json!({ "name": "inventory-agent", "registration_method": "managed" });
        let application = world.zone_post("applications", &application).await?;
        world.application = text(&application, "create application", "id")?;
        world.client_secret =
            Secret::new(text(&application, "create application", "client_secret")?);
        world.protect(upstream_url).await?;
        world.grant().await?;
        Ok(world)
    }

    /// The same world on a stack that answers elsewhere now.
    #[must_use]
    pub fn at(&self, endpoints: Endpoints) -> Self {
        Self {
            endpoints,
            ..self.clone()
        }
    }

    async fn protect(&self, upstream_url: &str) -> Result<(), TourError> {
        let provider = json!({
            "name": "inventory-key", "kind": "api_key",
            "config_json": { "header_name": "X-Api-Key", "api_key": self.upstream_key.expose() }
        });
        let provider = self.zone_post("providers", &provider).await?;
        let resource = json!({
            "name": "Inventory", "identifier": RESOURCE, "upstream_url": upstream_url,
            "scopes": [READ, WRITE],
            "credential_provider_id": text(&provider, "create provider", "id")?,
            "operations": [
                { "method": "GET", "path": "/v1/items", "scope": READ },
                { "method": "GET", "path": "/v1/items/{id}", "scope": READ },
                { "method": "POST", "path": "/v1/items", "scope": WRITE },
            ]
        });
        self.zone_post("resources", &resource).await.map(|_| ())
    }

    async fn grant(&self) -> Result<(), TourError> {
        let app = &self.application;
        let document = format!(
            "# caracal:data-document\npackage caracal.authz\nimport rego.v1\napp_ids := {}\ngrants := {}\n",
            json!({ app: app }),
            json!({ RESOURCE: { "application": app, "roles": { app: [READ, WRITE] } } }),
        );
        let policy = json!({ "name": "application-grants", "content": document });
        let policy = self.zone_post("policies", &policy).await?;
        let set = json!({ "name": "application-grant-policy" });
        let set = self.zone_post("policy-sets", &set).await?;
        let set = text(&set, "create policy set", "id")?;
        let version = text(&policy, "create policy", "version_id")?;
        let manifest = json!({ "manifest": [{ "policy_version_id": version }] });
        let version = self
            .zone_post(&format!("policy-sets/{set}/versions"), &manifest)
            .await?;
        let version = json!({ "version_id": text(&version, "create set version", "version_id")? });
        self.zone_post(&format!("policy-sets/{set}/activate"), &version)
            .await
            .map(|_| ())
    }

    /// A lifecycle mandate: lets the application open Sessions, nothing else.
    pub async fn lifecycle_token(&self) -> Result<Secret<String>, TourError> {
        let answer = self.token(&[("scope", "agent:lifecycle")]).await?;
        let answer = expect("lifecycle mandate", &answer)?;
        text(&answer, "lifecycle mandate", "access_token").map(Secret::new)
    }

    /// Opens a task Session; a parent's child gets no authority until something is delegated to it.
    pub async fn open_session(
        &self,
        lifecycle: &Secret<String>,
        parent: Option<&Session>,
        ttl_seconds: i64,
    ) -> Result<Session, TourError> {
        let mut body = json!({
            "application_id": self.application, "ttl_seconds": ttl_seconds,
            "labels": [self.application], "parent_authority": "none"
        });
        if let Some(parent) = parent {
            body["parent_id"] = json!(parent.id);
        }
        let answer = self
            .coordinate(Method::POST, "agents", lifecycle, Some(&body))
            .await?;
        let answer = expect("open session", &answer)?;
        Ok(Session {
            id: text(&answer, "open session", "agent_session_id")?,
        })
    }

    /// Delegates only [`READ`] on the one resource from `source` to `target`.
    pub async fn delegate(
        &self,
        lifecycle: &Secret<String>,
        source: &Session,
        target: &Session,
        ttl_seconds: i64,
    ) -> Result<String, TourError> {
        let body = json!({
            "issuer_application_id": self.application, "receiver_application_id": self.application,
            "source_session_id": source.id, "target_session_id": target.id,
            "scopes": [READ], "constraints": { "resources": [RESOURCE] }, "ttl_seconds": ttl_seconds
        });
        let answer = self
            .coordinate(Method::POST, "delegations", lifecycle, Some(&body))
            .await?;
        text(
            &expect("delegate", &answer)?,
            "delegate",
            "delegation_edge_id",
        )
    }

    /// Withdraws a delegation.
    pub async fn revoke(&self, lifecycle: &Secret<String>, edge: &str) -> Result<(), TourError> {
        let path = format!("delegations/{edge}/revoke");
        let answer = self
            .coordinate(Method::PATCH, &path, lifecycle, None)
            .await?;
        expect("revoke", &answer).map(|_| ())
    }

    /// Asks for a one-shot mandate over the delegation; the answer as it is.
    pub async fn mint(
        &self,
        target: &Session,
        edge: &str,
        scope: &str,
    ) -> Result<Answer, TourError> {
        let session = ("agent_session_id", target.id.as_str());
        self.token(&[("scope", scope), session, ("delegation_edge_id", edge)])
            .await
    }

    /// The mandate of a granted mint.
    pub fn mandate(answer: &Answer) -> Result<Secret<String>, TourError> {
        text(&expect("mint", answer)?, "mint", "access_token").map(Secret::new)
    }

    /// One call through the Gateway; the answer as it is.
    pub async fn call(
        &self,
        mandate: &Secret<String>,
        method: Method,
        path: &str,
    ) -> Result<Answer, TourError> {
        let url = format!("{}{path}", self.endpoints.gateway);
        let bearer = Secret::new(format!("Bearer {}", mandate.expose()));
        let headers = [
            ("authorization", bearer.expose().as_str()),
            ("x-caracal-resource", RESOURCE),
        ];
        Ok(self
            .client
            .send(method, &url, &headers, Bytes::new())
            .await?)
    }

    /// The form of a token request, ready to send.
    pub fn token_form(&self, fields: &[(&str, &str)]) -> String {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair(
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        )
        .append_pair("zone_id", &self.zone)
        .append_pair("application_id", &self.application)
        .append_pair("client_secret", self.client_secret.expose())
        .append_pair("resource", RESOURCE);
        for (name, value) in fields {
            form.append_pair(name, value);
        }
        form.finish()
    }

    async fn token(&self, fields: &[(&str, &str)]) -> Result<Answer, TourError> {
        let url = format!("{}/oauth/2/token", self.endpoints.sts);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let form = Bytes::from(self.token_form(fields));
        Ok(self.client.send(Method::POST, &url, &headers, form).await?)
    }

    async fn coordinate(
        &self,
        method: Method,
        path: &str,
        lifecycle: &Secret<String>,
        body: Option<&Value>,
    ) -> Result<Answer, TourError> {
        let url = format!("{}/zones/{}/{path}", self.endpoints.coordinator, self.zone);
        let bearer = Secret::new(format!("Bearer {}", lifecycle.expose()));
        let mut headers = vec![("authorization", bearer.expose().as_str())];
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let body = body
            .map(|body| Bytes::from(body.to_string()))
            .unwrap_or_default();
        Ok(self.client.send(method, &url, &headers, body).await?)
    }

    async fn zone_post(&self, path: &str, body: &Value) -> Result<Value, TourError> {
        self.admin(
            Method::POST,
            &format!("/v1/zones/{}/{path}", self.zone),
            body,
        )
        .await
    }

    /// One Admin API call that must succeed.
    pub async fn admin(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Value, TourError> {
        let url = format!("{}{path}", self.endpoints.api);
        let bearer = Secret::new(format!("Bearer {}", self.endpoints.admin_token.expose()));
        let mut headers = vec![("authorization", bearer.expose().as_str())];
        let body = if body.is_null() {
            Bytes::new()
        } else {
            headers.push(("content-type", "application/json"));
            Bytes::from(body.to_string())
        };
        let answer = self.client.send(method, &url, &headers, body).await?;
        expect("admin call", &answer)
    }

    /// Removes the zone and ends what lives in it.
    pub async fn remove(&self) -> Result<(), TourError> {
        let path = format!("/v1/zones/{}?force=true", self.zone);
        self.admin(Method::DELETE, &path, &Value::Null)
            .await
            .map(|_| ())
    }
}

fn expect(step: &'static str, answer: &Answer) -> Result<Value, TourError> {
    if answer.status.is_success() {
        return Ok(answer.json());
    }
    let body = crate::logging::scrub(&String::from_utf8_lossy(&answer.body));
    Err(TourError::Refused {
        step,
        status: answer.status,
        body,
    })
}

fn text(value: &Value, step: &'static str, field: &'static str) -> Result<String, TourError> {
    value[field]
        .as_str()
        .map(str::to_owned)
        .ok_or(TourError::Incomplete { step, field })
}
