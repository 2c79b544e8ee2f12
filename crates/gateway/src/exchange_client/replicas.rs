//! The STS's addresses.
//!
//! Each has a circuit of its own, so one dead replica behind the name costs a few calls and no more,
//! and idle connections of its own. A question goes to the address with the fewest under way.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Unavailable;
use super::dial::{Connection, DialError, Dialer};
use super::endpoint::StsUrl;
use super::question::{self, Asked, Lost};
use crate::circuit::{Admission, Circuit};
use crate::host_guard::{Resolve, SystemResolver};
use caracal_roles::wire::Answer;

/// Failures in a row that open an address's circuit, and for how long.
const CIRCUIT_THRESHOLD: u32 = 3;
const CIRCUIT_OPEN: Duration = Duration::from_secs(10);

/// Addresses used of one name.
const MAX_ADDRESSES: usize = 64;

/// Longest time for one look-up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an idle connection may take to be ready again.
const SETTLE: Duration = Duration::from_millis(50);

/// How long one address may take to show that it is there.
const GREETING: Duration = Duration::from_millis(500);

/// Addresses asked whether the STS is there.
const GREETED: usize = 3;

/// The bounds of the pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReplicasOptions {
    pub(super) dns_ttl: Duration,
    pub(super) idle_connections: usize,
    pub(super) idle_timeout: Duration,
}

/// All addresses that the STS's name has.
pub(super) struct Replicas {
    url: StsUrl,
    limits: ReplicasOptions,
    dialer: Dialer,
    resolver: Arc<dyn Resolve>,
    known: Mutex<Known>,
    /// One look-up at a time.
    looking_up: tokio::sync::Mutex<()>,
    turn: AtomicUsize,
}

#[derive(Default)]
struct Known {
    replicas: Arc<[Arc<Replica>]>,
    read_at: Option<Instant>,
}

/// One address.
struct Replica {
    address: SocketAddr,
    circuit: Arc<Circuit>,
    asked: AtomicUsize,
    idle: Mutex<Vec<(Instant, Connection)>>,
}

/// The right to put one question to one address.
pub(super) struct Line {
    replicas: Arc<Replicas>,
    replica: Arc<Replica>,
    admission: Option<Admission>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.replica.asked.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Replicas {
    pub(super) fn new(
        url: StsUrl,
        limits: ReplicasOptions,
        dialer: Dialer,
        resolver: Option<Arc<dyn Resolve>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            url,
            limits,
            dialer,
            resolver: resolver.unwrap_or_else(|| Arc::new(SystemResolver)),
            known: Mutex::default(),
            looking_up: tokio::sync::Mutex::new(()),
            turn: AtomicUsize::new(0),
        })
    }

    /// The address with the fewest questions under way, of those that do not keep failing.
    pub(super) async fn choose(self: &Arc<Self>, deadline: Instant) -> Result<Line, Unavailable> {
        let replicas = self.current(deadline).await?;
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % replicas.len().max(1);
        let mut order: Vec<usize> = (0..replicas.len()).collect();
        order.rotate_left(first);
        order.sort_by_key(|at| replicas[*at].asked.load(Ordering::Relaxed));
        let mut pause = Duration::MAX;
        for at in order {
            match replicas[at].circuit.admit() {
                Ok(admission) => return Ok(self.line(&replicas[at], admission)),
                Err(left) => pause = pause.min(left),
            }
        }
        Err(Unavailable::Paused(pause))
    }

    fn line(self: &Arc<Self>, replica: &Arc<Replica>, admission: Admission) -> Line {
        replica.asked.fetch_add(1, Ordering::Relaxed);
        Line {
            replicas: Arc::clone(self),
            replica: Arc::clone(replica),
            admission: Some(admission),
        }
    }

    /// How long every known address is left alone; `None` when one may be asked.
    pub(super) fn pause(&self) -> Option<Duration> {
        let known = Arc::clone(&self.known.lock().replicas);
        let mut shortest = None;
        for replica in known.iter() {
            let pause = replica.circuit.pause()?;
            shortest = Some(shortest.map_or(pause, |held: Duration| held.min(pause)));
        }
        shortest
    }

    /// Whether one of the addresses answers at all.
    pub(super) async fn reachable(self: &Arc<Self>, deadline: Instant) -> bool {
        let Ok(replicas) = self.current(deadline).await else {
            return false;
        };
        for replica in replicas.iter().take(GREETED) {
            let greeted = tokio::time::timeout(GREETING, self.greet(replica)).await;
            if greeted.unwrap_or(false) {
                return true;
            }
        }
        false
    }

    async fn greet(&self, replica: &Replica) -> bool {
        let Ok(mut connection) = self.dialer.connect(replica.address).await else {
            return false;
        };
        question::greet(&mut connection, &self.url).await
    }

    /// The addresses; looked up again in the background when they are old, and waited for only when
    /// there are none.
    async fn current(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<Arc<[Arc<Replica>]>, Unavailable> {
        let (replicas, old) = self.known();
        if !replicas.is_empty() {
            if old {
                self.look_up_behind();
            }
            return Ok(replicas);
        }
        let looked_up = tokio::time::timeout_at(deadline, self.look_up_first()).await;
        looked_up.unwrap_or(Err(Unavailable::Unresolved))
    }

    fn known(&self) -> (Arc<[Arc<Replica>]>, bool) {
        let known = self.known.lock();
        let old = known
            .read_at
            .is_none_or(|read_at| read_at.elapsed() >= self.limits.dns_ttl);
        (Arc::clone(&known.replicas), old)
    }

    async fn look_up_first(&self) -> Result<Arc<[Arc<Replica>]>, Unavailable> {
        let _turn = self.looking_up.lock().await;
        let (replicas, _) = self.known();
        if !replicas.is_empty() {
            return Ok(replicas);
        }
        self.look_up().await;
        let (replicas, _) = self.known();
        if replicas.is_empty() {
            Err(Unavailable::Unresolved)
        } else {
            Ok(replicas)
        }
    }

    fn look_up_behind(self: &Arc<Self>) {
        let replicas = Arc::clone(self);
        if self.looking_up.try_lock().is_ok() {
            tokio::spawn(async move {
                if let Ok(_turn) = replicas.looking_up.try_lock() {
                    replicas.look_up().await;
                }
            });
        }
    }

    /// Takes what the name means now. A failed look-up changes nothing but the time of the next.
    async fn look_up(&self) {
        let found = match self.url.host().parse::<IpAddr>() {
            Ok(address) => Ok(vec![address]),
            Err(_) => tokio::time::timeout(LOOKUP_TIMEOUT, self.resolver.resolve(self.url.host()))
                .await
                .unwrap_or_else(|_| Err(std::io::Error::other("the look-up timed out"))),
        };
        match found {
            Ok(addresses) if !addresses.is_empty() => self.take(&addresses),
            Ok(_) => tracing::warn!(host = self.url.host(), "the token service has no address"),
            Err(error) => {
                tracing::warn!(host = self.url.host(), %error, "the token service's name does not resolve");
            }
        }
        self.known.lock().read_at = Some(Instant::now());
    }

    /// An address that stays keeps its circuit and its connections.
    fn take(&self, addresses: &[IpAddr]) {
        let mut known = self.known.lock();
        let mut replicas: Vec<Arc<Replica>> = Vec::with_capacity(addresses.len());
        for address in addresses.iter().take(MAX_ADDRESSES) {
            let address = SocketAddr::new(*address, self.url.port());
            if replicas.iter().any(|taken| taken.address == address) {
                continue;
            }
            let held = known.replicas.iter().find(|held| held.address == address);
            replicas.push(held.map_or_else(|| Arc::new(Replica::new(address)), Arc::clone));
        }
        for replica in &replicas {
            replica.sweep(self.limits.idle_timeout);
        }
        known.replicas = replicas.into();
    }
}

impl Replica {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            circuit: Circuit::new(CIRCUIT_THRESHOLD, CIRCUIT_OPEN),
            asked: AtomicUsize::new(0),
            idle: Mutex::default(),
        }
    }

    /// The most recently used idle connection that is still open.
    async fn take_idle(&self, idle_timeout: Duration) -> Option<Connection> {
        loop {
            let (since, mut connection) = self.idle.lock().pop()?;
            if since.elapsed() >= idle_timeout || connection.sender.is_closed() {
                continue;
            }
            let ready = tokio::time::timeout(SETTLE, connection.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                return Some(connection);
            }
        }
    }

    fn keep(&self, mut connection: Connection, limit: usize) {
        if connection.sender.is_closed() {
            return;
        }
        connection.reused = true;
        let mut idle = self.idle.lock();
        if idle.len() < limit {
            idle.push((Instant::now(), connection));
        }
    }

    fn sweep(&self, idle_timeout: Duration) {
        self.idle.lock().retain(|(since, connection)| {
            since.elapsed() < idle_timeout && !connection.sender.is_closed()
        });
    }
}

impl Line {
    /// The address.
    pub(super) fn address(&self) -> SocketAddr {
        self.replica.address
    }

    /// An idle connection, or a new one.
    pub(super) async fn connect(&mut self, deadline: Instant) -> Result<Connection, DialError> {
        let limits = &self.replicas.limits;
        if let Some(connection) = self.replica.take_idle(limits.idle_timeout).await {
            return Ok(connection);
        }
        let dialled = self.replicas.dialer.connect(self.replica.address);
        tokio::time::timeout_at(deadline, dialled)
            .await
            .unwrap_or(Err(DialError::TimedOut))
    }

    /// Says what became of the question: to the circuit, to the pool, to the caller.
    pub(super) fn close(&mut self, asked: Asked) -> Result<Answer, Lost> {
        let admission = self.admission.take();
        match asked.outcome {
            Ok(answer) => {
                if let Some(admission) = admission {
                    admission.succeed();
                }
                if let Some(connection) = asked.connection {
                    let limit = self.replicas.limits.idle_connections;
                    self.replica.keep(connection, limit);
                }
                Ok(answer)
            }
            Err(lost) => {
                let opened = lost.is_failure() && admission.is_some_and(Admission::fail);
                if opened {
                    tracing::warn!(sts = %self.replica.address, "this address of the token service keeps failing: left alone for a while");
                }
                Err(lost)
            }
        }
    }
}
