//! `STS_URL`.

use std::fmt;
use std::net::IpAddr;

use caracal_core::Mode;
use thiserror::Error;
use url::{Host, Url};

/// A text is no usable `STS_URL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StsUrlError {
    /// Not an absolute http or https URL.
    #[error("must be an absolute http or https URL")]
    NotHttp,
    /// User-info, a query or a fragment.
    #[error("must have no user-info, query or fragment")]
    Decorated,
    /// Credentials would cross a network in clear text.
    #[error(
        "must be https unless the host is a name without dots, localhost or a loopback address"
    )]
    ClearText,
}

/// Where the STS answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StsUrl {
    tls: bool,
    host: String,
    port: u16,
    base_path: String,
}

impl StsUrl {
    /// Reads `STS_URL`. In published modes clear text is for hosts inside the deployment only: a name
    /// without dots, `localhost`, a loopback address.
    ///
    /// # Errors
    /// [`StsUrlError`]; the caller adds the variable's name.
    pub fn parse(text: &str, mode: Mode) -> Result<Self, StsUrlError> {
        let url = Url::parse(text.trim()).map_err(|_| StsUrlError::NotHttp)?;
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(StsUrlError::NotHttp),
        };
        let decorated = !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some();
        if decorated {
            return Err(StsUrlError::Decorated);
        }
        let host = url.host().ok_or(StsUrlError::NotHttp)?;
        if mode.is_published() && !tls && !is_inside(&host) {
            return Err(StsUrlError::ClearText);
        }
        let port = url.port_or_known_default().ok_or(StsUrlError::NotHttp)?;
        Ok(Self {
            tls,
            host: match host {
                Host::Domain(name) => name.to_owned(),
                Host::Ipv4(address) => address.to_string(),
                Host::Ipv6(address) => address.to_string(),
            },
            port,
            base_path: url.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Host name or address literal, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path that the STS's own paths follow; empty, or without a slash at its end.
    pub(super) fn base_path(&self) -> &str {
        &self.base_path
    }

    /// The `Host` header.
    pub(super) fn authority(&self) -> String {
        let host = match self.host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => self.host.clone(),
        };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for StsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.base_path)
    }
}

fn is_inside(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => !name.contains('.'),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_text_stays_inside_the_deployment_in_published_modes() {
        for inside in [
            "http://sts:8080",
            "http://localhost:8080/",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "https://sts.example",
        ] {
            assert!(StsUrl::parse(inside, Mode::Stable).is_ok(), "{inside}");
        }
        for outside in [
            "http://sts.example",
            "http://10.0.0.1:8080",
            "http://[2001:db8::1]:8080",
        ] {
            let refused = StsUrl::parse(outside, Mode::Stable);
            assert_eq!(refused, Err(StsUrlError::ClearText), "{outside}");
            assert!(StsUrl::parse(outside, Mode::Dev).is_ok(), "{outside}");
        }
    }

    #[test]
    fn what_is_not_a_plain_url_is_refused() {
        for (text, expected) in [
            ("sts:8080", StsUrlError::NotHttp),
            ("ftp://sts", StsUrlError::NotHttp),
            ("", StsUrlError::NotHttp),
            ("http://user@sts", StsUrlError::Decorated),
            ("http://sts?x=1", StsUrlError::Decorated),
            ("http://sts#x", StsUrlError::Decorated),
        ] {
            assert_eq!(StsUrl::parse(text, Mode::Dev), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_base_path_and_the_host_header_are_kept_apart() {
        let url = StsUrl::parse("https://sts.example/caracal/", Mode::Stable).unwrap();
        assert_eq!(url.base_path(), "/caracal");
        assert_eq!(url.authority(), "sts.example");
        let url = StsUrl::parse("http://[::1]:8080/", Mode::Stable).unwrap();
        assert_eq!((url.host(), url.base_path()), ("::1", ""));
        assert_eq!(url.authority(), "[::1]:8080");
        assert_eq!(url.to_string(), "http://[::1]:8080");
    }
}
