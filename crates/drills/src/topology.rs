//! Nothing breaks, but every role has two replicas: what one of them answered binds all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use caracal_core::Secret;
use tokio::task::JoinSet;

use crate::DrillError;
use crate::checker::{self, Rules, Verdict};
use crate::deployment::{Deployment, REPLICAS, Role};
use crate::drill::await_calls;
use crate::evidence;
use crate::history::{Fact, History, Outcome};
use crate::load::Load;
use crate::zone::{Chain, Reply, Zone, mandate_id};

/// Workers of the load beside the rounds.
const WORKERS: usize = 3;

/// How many calls race with one mandate, at each Gateway.
const RACERS: usize = 2;

/// How many rounds of each kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) revocations: usize,
    pub(crate) races: usize,
}

impl Rounds {
    /// For every change of the code.
    pub(crate) const SHORT: Self = Self {
        revocations: 100,
        races: 60,
    };

    /// For a release.
    pub(crate) const FULL: Self = Self {
        revocations: 1_000,
        races: 500,
    };
}

/// Every way to end authority that rounds go through in turn.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Revoke,
    Terminate,
    Suspend,
    Activate,
}

struct Field<'a> {
    on: &'a Deployment,
    /// Where Sessions and delegations end.
    lasting: Zone,
    /// Where the policy set changes.
    switched: Zone,
}

/// Plays all rounds under load; what is wrong, and the verdict on the load.
pub(crate) async fn run(
    on: &Deployment,
    rounds: Rounds,
) -> Result<(Vec<String>, Verdict), DrillError> {
    let field = Field {
        on,
        lasting: plant(on, "topology").await?,
        switched: plant(on, "topology-switched").await?,
    };
    let loaded = plant(on, "topology-load").await?;
    let history = History::new();
    let load = Load::start(loaded.clone(), on.services(), history.clone(), WORKERS);
    await_calls(&history, Duration::ZERO, Duration::from_secs(20)).await;
    let mut wrong = Vec::new();
    for round in 0..rounds.revocations {
        wrong.extend(field.revocation(round).await?);
    }
    for round in 0..rounds.races {
        wrong.extend(field.race(round).await?);
    }
    load.finish().await;
    history.note(Fact::Done);
    let written = history.written();
    let wanted = checker::acknowledged(&written);
    let (evidence, defect) = evidence::gather(on, &loaded.id, &wanted).await?;
    wrong.extend(defect.map(|defect| format!("the chain: {defect}")));
    let rules = Rules {
        recovery: Duration::ZERO,
        may_refuse_during_fault: false,
    };
    let verdict = checker::check(&written, &on.upstream.arrivals(), &evidence, rules);
    Ok((wrong, verdict))
}

async fn plant(on: &Deployment, name: &str) -> Result<Zone, DrillError> {
    let upstream = format!("http://{}", on.upstream.address());
    Zone::plant(&on.service(Role::Api), &on.tokens, name, &upstream).await
}

impl Field<'_> {
    /// One replica ends a chain's authority; then, at once, every STS is asked for a mandate over it
    /// and every Gateway gets one that was minted before.
    async fn revocation(&self, round: usize) -> Result<Vec<String>, DrillError> {
        let ending = [
            Ending::Revoke,
            Ending::Terminate,
            Ending::Suspend,
            Ending::Activate,
        ][round % 4];
        let zone = match ending {
            Ending::Activate => &self.switched,
            _ => &self.lasting,
        };
        // Each replica ends authority in turn, whatever the ending.
        let turn = round / 4 % REPLICAS;
        let mut wrong = Vec::new();
        if matches!(ending, Ending::Activate) {
            wrong.extend(self.activation(round, turn).await?);
        }
        let (lifecycle, chain) = self.open(zone, turn).await?;
        let mut held = Vec::new();
        for number in 0..REPLICAS {
            let works = self.mint(zone, number, &chain).await?;
            let answer = zone.call(&self.gateway(number), &works).await;
            expect(&answer, "a call before the end")?;
            held.push(self.mint(zone, (number + turn) % REPLICAS, &chain).await?);
        }
        let coordinator = self.on.replica(Role::Coordinator, turn);
        let ended = match ending {
            Ending::Revoke => zone.revoke(&coordinator, &lifecycle, &chain).await,
            Ending::Terminate => zone.terminate(&coordinator, &lifecycle, &chain).await,
            Ending::Suspend => zone.suspend(&coordinator, &chain).await,
            Ending::Activate => {
                let api = self.on.replica(Role::Api, turn);
                zone.activate(&api, false).await
            }
        };
        let after = self.try_everywhere(zone, &chain, held).await;
        expect(&ended, "the end of authority")?;
        let bad = after.into_iter().filter(|(_, o)| !o.is_refusal());
        wrong.extend(bad.map(|(who, outcome)| {
            format!("round {round}, {ending:?} by replica {turn}: {who} answered {outcome:?}")
        }));
        Ok(wrong)
    }

    /// One replica gives the grants back; every STS must know at once.
    async fn activation(&self, round: usize, turn: usize) -> Result<Vec<String>, DrillError> {
        let other = (turn + 1) % REPLICAS;
        let activated = self
            .switched
            .activate(&self.on.replica(Role::Api, other), true)
            .await;
        expect(&activated, "activation")?;
        let mut wrong = Vec::new();
        for number in 0..REPLICAS {
            let sts = self.on.replica(Role::Sts, number);
            let reply = self.switched.lifecycle(&sts).await;
            if !reply.outcome.is_success() {
                wrong.push(format!(
                    "round {round}: STS {number} does not know the activated grants: {:?}",
                    reply.outcome
                ));
            }
        }
        Ok(wrong)
    }

    async fn try_everywhere(
        &self,
        zone: &Zone,
        chain: &Chain,
        held: Vec<Secret<String>>,
    ) -> Vec<(String, Outcome)> {
        let mut tries = JoinSet::new();
        for (number, mandate) in held.into_iter().enumerate() {
            let (minting, chain) = (zone.clone(), chain.clone());
            let sts = self.on.replica(Role::Sts, number);
            tries.spawn(async move {
                let reply = minting.mint(&sts, &chain).await;
                (format!("STS {number}"), reply.outcome)
            });
            let (calling, gateway) = (zone.clone(), self.gateway(number));
            tries.spawn(async move {
                let reply = calling.call(&gateway, &mandate).await;
                (format!("Gateway {number}"), reply.outcome)
            });
        }
        tries.join_all().await
    }

    /// One mandate, many calls at once at both Gateways: one passes.
    async fn race(&self, round: usize) -> Result<Vec<String>, DrillError> {
        let zone = &self.lasting;
        let (_, chain) = self.open(zone, round % REPLICAS).await?;
        let mandate = self.mint(zone, round % REPLICAS, &chain).await?;
        let mut racing = JoinSet::new();
        for racer in 0..REPLICAS * RACERS {
            let (zone, mandate) = (zone.clone(), mandate.clone());
            let gateway = self.gateway(racer % REPLICAS);
            racing.spawn(async move { zone.call(&gateway, &mandate).await.outcome });
        }
        let mut counts: BTreeMap<Option<u16>, usize> = BTreeMap::new();
        for outcome in racing.join_all().await {
            *counts.entry(outcome.status()).or_default() += 1;
        }
        let id = mandate_id(mandate.expose()).unwrap_or_default();
        let arrived = self.on.upstream.arrivals().get(&id).copied();
        let wanted = BTreeMap::from([(Some(200), 1), (Some(401), REPLICAS * RACERS - 1)]);
        let fair = counts == wanted && arrived == Some(1);
        let text = format!("race {round}: answers {counts:?}, {arrived:?} reached the upstream");
        Ok((!fair).then_some(text).into_iter().collect())
    }

    async fn open(&self, zone: &Zone, turn: usize) -> Result<(Secret<String>, Chain), DrillError> {
        let sts = self.on.replica(Role::Sts, turn);
        let (one, two) = (
            self.on.replica(Role::Coordinator, turn),
            self.on.replica(Role::Coordinator, (turn + 1) % REPLICAS),
        );
        let lifecycle = take(&zone.lifecycle(&sts).await, "lifecycle", "access_token")?;
        let lifecycle = Secret::new(lifecycle);
        let field = "agent_session_id";
        let source = zone.start_session(&one, &lifecycle).await;
        let source = take(&source, "session", field)?;
        let target = zone.start_session(&two, &lifecycle).await;
        let target = take(&target, "session", field)?;
        let edge = zone.delegate(&one, &lifecycle, &source, &target).await;
        let edge = take(&edge, "delegation", "delegation_edge_id")?;
        Ok((lifecycle, Chain { target, edge }))
    }

    async fn mint(
        &self,
        zone: &Zone,
        number: usize,
        chain: &Chain,
    ) -> Result<Secret<String>, DrillError> {
        let sts = self.on.replica(Role::Sts, number);
        let reply = zone.mint(&sts, chain).await;
        take(&reply, "mint", "access_token").map(Secret::new)
    }

    fn gateway(&self, number: usize) -> String {
        self.on.replica(Role::Gateway, number)
    }
}

fn take(reply: &Reply, step: &'static str, field: &str) -> Result<String, DrillError> {
    reply
        .text(field)
        .ok_or_else(|| DrillError::Refused(step, format!("{:?}", reply.outcome)))
}

fn expect(reply: &Reply, step: &'static str) -> Result<(), DrillError> {
    if reply.outcome.is_success() {
        Ok(())
    } else {
        let outcome = format!("{:?}", reply.outcome);
        Err(DrillError::Refused(step, outcome))
    }
}
