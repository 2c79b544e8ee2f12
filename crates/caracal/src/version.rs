//! `caracal version`, and the order of versions.

use caracal_core::Mode;

/// This binary's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that the binary was built from, when the build said so.
const SHA: &str = match option_env!("CARACAL_BUILD_SHA") {
    Some(sha) => sha,
    None => "unknown",
};

pub(crate) fn text(mode: Mode) -> String {
    format!(
        "Caracal\n  binary   caracal\n  version  {VERSION}\n  mode     {mode}\n  sha      {SHA}\n"
    )
}

pub(crate) fn json(mode: Mode) -> String {
    let document = serde_json::json!({
        "binary": "caracal", "version": VERSION, "mode": mode.as_str(), "sha": SHA
    });
    format!("{document}\n")
}

/// Whether version `left` comes before `right`: dotted numbers, `-rc.N` before its release, a
/// leading `v` ignored. A text that is no version is never older.
pub(crate) fn is_older(left: &str, right: &str) -> bool {
    match (parse(left), parse(right)) {
        (Some(left), Some(right)) => left < right,
        _ => false,
    }
}

fn parse(text: &str) -> Option<(Vec<u64>, u64)> {
    let text = text.trim().trim_start_matches('v');
    let (numbers, candidate) = match text.split_once("-rc.") {
        Some((numbers, candidate)) => (numbers, candidate.parse().ok()?),
        None => (text, u64::MAX),
    };
    let numbers = numbers
        .split('.')
        .map(|part| part.parse().ok())
        .collect::<Option<Vec<_>>>()?;
    Some((numbers, candidate))
}

#[cfg(test)]
mod tests {
    use super::is_older;

    #[test]
    fn a_candidate_comes_before_its_release() {
        assert!(is_older("1.0.0-rc.2", "1.0.0"));
        assert!(is_older("v1.0.0", "1.0.1"));
        assert!(is_older("1.0.9", "1.0.10"));
        assert!(!is_older("1.0.0", "v1.0.0"));
        assert!(!is_older("nonsense", "1.0.0"));
    }
}
