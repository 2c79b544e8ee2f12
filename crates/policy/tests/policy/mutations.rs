//! Malformed documents are refused, each and every one: valid documents are broken at every place
//! in every way that their shape knows.

use caracal_policy::{DocumentError, PolicyDocument};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::document;

/// A value as it is written: Rego text, or a collection that can be broken further down.
#[derive(Debug, Clone)]
enum Node {
    Text(String),
    Array(Vec<Node>),
    Set(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    fn word(text: &str) -> Self {
        Self::Text(format!("{text:?}"))
    }

    fn object(fields: Vec<(&str, Self)>) -> Self {
        Self::Object(
            fields
                .into_iter()
                .map(|(key, value)| (format!("{key:?}"), value))
                .collect(),
        )
    }

    fn render(&self) -> String {
        let list = |items: &[Self]| {
            items
                .iter()
                .map(Self::render)
                .collect::<Vec<_>>()
                .join(", ")
        };
        match self {
            Self::Text(text) => text.clone(),
            Self::Array(items) => format!("[{}]", list(items)),
            Self::Set(items) if items.is_empty() => "set()".to_owned(),
            Self::Set(items) => format!("{{{}}}", list(items)),
            Self::Object(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(key, value)| format!("{key}: {}", value.render()))
                    .collect();
                format!("{{{}}}", fields.join(", "))
            }
        }
    }
}

/// What a value is for, and with it what it must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    AppIds,
    Grants,
    Grant,
    Roles,
    Held,
    Caps,
    Cap,
    CapScopes,
    CapScope,
    Restrict,
    Window,
    Instant,
    Risk,
    RiskEntry,
    Tiers,
    Tier,
    Approver,
    Privacy,
    Ttl,
    /// A string that is not empty.
    Word,
    /// A string.
    Prefix,
    /// Anything goes.
    Free,
}

const NO_STRINGS: [&str; 6] = ["7", "true", "null", "[]", "{}", "[\"a\"]"];

impl Role {
    /// Texts that are wrong in this place.
    fn wrong(self) -> Vec<&'static str> {
        let scalars = ["7", "1.5", "true", "false", "null", "\"text\"", "\"\""];
        let plus = |more: &[&'static str]| [&scalars[..], more].concat();
        match self {
            Self::AppIds | Self::Grants => plus(&["[]", "set()", "[1]", "{\"a\"}", "{7: \"a\"}"]),
            Self::Roles => plus(&[
                "[]",
                "[[\"a\"]]",
                "set()",
                "{\"\": [\"a\"]}",
                "{7: [\"a\"]}",
            ]),
            Self::Grant | Self::Cap | Self::RiskEntry | Self::Tier => {
                plus(&["[]", "{}", "set()", "[1]", "{\"a\"}"])
            }
            Self::Held => plus(&["[7]", "[\"\"]", "{null}", "{\"a\": 1}", "[[\"a\"]]"]),
            Self::Caps | Self::Risk | Self::Tiers => {
                plus(&["{}", "set()", "{\"a\"}", "{\"0\": {}}", "[7]", "[[]]"])
            }
            Self::CapScopes => plus(&["{}", "{\"a\": \"b\"}", "[7]", "{null}"]),
            Self::Restrict => scalars.to_vec(),
            Self::Instant => {
                let times = [
                    "\"2026-01-01\"",
                    "\"2026-01-01T00:00:00\"",
                    "\"\"",
                    "\"soon\"",
                ];
                [&NO_STRINGS[..], &times[..]].concat()
            }
            Self::Approver | Self::Privacy => {
                [&NO_STRINGS[..], &["\"\"", "\"OPERATOR\"", "\"none\""]].concat()
            }
            Self::Ttl => vec!["0", "-1", "1.5", "\"60\"", "null", "true", "[60]", "{}"],
            Self::Word => [&NO_STRINGS[..], &["\"\"", "{\"a\"}"]].concat(),
            Self::Prefix | Self::CapScope => NO_STRINGS.to_vec(),
            Self::Window | Self::Free => Vec::new(),
        }
    }

    fn child(self, key: &str) -> Self {
        match (self, key) {
            (Self::AppIds, _) => Self::Word,
            (Self::Grants, _) => Self::Grant,
            (Self::Grant, "\"application\"") => Self::Word,
            (Self::Grant, "\"roles\"") => Self::Roles,
            (Self::Roles, _) => Self::Held,
            (Self::Held, _) => Self::Word,
            (Self::Caps, _) => Self::Cap,
            (Self::Cap, "\"label_prefix\"") => Self::Prefix,
            (Self::Cap, "\"scopes\"") => Self::CapScopes,
            (Self::CapScopes, _) => Self::CapScope,
            (Self::Restrict, _) => Self::Window,
            (Self::Window, "\"from\"" | "\"until\"") => Self::Instant,
            (Self::Risk, _) => Self::RiskEntry,
            (Self::RiskEntry | Self::Tier, "\"scope\"" | "\"tier\"") => Self::Word,
            (Self::Tiers, _) => Self::Tier,
            (Self::Tier, "\"approver\"") => Self::Approver,
            (Self::Tier, "\"privacy\"") => Self::Privacy,
            (Self::Tier, "\"ttl_seconds\"") => Self::Ttl,
            _ => Self::Free,
        }
    }

    fn requires(self, key: &str) -> bool {
        match self {
            Self::Grant | Self::Cap | Self::RiskEntry => true,
            Self::Tier => key == "\"tier\"",
            _ => false,
        }
    }

    /// Keys that must not be added.
    fn forbids(self) -> &'static [&'static str] {
        match self {
            Self::Grant | Self::Cap => &["\"extra\"", "\"\"", "7"],
            Self::AppIds | Self::Grants | Self::Roles => &["\"\"", "7"],
            _ => &[],
        }
    }
}

/// Every way to break the value, each as the whole broken value.
fn broken(node: &Node, role: Role) -> Vec<Node> {
    let mut all: Vec<Node> = role
        .wrong()
        .into_iter()
        .map(|text| Node::Text(text.to_owned()))
        .collect();
    match node {
        Node::Text(_) => {}
        Node::Array(items) => all.extend(broken_items(items, role).into_iter().map(Node::Array)),
        Node::Set(items) => all.extend(broken_items(items, role).into_iter().map(Node::Set)),
        Node::Object(fields) => {
            for (at, (key, value)) in fields.iter().enumerate() {
                for value in broken(value, role.child(key)) {
                    let mut fields = fields.clone();
                    fields[at].1 = value;
                    all.push(Node::Object(fields));
                }
                if role.requires(key) {
                    let mut fields = fields.clone();
                    fields.remove(at);
                    all.push(Node::Object(fields));
                }
                let mut doubled = fields.clone();
                doubled.push((key.clone(), Node::word("once more")));
                all.push(Node::Object(doubled));
            }
            for key in role.forbids() {
                let mut fields = fields.clone();
                fields.push(((*key).to_owned(), Node::word("x")));
                all.push(Node::Object(fields));
            }
        }
    }
    if let (Role::Caps | Role::Risk | Role::Tiers, Node::Array(items)) = (role, node) {
        all.push(Node::Set(items.clone()));
        let numbered = items.iter().enumerate();
        all.push(Node::Object(
            numbered
                .map(|(at, item)| (format!("\"{at}\""), item.clone()))
                .collect(),
        ));
    }
    all
}

fn broken_items(items: &[Node], role: Role) -> Vec<Vec<Node>> {
    let mut all = Vec::new();
    for (at, item) in items.iter().enumerate() {
        for item in broken(item, role.child("")) {
            let mut items = items.to_vec();
            items[at] = item;
            all.push(items);
        }
    }
    all
}

fn word() -> BoxedStrategy<String> {
    select(
        &[
            "a",
            "books",
            "ledger:read",
            "resource://ledger",
            "tenant:acme",
            "é ü",
        ][..],
    )
    .prop_map(str::to_owned)
    .boxed()
}

fn keyed(value: BoxedStrategy<Node>) -> BoxedStrategy<Node> {
    proptest::collection::btree_map(word(), value, 1..4)
        .prop_map(|fields| {
            Node::Object(
                fields
                    .into_iter()
                    .map(|(key, value)| (format!("{key:?}"), value))
                    .collect(),
            )
        })
        .boxed()
}

fn text() -> BoxedStrategy<Node> {
    word().prop_map(|word| Node::word(&word)).boxed()
}

fn scopes(with_objects: bool) -> BoxedStrategy<Node> {
    (
        proptest::collection::btree_set(word(), 1..4),
        0..if with_objects { 3 } else { 2 },
    )
        .prop_map(|(words, form)| {
            let words = words.iter().map(|word| Node::word(word));
            match form {
                0 => Node::Array(words.collect()),
                1 => Node::Set(words.collect()),
                _ => Node::Object(
                    words
                        .enumerate()
                        .map(|(at, word)| (format!("\"{at}\""), word))
                        .collect(),
                ),
            }
        })
        .boxed()
}

fn valid() -> BoxedStrategy<(&'static str, Role, Node)> {
    let grant = (text(), keyed(scopes(true))).prop_map(|(application, roles)| {
        Node::object(vec![("application", application), ("roles", roles)])
    });
    let cap = (text(), scopes(false)).prop_map(|(prefix, scopes)| {
        Node::object(vec![("label_prefix", prefix), ("scopes", scopes)])
    });
    let window = select(vec![
        vec![("from", "2026-01-01T00:00:00Z")],
        vec![("until", "2026-01-01T00:00:00+02:00")],
        vec![
            ("from", "2026-01-01T00:00:00Z"),
            ("until", "2026-01-02T00:00:00Z"),
        ],
    ])
    .prop_map(|ends| {
        Node::object(
            ends.into_iter()
                .map(|(name, time)| (name, Node::word(time)))
                .collect(),
        )
    });
    let entry = (text(), text())
        .prop_map(|(scope, tier)| Node::object(vec![("scope", scope), ("tier", tier)]));
    let optional = |words: &'static [&'static str]| option::of(select(words).prop_map(Node::word));
    let tier = (
        text(),
        optional(&["operator", "subject", "any"]),
        optional(&["identified", "pseudonymous", "anonymous"]),
        option::of(select(&["1", "60.0", "86400"][..]).prop_map(|ttl| Node::Text(ttl.to_owned()))),
    )
        .prop_map(|(tier, approver, privacy, ttl)| {
            let given = [
                ("tier", Some(tier)),
                ("approver", approver),
                ("privacy", privacy),
                ("ttl_seconds", ttl),
            ];
            let given = given
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)));
            Node::object(given.collect())
        });
    let list = |item: BoxedStrategy<Node>| vec(item, 1..4).prop_map(Node::Array);
    let restrict = (vec(window, 1..3), 0..3).prop_map(|(windows, form)| match form {
        0 => Node::Array(windows),
        1 => Node::Set(windows),
        _ => Node::Object(
            windows
                .into_iter()
                .enumerate()
                .map(|(at, w)| (format!("\"{at}\""), w))
                .collect(),
        ),
    });
    prop_oneof![
        keyed(text()).prop_map(|node| ("app_ids", Role::AppIds, node)),
        keyed(grant.boxed()).prop_map(|node| ("grants", Role::Grants, node)),
        list(cap.boxed()).prop_map(|node| ("confinement", Role::Caps, node)),
        restrict.prop_map(|node| ("restrict", Role::Restrict, node)),
        list(entry.boxed()).prop_map(|node| ("risk", Role::Risk, node)),
        list(tier.boxed()).prop_map(|node| ("approval_tiers", Role::Tiers, node)),
    ]
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_broken_document_is_refused_for_its_shape((name, role, node) in valid()) {
        let whole = document(&format!("{name} := {}", node.render()));
        prop_assert!(PolicyDocument::parse(&whole).is_ok(), "{}", whole);
        let broken = broken(&node, role);
        prop_assert!(broken.len() >= 7);
        for broken in broken {
            let text = document(&format!("{name} := {}", broken.render()));
            let refused = PolicyDocument::parse(&text);
            let for_its_shape = matches!(
                &refused,
                Err(DocumentError::InvalidShape { path, .. }) if !path.is_empty()
            );
            prop_assert!(for_its_shape, "{refused:?}\n{text}");
        }
    }
}
