//! The upstream request target: the configured base, then the caller's own bytes.

/// Joins the configured base path with the caller's raw path, with one slash between them.
pub(super) fn join(base: &str, requested: &str) -> String {
    if base.is_empty() || base == "/" {
        return if requested.is_empty() {
            "/".to_owned()
        } else {
            requested.to_owned()
        };
    }
    if requested.is_empty() || requested == "/" {
        return base.to_owned();
    }
    let base = base.strip_suffix('/').unwrap_or(base);
    let slash = if requested.starts_with('/') { "" } else { "/" };
    format!("{base}{slash}{requested}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn base_and_path_meet_in_one_slash() {
        for (base, requested, joined) in [
            ("/", "/v1/items", "/v1/items"),
            ("", "/v1/items", "/v1/items"),
            ("", "", "/"),
            ("/mcp/", "/tool", "/mcp/tool"),
            ("/mcp", "/tool", "/mcp/tool"),
            ("/mcp", "/", "/mcp"),
            ("/mcp/", "/", "/mcp/"),
            ("/base", "/v1/items/", "/base/v1/items/"),
            ("/base", "//x", "/base//x"),
            ("/base", "/a%2Fb", "/base/a%2Fb"),
        ] {
            assert_eq!(join(base, requested), joined, "{base} + {requested}");
        }
    }

    proptest! {
        #[test]
        fn the_callers_bytes_are_kept(base in "(/[a-z]{1,4}){0,3}", path in "(/[a-zA-Z0-9%;=]{0,6}){1,4}") {
            prop_assume!(path != "/");
            prop_assert!(join(&base, &path).ends_with(&path));
            prop_assert!(join(&base, &path).starts_with(&base));
        }
    }
}
