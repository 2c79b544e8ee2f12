//! Hiding values whose name says that they could be secret.

use serde_json::Value;

const HIDDEN: &str = "[redacted]";
const SENSITIVE: [&str; 17] = [
    "password",
    "passwd",
    "secret",
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "api_key",
    "apikey",
    "authorization",
    "cookie",
    "set_cookie",
    "client_secret",
    "private_key",
    "session",
    "session_id",
    "assertion",
];

/// The same value with every sensitive member hidden, at any depth.
pub(crate) fn redacted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let hide = |(name, member): (&String, &Value)| {
                let hidden = SENSITIVE.contains(&name.to_lowercase().as_str());
                let shown = if hidden {
                    Value::from(HIDDEN)
                } else {
                    redacted(member)
                };
                (name.clone(), shown)
            };
            Value::Object(members.iter().map(hide).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(redacted).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_compared_in_any_case_and_at_any_depth() {
        let shown = redacted(&json!({
            "Session_ID": "s", "agent_session_id": "a",
            "list": [{ "TOKEN": { "x": 1 } }], "tokens": 3,
        }));
        assert_eq!(
            shown,
            json!({
                "Session_ID": "[redacted]", "agent_session_id": "a",
                "list": [{ "TOKEN": "[redacted]" }], "tokens": 3,
            })
        );
    }
}
