//! Step 2: which application is calling?
//!
//! The answer to a wrong secret and to an unknown application is the same, and takes the same kind of
//! work. Wrong secrets are counted per source and application; over the limit the answer becomes 429.
//! The count never stands before the check: a secret that verifies always passes, so nobody can lock
//! an application out by guessing.

mod failures;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use caracal_core::id::{ApplicationId, ZoneId};
use caracal_core::{Clock, RequestId, Timestamp};
use caracal_http::{RequestContext, WindowLimiter};
use caracal_store::ZoneView;
use caracal_store::entity::Application;

use crate::Sts;
use crate::audit::{self, Trail};
use crate::control_key::{self, ControlKey};
use crate::error::Refusal;
use crate::form::TokenForm;

pub(crate) use failures::FailureLog;

/// Wrong secrets per source and application in a window.
const FAILURES_PER_WINDOW: u32 = 60;

/// The length of a window.
const WINDOW: Duration = Duration::from_secs(60);

/// Sources and applications that are counted at a time.
const REMEMBERED: usize = 65_536;

/// How much of an offered application id is counted; a longer text names nobody.
const COUNTED_CHARACTERS: usize = 128;

/// Counts wrong secrets.
#[derive(Debug)]
pub(crate) struct FailureLimit(WindowLimiter<(IpAddr, Box<str>)>);

impl FailureLimit {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self(WindowLimiter::new(
            clock,
            FAILURES_PER_WINDOW,
            WINDOW,
            REMEMBERED,
        ))
    }

    fn count(&self, source: IpAddr, application: &str) -> Refusal {
        let counted: String = application.chars().take(COUNTED_CHARACTERS).collect();
        match self.0.check((source, counted.into())) {
            Ok(()) => Refusal::ClientCredentials,
            Err(over) => Refusal::ClientThrottled(over.0),
        }
    }
}

/// An application that proved itself, and the view of its zone that the whole request decides on.
/// Only [`Sts::authenticate`] makes one.
#[derive(Debug)]
pub(crate) struct Client {
    /// The zone as it was after the request arrived.
    pub(crate) view: ZoneView,
    /// The application: live, in a live zone.
    pub(crate) application: Arc<Application>,
    /// The instant that the request is judged at.
    pub(crate) now: Timestamp,
}

impl Sts {
    /// Authenticates the caller of a token request.
    pub(crate) async fn authenticate(
        &self,
        context: &RequestContext,
        form: &TokenForm,
    ) -> Result<Client, Refusal> {
        let Some(client) = self.find_application(form).await? else {
            self.secrets.dummy_work(&form.client_secret);
            self.refuse_other_zone(context, form).await?;
            return Err(self.failures.count(context.peer, &form.application_id));
        };
        if self.secret_fits(&client.application, form).await? {
            return Ok(client);
        }
        self.audit_failure(&client.application, &context.request_id, client.now)
            .await?;
        Err(self.failures.count(context.peer, &form.application_id))
    }

    /// Without a zone only a control key is looked for, and only by a request for a control token.
    async fn find_application(&self, form: &TokenForm) -> Result<Option<Client>, Refusal> {
        let Ok(id) = ApplicationId::parse(&form.application_id) else {
            return Ok(None);
        };
        if let Some(named) = &form.zone_id {
            return match ZoneId::parse(named) {
                Ok(zone) => self.live_application(&zone, &id).await,
                Err(_) => Ok(None),
            };
        }
        if !control_key::is_pure_request(form, &self.options.control_audience) {
            return Ok(None);
        }
        let Some(found) = self.store.platform().find_application(&id).await? else {
            return Ok(None);
        };
        let client = self.live_application(&found.zone_id, &id).await?;
        Ok(client.filter(|client| ControlKey::of(&client.application, client.now).is_some()))
    }

    /// An application that may act now, through a view taken now.
    pub(crate) async fn live_application(
        &self,
        zone: &ZoneId,
        id: &ApplicationId,
    ) -> Result<Option<Client>, Refusal> {
        let view = self.authority.fresh(zone).await?;
        self.live_application_in(view, id).await
    }

    /// An application that may act now, through this view of its zone.
    pub(crate) async fn live_application_in(
        &self,
        view: ZoneView,
        id: &ApplicationId,
    ) -> Result<Option<Client>, Refusal> {
        let now = self.clock.now();
        if !view.zone().await?.is_some_and(|zone| zone.is_live()) {
            return Ok(None);
        }
        let application = view
            .application(id)
            .await?
            .filter(|found| found.is_live(now));
        Ok(application.map(|application| Client {
            view,
            application,
            now,
        }))
    }

    async fn secret_fits(
        &self,
        application: &Application,
        form: &TokenForm,
    ) -> Result<bool, Refusal> {
        let Some(stored) = &application.secret_hash else {
            self.secrets.dummy_work(&form.client_secret);
            return Ok(false);
        };
        let _turn = match self.secrets.must_derive(stored, &form.client_secret) {
            true => Some(self.turns.derivation(&application.zone_id).await?),
            false => None,
        };
        let verified = self.secrets.verify(stored, &form.client_secret).await;
        verified.map_err(|busy| Refusal::unavailable(busy.to_string()))
    }

    /// Whoever knows the secret of an application in another zone is told of the mix-up.
    async fn refuse_other_zone(
        &self,
        context: &RequestContext,
        form: &TokenForm,
    ) -> Result<(), Refusal> {
        let named = form
            .zone_id
            .as_deref()
            .and_then(|text| ZoneId::parse(text).ok());
        let (Some(named), Ok(id)) = (named, ApplicationId::parse(&form.application_id)) else {
            return Ok(());
        };
        let Some(elsewhere) = self.store.platform().find_application(&id).await? else {
            return Ok(());
        };
        if elsewhere.zone_id == named {
            return Ok(());
        }
        let Some(client) = self.live_application(&elsewhere.zone_id, &id).await? else {
            return Ok(());
        };
        if !self.secret_fits(&client.application, form).await? {
            return self
                .audit_failure(&client.application, &context.request_id, client.now)
                .await;
        }
        let refusal = Refusal::ZoneMismatch {
            application: id,
            named,
            actual: elsewhere.zone_id,
        };
        let mut trail = Trail::of(self, &client.application, &context.request_id);
        trail.refuse(&refusal, &audit::requested(form));
        trail.write(&self.journal).await?;
        Err(refusal)
    }

    /// At most one event a minute per application; the next one carries the count since the last.
    async fn audit_failure(
        &self,
        application: &Arc<Application>,
        request_id: &RequestId,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let Some(count) = self.failure_log.record(application, request_id, now) else {
            return Ok(());
        };
        self.write_auth_failures(application, request_id, count)
            .await
    }

    /// Writes the failures that no later failure would carry any more.
    pub(crate) async fn flush_auth_failures(&self) {
        for due in self.failure_log.take_due(self.clock.now()) {
            let written = self
                .write_auth_failures(&due.application, &due.request_id, due.count)
                .await;
            if let Err(refusal) = written {
                tracing::warn!(
                    cause = refusal.cause(),
                    "failed authentications were not audited"
                );
            }
        }
    }

    async fn write_auth_failures(
        &self,
        application: &Application,
        request_id: &RequestId,
        count: u64,
    ) -> Result<(), Refusal> {
        let mut trail = Trail::of(self, application, request_id);
        trail.auth_failed(count);
        trail.write(&self.journal).await
    }
}
