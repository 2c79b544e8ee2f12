//! Policy documents to start from.

use serde::Serialize;

/// A document with sample data, ready to be edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PolicyTemplate {
    /// Stable id.
    pub id: &'static str,
    /// Name for people.
    pub name: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// The document; it validates as it stands.
    pub content: &'static str,
}

/// All templates, in the order in which a zone usually needs them.
#[must_use]
pub fn templates() -> &'static [PolicyTemplate] {
    &TEMPLATES
}

const TEMPLATES: [PolicyTemplate; 5] = [
    PolicyTemplate {
        id: "application-bindings",
        name: "Application bindings",
        description: "Gives applications readable keys, so that grants need not repeat their ids.",
        content: r#"# caracal:data-document
# Binding key to application id. Several keys may name one application.
package caracal.authz

import rego.v1

app_ids := {
    "books": "replace-with-the-application-id",
    "support": "replace-with-another-application-id",
}
"#,
    },
    PolicyTemplate {
        id: "resource-grants",
        name: "Resource grants",
        description: "Says which application owns a view of a resource, and which scopes each \
                      Session label may hold there.",
        content: r#"# caracal:data-document
# One label's role must hold every scope of a request: roles are never added up.
package caracal.authz

import rego.v1

grants := {
    "resource://ledger": {
        "application": "books",
        "roles": {
            "closer": ["ledger:read", "ledger:write"],
        },
    },
}
"#,
    },
    PolicyTemplate {
        id: "label-confinement",
        name: "Label confinement",
        description: "Caps what Sessions may hold when one of their labels has a prefix, whatever \
                      their roles say.",
        content: r#"# caracal:data-document
# Every cap that applies must hold all requested scopes; it is checked again at each use.
package caracal.authz

import rego.v1

confinement := [
    {
        "label_prefix": "customer:",
        "scopes": ["ledger:read"],
    },
]
"#,
    },
    PolicyTemplate {
        id: "zone-restriction",
        name: "Zone restriction",
        description: "Freezes the whole zone: at once with any entry, or within a window of time.",
        content: r#"# caracal:data-document
# Empty means not frozen. An entry freezes the zone, for example:
#   "year-end": {"from": "2026-12-31T22:00:00Z", "until": "2027-01-01T02:00:00Z"}
# Without from and until it freezes until it is removed.
package caracal.authz

import rego.v1

restrict := {}
"#,
    },
    PolicyTemplate {
        id: "risk-approvals",
        name: "Risk and approvals",
        description: "Classifies scopes by risk, and holds mints of a tier until a human approves.",
        content: r#"# caracal:data-document
# Every mint that asks for a scope of a gated tier waits for the approver of that tier.
package caracal.authz

import rego.v1

risk := [
    {"scope": "ledger:write", "tier": "high"},
]

approval_tiers := [
    {"tier": "high", "approver": "operator", "ttl_seconds": 3600, "privacy": "identified"},
]
"#,
    },
];
