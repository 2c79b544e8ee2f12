//! Every route of the Admin API, with what it does and where.

use crate::capability::Access::{Read, Reveal, Write};
use crate::capability::Reach::{Accounts, Global, Shared, Zone};
use crate::route::Route;
use crate::route::Verb::{Delete, Get, Patch, Post};
use crate::{admin_token, application, audit_read, policy, policy_set, provider, resource, zone};

/// All routes.
pub(crate) fn all() -> Vec<Route> {
    let mut all = platform();
    all.extend(zones());
    all.extend(clients());
    all.extend(resources());
    all.extend(policies());
    all.extend(policy_sets());
    all.extend(evidence());
    all
}

fn platform() -> Vec<Route> {
    vec![
        Route::new(
            Post,
            "/v1/policies/validate",
            Read,
            Shared,
            policy::validate,
        ),
        Route::new(Get, "/v1/policy-templates", Read, Shared, policy::templates),
        Route::new(Get, "/v1/admin-tokens", Read, Global, admin_token::list),
        Route::new(Post, "/v1/admin-tokens", Write, Global, admin_token::create),
        Route::new(
            Delete,
            "/v1/admin-tokens/{token_id}",
            Write,
            Global,
            admin_token::revoke,
        ),
    ]
}

fn zones() -> Vec<Route> {
    const ITEM: &str = "/v1/zones/{zone_id}";
    vec![
        Route::new(Get, "/v1/zones", Read, Accounts, zone::list),
        Route::new(Post, "/v1/zones", Write, Accounts, zone::create),
        Route::new(Get, ITEM, Read, Zone, zone::read),
        Route::new(Patch, ITEM, Write, Zone, zone::patch),
        Route::new(Delete, ITEM, Write, Zone, zone::delete),
        Route::new(
            Get,
            "/v1/zones/{zone_id}/dcr-status",
            Read,
            Zone,
            zone::dcr_status,
        ),
        Route::new(
            Get,
            "/v1/zones/{zone_id}/overview",
            Read,
            Zone,
            zone::overview,
        ),
    ]
}

fn clients() -> Vec<Route> {
    const LIST: &str = "/v1/zones/{zone_id}/applications";
    const ITEM: &str = "/v1/zones/{zone_id}/applications/{id}";
    const ROTATE: &str = "/v1/zones/{zone_id}/applications/{id}/rotate-secret";
    const SECRET: &str = "/v1/zones/{zone_id}/applications/{id}/client-secret";
    vec![
        Route::new(Get, LIST, Read, Zone, application::list),
        Route::new(Post, LIST, Write, Zone, application::create),
        Route::new(Get, ITEM, Read, Zone, application::read),
        Route::new(Patch, ITEM, Write, Zone, application::patch),
        Route::new(Delete, ITEM, Write, Zone, application::delete),
        Route::new(Post, ROTATE, Write, Zone, application::rotate_secret),
        Route::new(Get, SECRET, Reveal, Zone, application::reveal),
    ]
}

fn resources() -> Vec<Route> {
    const PROVIDERS: &str = "/v1/zones/{zone_id}/providers";
    const PROVIDER: &str = "/v1/zones/{zone_id}/providers/{id}";
    const RESOURCES: &str = "/v1/zones/{zone_id}/resources";
    const RESOURCE: &str = "/v1/zones/{zone_id}/resources/{id}";
    vec![
        Route::new(Get, PROVIDERS, Read, Zone, provider::list),
        Route::new(Post, PROVIDERS, Write, Zone, provider::create),
        Route::new(Get, PROVIDER, Read, Zone, provider::read),
        Route::new(Patch, PROVIDER, Write, Zone, provider::patch),
        Route::new(Delete, PROVIDER, Write, Zone, provider::delete),
        Route::new(Get, RESOURCES, Read, Zone, resource::list),
        Route::new(Post, RESOURCES, Write, Zone, resource::create),
        Route::new(Get, RESOURCE, Read, Zone, resource::read),
        Route::new(Patch, RESOURCE, Write, Zone, resource::patch),
        Route::new(Delete, RESOURCE, Write, Zone, resource::delete),
    ]
}

fn policies() -> Vec<Route> {
    const LIST: &str = "/v1/zones/{zone_id}/policies";
    const ITEM: &str = "/v1/zones/{zone_id}/policies/{id}";
    const VERSIONS: &str = "/v1/zones/{zone_id}/policies/{id}/versions";
    vec![
        Route::new(Get, LIST, Read, Zone, policy::list),
        Route::new(Post, LIST, Write, Zone, policy::create),
        Route::new(Get, ITEM, Read, Zone, policy::read),
        Route::new(Delete, ITEM, Write, Zone, policy::delete),
        Route::new(Post, VERSIONS, Write, Zone, policy::add_version),
    ]
}

fn policy_sets() -> Vec<Route> {
    const LIST: &str = "/v1/zones/{zone_id}/policy-sets";
    const ITEM: &str = "/v1/zones/{zone_id}/policy-sets/{id}";
    const VERSIONS: &str = "/v1/zones/{zone_id}/policy-sets/{id}/versions";
    const VERSION: &str = "/v1/zones/{zone_id}/policy-sets/{id}/versions/{version_id}";
    const ACTIVATE: &str = "/v1/zones/{zone_id}/policy-sets/{id}/activate";
    const STATUS: &str = "/v1/zones/{zone_id}/policy-sets/{id}/activation-status";
    const SIMULATE: &str = "/v1/zones/{zone_id}/policy-sets/{id}/simulate";
    vec![
        Route::new(Get, LIST, Read, Zone, policy_set::list),
        Route::new(Post, LIST, Write, Zone, policy_set::create),
        Route::new(Get, ITEM, Read, Zone, policy_set::read),
        Route::new(Delete, ITEM, Write, Zone, policy_set::delete),
        Route::new(Get, VERSIONS, Read, Zone, policy_set::list_versions),
        Route::new(Post, VERSIONS, Write, Zone, policy_set::add_version),
        Route::new(Get, VERSION, Read, Zone, policy_set::read_version),
        Route::new(Post, ACTIVATE, Write, Zone, policy_set::activate),
        Route::new(Get, STATUS, Read, Zone, policy_set::activation_status),
        Route::new(Post, SIMULATE, Write, Zone, policy_set::simulate),
    ]
}

fn evidence() -> Vec<Route> {
    const AUDIT: &str = "/v1/zones/{zone_id}/audit";
    const REQUEST: &str = "/v1/zones/{zone_id}/audit/by-request/{request_id}";
    const EXPLAIN: &str = "/v1/zones/{zone_id}/audit/by-request/{request_id}/explain";
    const ADMIN: &str = "/v1/zones/{zone_id}/admin-audit";
    const RECORDS: &str = "/v1/zones/{zone_id}/authority-records";
    const SESSIONS: &str = "/v1/zones/{zone_id}/sessions";
    vec![
        Route::new(Get, AUDIT, Read, Zone, audit_read::search),
        Route::new(Get, REQUEST, Read, Zone, audit_read::by_request),
        Route::new(Get, EXPLAIN, Read, Zone, audit_read::explain),
        Route::new(Get, ADMIN, Read, Zone, audit_read::list_admin_audit),
        Route::new(Get, RECORDS, Read, Zone, audit_read::list_authority_records),
        Route::new(Get, SESSIONS, Read, Zone, audit_read::list_sessions),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_route_is_declared_twice() {
        let all = all();
        let distinct: HashSet<_> = all
            .iter()
            .map(|route| (route.verb, route.template))
            .collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn a_route_is_bound_to_a_zone_exactly_when_its_path_names_one() {
        for route in all() {
            let named = route.template.starts_with("/v1/zones/{zone_id}");
            assert_eq!(named, route.reach == Zone, "{route:?}");
        }
    }

    #[test]
    fn whatever_is_no_get_is_a_write_but_for_the_preview() {
        for route in all() {
            let is_preview = route.template == "/v1/policies/validate";
            let reads = route.access != Write;
            assert_eq!(reads, route.verb == Get || is_preview, "{route:?}");
        }
    }

    #[test]
    fn a_stored_secret_is_shown_by_reveal_routes_only() {
        for route in all() {
            let shows = route.verb == Get && route.template.ends_with("secret");
            assert_eq!(shows, route.access == Reveal, "{route:?}");
        }
    }
}
