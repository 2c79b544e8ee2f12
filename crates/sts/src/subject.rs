//! The subject token of an ordinary caller.
//!
//! Such a token never buys a mandate here: resource authority is exchanged at the Gateway, and the
//! zones have no external issuers to federate with. The token is judged all the same, so that the
//! caller learns whether the token was bad, not its own, or only presented at the wrong place.

use caracal_core::Secret;
use caracal_crypto::{Claims, Expectation, MandateUse, verify};

use crate::Sts;
use crate::client_auth::Client;
use crate::error::Refusal;
use crate::form::{SubjectToken, SubjectTokenType, TokenForm};

/// How far another clock may be ahead, seconds.
pub(crate) const LEEWAY_SECONDS: i64 = 60;

impl Sts {
    /// Why this subject token is refused.
    pub(crate) async fn judge_subject(
        &self,
        client: &Client,
        form: &TokenForm,
        subject: &SubjectToken,
    ) -> Refusal {
        let refused = match subject.kind {
            SubjectTokenType::IdToken => Err(judge_federation(form)),
            SubjectTokenType::AccessToken => self.judge_mandate(client, form, &subject.token).await,
        };
        match refused {
            Ok(()) => Refusal::DirectSubjectExchange,
            Err(refusal) => refusal,
        }
    }

    async fn judge_mandate(
        &self,
        client: &Client,
        form: &TokenForm,
        token: &Secret<String>,
    ) -> Result<(), Refusal> {
        let keys = self.keys.of_view(&client.view, client.now).await?;
        let expect = Expectation {
            issuer: &self.options.issuer,
            audience: &self.options.issuer,
            zone: &client.application.zone_id,
            uses: &[MandateUse::Session],
            now: client.now,
            leeway_seconds: LEEWAY_SECONDS,
        };
        let mandate = verify(token.expose(), keys.set(), &expect).map_err(Refusal::SubjectToken)?;
        let claims = mandate.claims();
        refuse_contradiction(form, claims)?;
        let record = client.view.authority_record(&claims.sid).await?;
        let bound = record.is_some_and(|record| {
            record.is_live(client.now)
                && *record.subject_id == *claims.sub
                && record.application_id == client.application.id
                && claims.client_id == client.application.id
        });
        if bound {
            Ok(())
        } else {
            Err(Refusal::AuthorityRecord)
        }
    }
}

/// What the token says wins over the form, and a form that says otherwise is refused.
fn refuse_contradiction(form: &TokenForm, claims: &Claims) -> Result<(), Refusal> {
    if form
        .authority_record_id
        .as_ref()
        .is_some_and(|named| *named != claims.sid)
    {
        return Err(Refusal::SubjectMismatch("session_id"));
    }
    if form.session_id.is_some() && form.session_id != claims.agent_session_id {
        return Err(Refusal::SubjectMismatch("agent_session_id"));
    }
    if form.delegation_id.is_some() && form.delegation_id != claims.delegation_edge_id {
        return Err(Refusal::SubjectMismatch("delegation_edge_id"));
    }
    Ok(())
}

/// A federation carries a token and nothing to use it for; no zone has an issuer that it could be of.
fn judge_federation(form: &TokenForm) -> Refusal {
    let named = [
        ("resource", !form.resources.is_empty()),
        ("scope", !form.scope.set().is_empty()),
        ("session_id", form.authority_record_id.is_some()),
        ("agent_session_id", form.session_id.is_some()),
        ("delegation_edge_id", form.delegation_id.is_some()),
        ("approval_id", form.approval_id.is_some()),
    ];
    match named.iter().find(|(_, present)| *present) {
        Some((field, _)) => Refusal::FederationField(field),
        None => Refusal::FederationRejected,
    }
}
