//! `caracal healthcheck`: asks the listener of this host whether it is well, for container health
//! checks and exec probes. The image needs no shell and no HTTP client for it.
//!
//! What is asked: with `--role` those roles; else the roles of the stack that runs from the home
//! directory; else the one port of `CARACAL_OPS_PORT` or `PORT`; else every role's usual port at
//! which somebody listens, and at least one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::CommandResult;
use crate::cli::HealthcheckArgs;
use crate::config::{Environment, Role};
use crate::home::Home;

mod unnamed;

/// Longest body of an answer that is read, bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// A listener to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listener {
    name: String,
    address: SocketAddr,
    tls: bool,
    /// Whether nobody listening there is no failure.
    optional: bool,
}

/// Why a listener is not well.
#[derive(Debug, Error)]
enum Unwell {
    #[error("nobody listens")]
    Absent,
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("answered {0}{1}")]
    Status(StatusCode, String),
}

/// Nothing to ask can be found.
#[derive(Debug, Error)]
enum NothingToAsk {
    #[error("{0}: not a port from 1 to 65535")]
    Port(&'static str),
    #[error("{0}: not address:port")]
    Listen(&'static str),
    #[error("{0}: not an IP address")]
    Host(&'static str),
}

/// Asks, and fails unless everybody asked is well.
pub(crate) async fn run(environment: &Environment, args: &HealthcheckArgs) -> CommandResult {
    let timeout = timeout(environment, args)?;
    let path = path(environment, args);
    let listeners = listeners(environment, &args.role)?;
    let mut well = 0;
    let mut unwell = 0;
    for listener in &listeners {
        match ask(listener, &path, timeout).await {
            Ok(()) => well += 1,
            Err(Unwell::Absent) if listener.optional => {}
            Err(why) => {
                unwell += 1;
                crate::say_error(&format!(
                    "✗ {} {}{path}: {why}",
                    listener.name, listener.address
                ));
            }
        }
    }
    if unwell == 0 && well == 0 {
        crate::say_error("✗ no role listens on this host; --role names the ones that must");
    }
    Ok(if unwell == 0 && well > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn timeout(environment: &Environment, args: &HealthcheckArgs) -> Result<Duration, String> {
    if let Some(timeout) = args.timeout {
        return Ok(timeout);
    }
    match environment.get("HEALTH_TIMEOUT_MS") {
        None => Ok(Duration::from_secs(2)),
        Some(text) => match text.parse::<u64>() {
            Ok(millis) if millis > 0 => Ok(Duration::from_millis(millis)),
            _ => Err(format!(
                "HEALTH_TIMEOUT_MS: a number of milliseconds, not {text:?}"
            )),
        },
    }
}

fn path(environment: &Environment, args: &HealthcheckArgs) -> String {
    match environment.get("HEALTH_PATH") {
        Some(path) if !args.ready && path.starts_with('/') => path.to_owned(),
        _ if args.ready => "/ready".to_owned(),
        _ => "/health".to_owned(),
    }
}

fn listeners(environment: &Environment, roles: &[Role]) -> Result<Vec<Listener>, NothingToAsk> {
    let home = Home::locate(environment).ok();
    let running = home.as_ref().and_then(Home::running);
    let running: BTreeMap<Role, SocketAddr> = running.map_or_else(BTreeMap::new, |run| {
        let address = |role| Some((role, reachable(run.address(role)?)));
        Role::ALL.into_iter().filter_map(address).collect()
    });
    let host = host(environment)?;
    if let Some(port) = port(environment, "CARACAL_OPS_PORT")? {
        let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
        let name = if names.is_empty() {
            "operations".to_owned()
        } else {
            names.join(",")
        };
        return Ok(vec![Listener {
            name,
            address: SocketAddr::new(host, port),
            tls: false,
            optional: false,
        }]);
    }
    if roles.is_empty()
        && running.is_empty()
        && let Some(port) = port(environment, "PORT")?
    {
        return Ok(vec![Listener {
            name: "the role".to_owned(),
            address: SocketAddr::new(host, port),
            tls: port == Role::Gateway.port() && serves_tls(environment),
            optional: false,
        }]);
    }
    let asked: Vec<Role> = match (roles.is_empty(), running.is_empty()) {
        (false, _) => roles.to_vec(),
        (true, false) => running.keys().copied().collect(),
        (true, true) => Role::ALL.to_vec(),
    };
    let mut listeners = Vec::with_capacity(asked.len());
    for role in asked {
        let configured = listen(environment, role)?;
        let usual = SocketAddr::new(host, role.port());
        listeners.push(Listener {
            name: role.name().to_owned(),
            address: running.get(&role).copied().or(configured).unwrap_or(usual),
            tls: role == Role::Gateway && serves_tls(environment),
            optional: roles.is_empty() && running.is_empty(),
        });
    }
    Ok(listeners)
}

fn serves_tls(environment: &Environment) -> bool {
    environment.get("TLS_CERT_FILE").is_some() && environment.get("TLS_KEY_FILE").is_some()
}

fn host(environment: &Environment) -> Result<IpAddr, NothingToAsk> {
    for name in ["HEALTH_HOST", "HOST"] {
        if let Some(text) = environment.get(name) {
            let address: IpAddr = text.parse().map_err(|_| NothingToAsk::Host(name))?;
            return Ok(reachable(SocketAddr::new(address, 0)).ip());
        }
    }
    Ok(Ipv4Addr::LOCALHOST.into())
}

fn port(environment: &Environment, name: &'static str) -> Result<Option<u16>, NothingToAsk> {
    match environment.get(name) {
        None => Ok(None),
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => Ok(Some(port)),
            _ => Err(NothingToAsk::Port(name)),
        },
    }
}

fn listen(environment: &Environment, role: Role) -> Result<Option<SocketAddr>, NothingToAsk> {
    let name = role.listen_variable();
    let parsed = environment.get(name).map(str::parse::<SocketAddr>);
    let address = parsed.transpose().map_err(|_| NothingToAsk::Listen(name))?;
    Ok(address.map(reachable))
}

/// Who listens on every address is asked on the loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn ask(listener: &Listener, path: &str, timeout: Duration) -> Result<(), Unwell> {
    let asked = tokio::time::timeout(timeout, exchange(listener, path)).await;
    asked.unwrap_or(Err(Unwell::Silent(timeout)))
}

async fn exchange(listener: &Listener, path: &str) -> Result<(), Unwell> {
    let stream = match TcpStream::connect(listener.address).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Err(Unwell::Absent);
        }
        Err(error) => return Err(broken(error)),
    };
    if listener.tls {
        let stream = unnamed::connect(stream, listener.address.ip())
            .await
            .map_err(broken)?;
        get(stream, listener, path).await
    } else {
        get(stream, listener, path).await
    }
}

async fn get<S>(stream: S, listener: &Listener, path: &str) -> Result<(), Unwell>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, listener.address.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(broken)?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER);
    let body = body.collect().await.map(|body| body.to_bytes());
    driver.abort();
    if status.is_success() || status.is_redirection() {
        return Ok(());
    }
    let reason = body.ok().and_then(|body| {
        let document: serde_json::Value = serde_json::from_slice(&body).ok()?;
        let names = ["reason", "error"];
        let reason = names.iter().find_map(|name| document[name].as_str())?;
        Some(format!(" {}", crate::logging::scrub(reason)))
    });
    Err(Unwell::Status(status, reason.unwrap_or_default()))
}

fn broken(error: impl std::fmt::Display) -> Unwell {
    Unwell::Broken(error.to_string())
}

/// The connection to a listener of our own that serves TLS.
type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Shared by every connection.
type TlsConfig = Arc<tokio_rustls::rustls::ClientConfig>;

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        let mut environment = Environment::default();
        environment.set("CARACAL_HOME", "/nonexistent/caracal");
        for (name, value) in pairs {
            environment.set(name, *value);
        }
        environment
    }

    fn asked(pairs: &[(&str, &str)], roles: &[Role]) -> Vec<(String, String, bool)> {
        let listeners = listeners(&environment(pairs), roles).unwrap();
        let shown = |l: Listener| (l.name, l.address.to_string(), l.tls);
        listeners.into_iter().map(shown).collect()
    }

    fn one(name: &str, address: &str, tls: bool) -> Vec<(String, String, bool)> {
        vec![(name.to_owned(), address.to_owned(), tls)]
    }

    #[test]
    fn a_role_is_asked_where_it_listens() {
        assert_eq!(
            asked(&[], &[Role::Sts]),
            one("sts", "127.0.0.1:8080", false)
        );
        assert_eq!(
            asked(&[("CARACAL_STS_LISTEN", "0.0.0.0:9")], &[Role::Sts]),
            one("sts", "127.0.0.1:9", false)
        );
        assert_eq!(
            asked(&[("HOST", "::")], &[Role::Audit]),
            one("audit", "[::1]:9090", false)
        );
        assert_eq!(
            asked(&[("HOST", "10.1.2.3")], &[Role::Audit]),
            one("audit", "10.1.2.3:9090", false)
        );
    }

    #[test]
    fn a_gateway_with_a_certificate_is_asked_over_tls_unless_operations_have_a_port() {
        let pair = [("TLS_CERT_FILE", "/c"), ("TLS_KEY_FILE", "/k")];
        assert_eq!(
            asked(&pair, &[Role::Gateway]),
            one("gateway", "127.0.0.1:8081", true)
        );
        let apart = [pair[0], pair[1], ("CARACAL_OPS_PORT", "9900")];
        assert_eq!(
            asked(&apart, &[Role::Gateway]),
            one("gateway", "127.0.0.1:9900", false)
        );
    }

    #[test]
    fn without_a_role_the_port_of_the_process_is_asked_or_whoever_listens() {
        assert_eq!(
            asked(&[("PORT", "4000")], &[]),
            one("the role", "127.0.0.1:4000", false)
        );
        let all = listeners(&environment(&[]), &[]).unwrap();
        assert_eq!(all.len(), Role::ALL.len());
        assert!(all.iter().all(|listener| listener.optional));
    }

    #[test]
    fn what_is_no_address_is_named() {
        for (name, value) in [
            ("CARACAL_OPS_PORT", "0"),
            ("CARACAL_STS_LISTEN", "8080"),
            ("HEALTH_HOST", "localhost"),
        ] {
            let error = listeners(&environment(&[(name, value)]), &[Role::Sts]).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }
}
