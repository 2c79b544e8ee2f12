//! `caracal config print`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::json;

use super::load::Settings;
use super::variables::{Need, Role, VARIABLES};

/// The effective settings of the roles, one `NAME=value` a line; secrets are masked.
pub(crate) fn print(settings: &Settings, roles: &BTreeSet<Role>) -> String {
    let mut out = format!("CARACAL_MODE={}\n", settings.mode);
    let mut named = BTreeSet::from(["CARACAL_MODE"]);
    for variable in VARIABLES {
        let mine = variable.roles.iter().any(|role| roles.contains(role));
        if !mine || !named.insert(variable.name) {
            continue;
        }
        let shown = match settings.text(variable.name) {
            Some(_) if variable.kind.is_secret() => "***",
            Some(value) => value,
            None => continue,
        };
        let _ = writeln!(out, "{}={shown}", variable.name);
    }
    out
}

/// The table of variables as JSON: what a chart or a compose file may set for which role.
pub(crate) fn print_schema() -> String {
    let rows: Vec<_> = VARIABLES
        .iter()
        .map(|variable| {
            let (need, default) = match variable.need {
                Need::Optional => ("optional", None),
                Need::Default(value) => ("default", Some(value)),
                Need::Required => ("required", None),
                Need::Published => ("required_when_published", None),
                Need::Apart => ("required_by_serve", None),
            };
            json!({
                "name": variable.name,
                "roles": variable.roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
                "kind": variable.kind.name(),
                "secret": variable.kind.is_secret(),
                "file": variable.file,
                "need": need,
                "default": default,
                "about": variable.about,
            })
        })
        .collect();
    format!("{:#}\n", json!({ "variables": rows }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use caracal_core::Mode;

    #[test]
    fn secrets_are_masked() {
        let mut environment = Environment::default();
        environment.set("METRICS_BEARER", "very-secret-bearer");
        environment.set("UPSTREAM_TIMEOUT", "7s");
        let roles = BTreeSet::from([Role::Gateway]);
        let settings = Settings::load(&environment, &roles, Mode::Dev, true).unwrap();
        let text = print(&settings, &roles);
        assert!(text.contains("METRICS_BEARER=***\n"), "{text}");
        assert!(text.contains("UPSTREAM_TIMEOUT=7s\n"), "{text}");
        assert!(!text.contains("very-secret"), "{text}");
    }
}
