//! The Gateway's exchange: may this call be made now, and with which credential?
//!
//! The mandate arrives verified, as a value that only verification makes, so its signature is not
//! checked again. Everything that it rests on is: the zone, the application, every ancestor of its
//! authority, the resource, the operation, the policy. Its own `sid` has no row; what can be revoked
//! is its root, the record that its Session was started on, and that is judged with the Session. A
//! resource mandate is signed only when the upstream gets one, and nothing is written to the store.

use std::sync::Arc;

use async_trait::async_trait;
use caracal_core::id::ZoneId;
use caracal_core::{RequestId, Scope, ScopeSet, Secret};
use caracal_crypto::Claims;
use caracal_evidence::Metadata;
use caracal_http::Place;
use caracal_roles::{Exchange, ExchangeGrant, ExchangeRefusal, ExchangeRequest};
use caracal_store::ZoneView;
use caracal_store::entity::{Provider, Resource};

use crate::Sts;
use crate::audit::{Authority, Trail};
use crate::claims::Mint;
use crate::client_auth::Client;
use crate::decide::{Action, Decided};
use crate::directive::{self, UsableProvider};
use crate::error::Refusal;
use crate::exchange::sign_refusal;
use crate::lifetime::{Lifetime, SUBJECT_CAP_SECONDS};
use crate::lineage::{DelegatedLine, DelegationInvalid, Lineage, Presented};
use crate::target::declares;

/// A call that passed every check. Only [`Sts::judge_call`] makes one, so a directive can't be built
/// for a call that was not judged.
struct Permitted {
    resource: Arc<Resource>,
    provider: Option<Arc<Provider>>,
    line: Box<DelegatedLine>,
    operation: Option<Arc<str>>,
    decided: Decided,
    authority: Authority,
    lifetime: Lifetime,
}

#[async_trait]
impl Exchange for Sts {
    async fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeGrant, ExchangeRefusal> {
        let _turn = self.turn_for(request).await?;
        let view = self.view_for(request).await?;
        self.exchange_on(view, request).await
    }

    async fn still_granted(&self, request: &ExchangeRequest) -> Result<(), ExchangeRefusal> {
        let _turn = self.turn_for(request).await?;
        let view = self.view_for(request).await?;
        self.still_granted_on(view, request).await
    }
}

impl Sts {
    async fn turn_for(
        &self,
        request: &ExchangeRequest,
    ) -> Result<Place<Option<ZoneId>>, ExchangeRefusal> {
        let zone = &request.mandate.claims().zone_id;
        let turn = self.turns.request(Some(zone)).await;
        turn.map_err(|refusal| self.relay_refusal(&request.request_id, refusal))
    }

    async fn view_for(&self, request: &ExchangeRequest) -> Result<ZoneView, ExchangeRefusal> {
        let view = self
            .authority
            .fresh(&request.mandate.claims().zone_id)
            .await;
        view.map_err(|error| self.relay_refusal(&request.request_id, error.into()))
    }

    /// [`Exchange::exchange`] on a view of the mandate's zone, taken after the request arrived.
    pub(crate) async fn exchange_on(
        &self,
        view: ZoneView,
        request: &ExchangeRequest,
    ) -> Result<ExchangeGrant, ExchangeRefusal> {
        self.exchange_governed(view, request)
            .await
            .map_err(|refusal| self.relay_refusal(&request.request_id, refusal))
    }

    /// [`Exchange::still_granted`] on a view of the mandate's zone, taken after the request arrived.
    pub(crate) async fn still_granted_on(
        &self,
        view: ZoneView,
        request: &ExchangeRequest,
    ) -> Result<(), ExchangeRefusal> {
        let judged = async {
            let client = self
                .caller_of(view, request)
                .await?
                .ok_or(Refusal::ClientCredentials)?;
            let mut unwritten = Trail::of(self, &client.application, &request.request_id);
            self.judge_call(request, &client, &mut unwritten)
                .await
                .map(|_| ())
        };
        judged
            .await
            .map_err(|refusal| self.relay_refusal(&request.request_id, refusal))
    }

    /// The refusal as the Gateway gets it; what it does not say is logged.
    pub(crate) fn relay_refusal(
        &self,
        request_id: &RequestId,
        refusal: Refusal,
    ) -> ExchangeRefusal {
        self.log_cause(request_id, &refusal);
        refusal.into()
    }

    async fn caller_of(
        &self,
        view: ZoneView,
        request: &ExchangeRequest,
    ) -> Result<Option<Client>, Refusal> {
        self.live_application_in(view, &request.mandate.claims().client_id)
            .await
    }

    /// Judges, builds the directive, signs if need be; the events are in the log when this returns.
    async fn exchange_governed(
        &self,
        view: ZoneView,
        request: &ExchangeRequest,
    ) -> Result<ExchangeGrant, Refusal> {
        let claims = request.mandate.claims();
        let Some(client) = self.caller_of(view, request).await? else {
            let (zone, id) = (&claims.zone_id, &claims.client_id);
            let mut trail = Trail::of_id(self, zone, id, &request.request_id);
            trail.deny("application_inactive", &about(request));
            trail.write(&self.journal).await?;
            return Err(Refusal::ClientCredentials);
        };
        let mut trail = Trail::of(self, &client.application, &request.request_id);
        let result = self
            .exchange_for_gateway(request, &client, &mut trail)
            .await;
        if let Err(refusal) = &result {
            trail.refuse(refusal, &about(request));
        }
        trail.write(&self.journal).await?;
        result
    }

    async fn exchange_for_gateway(
        &self,
        request: &ExchangeRequest,
        client: &Client,
        trail: &mut Trail,
    ) -> Result<ExchangeGrant, Refusal> {
        let call = self.judge_call(request, client, trail).await?;
        let provider = directive::require(&call.resource, call.provider.as_deref())?;
        let directive = directive::build(&call.resource, provider, &self.key_ring)?;
        let minted = if directive::sends_mandate(&directive) {
            Some(self.sign_resource(request, client, &call).await?)
        } else {
            None
        };
        let mut more = about(request);
        if let Some(operation) = &call.operation {
            more.set("operation", &**operation);
        }
        let name = call.resource.identifier.as_str();
        let minted_claims = minted.as_ref().map(|(claims, _)| claims);
        trail.allowed(name, &call.decided, &call.authority, minted_claims, &more);
        Ok(ExchangeGrant {
            mandate: minted.map(|(_, token)| token),
            directive,
            operation: call.operation.as_deref().map(str::to_owned),
        })
    }

    async fn judge_call(
        &self,
        request: &ExchangeRequest,
        client: &Client,
        trail: &mut Trail,
    ) -> Result<Permitted, Refusal> {
        let claims = request.mandate.claims();
        let scopes = presented_scopes(claims);
        let presented = Presented {
            application: &client.application,
            session: claims.agent_session_id.as_ref(),
            delegation: claims.delegation_edge_id.as_ref(),
            scopes: &scopes,
            ttl_seconds: None,
        };
        let lineage = self.judge_lineage(client, presented).await?;
        let anchored = lineage.delegated().ok_or(DelegationInvalid::Missing)?;
        if anchored.target.subject_record != claims.root_sid {
            return Err(Refusal::AuthorityRecord);
        }
        let resource = self
            .judge_resource_of_call(request, client, &lineage, &scopes, trail)
            .await?;
        let operation =
            self.operations
                .judge(&resource, &request.method, &request.path, &scopes)?;
        if self.is_control_resource(&resource.identifier) {
            return Err(Refusal::ControlResource);
        }
        let provider = self.provider_of(client, &resource).await?;
        let UsableProvider { .. } = directive::require(&resource, provider.as_deref())?;
        let action = Action::Use {
            lineage: &lineage,
            claims,
        };
        let decided = self.decide(client, &resource, &action, trail).await?;
        let authority = Authority::of(
            Some(claims.sid.as_str()),
            &lineage,
            &[],
            claims.sub_type.as_str(),
        );
        if let Some(reason) = decided.denial() {
            trail.policy_denied(resource.identifier.as_str(), &decided, &authority);
            return Err(Refusal::Denied(Some(reason)));
        }
        let bound = lineage
            .bound()
            .until(claims.exp)
            .until_some(client.application.expires_at);
        let lifetime = Lifetime::within(client.now, SUBJECT_CAP_SECONDS, bound)?;
        let Lineage::Delegated(line) = lineage else {
            return Err(DelegationInvalid::Missing.into());
        };
        Ok(Permitted {
            resource,
            provider,
            line,
            operation,
            decided,
            authority,
            lifetime,
        })
    }

    /// The resource must exist, still declare what the mandate carries, and lie within the line.
    async fn judge_resource_of_call(
        &self,
        request: &ExchangeRequest,
        client: &Client,
        lineage: &Lineage,
        scopes: &ScopeSet,
        trail: &mut Trail,
    ) -> Result<Arc<Resource>, Refusal> {
        let found = client.view.resource(&request.resource).await?;
        let Some(resource) = found.filter(|found| found.archived_at.is_none()) else {
            trail.deny("resource_not_found", &about(request));
            return Err(Refusal::ResourceNotFound);
        };
        if !declares(&resource, scopes) {
            trail.deny("scope_mismatch", &about(request));
            return Err(Refusal::ScopeInsufficient);
        }
        if !lineage.covers(&resource) {
            let mut about = about(request);
            about.set_all(&crate::audit::delegation_of(lineage));
            trail.deny("resource_outside_delegation", &about);
            return Err(Refusal::Denied(None));
        }
        Ok(resource)
    }

    async fn provider_of(
        &self,
        client: &Client,
        resource: &Resource,
    ) -> Result<Option<Arc<Provider>>, Refusal> {
        match &resource.credential_provider_id {
            Some(id) => Ok(client.view.provider(id).await?),
            None => Ok(None),
        }
    }

    async fn sign_resource(
        &self,
        request: &ExchangeRequest,
        client: &Client,
        call: &Permitted,
    ) -> Result<(Claims, Secret<String>), Refusal> {
        let presented = request.mandate.claims();
        let mint = Mint {
            issuer: &self.options.issuer,
            zone: &presented.zone_id,
            application: &presented.client_id,
            scope: presented.scope.clone(),
            target: vec![call.resource.identifier.clone()],
            lifetime: call.lifetime,
            clock: &*self.clock,
            random: &*self.random,
        };
        let claims = mint.resource(presented, &call.line);
        let key = self.keys.signing(&client.view, client.now).await?;
        let token = key.sign(&claims).map_err(sign_refusal)?;
        Ok((claims, Secret::new(token)))
    }
}

/// The scopes that the mandate carries, split as policy splits them: on the single space.
fn presented_scopes(claims: &Claims) -> ScopeSet {
    let text = claims.scope.as_deref().unwrap_or_default();
    text.split(' ')
        .filter(|scope| !scope.is_empty())
        .map(Scope::new)
        .collect()
}

/// What every event of a governed call says about it.
fn about(request: &ExchangeRequest) -> Metadata {
    let mut about = Metadata::new();
    about.set("resource", request.resource.as_str());
    about.set("method", &request.method);
    about.set("path", request.path.raw());
    about.set("subject_jti", request.mandate.claims().jti.as_str());
    about
}
