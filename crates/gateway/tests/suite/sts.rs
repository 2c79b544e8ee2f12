//! A token service that does as it is told.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use caracal_core::Secret;
use caracal_core::id::ZoneId;
use caracal_crypto::KeySet;
use caracal_roles::{
    Credential, Directive, Exchange, ExchangeGrant, ExchangeRefusal, ExchangeRequest, KeySource,
    KeysUnavailable, RefusalOrigin,
};
use parking_lot::Mutex;
use serde_json::{Map, Value};

/// What the next exchanges get.
#[derive(Clone)]
pub(crate) enum Plan {
    Grant,
    Refuse(ExchangeRefusal),
    Hang,
}

/// A refusal of this status and code.
pub(crate) fn refusal(status: u16, code: &'static str) -> ExchangeRefusal {
    ExchangeRefusal {
        status,
        code: code.into(),
        description: format!("{code} by test"),
        retry_after: None,
        extension: Map::new(),
        origin: RefusalOrigin::Sts,
    }
}

type MakeCredential = Box<dyn Fn() -> Credential + Send + Sync>;

pub(crate) struct FakeSts {
    pub(crate) plan: Mutex<Plan>,
    pub(crate) upstream: Mutex<String>,
    pub(crate) credential: Mutex<MakeCredential>,
    /// Happens during every exchange.
    pub(crate) meanwhile: Mutex<Box<dyn Fn() + Send + Sync>>,
    pub(crate) forward_identity: Mutex<bool>,
    pub(crate) allowed_hosts: Mutex<Vec<String>>,
    pub(crate) still_granted: Mutex<bool>,
    pub(crate) exchanges: AtomicUsize,
    pub(crate) rejudged: AtomicUsize,
    pub(crate) seen: Mutex<Vec<(String, String)>>,
    pub(crate) keys: Mutex<HashMap<ZoneId, Arc<KeySet>>>,
    pub(crate) keys_available: Mutex<bool>,
    /// How long the line to the STS is down.
    pub(crate) pause: Mutex<Option<Duration>>,
    /// What readiness hears.
    pub(crate) reachable: AtomicBool,
    /// Zones whose exchanges never end.
    pub(crate) hanging: Mutex<HashSet<ZoneId>>,
    /// Neither keys nor judgements of running calls come.
    pub(crate) hangs: AtomicBool,
    pub(crate) key_lookups: AtomicUsize,
}

impl FakeSts {
    pub(crate) fn new(upstream: String) -> Arc<Self> {
        Arc::new(Self {
            plan: Mutex::new(Plan::Grant),
            upstream: Mutex::new(upstream),
            credential: Mutex::new(Box::new(|| Credential::None)),
            meanwhile: Mutex::new(Box::new(|| {})),
            forward_identity: Mutex::new(false),
            allowed_hosts: Mutex::default(),
            still_granted: Mutex::new(true),
            exchanges: AtomicUsize::new(0),
            rejudged: AtomicUsize::new(0),
            seen: Mutex::default(),
            keys: Mutex::default(),
            keys_available: Mutex::new(true),
            pause: Mutex::default(),
            reachable: AtomicBool::new(true),
            hanging: Mutex::default(),
            hangs: AtomicBool::new(false),
            key_lookups: AtomicUsize::new(0),
        })
    }

    pub(crate) fn exchanged(&self) -> usize {
        self.exchanges.load(Ordering::SeqCst)
    }

    pub(crate) fn inject(&self, make: impl Fn() -> Credential + Send + Sync + 'static) {
        *self.credential.lock() = Box::new(make);
    }

    async fn hang(&self) {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    fn grant(&self) -> ExchangeGrant {
        ExchangeGrant {
            mandate: Some(Secret::new("resource.mandate.token".to_owned())),
            directive: Directive {
                upstream_url: self.upstream.lock().clone(),
                credential: (self.credential.lock())(),
                allowed_hosts: self.allowed_hosts.lock().clone(),
                forward_identity: *self.forward_identity.lock(),
                provider_id: "prov-5".parse().ok(),
                connection_id: None,
            },
            operation: Some("GET /v1/items".to_owned()),
        }
    }
}

#[async_trait]
impl Exchange for FakeSts {
    async fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeGrant, ExchangeRefusal> {
        self.exchanges.fetch_add(1, Ordering::SeqCst);
        self.seen
            .lock()
            .push((request.method.clone(), request.path.raw().to_owned()));
        (self.meanwhile.lock())();
        let hangs = self
            .hanging
            .lock()
            .contains(&request.mandate.claims().zone_id);
        if hangs {
            std::future::pending::<()>().await;
        }
        let plan = self.plan.lock().clone();
        match plan {
            Plan::Grant => Ok(self.grant()),
            Plan::Refuse(refusal) => Err(refusal),
            Plan::Hang => std::future::pending().await,
        }
    }

    async fn still_granted(&self, _: &ExchangeRequest) -> Result<(), ExchangeRefusal> {
        self.rejudged.fetch_add(1, Ordering::SeqCst);
        self.hang().await;
        if *self.still_granted.lock() {
            Ok(())
        } else {
            Err(refusal(403, "access_denied"))
        }
    }

    fn pause(&self) -> Option<Duration> {
        *self.pause.lock()
    }

    async fn reachable(&self) -> bool {
        self.reachable.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl KeySource for FakeSts {
    async fn verifying_keys(&self, zone: &ZoneId) -> Result<Option<Arc<KeySet>>, KeysUnavailable> {
        self.key_lookups.fetch_add(1, Ordering::SeqCst);
        self.hang().await;
        if !*self.keys_available.lock() {
            return Err(KeysUnavailable("by test".to_owned()));
        }
        Ok(self.keys.lock().get(zone).cloned())
    }
}

/// A JSON object.
pub(crate) fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}
