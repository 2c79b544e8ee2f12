//! On what authority an edge stands, and that it only narrows.
//!
//! A [`Permit`] is the right to write an edge: there is no other way to get one than to pass the
//! checks here, so an edge wider than its parent can't be written by accident.

use caracal_core::id::{DelegationId, ResourceId};
use caracal_core::{ResourceIdentifier, ScopeSet, Timestamp};
use caracal_store::entity::{Constraints, Delegation};
use thiserror::Error;

/// The resources that an edge is limited to, resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OfferedResources {
    /// The one resource named by `resource_id`.
    pub(crate) row: Option<(ResourceId, ResourceIdentifier)>,
    /// The resources named by `constraints.resources`.
    pub(crate) listed: Vec<(ResourceId, ResourceIdentifier)>,
}

impl OfferedResources {
    /// Whether the edge would hold for every resource.
    pub(crate) fn is_unbounded(&self) -> bool {
        self.row.is_none() && self.listed.is_empty()
    }

    /// The resources that the edge can be used for: the one named by row binds tighter than a list.
    pub(crate) fn usable(&self) -> &[(ResourceId, ResourceIdentifier)] {
        match &self.row {
            Some(row) => std::slice::from_ref(row),
            None => &self.listed,
        }
    }
}

/// What somebody wants to hand on.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    /// The scopes.
    pub(crate) scopes: ScopeSet,
    /// The resources.
    pub(crate) resources: OfferedResources,
    /// The normalised constraints.
    pub(crate) constraints: Constraints,
    /// The end, when the caller gave a date. An end that follows from a TTL depends on the moment of
    /// writing and is judged then.
    pub(crate) dated_end: Option<Timestamp>,
}

/// An offer that is no narrower than its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Exceeds {
    /// A scope that the parent lacks.
    #[error("the delegation has a scope that its parent lacks")]
    Scopes,
    /// A later end than the parent's, or one that has passed.
    #[error("the delegation must end in the future and no later than its parent")]
    Expiry,
    /// A resource that the parent does not cover.
    #[error("the delegation is for a resource that its parent does not cover")]
    Resources,
    /// No hop left, or more than the parent has to give.
    #[error("the delegation needs max_hops below its parent's")]
    Hops,
    /// Longer mandates than the parent allows.
    #[error("the delegation needs a ttl_seconds of at most its parent's")]
    Ttl,
    /// More mandates than the parent allows.
    #[error("the delegation has a larger budget than its parent")]
    Budget,
}

/// An end that can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Untimely {
    /// A root edge that would be over already.
    #[error("the delegation must end in the future")]
    Over,
    /// An edge that would be over already or outlive its parent.
    #[error(transparent)]
    Exceeds(Exceeds),
}

/// The authority that an edge will stand on: everything but its end has been judged.
#[derive(Debug, Clone)]
pub(crate) struct Grounds {
    parent: Option<Delegation>,
}

/// The right to write an edge. Only the checks of this module make one.
#[derive(Debug, Clone)]
pub(crate) struct Permit {
    parent_edge_id: Option<DelegationId>,
    expires_at: Timestamp,
}

impl Permit {
    /// An edge that is mirrored as it is into a Session of the same application.
    pub(crate) fn mirror(parent: &Delegation) -> Self {
        Self {
            parent_edge_id: Some(parent.id.clone()),
            expires_at: parent.expires_at,
        }
    }

    /// The edge above.
    pub(crate) fn parent_edge_id(&self) -> Option<&DelegationId> {
        self.parent_edge_id.as_ref()
    }

    /// The end.
    pub(crate) fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

impl Grounds {
    /// The source is the root of its authority; the caller has checked that it is.
    pub(crate) fn root() -> Self {
        Self { parent: None }
    }

    /// The first edge of `lineage` (leaf first, up to the root) hands on a part of what it has.
    pub(crate) fn narrowed(lineage: &[Delegation], offer: &Offer) -> Result<Self, Exceeds> {
        let parent = lineage.first().ok_or(Exceeds::Resources)?;
        judge(parent, lineage, offer)?;
        Ok(Self {
            parent: Some(parent.clone()),
        })
    }

    /// Fixes the end.
    pub(crate) fn until(self, expires_at: Timestamp, now: Timestamp) -> Result<Permit, Untimely> {
        if let Some(parent) = &self.parent {
            if expires_at <= now || expires_at > parent.expires_at {
                return Err(Untimely::Exceeds(Exceeds::Expiry));
            }
        } else if expires_at <= now {
            return Err(Untimely::Over);
        }
        Ok(Permit {
            parent_edge_id: self.parent.map(|parent| parent.id),
            expires_at,
        })
    }
}

fn judge(parent: &Delegation, lineage: &[Delegation], offer: &Offer) -> Result<(), Exceeds> {
    if !offer.scopes.is_subset_of(&parent.scopes) {
        return Err(Exceeds::Scopes);
    }
    if offer.dated_end.is_some_and(|end| end > parent.expires_at) {
        return Err(Exceeds::Expiry);
    }
    if !covers(parent, &offer.resources) {
        return Err(Exceeds::Resources);
    }
    if offer.constraints.hops() >= parent.constraints.hops() {
        return Err(Exceeds::Hops);
    }
    if !within(
        offer.constraints.ttl_seconds,
        parent.constraints.ttl_seconds,
    ) {
        return Err(Exceeds::Ttl);
    }
    // A child without a budget of its own draws on the counters above it.
    let allowed = lineage
        .iter()
        .filter_map(|edge| edge.constraints.budget)
        .min();
    if offer.constraints.budget.is_some() && !within(offer.constraints.budget, allowed) {
        return Err(Exceeds::Budget);
    }
    Ok(())
}

/// A limit of the parent must be met by one of the child.
fn within<T: PartialOrd>(child: Option<T>, parent: Option<T>) -> bool {
    match (child, parent) {
        (_, None) => true,
        (Some(child), Some(parent)) => child <= parent,
        (None, Some(_)) => false,
    }
}

fn covers(parent: &Delegation, offered: &OfferedResources) -> bool {
    let usable = offered.usable();
    if let Some(row) = &parent.resource_id {
        return !usable.is_empty() && usable.iter().all(|(id, _)| id == row);
    }
    match &parent.constraints.resources {
        None => true,
        Some(names) => !usable.is_empty() && usable.iter().all(|(_, name)| names.contains(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_core::id::{ApplicationId, SessionId, ZoneId};
    use caracal_store::entity::DelegationStatus;
    use proptest::prelude::*;

    const NOW: i64 = 1_000;

    fn edge(scopes: &[&str], constraints: Constraints, ends_in: i64) -> Delegation {
        let now = Timestamp::from_seconds(NOW);
        Delegation {
            id: DelegationId::parse("edge").unwrap(),
            zone_id: ZoneId::parse("zone").unwrap(),
            source_session_id: SessionId::parse("source").unwrap(),
            target_session_id: SessionId::parse("target").unwrap(),
            issuer_application_id: ApplicationId::parse("app").unwrap(),
            receiver_application_id: ApplicationId::parse("app").unwrap(),
            parent_edge_id: None,
            resource_id: None,
            scopes: scopes.iter().copied().collect(),
            constraints,
            mirrored: false,
            accepted: false,
            budget_used: 0,
            status: DelegationStatus::Active,
            expires_at: now.plus_seconds(ends_in),
            edge_version: 0,
            revoked_at: None,
            created_at: now,
            updated_at: now,
        }
    }

    fn resource(name: &str) -> (ResourceId, ResourceIdentifier) {
        (
            ResourceId::parse(name).unwrap(),
            ResourceIdentifier::new(name),
        )
    }

    fn offer(scopes: &[&str], listed: &[&str], constraints: Constraints, ends_in: i64) -> Offer {
        Offer {
            scopes: scopes.iter().copied().collect(),
            resources: OfferedResources {
                row: None,
                listed: listed.iter().map(|name| resource(name)).collect(),
            },
            constraints,
            dated_end: Some(Timestamp::from_seconds(NOW).plus_seconds(ends_in)),
        }
    }

    fn judged(parent: &Delegation, offer: &Offer) -> Result<(), Exceeds> {
        let now = Timestamp::from_seconds(NOW);
        let grounds = Grounds::narrowed(std::slice::from_ref(parent), offer)?;
        match grounds.until(offer.dated_end.unwrap(), now) {
            Ok(_) => Ok(()),
            Err(Untimely::Exceeds(exceeds)) => Err(exceeds),
            Err(Untimely::Over) => unreachable!("there is a parent"),
        }
    }

    fn hops(max_hops: u8) -> Constraints {
        Constraints {
            max_hops: Some(max_hops),
            ..Constraints::default()
        }
    }

    #[test]
    fn the_hop_allowance_shrinks_with_every_edge() {
        let parent = edge(&["a"], hops(2), 60);
        assert_eq!(judged(&parent, &offer(&["a"], &[], hops(1), 60)), Ok(()));
        assert_eq!(
            judged(&parent, &offer(&["a"], &[], hops(2), 60)),
            Err(Exceeds::Hops)
        );
        let last = edge(&["a"], Constraints::default(), 60);
        assert_eq!(
            judged(&last, &offer(&["a"], &[], hops(1), 60)),
            Err(Exceeds::Hops)
        );
    }

    #[test]
    fn a_child_ends_no_later_than_its_parent_and_not_before_now() {
        let parent = edge(&["a"], hops(2), 60);
        for ends_in in [61, 0, -1] {
            assert_eq!(
                judged(&parent, &offer(&["a"], &[], hops(1), ends_in)),
                Err(Exceeds::Expiry)
            );
        }
    }

    #[test]
    fn a_root_edge_ends_in_the_future() {
        let now = Timestamp::from_seconds(NOW);
        let over = Grounds::root().until(now, now).map(|_| ());
        assert_eq!(over, Err(Untimely::Over));
        let permit = Grounds::root().until(now.plus_seconds(1), now).unwrap();
        assert_eq!(permit.parent_edge_id(), None);
    }

    #[test]
    fn an_end_from_a_ttl_is_judged_when_it_is_fixed() {
        let parent = edge(&["a"], hops(2), 60);
        let mut undated = offer(&["a"], &[], hops(1), 0);
        undated.dated_end = None;
        let now = Timestamp::from_seconds(NOW);
        let grounds = Grounds::narrowed(std::slice::from_ref(&parent), &undated).unwrap();
        assert_eq!(
            grounds.until(now.plus_seconds(61), now).map(|_| ()),
            Err(Untimely::Exceeds(Exceeds::Expiry))
        );
    }

    #[test]
    fn a_date_is_judged_with_the_rest_of_the_offer() {
        let parent = edge(&["a"], hops(2), 60);
        let late = offer(&["a"], &[], hops(1), 61);
        let grounds = Grounds::narrowed(std::slice::from_ref(&parent), &late);
        assert_eq!(grounds.map(|_| ()), Err(Exceeds::Expiry));
    }

    #[test]
    fn a_parent_bound_to_a_row_covers_that_row_only() {
        let mut parent = edge(&["a"], hops(2), 60);
        parent.resource_id = Some(ResourceId::parse("r1").unwrap());
        assert_eq!(
            judged(&parent, &offer(&["a"], &["r1"], hops(1), 60)),
            Ok(())
        );
        for listed in [&[][..], &["r2"][..], &["r1", "r2"][..]] {
            assert_eq!(
                judged(&parent, &offer(&["a"], listed, hops(1), 60)),
                Err(Exceeds::Resources)
            );
        }
    }

    #[test]
    fn a_parent_with_a_mandate_ttl_forces_one_on_the_child() {
        let limited = |ttl| Constraints {
            ttl_seconds: ttl,
            ..hops(1)
        };
        let mut parent = edge(&["a"], hops(2), 60);
        parent.constraints.ttl_seconds = Some(30);
        assert_eq!(
            judged(&parent, &offer(&["a"], &[], limited(Some(30)), 60)),
            Ok(())
        );
        for ttl in [None, Some(31)] {
            assert_eq!(
                judged(&parent, &offer(&["a"], &[], limited(ttl), 60)),
                Err(Exceeds::Ttl)
            );
        }
    }

    #[test]
    fn a_child_without_a_budget_shares_its_parents_counter() {
        let budget = |budget| Constraints { budget, ..hops(1) };
        let mut parent = edge(&["a"], hops(2), 60);
        parent.constraints.budget = Some(5);
        assert_eq!(
            judged(&parent, &offer(&["a"], &[], budget(None), 60)),
            Ok(())
        );
        assert_eq!(
            judged(&parent, &offer(&["a"], &[], budget(Some(5)), 60)),
            Ok(())
        );
        assert_eq!(
            judged(&parent, &offer(&["a"], &[], budget(Some(6)), 60)),
            Err(Exceeds::Budget)
        );
    }

    #[test]
    fn the_smallest_budget_of_the_lineage_bounds_a_child() {
        let parent = edge(&["a"], hops(2), 60);
        let mut root = edge(&["a"], hops(3), 60);
        root.constraints.budget = Some(2);
        let wide = offer(
            &["a"],
            &[],
            Constraints {
                budget: Some(3),
                ..hops(1)
            },
            60,
        );
        assert_eq!(
            Grounds::narrowed(&[parent, root], &wide).map(|_| ()),
            Err(Exceeds::Budget)
        );
    }

    fn any_constraints() -> impl Strategy<Value = Constraints> {
        (
            proptest::option::of(proptest::collection::vec("r[1-3]", 1..3)),
            proptest::option::of(1_u8..=4),
            proptest::option::of(1_u8..=4),
            proptest::option::of(1_i64..=4),
        )
            .prop_map(|(resources, max_hops, budget, ttl_seconds)| Constraints {
                resources: resources.map(|names| {
                    names
                        .iter()
                        .map(|name| ResourceIdentifier::new(name))
                        .collect()
                }),
                max_hops,
                budget,
                ttl_seconds,
                ..Constraints::default()
            })
    }

    proptest! {
        #[test]
        fn what_is_granted_is_within_the_parent(
            parent_scopes in proptest::collection::vec("[a-c]", 0..4),
            child_scopes in proptest::collection::vec("[a-c]", 0..3),
            row in proptest::option::of("r[1-3]"),
            parent_constraints in any_constraints(),
            child_constraints in any_constraints(),
            parent_ends_in in 1_i64..5,
            child_ends_in in -1_i64..6,
        ) {
            let scopes: Vec<&str> = parent_scopes.iter().map(String::as_str).collect();
            let mut parent = edge(&scopes, parent_constraints, parent_ends_in);
            parent.resource_id = row.map(|row| ResourceId::parse(&row).unwrap());
            let scopes: Vec<&str> = child_scopes.iter().map(String::as_str).collect();
            let names = child_constraints.resources.clone().unwrap_or_default();
            let listed: Vec<&str> = names.iter().map(ResourceIdentifier::as_str).collect();
            let child = offer(&scopes, &listed, child_constraints, child_ends_in);
            if judged(&parent, &child).is_ok() {
                prop_assert!(child.scopes.is_subset_of(&parent.scopes));
                let end = child.dated_end.unwrap();
                prop_assert!(end <= parent.expires_at);
                prop_assert!(end > Timestamp::from_seconds(NOW));
                prop_assert!(child.constraints.hops() < parent.constraints.hops());
                if let Some(limit) = parent.constraints.ttl_seconds {
                    prop_assert!(child.constraints.ttl_seconds.is_some_and(|ttl| ttl <= limit));
                }
                if let (Some(child), Some(limit)) = (child.constraints.budget, parent.constraints.budget) {
                    prop_assert!(child <= limit);
                }
                for (id, name) in &child.resources.listed {
                    prop_assert!(parent.resource_id.as_ref().is_none_or(|row| row == id));
                    if parent.resource_id.is_none() {
                        let names = parent.constraints.resources.as_ref();
                        prop_assert!(names.is_none_or(|names| names.contains(name)));
                    }
                }
                let bounded = parent.resource_id.is_some() || parent.constraints.resources.is_some();
                prop_assert!(!bounded || !child.resources.is_unbounded());
            }
        }
    }
}
