//! Whether the roles would start with this configuration.

use std::collections::BTreeSet;

use caracal_core::Mode;

use super::check::Check;
use crate::config::{Environment, Role, Settings};

const NAME: &str = "configuration";

pub(super) fn examine(
    environment: &Environment,
    roles: &BTreeSet<Role>,
    embedded: bool,
) -> Vec<Check> {
    let mode = if embedded { Mode::Dev } else { Mode::Stable };
    match Settings::load(environment, roles, mode, embedded) {
        Ok(settings) => {
            let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
            let found = format!("complete for {} in {}", names.join(","), settings.mode);
            vec![Check::ok(NAME, found)]
        }
        Err(error) => error.0.iter().map(|defect| wrong(defect)).collect(),
    }
}

fn wrong(defect: &str) -> Check {
    let variable = defect.split(':').next().unwrap_or(defect);
    let remedy =
        format!("correct {variable}; `caracal config print --schema` describes every variable");
    Check::fail(NAME, defect, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn each_defect_is_a_line_of_its_own() {
        let mut environment = Environment::default();
        environment.set("LOG_LEVEL", "loud");
        environment.set("AUDIT_RETENTION_DAYS", "soon");
        let checks = examine(&environment, &BTreeSet::from([Role::Audit]), true);
        assert_eq!(checks.len(), 2, "{checks:?}");
        assert!(checks.iter().all(|check| check.verdict == Verdict::Fail));
    }
}
