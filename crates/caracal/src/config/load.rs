//! From the environment to checked settings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use caracal_core::{Mode, Secret};
use thiserror::Error;

use super::variables::{Kind, Need, Role, VARIABLES, Variable};

/// The variables of the process, as a value, so that tests need not touch the real ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The process's environment; values that are not UTF-8 are left out.
    pub(crate) fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// The value of a variable that a file may give: `NAME`, else the text of the file that
    /// `NAME_FILE` names.
    ///
    /// # Errors
    /// [`ConfigError`] when the file can't be read or is empty.
    pub(crate) fn secret(&self, name: &str) -> Result<Option<Secret<String>>, ConfigError> {
        if let Some(value) = self.get(name) {
            return Ok(Some(Secret::new(value.to_owned())));
        }
        let value = read_file(self, name).map_err(|defect| ConfigError(vec![defect]))?;
        Ok(value.map(Secret::new))
    }

    /// Sets a variable that is neither set nor given by a file.
    pub(crate) fn set_default(&mut self, name: &str, value: impl Into<String>) {
        if self.get(name).is_none() && self.get(&format!("{name}_FILE")).is_none() {
            self.set(name, value);
        }
    }

    /// Drops each `CARACAL_*` variable whose value stands in a dotenv file of `directory`: a
    /// project's file must not steer the operator's tool.
    pub(crate) fn forget_project_variables(&mut self, directory: &Path) {
        for name in [".env", ".env.local", ".env.production", ".env.development"] {
            let Ok(text) = std::fs::read_to_string(directory.join(name)) else {
                continue;
            };
            for (name, value) in assignments(&text) {
                if name.starts_with("CARACAL_") && self.get(&name) == Some(value.as_str()) {
                    self.0.remove(&name);
                }
            }
        }
    }

    /// Fills unset variables from the operator's file.
    pub(crate) fn fill_from_file(&mut self, path: &Path) {
        let Ok(text) = std::fs::read_to_string(path) else {
            return;
        };
        for (name, value) in assignments(&text) {
            self.set_default(&name, value);
        }
    }
}

fn assignments(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line);
            if line.starts_with('#') {
                return None;
            }
            let (name, value) = line.split_once('=')?;
            let value = value.trim();
            let unquoted = ['"', '\'']
                .into_iter()
                .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
                .unwrap_or(value);
            Some((name.trim().to_owned(), unquoted.to_owned()))
        })
        .collect()
}

/// Everything that is wrong with the configuration, one line each.
#[derive(Debug, Error)]
#[error("the configuration is not usable:\n{}", .0.join("\n"))]
pub(crate) struct ConfigError(pub(crate) Vec<String>);

/// Checked values of the variables that the chosen roles read.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    values: BTreeMap<&'static str, Secret<String>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads and checks every variable of `roles`.
    ///
    /// # Errors
    /// [`ConfigError`] with one line for each defect, naming the variable.
    pub(crate) fn load(
        environment: &Environment,
        roles: &BTreeSet<Role>,
        default_mode: Mode,
        embedded: bool,
    ) -> Result<Self, ConfigError> {
        let mut defects = Vec::new();
        let mode = match environment.get("CARACAL_MODE").map(str::parse) {
            None => default_mode,
            Some(Ok(mode)) => mode,
            Some(Err(error)) => {
                return Err(ConfigError(vec![format!("CARACAL_MODE: {error}")]));
            }
        };
        let mut values = BTreeMap::new();
        for variable in VARIABLES {
            if !variable.roles.iter().any(|role| roles.contains(role)) {
                continue;
            }
            match read(environment, variable, mode, embedded) {
                Ok(Some(value)) => {
                    values.insert(variable.name, Secret::new(value));
                }
                Ok(None) => {}
                Err(defect) => defects.push(format!("{}: {defect}", variable.name)),
            }
        }
        let settings = Self { mode, values };
        settings.check_together(roles, &mut defects);
        if !embedded {
            settings.check_apart(roles, &mut defects);
        }
        if defects.is_empty() {
            Ok(settings)
        } else {
            Err(ConfigError(defects))
        }
    }

    fn check_together(&self, roles: &BTreeSet<Role>, defects: &mut Vec<String>) {
        for name in ["INSECURE_STS", "INSECURE_HTTP"] {
            if self.mode.is_published() && self.flag(name) {
                defects.push(format!("{name}: not allowed in {}; unset it", self.mode));
            }
        }
        if self.flag("JTI_FAIL_OPEN") {
            defects.push("JTI_FAIL_OPEN: a mandate is never accepted without a replay mark".into());
        }
        if let Some(port) = self.text("PORT") {
            let alone = roles.first().filter(|_| roles.len() == 1);
            match alone {
                Some(role) if port == role.port().to_string() => {}
                Some(role) => defects.push(format!(
                    "PORT: the {role} role listens on {}; use {} to move it",
                    role.port(),
                    role.listen_variable()
                )),
                None => defects.push(
                    "PORT: only for a role alone; use CARACAL_<ROLE>_LISTEN for several".into(),
                ),
            }
        }
        if self.text("CARACAL_OPS_PORT").is_some() && roles.len() != 1 {
            defects.push("CARACAL_OPS_PORT: only for a role alone".into());
        }
        if roles.contains(&Role::Gateway) {
            let budget = self.duration("STS_TIMEOUT") + self.duration("UPSTREAM_TIMEOUT");
            if self.duration("READ_TIMEOUT") <= budget {
                defects.push("READ_TIMEOUT: must exceed STS_TIMEOUT plus UPSTREAM_TIMEOUT".into());
            }
            if self.text("TLS_CERT_FILE").is_some() != self.text("TLS_KEY_FILE").is_some() {
                defects.push("TLS_KEY_FILE: set it together with TLS_CERT_FILE, or neither".into());
            }
        }
        if self.mode.is_published()
            && self
                .text("CARACAL_ADMIN_TOKEN")
                .is_some_and(|token| token.len() < 32)
        {
            defects.push("CARACAL_ADMIN_TOKEN: at least 32 characters".into());
        }
    }

    /// What roles on PostgreSQL and Redis need beyond their single variables.
    fn check_apart(&self, roles: &BTreeSet<Role>, defects: &mut Vec<String>) {
        for role in roles {
            if self.database(*role).is_none() {
                defects.push(format!(
                    "DATABASE_URL: not set (or DATABASE_URL_FILE); the {role} role needs it or {}",
                    role.database_variable()
                ));
                break;
            }
        }
        if roles.contains(&Role::Gateway) && !roles.contains(&Role::Sts) {
            if self.text("STS_URL").is_none() {
                defects.push("STS_URL: not set; the Gateway asks the STS there".into());
            }
            if self.text("GATEWAY_STS_HMAC_KEY").is_none() {
                defects.push(
                    "GATEWAY_STS_HMAC_KEY: not set; it signs what the Gateway asks the STS".into(),
                );
            }
        }
    }

    /// The role's PostgreSQL.
    pub(crate) fn database(&self, role: Role) -> Option<Secret<String>> {
        self.secret(role.database_variable())
            .or_else(|| self.secret("DATABASE_URL"))
    }

    /// The value as text; `None` when unset and without a default.
    pub(crate) fn text(&self, name: &'static str) -> Option<&str> {
        self.values.get(name).map(|value| value.expose().as_str())
    }

    /// A secret value.
    pub(crate) fn secret(&self, name: &'static str) -> Option<Secret<String>> {
        self.values.get(name).cloned()
    }

    /// A checked whole number; 0 when unset.
    pub(crate) fn integer(&self, name: &'static str) -> i64 {
        self.text(name)
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    }

    /// A checked whole number, as the size that it is.
    pub(crate) fn size(&self, name: &'static str) -> usize {
        usize::try_from(self.integer(name)).unwrap_or(usize::MAX)
    }

    /// A checked whole number, as a count.
    pub(crate) fn count(&self, name: &'static str) -> u32 {
        u32::try_from(self.integer(name)).unwrap_or(u32::MAX)
    }

    /// A number of milliseconds.
    pub(crate) fn millis(&self, name: &'static str) -> Duration {
        Duration::from_millis(u64::try_from(self.integer(name)).unwrap_or(0))
    }

    /// A checked duration; zero when unset.
    pub(crate) fn duration(&self, name: &'static str) -> Duration {
        self.text(name).and_then(parse_duration).unwrap_or_default()
    }

    /// A checked flag; false when unset.
    pub(crate) fn flag(&self, name: &'static str) -> bool {
        self.text(name).and_then(parse_flag).unwrap_or(false)
    }

    /// The parts of a comma list, trimmed and lower-cased.
    pub(crate) fn list(&self, name: &'static str) -> Vec<String> {
        let parts = self.text(name).unwrap_or_default().split(',');
        parts
            .map(|part| part.trim().to_lowercase())
            .filter(|part| !part.is_empty())
            .collect()
    }

    /// A path.
    pub(crate) fn path(&self, name: &'static str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// Where operational routes are served, when not on the role's own port.
    pub(crate) fn operations(&self) -> Option<SocketAddr> {
        let port = u16::try_from(self.integer("CARACAL_OPS_PORT")).unwrap_or(0);
        self.text("CARACAL_OPS_PORT")
            .map(|_| SocketAddr::new(self.host(), port))
    }

    fn host(&self) -> IpAddr {
        let host = self.text("HOST").and_then(|host| host.parse().ok());
        let any = if self.mode.is_published() {
            [0, 0, 0, 0]
        } else {
            [127, 0, 0, 1]
        };
        host.unwrap_or_else(|| any.into())
    }

    /// Where the role listens.
    pub(crate) fn listen(&self, role: Role) -> SocketAddr {
        let moved = self
            .text(role.listen_variable())
            .and_then(|text| text.parse().ok());
        moved.unwrap_or_else(|| SocketAddr::new(self.host(), role.port()))
    }
}

fn read(
    environment: &Environment,
    variable: &Variable,
    mode: Mode,
    embedded: bool,
) -> Result<Option<String>, String> {
    let given = match environment.get(variable.name) {
        Some(value) => Some(value.to_owned()),
        None if variable.file => read_file(environment, variable.name)?,
        None => None,
    };
    if let Some(value) = given {
        check(variable.kind, &value)?;
        return Ok(Some(value));
    }
    match variable.need {
        Need::Optional => Ok(None),
        Need::Default(value) => Ok(Some(value.to_owned())),
        Need::Published if !mode.is_published() => Ok(None),
        Need::Apart if embedded => Ok(None),
        Need::Required | Need::Published | Need::Apart => Err(missing(variable)),
    }
}

fn missing(variable: &Variable) -> String {
    let file = if variable.file {
        format!(" (or {}_FILE)", variable.name)
    } else {
        String::new()
    };
    format!(
        "not set{file}; it is a {}: {}",
        variable.kind.name(),
        variable.about
    )
}

fn read_file(environment: &Environment, name: &str) -> Result<Option<String>, String> {
    let Some(path) = environment.get(&format!("{name}_FILE")) else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{name}_FILE {path} can't be read: {error}"))?;
    let value = text.trim_end_matches([' ', '\t', '\r', '\n']);
    if value.is_empty() {
        return Err(format!("{name}_FILE {path} is empty"));
    }
    Ok(Some(value.to_owned()))
}

fn check(kind: Kind, value: &str) -> Result<(), String> {
    match kind {
        Kind::Text | Kind::Secret | Kind::List | Kind::Path => Ok(()),
        Kind::HexKey => match hex::decode(value) {
            Ok(bytes) if bytes.len() >= 32 => Ok(()),
            _ => Err("hex of at least 32 bytes; `openssl rand -hex 32` makes one".into()),
        },
        Kind::Kek => caracal_crypto::Kek::from_hex(&Secret::new(value.to_owned()))
            .map(|_| ())
            .map_err(|error| error.to_string()),
        Kind::Integer { min, max } => match value.trim().parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(()),
            _ if max == i64::MAX => Err(format!("a whole number from {min}, not {value:?}")),
            _ => Err(format!("a whole number from {min} to {max}, not {value:?}")),
        },
        Kind::Flag => match parse_flag(value) {
            Some(_) => Ok(()),
            None => Err(format!("true or false, not {value:?}")),
        },
        Kind::Duration => match parse_duration(value) {
            Some(_) => Ok(()),
            None => Err(format!(
                "a positive duration like 250ms, 30s or 5m, not {value:?}"
            )),
        },
        Kind::Url => check_url(value),
        Kind::Connection(schemes) => match value.split_once(':') {
            Some((scheme, _)) if schemes.contains(&scheme) => Ok(()),
            _ => Err(format!("a URL that begins with {}:", schemes.join(": or "))),
        },
        Kind::Word(words) => {
            let word = value.trim().to_ascii_lowercase();
            if words.contains(&word.as_str()) {
                Ok(())
            } else {
                Err(format!("one of {}, not {value:?}", words.join(", ")))
            }
        }
        Kind::Listen => match value.parse::<SocketAddr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("address:port, not {value:?}")),
        },
    }
}

fn check_url(value: &str) -> Result<(), String> {
    let url = url::Url::parse(value).map_err(|error| format!("no absolute URL: {error}"))?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if plain {
        Ok(())
    } else {
        Err("an http or https URL without user info, query or fragment".into())
    }
}

fn parse_flag(value: &str) -> Option<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn parse_duration(value: &str) -> Option<Duration> {
    humantime::parse_duration(value.trim())
        .ok()
        .filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let mut environment = Environment::default();
        for (name, value) in pairs {
            environment.set(name, *value);
        }
        Settings::load(
            &environment,
            &BTreeSet::from([Role::Gateway]),
            Mode::Dev,
            true,
        )
    }

    #[test]
    fn every_defect_is_reported_with_its_variable() {
        let error = gateway(&[
            ("STS_TIMEOUT", "soon"),
            ("TRUST_PROXY", "maybe"),
            ("MAX_REQUEST_BYTES", "-1"),
        ])
        .unwrap_err()
        .to_string();
        for name in ["STS_TIMEOUT", "TRUST_PROXY", "MAX_REQUEST_BYTES"] {
            assert!(error.contains(&format!("{name}: ")), "{error}");
        }
    }

    #[test]
    fn a_missing_store_is_fatal_for_roles_apart() {
        let roles = BTreeSet::from([Role::Audit]);
        let error = Settings::load(&Environment::default(), &roles, Mode::Stable, false)
            .unwrap_err()
            .to_string();
        for name in ["DATABASE_URL", "REDIS_URL", "AUDIT_HMAC_KEY"] {
            assert!(error.contains(&format!("{name}: not set")), "{error}");
        }
    }

    #[test]
    fn a_file_gives_the_value_without_its_line_end_and_the_name_wins() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from-file\r\n").unwrap();
        let path = file.path().to_str().unwrap();
        let settings = gateway(&[("METRICS_BEARER_FILE", path)]).unwrap();
        assert_eq!(settings.text("METRICS_BEARER"), Some("from-file"));
        let settings =
            gateway(&[("METRICS_BEARER_FILE", path), ("METRICS_BEARER", "named")]).unwrap();
        assert_eq!(settings.text("METRICS_BEARER"), Some("named"));
    }

    #[test]
    fn an_empty_or_missing_secret_file_is_fatal() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\n").unwrap();
        let error = gateway(&[("METRICS_BEARER_FILE", file.path().to_str().unwrap())]).unwrap_err();
        assert!(error.to_string().contains("is empty"));
        let error = gateway(&[("METRICS_BEARER_FILE", "/nonexistent/bearer")]).unwrap_err();
        assert!(error.to_string().contains("can't be read"));
    }

    #[test]
    fn insecure_switches_and_a_foreign_port_are_refused() {
        let error = gateway(&[("CARACAL_MODE", "stable"), ("INSECURE_HTTP", "yes")]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("INSECURE_HTTP: not allowed in stable")
        );
        let error = gateway(&[("PORT", "9999")]).unwrap_err();
        assert!(error.to_string().contains("CARACAL_GATEWAY_LISTEN"));
        let error = gateway(&[("CARACAL_MODE", "production")]).unwrap_err();
        assert!(error.to_string().contains("CARACAL_MODE"));
    }

    #[test]
    fn a_projects_dotenv_never_steers_the_tool() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join(".env"),
            "CARACAL_HOME=\"/evil\"\nOTHER=1\n",
        )
        .unwrap();
        let mut environment = Environment::default();
        environment.set("CARACAL_HOME", "/evil");
        environment.set("OTHER", "1");
        environment.forget_project_variables(directory.path());
        assert_eq!(environment.get("CARACAL_HOME"), None);
        assert_eq!(environment.get("OTHER"), Some("1"));
    }
}
