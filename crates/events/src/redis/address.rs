//! Addresses: what `REDIS_URL` may say.
//!
//! | form | meaning |
//! | --- | --- |
//! | `redis://[user:password@]host[:6379][/db]` | one server |
//! | `unix://[user:password@]/path/to/socket[?db=0]` | one server by its socket |
//! | `redis-sentinel://[user:password@]host[:26379][/db]?sentinelServiceName=name[&node=host:port]...[&sentinelUsername=..&sentinelPassword=..]` | the primary that the Sentinels name |
//! | `redis-cluster://[user:password@]host[:6379][?node=host:port]...` | a cluster |
//!
//! `rediss` instead of `redis` speaks TLS. Users and passwords are percent-encoded.

use std::fmt;

use caracal_core::Secret;
use fred::types::config::{Config, Server, ServerConfig};
use thiserror::Error;
use url::Url;

/// The text is no address of a Redis.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not an address of a Redis server: {0}")]
pub struct InvalidAddress(String);

/// Where a Redis is and how to log in there.
#[derive(Clone)]
pub struct RedisAddress {
    config: Config,
    is_tls: bool,
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisAddress")
            .field("hosts", &self.config.server.hosts())
            .field("is_tls", &self.is_tls)
            .finish_non_exhaustive()
    }
}

impl RedisAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// [`InvalidAddress`] when the scheme, host, database or Sentinel service is missing or wrong.
    pub fn parse(text: &Secret<String>) -> Result<Self, InvalidAddress> {
        let text = text.expose();
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| invalid("it has no scheme"))?;
        let (plain, is_tls) = match scheme.strip_prefix("rediss") {
            Some(kind) => (format!("redis{kind}"), true),
            None => (scheme.to_owned(), false),
        };
        let config = match plain.as_str() {
            "redis" | "redis-sentinel" => reach(&format!("{plain}://{rest}"))?,
            "redis-cluster" => cluster(&format!("{plain}://{rest}"))?,
            "unix" => socket(rest)?,
            _ => {
                return Err(invalid(
                    "the scheme is none of redis, rediss, unix, redis-sentinel, rediss-sentinel, redis-cluster and rediss-cluster",
                ));
            }
        };
        Ok(Self { config, is_tls })
    }

    /// Whether it is a cluster: commands may name keys of one slot only.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.config.server.is_clustered()
    }

    /// Whether connections speak TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    pub(super) fn config(&self) -> Config {
        self.config.clone()
    }
}

fn invalid(reason: impl Into<String>) -> InvalidAddress {
    InvalidAddress(reason.into())
}

fn reach(url: &str) -> Result<Config, InvalidAddress> {
    let mut config = Config::from_url(url).map_err(|error| invalid(error.details().to_owned()))?;
    config.server = match config.server {
        ServerConfig::Centralized { server } => ServerConfig::Centralized {
            server: without_brackets(&server),
        },
        ServerConfig::Sentinel {
            hosts,
            service_name,
            username,
            password,
        } => ServerConfig::Sentinel {
            hosts: hosts.iter().map(without_brackets).collect(),
            service_name,
            username,
            password,
        },
        other => other,
    };
    Ok(config)
}

fn cluster(url: &str) -> Result<Config, InvalidAddress> {
    let path = Url::parse(url).map_err(|error| invalid(error.to_string()))?;
    if !matches!(path.path(), "" | "/" | "/0") {
        return Err(invalid("a cluster has database 0 only"));
    }
    reach(url)
}

/// A URL with a login needs a host, which a socket hasn't.
fn socket(rest: &str) -> Result<Config, InvalidAddress> {
    let url = format!("redis+unix://{}", rest.replacen("@/", "@localhost/", 1));
    let parsed = Url::parse(&url).map_err(|error| invalid(error.to_string()))?;
    if parsed.path().len() < 2 {
        return Err(invalid("the path of the socket is missing"));
    }
    let mut config = reach(&url)?;
    for (name, value) in parsed.query_pairs() {
        if name == "db" {
            let database = value.parse().map_err(|_| invalid("db is no number"))?;
            config.database = Some(database);
        }
    }
    Ok(config)
}

fn without_brackets(server: &Server) -> Server {
    let host = server.host.trim_start_matches('[').trim_end_matches(']');
    Server::new(host.to_owned(), server.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RedisAddress, InvalidAddress> {
        RedisAddress::parse(&Secret::new(text.to_owned()))
    }

    fn hosts(address: &RedisAddress) -> Vec<String> {
        let servers = address.config.server.hosts();
        servers
            .iter()
            .map(|server| format!("{}:{}", server.host, server.port))
            .collect()
    }

    #[test]
    fn one_server_with_login_and_database() {
        let address = parse("rediss://app:p%40ss@cache.internal/3").unwrap();
        assert!(address.is_tls());
        assert!(!address.is_cluster());
        assert_eq!(hosts(&address), ["cache.internal:6379"]);
        assert_eq!(address.config.username.as_deref(), Some("app"));
        assert_eq!(address.config.password.as_deref(), Some("p@ss"));
        assert_eq!(address.config.database, Some(3));
    }

    #[test]
    fn a_password_without_a_user_is_the_default_users() {
        let address = parse("redis://:secret@10.0.0.1:6380").unwrap();
        assert_eq!(address.config.username, None);
        assert_eq!(address.config.password.as_deref(), Some("secret"));
    }

    #[test]
    fn an_address_of_the_sixth_version_loses_its_brackets() {
        assert_eq!(hosts(&parse("redis://[::1]:6380").unwrap()), ["::1:6380"]);
    }

    #[test]
    fn sentinels_name_a_service() {
        let address = parse(
            "redis-sentinel://app:one@s1:26379/2?sentinelServiceName=main&node=s2:26380&sentinelPassword=two",
        )
        .unwrap();
        assert_eq!(hosts(&address).len(), 2);
        assert_eq!(address.config.database, Some(2));
        assert!(parse("redis-sentinel://s1:26379").is_err());
    }

    #[test]
    fn a_cluster_has_several_nodes_and_one_database() {
        let address = parse("rediss-cluster://:one@n1:7000?node=n2:7001").unwrap();
        assert!(address.is_cluster() && address.is_tls());
        assert_eq!(hosts(&address).len(), 2);
        assert!(parse("redis-cluster://n1:7000/1").is_err());
    }

    #[test]
    fn a_socket_has_a_path_and_may_have_a_login_and_a_database() {
        let address = parse("unix://app:one@/run/redis.sock?db=4").unwrap();
        assert_eq!(address.config.username.as_deref(), Some("app"));
        assert_eq!(address.config.database, Some(4));
        assert!(
            parse("unix:///run/redis.sock")
                .unwrap()
                .config
                .server
                .is_unix_socket()
        );
        assert!(parse("unix://").is_err());
    }

    #[test]
    fn anything_else_is_refused_without_repeating_the_password() {
        for bad in [
            "",
            "cache:6379",
            "http://h",
            "redis://",
            "redis://:hunter2@h:port",
            "redis://:hunter2@h/x",
        ] {
            let error = parse(bad).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let address = parse("redis://app:hunter2@cache").unwrap();
        assert!(!format!("{address:?}").contains("hunter2"));
    }
}
