//! Which class of mandate a request gets, and what the mandate says.

use std::sync::Arc;

use caracal_core::id::{ApplicationId, AuthorityRecordId, MandateId, ZoneId};
use caracal_core::{Clock, Random, ResourceIdentifier, SubjectType};
use caracal_crypto::claims::DelegationHop;
use caracal_crypto::{Claims, MandateUse};
use caracal_store::entity::Delegation;

use crate::lifetime::Lifetime;
use crate::lineage::{DelegatedLine, Lineage};

/// What an application's own mint gives.
#[derive(Debug)]
pub(crate) enum ClientMint<'a> {
    /// A reusable lifecycle mandate; it has an authority record of its own.
    Session,
    /// A one-shot ingress credential. Its anchors (Session, edge, subject record) have their rows.
    Gateway(&'a DelegatedLine),
    /// A token for the control plane; it has an authority record of its own.
    Control,
}

impl<'a> ClientMint<'a> {
    /// The class of a mint that policy granted.
    pub(crate) fn of(lineage: &'a Lineage) -> Self {
        lineage.delegated().map_or(Self::Session, Self::Gateway)
    }

    /// The value of the `use` claim.
    pub(crate) fn mandate_use(&self) -> MandateUse {
        match self {
            Self::Session => MandateUse::Session,
            Self::Gateway(_) => MandateUse::Gateway,
            Self::Control => MandateUse::Resource,
        }
    }
}

/// What every mandate of one mint shares.
#[derive(Debug)]
pub(crate) struct Mint<'a> {
    pub(crate) issuer: &'a Arc<str>,
    pub(crate) zone: &'a ZoneId,
    pub(crate) application: &'a ApplicationId,
    pub(crate) scope: Option<Arc<str>>,
    pub(crate) target: Vec<ResourceIdentifier>,
    pub(crate) lifetime: Lifetime,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) random: &'a dyn Random,
}

impl Mint<'_> {
    /// The claims of an application's own mint.
    pub(crate) fn client(self, class: &ClientMint<'_>) -> Claims {
        let sid = AuthorityRecordId::generate(self.clock, self.random);
        let mut claims = Claims {
            iss: Arc::clone(self.issuer),
            sub: self.application.as_str().into(),
            aud: match class {
                ClientMint::Session | ClientMint::Gateway(_) => vec![Arc::clone(self.issuer)],
                ClientMint::Control => audiences(&self.target),
            },
            exp: self.lifetime.expires_at(),
            iat: self.lifetime.issued_at(),
            jti: MandateId::generate(self.clock, self.random),
            zone_id: self.zone.clone(),
            client_id: self.application.clone(),
            scope: self.scope,
            root_sid: sid.clone(),
            sid,
            mandate_use: class.mandate_use(),
            sub_type: SubjectType::Application,
            target: self.target,
            agent_session_id: None,
            delegation_edge_id: None,
            source_session_id: None,
            target_session_id: None,
            delegation_path: Vec::new(),
            delegation_chain: Vec::new(),
            hop_count: 0,
            delegation_graph_epoch: 0,
        };
        if let ClientMint::Gateway(line) = class {
            claims.root_sid = line.target.subject_record.clone();
            bind(&mut claims, line);
        }
        claims
    }

    /// The claims of the resource mandate that stands in for `presented` at one upstream.
    pub(crate) fn resource(self, presented: &Claims, line: &DelegatedLine) -> Claims {
        let mut claims = Claims {
            iss: Arc::clone(self.issuer),
            sub: Arc::clone(&presented.sub),
            aud: audiences(&self.target),
            exp: self.lifetime.expires_at(),
            iat: self.lifetime.issued_at(),
            jti: MandateId::generate(self.clock, self.random),
            zone_id: self.zone.clone(),
            client_id: self.application.clone(),
            scope: self.scope,
            sid: AuthorityRecordId::generate(self.clock, self.random),
            root_sid: presented.root_sid.clone(),
            mandate_use: MandateUse::Resource,
            sub_type: presented.sub_type,
            target: self.target,
            agent_session_id: None,
            delegation_edge_id: None,
            source_session_id: None,
            target_session_id: None,
            delegation_path: Vec::new(),
            delegation_chain: Vec::new(),
            hop_count: 0,
            delegation_graph_epoch: 0,
        };
        bind(&mut claims, line);
        claims
    }
}

fn audiences(target: &[ResourceIdentifier]) -> Vec<Arc<str>> {
    target
        .iter()
        .map(|resource| Arc::from(resource.as_str()))
        .collect()
}

/// Binds a mandate to its Session and to the line of edges that its authority came through.
fn bind(claims: &mut Claims, line: &DelegatedLine) {
    claims.agent_session_id = Some(line.target.session.id.clone());
    let leaf = line.leaf();
    claims.delegation_edge_id = Some(leaf.id.clone());
    claims.source_session_id = Some(leaf.source_session_id.clone());
    claims.target_session_id = Some(leaf.target_session_id.clone());
    claims.delegation_path = line.edges.iter().map(|edge| edge.id.clone()).collect();
    claims.delegation_chain = hops(line);
    claims.hop_count = line.hop_count;
    claims.delegation_graph_epoch = u64::try_from(line.epoch).unwrap_or(0);
}

/// One hop an edge, by the application that delegates, and a last one for who holds the mandate.
pub(crate) fn hops(line: &DelegatedLine) -> Vec<DelegationHop> {
    let delegating = |edge: &Arc<Delegation>| DelegationHop {
        application_id: edge.issuer_application_id.clone(),
        agent_session_id: Some(edge.source_session_id.clone()),
        delegation_edge_id: Some(edge.id.clone()),
    };
    let holder = &line.target.session;
    let last = DelegationHop {
        application_id: holder.application_id.clone(),
        agent_session_id: Some(holder.id.clone()),
        delegation_edge_id: None,
    };
    line.edges
        .iter()
        .map(delegating)
        .chain(std::iter::once(last))
        .collect()
}
