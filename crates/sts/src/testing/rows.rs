//! Rows as the other roles would write them.

use std::sync::Arc;

use caracal_core::id::{
    ApplicationId, AuthorityRecordId, DelegationId, ProviderId, ResourceId, SessionId, ZoneId,
};
use caracal_core::{ResourceIdentifier, Scope, ScopeSet, SubjectType, Timestamp};
use caracal_store::entity::{
    Application, Attribution, AuthorityRecord, Constraints, Delegation, DelegationStatus,
    Enforcement, Lifecycle, Operation, Provider, ProviderKind, RecordStatus, RegistrationMethod,
    Resource, Session, SessionStatus, Zone,
};
use caracal_store::{Authority, Store};
use serde_json::Map;

use super::ZONE;

/// When every test begins.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_767_225_600);

pub(crate) fn zone_id() -> ZoneId {
    ZoneId::parse(ZONE).unwrap()
}

pub(crate) fn zone(id: &str) -> Zone {
    Zone {
        id: ZoneId::parse(id).unwrap(),
        name: id.to_owned(),
        slug: id.to_owned(),
        dcr_enabled: false,
        operator_coauthor_badge: false,
        operator_governed: false,
        owner_account_id: None,
        attribution: Attribution::default(),
        created_at: START,
        updated_at: START,
        archived_at: None,
    }
}

pub(crate) fn application(id: &str) -> Application {
    Application {
        id: ApplicationId::parse(id).unwrap(),
        zone_id: zone_id(),
        name: format!("the {id}"),
        registration_method: RegistrationMethod::Managed,
        traits: Vec::new(),
        secret_hash: None,
        sealed_secret: None,
        expires_at: None,
        attribution: Attribution::default(),
        created_at: START,
        updated_at: None,
        archived_at: None,
    }
}

pub(crate) fn provider(id: &str) -> Provider {
    Provider {
        id: ProviderId::parse(id).unwrap(),
        zone_id: zone_id(),
        name: id.to_owned(),
        identifier: format!("provider://{id}"),
        kind: ProviderKind::None,
        config: Map::new(),
        secret_config_keys: Vec::new(),
        sealed_config: None,
        connectivity_failed_at: None,
        attribution: Attribution::default(),
        created_at: START,
        updated_at: START,
        archived_at: None,
    }
}

/// A resource with one declared operation, `GET /entries` for its first scope.
pub(crate) fn resource(identifier: &str, scopes: &[&str]) -> Resource {
    let row = format!("res-{}", identifier.trim_start_matches("resource://"));
    Resource {
        id: ResourceId::parse(&row).unwrap(),
        zone_id: zone_id(),
        name: identifier.to_owned(),
        identifier: ResourceIdentifier::new(identifier),
        upstream_url: Some("http://ledger-upstream:9000".to_owned()),
        scopes: scopes.iter().map(|scope| Scope::new(scope)).collect(),
        credential_provider_id: Some(ProviderId::parse("prov-open").unwrap()),
        operations: vec![Operation {
            method: "GET".to_owned(),
            path: "/entries".to_owned(),
            scope: Scope::new(scopes.first().copied().unwrap_or("none")),
        }],
        operation_enforcement: Enforcement::Enforced,
        attribution: Attribution::default(),
        created_at: START,
        updated_at: START,
        archived_at: None,
    }
}

/// An application's record, as a lifecycle mint leaves it.
pub(crate) fn record(id: &str, application: &str) -> AuthorityRecord {
    AuthorityRecord {
        id: AuthorityRecordId::parse(id).unwrap(),
        zone_id: zone_id(),
        kind: SubjectType::Application,
        subject_id: application.to_owned(),
        issuer: None,
        application_id: ApplicationId::parse(application).unwrap(),
        parent_id: None,
        status: RecordStatus::Active,
        expires_at: START.plus_seconds(900),
        authenticated_at: START,
        created_at: START,
        revoked_at: None,
        revoked_reason: None,
    }
}

/// A task Session of an hour, labelled `closer`, on the record `rec-7`.
pub(crate) fn session(id: &str, application: &str) -> Session {
    Session {
        id: SessionId::parse(id).unwrap(),
        zone_id: zone_id(),
        application_id: ApplicationId::parse(application).unwrap(),
        parent_id: None,
        subject_authority_record_id: AuthorityRecordId::parse("rec-7").unwrap(),
        status: SessionStatus::Active,
        lifecycle: Lifecycle::Task { ttl_seconds: 3_600 },
        depth: 0,
        labels: vec!["closer".to_owned()],
        max_children: 10,
        child_count: 0,
        authority_root: true,
        metadata: Map::new(),
        lease_generation: 0,
        started_at: START,
        last_active_at: START,
        terminated_at: None,
        termination_reason: None,
        updated_at: START,
    }
}

/// An edge of an hour between two Sessions.
pub(crate) fn delegation(id: &str, source: &Session, target: &Session, scopes: &str) -> Delegation {
    Delegation {
        id: DelegationId::parse(id).unwrap(),
        zone_id: zone_id(),
        source_session_id: source.id.clone(),
        target_session_id: target.id.clone(),
        issuer_application_id: source.application_id.clone(),
        receiver_application_id: target.application_id.clone(),
        parent_edge_id: None,
        resource_id: None,
        scopes: ScopeSet::parse(scopes),
        constraints: Constraints::default(),
        mirrored: false,
        accepted: false,
        budget_used: 0,
        status: DelegationStatus::Active,
        expires_at: START.plus_seconds(3_600),
        edge_version: 0,
        revoked_at: None,
        created_at: START,
        updated_at: START,
    }
}

/// A view that starts cold.
pub(crate) fn authority(store: &Store) -> Arc<Authority> {
    Authority::new(store.clone(), Default::default())
}
