use super::chain::{bound_of, judge_hops, judge_request};
use super::*;
use crate::lifetime::Lifetime;
use crate::testing::rows;
use proptest::prelude::*;

/// A line of edges, root first, each with its allowance and whether it is mirrored.
fn line(edges: &[(u8, bool)]) -> Vec<Arc<Delegation>> {
    let (from, to) = (
        rows::session("as-1", "app-7"),
        rows::session("as-2", "app-7"),
    );
    let edge = |(n, (max_hops, mirrored)): (usize, &(u8, bool))| {
        let mut edge = rows::delegation(&format!("de-{n}"), &from, &to, "a b");
        edge.constraints.max_hops = Some(*max_hops);
        edge.mirrored = *mirrored;
        Arc::new(edge)
    };
    edges.iter().enumerate().map(edge).collect()
}

#[test]
fn a_lone_edge_is_one_hop() {
    assert_eq!(judge_hops(&line(&[(1, false)])), Ok(1));
}

#[test]
fn an_edge_allows_as_many_hops_below_it_as_it_says() {
    assert_eq!(judge_hops(&line(&[(2, false), (1, false)])), Ok(2));
    assert_eq!(
        judge_hops(&line(&[(3, false), (2, false), (1, false)])),
        Ok(3)
    );
    assert_eq!(
        judge_hops(&line(&[(1, false), (1, false)])),
        Err(DelegationInvalid::TooManyHops)
    );
    let root_too_short = line(&[(2, false), (2, false), (1, false)]);
    assert_eq!(
        judge_hops(&root_too_short),
        Err(DelegationInvalid::TooManyHops)
    );
}

#[test]
fn a_mirrored_edge_costs_no_hop() {
    assert_eq!(judge_hops(&line(&[(1, false), (1, true)])), Ok(1));
    assert_eq!(
        judge_hops(&line(&[(1, false), (1, true), (1, true)])),
        Ok(1)
    );
    assert_eq!(
        judge_hops(&line(&[(2, false), (2, true), (1, false)])),
        Ok(2)
    );
    let mirrored_is_full = line(&[(1, false), (1, true), (1, false)]);
    assert_eq!(
        judge_hops(&mirrored_is_full),
        Err(DelegationInvalid::TooManyHops)
    );
}

#[test]
fn more_hops_than_verifiers_accept_are_refused() {
    let allowances: Vec<(u8, bool)> = (1..=11).rev().map(|hops| (hops, false)).collect();
    assert_eq!(
        judge_hops(&line(&allowances)),
        Err(DelegationInvalid::TooManyHops)
    );
    assert_eq!(judge_hops(&line(&allowances[1..])), Ok(10));
}

#[test]
fn an_explicit_lifetime_above_any_constraint_is_refused() {
    let mut edges = line(&[(2, false), (1, false)]);
    let mut root = (*edges[0]).clone();
    root.constraints.ttl_seconds = Some(60);
    edges[0] = Arc::new(root);
    let scopes = ScopeSet::parse("a");
    assert_eq!(judge_request(&edges, &scopes, Some(60)), Ok(()));
    assert_eq!(
        judge_request(&edges, &scopes, Some(61)),
        Err(DelegationInvalid::TtlExceeded)
    );
    assert_eq!(judge_request(&edges, &scopes, None), Ok(()));
}

#[test]
fn an_edge_covers_its_row_and_its_list() {
    let ledger = rows::resource("resource://ledger", &["a"]);
    let mut edge = (*line(&[(1, false)])[0]).clone();
    assert!(covers(&edge, &ledger));
    edge.resource_id = Some(ledger.id.clone());
    edge.constraints.resources = Some(vec![ledger.identifier.clone()]);
    assert!(covers(&edge, &ledger));
    edge.constraints.resources = Some(vec![caracal_core::ResourceIdentifier::new(
        "resource://Ledger",
    )]);
    assert!(!covers(&edge, &ledger));
    edge.constraints.resources = Some(Vec::new());
    assert!(covers(&edge, &ledger));
    edge.resource_id = Some(caracal_core::id::ResourceId::parse("res-other").unwrap());
    assert!(!covers(&edge, &ledger));
}

fn scope_names() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[a-e]", 0..5)
}

proptest! {
    #[test]
    fn a_granted_scope_is_in_every_edge(
        lists in proptest::collection::vec(scope_names(), 1..6),
        asked in scope_names(),
    ) {
        let mut edges = line(&vec![(10, false); lists.len()]);
        for (edge, list) in edges.iter_mut().zip(&lists) {
            let mut narrowed = (**edge).clone();
            narrowed.scopes = list.iter().map(String::as_str).collect();
            *edge = Arc::new(narrowed);
        }
        let asked: ScopeSet = asked.iter().map(String::as_str).collect();
        let granted = judge_request(&edges, &asked, None).is_ok();
        let within = asked.iter().all(|scope| {
            edges.iter().all(|edge| edge.scopes.contains(scope.as_str()))
        });
        prop_assert_eq!(granted, within);
    }

    #[test]
    fn one_more_edge_never_allows_more_hops(
        edges in proptest::collection::vec((1_u8..=10, any::<bool>()), 1..12),
        root in (1_u8..=10, any::<bool>()),
    ) {
        let mut longer = vec![root];
        longer.extend(&edges);
        let (alone, deeper) = (judge_hops(&line(&edges)), judge_hops(&line(&longer)));
        prop_assert!(alone.is_ok() || deeper.is_err());
        if let (Ok(alone), Ok(deeper)) = (alone, deeper) {
            prop_assert!(deeper >= alone && deeper <= 10);
        }
    }

    #[test]
    fn a_mandate_ends_before_every_edge_of_its_line(
        edges in proptest::collection::vec((2_i64..4_000, proptest::option::of(2_i64..4_000),
            proptest::option::of(1_i64..86_400)), 1..6),
        asked in 1_i64..=3_600,
    ) {
        let mut rows = line(&vec![(10, false); edges.len()]);
        for (row, (expires, until, ttl)) in rows.iter_mut().zip(&edges) {
            let mut bounded = (**row).clone();
            bounded.expires_at = rows::START.plus_seconds(*expires);
            bounded.constraints.expires_at = until.map(|at| rows::START.plus_seconds(at));
            bounded.constraints.ttl_seconds = *ttl;
            *row = Arc::new(bounded);
        }
        let life = Lifetime::within(rows::START, asked, bound_of(&rows)).unwrap();
        for row in &rows {
            prop_assert!(life.expires_at() <= row.expires_at);
            prop_assert!(row.constraints.expires_at.is_none_or(|end| life.expires_at() <= end));
            prop_assert!(row.constraints.ttl_seconds.is_none_or(|cap| life.seconds() <= cap));
        }
    }
}
