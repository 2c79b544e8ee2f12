//! The load of a drill: workers that open chains, mint and call over them, send mandates a second
//! time, revoke, and try again afterwards. They judge nothing; they write down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use caracal_core::Secret;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::history::{Action, History};
use crate::zone::{Chain, Reply, Zone, mandate_id};

/// Pause after trouble.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Pause between two calls: a drill wants a steady load, not the machine's last cycle.
const PACE: Duration = Duration::from_millis(5);

/// Calls over a chain before it is revoked.
const CALLS: usize = 6;

/// How many ended chains and used mandates are kept for the last look.
const KEPT: usize = 200;

/// Where the load goes.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) sts: String,
    pub(crate) coordinator: String,
    pub(crate) gateway: String,
}

/// A running load.
pub(crate) struct Load {
    stop: CancellationToken,
    workers: JoinSet<Kept>,
    client: Arc<Worker>,
}

/// What the workers did away with.
#[derive(Default)]
struct Kept {
    ended: Vec<(u64, Chain)>,
    used: Vec<(u64, Secret<String>)>,
}

struct Worker {
    zone: Zone,
    services: Services,
    history: History,
    chains: AtomicU64,
}

impl Load {
    /// Starts this many workers.
    pub(crate) fn start(zone: Zone, services: Services, history: History, workers: usize) -> Self {
        let client = Arc::new(Worker {
            zone,
            services,
            history,
            chains: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        for _ in 0..workers {
            let (client, stop) = (client.clone(), stop.clone());
            running.spawn(async move { client.run(&stop).await });
        }
        Self {
            stop,
            workers: running,
            client,
        }
    }

    /// Lets the workers finish what they have begun, then tries everything once more that must no
    /// longer work: revoked chains and used mandates.
    pub(crate) async fn finish(mut self) {
        self.stop.cancel();
        let mut all = Kept::default();
        while let Some(Ok(kept)) = self.workers.join_next().await {
            all.ended.extend(kept.ended);
            all.used.extend(kept.used);
        }
        for (number, chain) in all.ended {
            self.client.mint(number, &chain).await;
        }
        for (number, mandate) in all.used {
            self.client.call(number, &mandate, true).await;
        }
    }
}

impl Worker {
    async fn run(&self, stop: &CancellationToken) -> Kept {
        let mut kept = Kept::default();
        while !stop.is_cancelled() {
            if self.life_of_a_chain(&mut kept).await.is_none() {
                tokio::time::sleep(BACK_OFF).await;
            }
        }
        kept
    }

    /// A chain from its first step to its end; `None` when trouble came between.
    async fn life_of_a_chain(&self, kept: &mut Kept) -> Option<()> {
        let number = self.chains.fetch_add(1, Ordering::Relaxed);
        let (lifecycle, chain) = self.open().await?;
        let held = self.mint(number, &chain).await?;
        for call in 0..CALLS {
            self.use_once(number, &chain, call == 0, kept).await;
            tokio::time::sleep(PACE).await;
        }
        let begin = self.history.now();
        let coordinator = &self.services.coordinator;
        let reply = self.zone.revoke(coordinator, &lifecycle, &chain).await;
        let answered = reply.outcome.is_success();
        let action = Action::Revoke { chain: number };
        self.history.record(action, begin, reply.outcome);
        tokio::join!(self.call(number, &held, false), self.mint(number, &chain));
        if answered && kept.ended.len() < KEPT {
            kept.ended.push((number, chain));
        }
        answered.then_some(())
    }

    async fn use_once(&self, number: u64, chain: &Chain, twice: bool, kept: &mut Kept) {
        let Some(mandate) = self.mint(number, chain).await else {
            tokio::time::sleep(BACK_OFF).await;
            return;
        };
        if twice {
            // Either may come first; only one may pass.
            tokio::join!(
                self.call(number, &mandate, true),
                self.call(number, &mandate, true)
            );
        } else {
            self.call(number, &mandate, false).await;
        }
        if kept.used.len() < KEPT {
            kept.used.push((number, mandate));
        }
    }

    async fn open(&self) -> Option<(Secret<String>, Chain)> {
        let (sts, coordinator) = (&self.services.sts, &self.services.coordinator);
        let lifecycle = self.step("lifecycle", self.zone.lifecycle(sts)).await?;
        let lifecycle = Secret::new(lifecycle.text("access_token")?);
        let session = || self.zone.start_session(coordinator, &lifecycle);
        let source = self.step("session", session()).await?;
        let target = self.step("session", session()).await?;
        let (source, target) = (
            source.text("agent_session_id")?,
            target.text("agent_session_id")?,
        );
        let delegate = self
            .zone
            .delegate(coordinator, &lifecycle, &source, &target);
        let edge = self.step("delegation", delegate).await?;
        let edge = edge.text("delegation_edge_id")?;
        Some((lifecycle, Chain { target, edge }))
    }

    async fn step(
        &self,
        step: &'static str,
        request: impl Future<Output = Reply>,
    ) -> Option<Reply> {
        let begin = self.history.now();
        let reply = request.await;
        let action = Action::Open { step };
        self.history.record(action, begin, reply.outcome.clone());
        reply.outcome.is_success().then_some(reply)
    }

    async fn mint(&self, number: u64, chain: &Chain) -> Option<Secret<String>> {
        let begin = self.history.now();
        let reply = self.zone.mint(&self.services.sts, chain).await;
        let mandate = reply.text("access_token").map(Secret::new);
        let action = Action::Mint { chain: number };
        self.history.record(action, begin, reply.outcome);
        mandate
    }

    async fn call(&self, number: u64, mandate: &Secret<String>, again: bool) {
        let begin = self.history.now();
        let reply = self.zone.call(&self.services.gateway, mandate).await;
        let action = Action::Call {
            chain: number,
            mandate: mandate_id(mandate.expose()).unwrap_or_default(),
            again,
        };
        self.history.record(action, begin, reply.outcome);
    }
}
