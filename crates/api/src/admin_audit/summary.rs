//! What a change was about, without its values.
//!
//! The admin audit names the fields that a caller sent, never what it sent in them. Names of secrets
//! are left out too; that one was replaced is said by a flag.

use serde_json::Value;

const MAX_DEPTH: usize = 3;
const MAX_FIELDS: usize = 64;
const SECRET_NAMES: [&str; 10] = [
    "client_secret",
    "secret",
    "password",
    "token",
    "private_key",
    "api_key",
    "assertion",
    "bearer_token",
    "access_token",
    "refresh_token",
];

/// What kind of change a mutation made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    /// A new object.
    Create,
    /// Fields of an object.
    Update,
    /// An object is gone.
    Delete,
    /// A verb on an object.
    Action,
    /// A secret was replaced.
    SecretRotation,
}

impl ChangeKind {
    /// The name in the audit row.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Action => "action",
            Self::SecretRotation => "secret_rotation",
        }
    }
}

/// The fields that a body names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NamedFields {
    /// Sorted dotted names, at most 64.
    pub(crate) changed: Vec<String>,
    /// Whether one of the fields is a secret.
    pub(crate) has_secret: bool,
}

impl NamedFields {
    /// Walks a body, at most three levels deep.
    pub(crate) fn of(body: Option<&Value>) -> Self {
        let mut named = Self::default();
        if let Some(body) = body {
            named.walk(body, "", 1);
        }
        named.changed.sort();
        named.changed.truncate(MAX_FIELDS);
        named
    }

    fn walk(&mut self, value: &Value, prefix: &str, depth: usize) {
        let Value::Object(members) = value else {
            return;
        };
        for (name, member) in members {
            if SECRET_NAMES.contains(&name.to_lowercase().as_str()) {
                self.has_secret = true;
                continue;
            }
            let path = if prefix.is_empty() {
                name.clone()
            } else {
                format!("{prefix}.{name}")
            };
            if depth < MAX_DEPTH && member.as_object().is_some_and(|inner| !inner.is_empty()) {
                self.walk(member, &path, depth + 1);
            } else {
                self.changed.push(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_dotted_and_sorted_and_secrets_are_left_out() {
        let body = json!({
            "name": "n",
            "config_json": { "header_name": "K", "API_KEY": "s3cret", "deep": { "a": { "b": 1 } } },
        });
        let named = NamedFields::of(Some(&body));
        assert_eq!(
            named.changed,
            ["config_json.deep.a", "config_json.header_name", "name"]
        );
        assert!(named.has_secret);
    }

    #[test]
    fn no_body_names_nothing() {
        assert_eq!(NamedFields::of(None), NamedFields::default());
        assert_eq!(NamedFields::of(Some(&json!([1]))), NamedFields::default());
    }

    proptest! {
        #[test]
        fn a_value_is_never_named(secret in "[a-z]{12}") {
            let body = json!({ "a": secret, "b": { "c": [secret] } });
            let named = NamedFields::of(Some(&body));
            prop_assert!(named.changed.iter().all(|name| !name.contains(&secret)));
        }
    }
}
