//! Host names to judged addresses, with a short memory.
//!
//! The memory exists so that the busy path does not resolve on every call, and it holds what was
//! judged: a connection goes to one of these literal addresses, never to whatever the name means a
//! moment later. At most one look-up per name runs at a time.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Names remembered at once.
const MAX_NAMES: u64 = 4_096;

/// Addresses kept of one name.
const MAX_ADDRESSES: usize = 16;

/// How long a failed look-up is remembered.
const FAILURE_TTL: Duration = Duration::from_secs(1);

/// Longest time for one look-up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Where addresses of host names come from.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// The addresses of `host`.
    ///
    /// # Errors
    /// Whatever the resolver reports; no address is an error too.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The operating system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// Resolved names.
pub(crate) struct Names {
    resolver: Arc<dyn Resolve>,
    ttl: Duration,
    entries: Cache<String, Arc<Entry>>,
}

struct Entry {
    /// One look-up at a time.
    turn: Semaphore,
    found: Mutex<Option<(Instant, Found)>>,
}

type Found = Option<Arc<[IpAddr]>>;

impl Names {
    /// Remembers for `ttl`.
    pub(crate) fn new(resolver: Arc<dyn Resolve>, ttl: Duration) -> Self {
        Self {
            resolver,
            ttl,
            entries: Cache::new(MAX_NAMES),
        }
    }

    /// The addresses of `host`, at least one; `None` when it has none that can be found now.
    pub(crate) async fn addresses(&self, host: &str) -> Option<Arc<[IpAddr]>> {
        let entry = self.entry(host);
        if let Some(found) = entry.remembered() {
            return found;
        }
        let _turn = entry.turn.acquire().await.ok()?;
        if let Some(found) = entry.remembered() {
            return found;
        }
        let found = self.look_up(host).await;
        let ttl = if found.is_some() {
            self.ttl
        } else {
            FAILURE_TTL.min(self.ttl)
        };
        *entry.found.lock() = Some((Instant::now() + ttl, found.clone()));
        found
    }

    fn entry(&self, host: &str) -> Arc<Entry> {
        if let Some(entry) = self.entries.get(host) {
            return entry;
        }
        self.entries.get_with(host.to_owned(), || {
            Arc::new(Entry {
                turn: Semaphore::new(1),
                found: Mutex::new(None),
            })
        })
    }

    async fn look_up(&self, host: &str) -> Found {
        let asked = tokio::time::timeout(LOOKUP_TIMEOUT, self.resolver.resolve(host)).await;
        match asked {
            Ok(Ok(addresses)) if !addresses.is_empty() => {
                Some(addresses.into_iter().take(MAX_ADDRESSES).collect())
            }
            Ok(Ok(_)) => None,
            Ok(Err(error)) => {
                tracing::warn!(host, %error, "upstream name does not resolve");
                None
            }
            Err(_) => None,
        }
    }
}

impl Entry {
    fn remembered(&self) -> Option<Found> {
        let found = self.found.lock();
        let (until, addresses) = found.as_ref()?;
        (*until > Instant::now()).then(|| addresses.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Counting(AtomicUsize);

    #[async_trait]
    impl Resolve for Counting {
        async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            match host {
                "none" => Ok(Vec::new()),
                _ => Ok(vec![IpAddr::from([127, 0, 0, 1])]),
            }
        }
    }

    fn names() -> (Arc<Counting>, Names) {
        let resolver = Arc::new(Counting::default());
        (
            resolver.clone(),
            Names::new(resolver, Duration::from_secs(30)),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn callers_at_once_share_one_look_up_until_it_is_old() {
        let (resolver, names) = names();
        let all = futures_util::future::join_all((0..20).map(|_| names.addresses("a"))).await;
        assert!(all.iter().all(Option::is_some));
        assert_eq!(resolver.0.load(Ordering::SeqCst), 1);
        tokio::time::advance(Duration::from_secs(31)).await;
        names.addresses("a").await;
        assert_eq!(resolver.0.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn failure_is_forgotten_soon() {
        let (resolver, names) = names();
        assert!(names.addresses("none").await.is_none());
        assert!(names.addresses("none").await.is_none());
        assert_eq!(resolver.0.load(Ordering::SeqCst), 1);
        tokio::time::advance(Duration::from_secs(2)).await;
        names.addresses("none").await;
        assert_eq!(resolver.0.load(Ordering::SeqCst), 2);
    }
}
