//! Steps 16 and 17: where the call may go.
//!
//! The URL comes from the resource, so an operator wrote it; the guard keeps a mistaken or malicious
//! one from turning the Gateway against the cloud it runs in or against Caracal itself. Every
//! resolved address is judged, and the judged addresses are what gets dialled.

mod address;
mod names;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderValue;
use url::{Host, Url};

pub use names::{Resolve, SystemResolver};

use crate::exchange::Permit;
use crate::options::{Endpoint, GatewayOptions};
use crate::refusal::Refusal;
use names::Names;

/// One server, as a connection pool sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) tls: bool,
    /// Lower case, without brackets.
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

/// A permitted call's judged destination.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) origin: Origin,
    /// Dial one of these and nothing else.
    pub(crate) addresses: Arc<[SocketAddr]>,
    /// The `Host` header: the host as configured, with a port that is not the scheme's.
    pub(crate) authority: HeaderValue,
    /// The configured path, still encoded.
    pub(crate) base_path: String,
    /// The configured query, still encoded: pinned parameters.
    pub(crate) pinned_query: Option<String>,
}

/// Judges upstream URLs.
pub(crate) struct HostGuard {
    allowlist: Vec<String>,
    own_ports: Vec<u16>,
    refused: Vec<Endpoint>,
    names: Names,
}

impl HostGuard {
    /// A guard with the operator's lists.
    pub(crate) fn new(options: &GatewayOptions, resolver: Arc<dyn Resolve>) -> Self {
        Self {
            allowlist: options.upstream_host_allowlist.clone(),
            own_ports: options.own_ports.clone(),
            refused: options.refused_endpoints.clone(),
            names: Names::new(resolver, options.dns_ttl),
        }
    }

    /// Judges the upstream of a permitted call, then the provider's host pin.
    pub(crate) async fn judge(&self, permit: &Permit) -> Result<Target, Refusal> {
        let directive = &permit.grant().directive;
        let target = self.target(&directive.upstream_url).await?;
        let pinned = &directive.allowed_hosts;
        let host = target.origin.host.as_ref();
        if pinned.is_empty()
            || pinned
                .iter()
                .any(|pin| pin.trim().eq_ignore_ascii_case(host))
        {
            Ok(target)
        } else {
            Err(Refusal::HostNotAllowed)
        }
    }

    /// Step 16 for one URL.
    pub(crate) async fn target(&self, upstream_url: &str) -> Result<Target, Refusal> {
        let url = Url::parse(upstream_url).map_err(|_| Refusal::NotAddressable)?;
        let origin = origin(&url).ok_or(Refusal::NotAddressable)?;
        let listed =
            |host: &str| self.allowlist.is_empty() || self.allowlist.iter().any(|h| h == host);
        if !listed(&origin.host) {
            return Err(Refusal::NotAddressable);
        }
        let addresses = self
            .addresses(&url, &origin)
            .await
            .ok_or(Refusal::NotAddressable)?;
        let authority = authority(&url).ok_or(Refusal::NotAddressable)?;
        Ok(Target {
            addresses,
            authority,
            base_path: url.path().to_owned(),
            pinned_query: url
                .query()
                .filter(|query| !query.is_empty())
                .map(str::to_owned),
            origin,
        })
    }

    async fn addresses(&self, url: &Url, origin: &Origin) -> Option<Arc<[SocketAddr]>> {
        let addresses: Arc<[IpAddr]> = match url.host()? {
            Host::Ipv4(v4) => Arc::new([v4.into()]),
            Host::Ipv6(v6) => Arc::new([v6.into()]),
            Host::Domain(name) => self.names.addresses(name).await?,
        };
        if addresses
            .iter()
            .any(|address| address::is_refused(*address))
        {
            return None;
        }
        if self.is_own_listener(&addresses, origin.port)
            || self.is_refused_endpoint(&addresses, origin).await
        {
            return None;
        }
        Some(
            addresses
                .iter()
                .map(|address| SocketAddr::new(*address, origin.port))
                .collect(),
        )
    }

    /// Loopback addresses with a port of ours. Other addresses of this machine are recognised when
    /// they are dialled: see [`is_own_address`].
    fn is_own_listener(&self, addresses: &[IpAddr], port: u16) -> bool {
        self.own_ports.contains(&port) && addresses.iter().any(is_loopback)
    }

    async fn is_refused_endpoint(&self, addresses: &[IpAddr], origin: &Origin) -> bool {
        for endpoint in self
            .refused
            .iter()
            .filter(|endpoint| endpoint.port == origin.port)
        {
            if endpoint.host.eq_ignore_ascii_case(&origin.host) {
                return true;
            }
            let theirs = match endpoint.host.parse::<IpAddr>() {
                Ok(literal) => Some(Arc::from([literal])),
                Err(_) => self.names.addresses(&endpoint.host).await,
            };
            // An endpoint that does not resolve now can't be told apart: fail closed.
            let Some(theirs) = theirs else { return true };
            let theirs: &[IpAddr] = &theirs;
            if theirs.iter().any(|address| addresses.contains(address)) {
                return true;
            }
        }
        false
    }

    /// Whether an established connection leads back to a listener of this process.
    pub(crate) fn is_own_connection(&self, local: SocketAddr, peer: SocketAddr) -> bool {
        self.own_ports.contains(&peer.port()) && is_own_address(local.ip(), peer.ip())
    }
}

/// A connection to one of the machine's own addresses has that address at both ends.
fn is_own_address(local: IpAddr, peer: IpAddr) -> bool {
    is_loopback(&peer) || local.to_canonical() == peer.to_canonical()
}

fn is_loopback(address: &IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn origin(url: &Url) -> Option<Origin> {
    let tls = match url.scheme() {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    if !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    let host: Arc<str> = match url.host()? {
        Host::Domain(name) if !name.is_empty() => name.to_ascii_lowercase().into(),
        Host::Domain(_) => return None,
        Host::Ipv4(v4) => v4.to_string().into(),
        Host::Ipv6(v6) => v6.to_string().into(),
    };
    Some(Origin {
        tls,
        host,
        port: url.port_or_known_default()?,
    })
}

fn authority(url: &Url) -> Option<HeaderValue> {
    let host = url.host_str()?;
    let text = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use std::io;

    struct Fixed;

    #[async_trait]
    impl Resolve for Fixed {
        async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
            let addresses: &[&str] = match host {
                "good.example" => &["93.184.216.34", "2606:4700::1"],
                "mixed.example" => &["93.184.216.34", "169.254.169.254"],
                "metadata.example" => &["fd00:ec2::254"],
                "database.internal" | "alias.internal" => &["10.0.0.5"],
                "local.example" => &["127.0.0.1"],
                _ => return Err(io::Error::other("no such name")),
            };
            Ok(addresses.iter().map(|text| text.parse().unwrap()).collect())
        }
    }

    fn guard(change: impl FnOnce(&mut GatewayOptions)) -> HostGuard {
        let mut options = GatewayOptions::new("https://sts.example");
        change(&mut options);
        HostGuard::new(&options, Arc::new(Fixed))
    }

    #[tokio::test]
    async fn a_judged_url_keeps_its_parts() {
        let guard = guard(|_| {});
        let target = guard
            .target("https://Good.example/base/?region=eu#part")
            .await
            .unwrap();
        assert_eq!(target.origin.host.as_ref(), "good.example");
        assert_eq!(target.origin.port, 443);
        assert!(target.origin.tls);
        assert_eq!(target.authority, "good.example");
        assert_eq!(target.base_path, "/base/");
        assert_eq!(target.pinned_query.as_deref(), Some("region=eu"));
        assert_eq!(target.addresses.len(), 2);
        let with_port = guard.target("http://good.example:8080").await.unwrap();
        assert_eq!(with_port.authority, "good.example:8080");
    }

    #[tokio::test]
    async fn what_is_no_plain_http_url_is_refused() {
        let guard = guard(|_| {});
        for bad in [
            "",
            "good.example",
            "ftp://good.example/",
            "http://",
            "https://user@good.example/",
            "https://user:secret@good.example/",
            "http://unknown.example/",
            "file:///etc/passwd",
        ] {
            assert!(
                matches!(guard.target(bad).await, Err(Refusal::NotAddressable)),
                "{bad}"
            );
        }
    }

    #[tokio::test]
    async fn one_refused_address_refuses_the_name() {
        let guard = guard(|_| {});
        for bad in [
            "http://mixed.example/",
            "http://metadata.example/",
            "http://169.254.169.254/",
            "http://0xa9fea9fe/",
            "http://2852039166/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fe80::1]/",
            "http://0/",
        ] {
            assert!(
                matches!(guard.target(bad).await, Err(Refusal::NotAddressable)),
                "{bad}"
            );
        }
    }

    #[tokio::test]
    async fn an_allowlist_is_exact() {
        let guard = guard(|options| options.upstream_host_allowlist = vec!["good.example".into()]);
        assert!(guard.target("http://good.example:99/").await.is_ok());
        assert!(guard.target("http://local.example/").await.is_err());
        assert!(guard.target("http://sub.good.example/").await.is_err());
    }

    #[tokio::test]
    async fn no_upstream_is_a_listener_of_this_process() {
        let guard = guard(|options| options.own_ports = vec![8080]);
        for bad in [
            "http://127.0.0.1:8080/",
            "http://[::1]:8080/",
            "http://local.example:8080/",
        ] {
            assert!(guard.target(bad).await.is_err(), "{bad}");
        }
        assert!(guard.target("http://127.0.0.1:9000/").await.is_ok());
        let (local, peer) = (
            "10.0.0.9:40000".parse().unwrap(),
            "10.0.0.9:8080".parse().unwrap(),
        );
        assert!(guard.is_own_connection(local, peer));
        assert!(!guard.is_own_connection(local, "10.0.0.8:8080".parse().unwrap()));
    }

    #[tokio::test]
    async fn no_upstream_is_a_store_under_any_name() {
        let guard = guard(|options| {
            options.refused_endpoints = vec![Endpoint {
                host: "database.internal".to_owned(),
                port: 5432,
            }];
        });
        for bad in [
            "http://database.internal:5432/",
            "http://alias.internal:5432/",
            "http://10.0.0.5:5432/",
        ] {
            assert!(guard.target(bad).await.is_err(), "{bad}");
        }
        assert!(guard.target("http://alias.internal:9000/").await.is_ok());
    }
}
