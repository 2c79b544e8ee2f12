//! The database's URL, read strictly: a setting that would be ignored is refused.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use super::options::PostgresOptions;
use crate::error::OpenError;

/// Where the database is, as the driver takes it.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) options: PgConnectOptions,
    /// How long a connection may take, when the URL says so.
    pub(crate) connect_timeout: Option<Duration>,
}

/// Parameters that the driver understands.
const DRIVERS: &[&str] = &[
    "sslmode",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Reads the URL and the files that it and the options name.
pub(crate) fn read(options: &PostgresOptions) -> Result<Address, OpenError> {
    // What the parsers say is not repeated: it may quote the URL, which holds the password.
    let mut url = Url::parse(options.url.expose())
        .map_err(|_| refused("it is not of the form postgres://login:password@host/database"))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(refused("it does not begin with postgres://"));
    }
    let mut connect_timeout = None;
    let mut authorities = Vec::new();
    let mut kept = Vec::new();
    for (name, value) in url.query_pairs() {
        match &*name {
            "sslrootcert" => authorities.extend(read_pem("sslrootcert", Path::new(&*value))?),
            "connect_timeout" => connect_timeout = Some(seconds(&value)?),
            "sslmode" if !is_ssl_mode(&value) => {
                return Err(refused(
                    "sslmode is one of disable, prefer, require, verify-ca and verify-full",
                ));
            }
            known if DRIVERS.contains(&known) => kept.push((name.into_owned(), value.into_owned())),
            unknown => {
                return Err(OpenError::Url(format!(
                    "its parameter {unknown:?} is not known; known are sslrootcert, \
                     connect_timeout, {}",
                    DRIVERS.join(", ")
                )));
            }
        }
    }
    if let Some(path) = &options.extra_ca {
        authorities.extend(read_pem("the file of certificate authorities", path)?);
    }
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
    let mut parsed = PgConnectOptions::from_str(url.as_str())
        .map_err(|_| refused("a part of it has a value that can't be used"))?;
    if !authorities.is_empty() {
        parsed = parsed.ssl_root_cert_from_pem(authorities);
    }
    Ok(Address {
        options: parsed
            // No column is a float, and some poolers refuse the setting.
            .extra_float_digits(None)
            .statement_cache_capacity(options.statement_cache)
            .disable_statement_logging(),
        connect_timeout,
    })
}

/// The driver would take `allow` for `disable`.
fn is_ssl_mode(value: &str) -> bool {
    value != "allow" && PgSslMode::from_str(value).is_ok()
}

fn seconds(value: &str) -> Result<Duration, OpenError> {
    match value.parse() {
        Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err(refused(
            "connect_timeout is a number of seconds from 1 to 3600",
        )),
    }
}

fn read_pem(what: &str, path: &Path) -> Result<Vec<u8>, OpenError> {
    let mut pem = std::fs::read(path).map_err(|source| OpenError::File {
        path: path.display().to_string(),
        source,
    })?;
    if !pem
        .windows(27)
        .any(|text| text == b"-----BEGIN CERTIFICATE-----")
    {
        return Err(OpenError::Url(format!(
            "{what} {} holds no PEM certificate",
            path.display()
        )));
    }
    pem.push(b'\n');
    Ok(pem)
}

fn refused(why: &str) -> OpenError {
    OpenError::Url(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, String> {
        read(&PostgresOptions::new(url.to_owned())).map_err(|error| error.to_string())
    }

    #[test]
    fn every_mode_of_tls_is_taken_but_the_one_that_means_nothing() {
        for (name, mode) in [
            ("disable", PgSslMode::Disable),
            ("prefer", PgSslMode::Prefer),
            ("require", PgSslMode::Require),
            ("verify-ca", PgSslMode::VerifyCa),
            ("verify-full", PgSslMode::VerifyFull),
        ] {
            let address = parse(&format!("postgres://u:p@h/d?sslmode={name}")).unwrap();
            assert_eq!(
                format!("{:?}", address.options.get_ssl_mode()),
                format!("{mode:?}")
            );
        }
        for wrong in ["allow", "on", ""] {
            let error = parse(&format!("postgres://u:p@h/d?sslmode={wrong}")).unwrap_err();
            assert!(error.contains("sslmode is one of"), "{error}");
        }
    }

    #[test]
    fn parameters_that_the_driver_understands_reach_it() {
        let address = parse(
            "postgresql://u:p@h:5433/d?application_name=mine&connect_timeout=7&options=-c%20a%3Db",
        )
        .unwrap();
        assert_eq!(address.options.get_application_name(), Some("mine"));
        assert_eq!(address.options.get_options(), Some("-c a=b"));
        assert_eq!(address.options.get_port(), 5433);
        assert_eq!(address.connect_timeout, Some(Duration::from_secs(7)));
    }

    #[test]
    fn what_would_be_ignored_is_refused_by_its_name() {
        let error = parse("postgres://u:p@h/d?channel_binding=require").unwrap_err();
        assert!(
            error.contains("\"channel_binding\" is not known"),
            "{error}"
        );
    }

    #[test]
    fn no_error_holds_the_password() {
        for url in [
            "postgres://u:hunter2@h:port/d",
            "mysql://u:hunter2@h/d",
            "postgres://u:hunter2@h/d?x=1",
            "postgres://u:hunter2@h/d?port=none",
            "postgres://u:hunter2@h/d?connect_timeout=0",
            "hunter2",
        ] {
            let error = parse(url).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "nothing").unwrap();
        let error = parse(&format!(
            "postgres://u:p@h/d?sslrootcert={}",
            path.display()
        ));
        assert!(error.unwrap_err().contains("holds no PEM certificate"));
        let mut options = PostgresOptions::new("postgres://u:p@h/d".to_owned());
        options.extra_ca = Some(dir.path().join("missing.pem"));
        assert!(matches!(read(&options), Err(OpenError::File { .. })));
    }
}
