//! One entry for fuzzers: bytes as a policy document, all the way to a decision.

use std::sync::Arc;

use caracal_core::id::PolicyVersionId;
use caracal_core::{Scope, Timestamp};

use crate::{
    Action, DecisionRequest, Delegation, PolicyDocument, Principal, PrincipalKind, ZonePolicy,
};

/// Reads `data` as a policy document; when it is one, compiles it and decides a request with it.
pub fn fuzz_document(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(document) = PolicyDocument::parse(source) else {
        return;
    };
    let Ok(version) = PolicyVersionId::parse("fuzzed") else {
        return;
    };
    let Ok(policy) = ZonePolicy::compile(&[(version, Arc::new(document))]) else {
        return;
    };
    let scopes = [Scope::new("ledger:read")];
    let labels = ["closer".to_owned()];
    let request = DecisionRequest {
        principal: Principal {
            kind: PrincipalKind::Application,
            id: "app-7",
            labels: &labels,
        },
        resource: "resource://ledger",
        action: Action::TokenExchange,
        requested_scopes: &scopes,
        agent_session: true,
        delegation: Some(Delegation {
            id: Some("edge"),
            scopes: &scopes,
        }),
        subject: None,
    };
    drop(
        policy
            .decide(&request, Timestamp::from_seconds(1_767_225_600))
            .to_result_json(),
    );
}
