//! `POST /oauth/2/token` by an application: from an authenticated request to a mandate.
//!
//! Everything that can refuse comes first, then the mandate is signed, then what can be used up is
//! used up, then the events are in the log, and only then the mandate leaves. A request that ends
//! anywhere before costs the caller nothing.

use std::sync::Arc;

use caracal_core::id::ZoneId;
use caracal_core::{ResourceIdentifier, Secret, SubjectType};
use caracal_crypto::Claims;
use caracal_crypto::zone_key::SignError;
use caracal_http::RequestContext;
use caracal_store::BudgetOutcome;
use caracal_store::entity::{AuthorityRecord, RecordStatus};
use serde::Serialize;

use crate::Sts;
use crate::audit::{self, Authority, Trail};
use crate::claims::{ClientMint, Mint};
use crate::client_auth::Client;
use crate::control_key::{self, ControlKey};
use crate::error::Refusal;
use crate::form::{SubjectTokenType, TokenForm};
use crate::lifetime::{self, Bound, Lifetime};
use crate::lineage::{DelegatedLine, Presented};
use crate::target::Asked;

const ISSUED_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A mandate with the claims that it was made of.
#[derive(Debug)]
pub(crate) struct Minted {
    pub(crate) token: Secret<String>,
    pub(crate) claims: Claims,
    pub(crate) lifetime: Lifetime,
}

/// The answer to a granted token request.
#[derive(Serialize)]
pub(crate) struct TokenResponse<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    issued_token_type: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    target_resources: &'a [ResourceIdentifier],
}

impl Minted {
    /// The body of the answer.
    pub(crate) fn response(&self) -> TokenResponse<'_> {
        TokenResponse {
            access_token: self.token.expose(),
            token_type: "Bearer",
            expires_in: self.lifetime.seconds(),
            scope: self.claims.scope.as_deref(),
            issued_token_type: ISSUED_TOKEN_TYPE,
            target_resources: &self.claims.target,
        }
    }
}

impl Sts {
    /// Answers a token request of an application. Whatever the outcome, its events are in the log
    /// when this returns.
    pub(crate) async fn exchange_for_client(
        &self,
        context: &RequestContext,
        form: &TokenForm,
    ) -> Result<Minted, Refusal> {
        let zone = form.zone_id.as_deref();
        let zone = zone.and_then(|text| ZoneId::parse(text).ok());
        let _turn = self.turns.request(zone.as_ref()).await?;
        let client = self.authenticate(context, form).await?;
        let mut trail = Trail::of(self, &client.application, &context.request_id);
        let result = self.judge_and_mint(&client, form, &mut trail).await;
        if let Err(refusal) = &result {
            trail.refuse(refusal, &audit::requested(form));
        }
        trail.write(&self.journal).await?;
        result
    }

    async fn judge_and_mint(
        &self,
        client: &Client,
        form: &TokenForm,
        trail: &mut Trail,
    ) -> Result<Minted, Refusal> {
        let federates = form
            .subject
            .as_ref()
            .is_some_and(|token| token.kind == SubjectTokenType::IdToken);
        if form.resources.is_empty() && !federates {
            return Err(Refusal::NoResource);
        }
        let cap = match form.subject {
            Some(_) if !federates => lifetime::SUBJECT_CAP_SECONDS,
            _ => lifetime::CLIENT_CAP_SECONDS,
        };
        let seconds = lifetime::requested(form.ttl_seconds, cap)?;
        if let Some(subject) = &form.subject {
            return Err(self.judge_subject(client, form, subject).await);
        }
        if form.approval_id.is_some() {
            return Err(Refusal::ApprovalInvalid);
        }
        self.judge_record(client, form).await?;
        if control_key::is_pure_request(form, &self.options.control_audience)
            && let Some(key) = ControlKey::of(&client.application, client.now)
        {
            return self.mint_control(client, form, &key, seconds, trail).await;
        }
        self.mint_granted(client, form, seconds, trail).await
    }

    /// A named authority record must be the caller's own, and alive.
    async fn judge_record(&self, client: &Client, form: &TokenForm) -> Result<(), Refusal> {
        let Some(id) = &form.authority_record_id else {
            return Ok(());
        };
        let record = client.view.authority_record(id).await?;
        let own = record.is_some_and(|record| {
            record.is_live(client.now)
                && record.kind == SubjectType::Application
                && record.application_id == client.application.id
                && record.subject_id == client.application.id.as_str()
        });
        if own {
            Ok(())
        } else {
            Err(Refusal::AuthorityRecord)
        }
    }

    async fn mint_granted(
        &self,
        client: &Client,
        form: &TokenForm,
        seconds: i64,
        trail: &mut Trail,
    ) -> Result<Minted, Refusal> {
        let presented = Presented {
            application: &client.application,
            session: form.session_id.as_ref(),
            delegation: form.delegation_id.as_ref(),
            scopes: form.scope.set(),
            ttl_seconds: form.ttl_seconds,
        };
        let lineage = self.judge_lineage(client, presented).await?;
        let record = form.authority_record_id.as_ref().map(|id| id.as_str());
        let authority = Authority::of(record, &lineage, form.scope.words(), "application");
        let asked = Asked {
            client,
            form,
            lineage: &lineage,
            authority: &authority,
        };
        let granted = self.judge_resources(&asked, trail).await?;
        if granted.iter().any(|grant| grant.decided.is_gated()) {
            return Err(Refusal::ApprovalUnavailable);
        }
        let bound = lineage.bound().until_some(client.application.expires_at);
        let lifetime = Lifetime::within(client.now, seconds, bound)?;
        let target = granted
            .iter()
            .map(|grant| grant.resource.identifier.clone())
            .collect();
        let class = ClientMint::of(&lineage);
        let minted = self
            .sign_client(client, form, &class, lifetime, target)
            .await?;
        self.settle_mint(client, &class, &minted).await?;
        for grant in &granted {
            let (name, more) = (grant.resource.identifier.as_str(), Default::default());
            trail.allowed(
                name,
                &grant.decided,
                &authority,
                Some(&minted.claims),
                &more,
            );
        }
        Ok(minted)
    }

    async fn mint_control(
        &self,
        client: &Client,
        form: &TokenForm,
        key: &ControlKey,
        seconds: i64,
        trail: &mut Trail,
    ) -> Result<Minted, Refusal> {
        let audience = &self.options.control_audience;
        let found = client.view.resource_by_name(audience).await?;
        let resource = found
            .filter(|found| {
                found.archived_at.is_none() && self.is_control_resource(&found.identifier)
            })
            .ok_or(Refusal::ResourceNotFound)?;
        if !crate::target::declares(&resource, form.scope.set()) {
            return Err(Refusal::ScopeInsufficient);
        }
        let application = &client.application;
        self.mint_limit
            .count(&application.zone_id, &resource.id, &application.id)
            .map_err(|over| Refusal::MintLimited(over.0))?;
        if !key.grants(form.scope.set()) {
            return Err(Refusal::ControlResource);
        }
        let bound = Bound::NONE
            .until_some(application.expires_at)
            .until_some(key.expires_at)
            .at_most_some(key.max_ttl);
        let lifetime = Lifetime::within(client.now, seconds, bound)?;
        let target = vec![resource.identifier.clone()];
        let class = ClientMint::Control;
        let minted = self
            .sign_client(client, form, &class, lifetime, target)
            .await?;
        self.settle_mint(client, &class, &minted).await?;
        trail.control_allowed(
            resource.identifier.as_str(),
            form.scope.words(),
            &minted.claims,
        );
        Ok(minted)
    }

    async fn sign_client(
        &self,
        client: &Client,
        form: &TokenForm,
        class: &ClientMint<'_>,
        lifetime: Lifetime,
        target: Vec<ResourceIdentifier>,
    ) -> Result<Minted, Refusal> {
        let mint = Mint {
            issuer: &self.options.issuer,
            zone: &client.application.zone_id,
            application: &client.application.id,
            scope: form.scope.to_claim().map(Arc::from),
            target,
            lifetime,
            clock: &*self.clock,
            random: &*self.random,
        };
        let claims = mint.client(class);
        let key = self.keys.signing(&client.view, client.now).await?;
        let token = key.sign(&claims).map_err(sign_refusal)?;
        Ok(Minted {
            token: Secret::new(token),
            claims,
            lifetime,
        })
    }

    /// Writes what the mint leaves in the store: a record of its own, or the use of a Delegation.
    async fn settle_mint(
        &self,
        client: &Client,
        class: &ClientMint<'_>,
        minted: &Minted,
    ) -> Result<(), Refusal> {
        match class {
            ClientMint::Gateway(line) => self.use_delegation(client, line).await,
            ClientMint::Session | ClientMint::Control => self.insert_record(client, minted).await,
        }
    }

    async fn insert_record(&self, client: &Client, minted: &Minted) -> Result<(), Refusal> {
        let claims = &minted.claims;
        let record = AuthorityRecord {
            id: claims.sid.clone(),
            zone_id: claims.zone_id.clone(),
            kind: claims.sub_type,
            subject_id: claims.sub.to_string(),
            issuer: None,
            application_id: claims.client_id.clone(),
            parent_id: None,
            status: RecordStatus::Active,
            expires_at: claims.exp,
            authenticated_at: client.now,
            created_at: client.now,
            revoked_at: None,
            revoked_reason: None,
        };
        self.store.store_authority_record(record).await?;
        Ok(())
    }

    /// Counts the mandate against every budget of the line, all or none, and notes that the receiver
    /// has used the edge. Most edges need neither, and then nothing is written.
    async fn use_delegation(&self, client: &Client, line: &DelegatedLine) -> Result<(), Refusal> {
        let leaf = line.leaf();
        let is_new = !leaf.counts_as_parent();
        if !is_new && !line.has_budget() {
            return Ok(());
        }
        let mut unit = self.store.begin(&client.application.zone_id).await?;
        match unit.consume_delegation_budget(&leaf.id).await? {
            BudgetOutcome::Granted => {}
            BudgetOutcome::Exhausted(_) => return Err(Refusal::BudgetExhausted),
        }
        if is_new {
            unit.mark_delegation_accepted(&leaf.id).await?;
        }
        unit.commit().await?;
        Ok(())
    }
}

pub(crate) fn sign_refusal(error: SignError) -> Refusal {
    match error {
        SignError::TooLarge => Refusal::MandateTooLarge,
        SignError::Module => Refusal::Internal(error.to_string()),
    }
}
