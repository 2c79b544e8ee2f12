//! What a caller may do.
//!
//! Every route says what it does ([`Access`]) and where ([`Reach`]); every caller is an [`Actor`]. The
//! gate compares the two and gives a [`Permit`], which is the only way to a handler. It looks at the
//! matched route and the decoded zone id, so the spelling of a path changes nothing.

use caracal_core::id::{AdminTokenId, ZoneId};
use caracal_store::entity::{Capability, Zone};

use crate::error::Code;

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Shows state, or computes without changing any.
    Read,
    /// Shows a stored secret.
    Reveal,
    /// Changes state.
    Write,
}

/// Where a route works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// In the zone of its path.
    Zone,
    /// In no zone, for every token.
    Shared,
    /// Over all zones, for global tokens and console accounts.
    Accounts,
    /// Over all zones, for global tokens only.
    Global,
}

/// How an admin token came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The deployment's admin token itself.
    Bootstrap,
    /// Derived from it for the console; acts for an account.
    Console,
    /// Made by another token.
    Minted,
}

/// The console account behind a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Account {
    /// The caller is no console.
    NotNeeded,
    /// The caller is the console and proved for whom it acts.
    Bound(String),
    /// The caller is the console and proved nothing.
    Unproven,
}

/// An authenticated caller.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    /// The token's row id.
    pub(crate) id: AdminTokenId,
    /// The token's name.
    pub(crate) name: String,
    /// The zone that the token is bound to; `None` for global ones.
    pub(crate) zone: Option<ZoneId>,
    /// What it may do.
    pub(crate) capability: Capability,
    /// Whether it may show stored secrets.
    pub(crate) reveal: bool,
    /// How it came to be.
    pub(crate) origin: Origin,
    /// For whom it acts.
    pub(crate) account: Account,
}

impl Actor {
    /// Whether the caller is the deployment's own token.
    pub(crate) fn is_bootstrap(&self) -> bool {
        self.origin == Origin::Bootstrap
    }

    /// Whether the token is not bound to a zone.
    pub(crate) fn is_global(&self) -> bool {
        self.zone.is_none()
    }

    /// Whether the caller may show stored secrets.
    pub(crate) fn may_reveal(&self) -> bool {
        self.reveal || self.is_bootstrap()
    }

    /// The bound console account.
    pub(crate) fn account(&self) -> Option<&str> {
        match &self.account {
            Account::Bound(account) => Some(account),
            Account::NotNeeded | Account::Unproven => None,
        }
    }
}

/// What the gate must know about the zone of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ZoneFacts {
    reserved: bool,
    owner: Option<String>,
}

impl From<&Zone> for ZoneFacts {
    fn from(zone: &Zone) -> Self {
        Self {
            reserved: zone.is_reserved(),
            owner: zone.owner_account_id.clone(),
        }
    }
}

/// Proof that the gate let this actor through to this route. Only [`judge`] makes one.
#[derive(Debug)]
pub(crate) struct Permit(());

/// Whether the gate needs [`ZoneFacts`] for this pairing.
pub(crate) fn needs_zone_facts(actor: &Actor, access: Access, reach: Reach) -> bool {
    let changes_or_reveals = access != Access::Read;
    reach == Reach::Zone && (changes_or_reveals || actor.account != Account::NotNeeded)
}

/// Compares actor and route; the first refusal of the documented order answers.
///
/// `zone` is the decoded zone id of the path, `facts` what is known about that zone (`None` when it
/// does not exist, or when [`needs_zone_facts`] said that nothing is needed).
pub(crate) fn judge(
    actor: &Actor,
    access: Access,
    reach: Reach,
    zone: Option<&str>,
    facts: Option<&ZoneFacts>,
) -> Result<Permit, Code> {
    judge_capability(actor, access)?;
    judge_zone(actor, reach, zone)?;
    judge_reserved(actor, access, facts)?;
    judge_account(actor, access, reach, facts)?;
    Ok(Permit(()))
}

fn judge_capability(actor: &Actor, access: Access) -> Result<(), Code> {
    match (access, actor.capability) {
        (Access::Write, Capability::Read) => Err(Code::ReadOnly),
        (Access::Write, Capability::Approve) => Err(Code::ApproveOnly),
        (Access::Reveal, _) if !actor.may_reveal() => Err(Code::RevealRequired),
        _ => Ok(()),
    }
}

fn judge_zone(actor: &Actor, reach: Reach, zone: Option<&str>) -> Result<(), Code> {
    let Some(own) = &actor.zone else {
        return Ok(());
    };
    match reach {
        Reach::Shared => Ok(()),
        Reach::Zone if zone == Some(own.as_str()) => Ok(()),
        Reach::Zone | Reach::Accounts | Reach::Global => Err(Code::ZoneMismatch),
    }
}

/// A reserved zone holds the control plane's own credentials: nobody reads them out, and only the
/// bootstrap token changes anything.
fn judge_reserved(actor: &Actor, access: Access, facts: Option<&ZoneFacts>) -> Result<(), Code> {
    let reserved = facts.is_some_and(|facts| facts.reserved);
    match access {
        Access::Write if reserved && !actor.is_bootstrap() => Err(Code::SystemZone),
        Access::Reveal if reserved => Err(Code::SystemZone),
        _ => Ok(()),
    }
}

fn judge_account(
    actor: &Actor,
    access: Access,
    reach: Reach,
    facts: Option<&ZoneFacts>,
) -> Result<(), Code> {
    let account = match &actor.account {
        Account::NotNeeded => return Ok(()),
        Account::Unproven => return Err(Code::InvalidAccountAssertion),
        Account::Bound(account) => account,
    };
    match reach {
        Reach::Shared | Reach::Accounts => Ok(()),
        Reach::Global => Err(Code::AccountScopeRequired),
        Reach::Zone => {
            let owns = facts.is_some_and(|zone| zone.owner.as_ref() == Some(account));
            let system = facts.is_some_and(|zone| zone.reserved) && access == Access::Read;
            if owns || system {
                Ok(())
            } else {
                Err(Code::ZoneForbidden)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(capability: Capability) -> Actor {
        Actor {
            id: AdminTokenId::parse("t1").unwrap(),
            name: "t1".to_owned(),
            zone: None,
            capability,
            reveal: false,
            origin: Origin::Minted,
            account: Account::NotNeeded,
        }
    }

    fn zone(reserved: bool, owner: Option<&str>) -> ZoneFacts {
        ZoneFacts {
            reserved,
            owner: owner.map(str::to_owned),
        }
    }

    fn answer(
        actor: &Actor,
        access: Access,
        reach: Reach,
        facts: Option<&ZoneFacts>,
    ) -> Result<(), Code> {
        judge(actor, access, reach, Some("z1"), facts).map(|_| ())
    }

    #[test]
    fn the_capability_is_judged_before_the_zone() {
        let mut reader = actor(Capability::Read);
        reader.zone = Some(ZoneId::parse("z2").unwrap());
        assert_eq!(
            answer(&reader, Access::Write, Reach::Zone, None),
            Err(Code::ReadOnly)
        );
        assert_eq!(
            answer(&reader, Access::Read, Reach::Zone, None),
            Err(Code::ZoneMismatch)
        );
        assert_eq!(answer(&reader, Access::Read, Reach::Shared, None), Ok(()));
        assert_eq!(
            answer(&reader, Access::Read, Reach::Global, None),
            Err(Code::ZoneMismatch)
        );
    }

    #[test]
    fn approve_is_not_implied_by_write_nor_write_by_approve() {
        let approver = actor(Capability::Approve);
        assert_eq!(
            answer(&approver, Access::Write, Reach::Zone, None),
            Err(Code::ApproveOnly)
        );
        assert_eq!(answer(&approver, Access::Read, Reach::Zone, None), Ok(()));
    }

    #[test]
    fn only_a_holder_of_the_reveal_right_reveals_and_nobody_in_a_reserved_zone() {
        let mut bootstrap = actor(Capability::Write);
        bootstrap.origin = Origin::Bootstrap;
        let mut revealer = actor(Capability::Read);
        revealer.reveal = true;
        let (plain, reserved) = (zone(false, None), zone(true, None));
        let writer = actor(Capability::Write);
        assert_eq!(
            answer(&writer, Access::Reveal, Reach::Zone, Some(&plain)),
            Err(Code::RevealRequired)
        );
        for actor in [&bootstrap, &revealer] {
            assert_eq!(
                answer(actor, Access::Reveal, Reach::Zone, Some(&plain)),
                Ok(())
            );
            assert_eq!(
                answer(actor, Access::Reveal, Reach::Zone, Some(&reserved)),
                Err(Code::SystemZone)
            );
        }
    }

    #[test]
    fn only_bootstrap_writes_in_a_reserved_zone() {
        let reserved = zone(true, None);
        let mut bootstrap = actor(Capability::Write);
        bootstrap.origin = Origin::Bootstrap;
        let writer = actor(Capability::Write);
        assert_eq!(
            answer(&writer, Access::Write, Reach::Zone, Some(&reserved)),
            Err(Code::SystemZone)
        );
        assert_eq!(
            answer(&writer, Access::Read, Reach::Zone, Some(&reserved)),
            Ok(())
        );
        assert_eq!(
            answer(&bootstrap, Access::Write, Reach::Zone, Some(&reserved)),
            Ok(())
        );
    }

    #[test]
    fn a_console_acts_only_for_an_account_and_only_in_its_zones() {
        let mut console = actor(Capability::Write);
        console.origin = Origin::Console;
        console.account = Account::Unproven;
        let (own, other, reserved) = (
            zone(false, Some("a1")),
            zone(false, Some("a2")),
            zone(true, None),
        );
        assert_eq!(
            answer(&console, Access::Read, Reach::Shared, None),
            Err(Code::InvalidAccountAssertion)
        );
        console.account = Account::Bound("a1".to_owned());
        assert_eq!(
            answer(&console, Access::Write, Reach::Zone, Some(&own)),
            Ok(())
        );
        assert_eq!(
            answer(&console, Access::Read, Reach::Zone, Some(&other)),
            Err(Code::ZoneForbidden)
        );
        assert_eq!(
            answer(&console, Access::Read, Reach::Zone, None),
            Err(Code::ZoneForbidden)
        );
        assert_eq!(
            answer(&console, Access::Read, Reach::Zone, Some(&reserved)),
            Ok(())
        );
        assert_eq!(
            answer(&console, Access::Read, Reach::Accounts, None),
            Ok(())
        );
        assert_eq!(
            answer(&console, Access::Read, Reach::Global, None),
            Err(Code::AccountScopeRequired)
        );
    }
}
