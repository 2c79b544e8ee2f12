//! One check: a name, a verdict, what was found, and the remedy where there is something to do.

use std::fmt::Write as _;

use serde::Serialize;

use crate::logging::scrub_lines;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    /// It works, but something should be done.
    Warn,
    /// It does not work, or not safely.
    Fail,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    name: &'static str,
    pub(crate) verdict: Verdict,
    found: String,
    remedy: Option<String>,
}

impl Check {
    pub(crate) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, found, None)
    }

    pub(crate) fn warn(
        name: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(name, Verdict::Warn, found, Some(remedy.into()))
    }

    pub(crate) fn fail(
        name: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(name, Verdict::Fail, found, Some(remedy.into()))
    }

    fn new(
        name: &'static str,
        verdict: Verdict,
        found: impl Into<String>,
        remedy: Option<String>,
    ) -> Self {
        let found = scrub_lines(&found.into()).replace('\n', "; ");
        Self {
            name,
            verdict,
            found,
            remedy,
        }
    }
}

pub(super) fn text(checks: &[Check]) -> String {
    let mut out = String::new();
    for check in checks {
        let mark = match check.verdict {
            Verdict::Ok => "✓ ok  ",
            Verdict::Warn => "⚠ warn",
            Verdict::Fail => "✗ fail",
        };
        let _ = write!(out, "{mark}  {:<16} {}", check.name, check.found);
        let _ = match &check.remedy {
            Some(remedy) => writeln!(out, " → {remedy}"),
            None => writeln!(out),
        };
    }
    out
}

pub(super) fn json(checks: &[Check]) -> String {
    let count = |verdict| checks.iter().filter(|c| c.verdict == verdict).count();
    let document = serde_json::json!({
        "ok": count(Verdict::Ok), "warn": count(Verdict::Warn), "fail": count(Verdict::Fail),
        "checks": checks,
    });
    format!("{document:#}\n")
}

/// A number of bytes as people read it.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = count;
    while whole >= 10_240 && unit + 1 < UNITS.len() {
        whole /= 1_024;
        unit += 1;
    }
    format!("{whole} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_one_line_and_hides_secrets() {
        let checks = [
            Check::ok("one", "fine"),
            Check::fail("two", "refused: Bearer abc.def\nsecond", "do this"),
        ];
        let shown = text(&checks);
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(
            shown.contains("refused: Bearer ***; second → do this"),
            "{shown}"
        );
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(20 * 1_024 * 1_024), "20 MiB");
    }
}
